//! tower-bearer
pub mod clock;
pub mod credentials;
mod error;
mod secret;
pub mod source;
mod spec;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;
mod token;
pub mod transport;
mod verdict;
mod wire;

pub use error::{Error, ErrorKind, TokenError};
pub use secret::Secret;
pub use source::{TokenProvider, TokenSource};
pub use spec::TokenSpec;
pub use token::{NewToken, Reason, Token};
pub use verdict::Verdict;
