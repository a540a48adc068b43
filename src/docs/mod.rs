//! Pages about the crate as a whole: the cookbook, the design and its reasons, the threat model, and a comparison with
//! other libraries.

#[doc = include_str!("comparison.md")]
pub mod comparison {}
pub mod cookbook;
#[doc = include_str!("design.md")]
pub mod design {}
#[doc = include_str!("threat_model.md")]
pub mod threat_model {}
