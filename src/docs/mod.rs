//! Pages about the whole: how to do what, the design and its reasons, what an attacker meets, and what others do.

#[doc = include_str!("comparison.md")]
pub mod comparison {}
pub mod cookbook;
#[doc = include_str!("design.md")]
pub mod design {}
#[doc = include_str!("threat_model.md")]
pub mod threat_model {}
