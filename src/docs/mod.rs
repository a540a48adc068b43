//! Pages about the whole: the design and its reasons, what an attacker meets, and what others do.

#[doc = include_str!("comparison.md")]
pub mod comparison {}
#[doc = include_str!("design.md")]
pub mod design {}
#[doc = include_str!("threat_model.md")]
pub mod threat_model {}
