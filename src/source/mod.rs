//! Defines where tokens come from: a [`TokenSource`] fetches a new token, a [`TokenProvider`] returns a usable one.

mod provider;
mod source_id;
mod token_source;

pub use crate::secret::Exposed;
pub use provider::TokenProvider;
pub use source_id::SourceId;
pub(crate) use token_source::SharedSource;
pub use token_source::{SourceFn, TokenRequest, TokenSource, from_fn};
