//! Defines tokens and their parameters: [`TokenSpec`], [`NewToken`], [`Token`] and [`Subject`].

mod inner;
mod spec;
mod spec_checks;
mod spec_key;
mod subject;
#[expect(clippy::module_inception)]
mod token;

pub use inner::{FetchReason, TokenOrigin};
pub(crate) use inner::{Times, TokenInner, TokenMeta};
pub use spec::TokenSpec;
pub(crate) use spec_checks::fault_in_source_extra;
pub use subject::{Subject, TokenType};
pub use token::{NewToken, Token};
