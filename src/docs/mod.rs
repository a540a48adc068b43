//! Pages about the whole: the design and its reasons.

#[doc = include_str!("design.md")]
pub mod design {}
