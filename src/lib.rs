//! tower-bearer
mod cache;
pub mod clock;
pub mod credentials;
mod error;
mod layer;
mod loopback;
mod message;
mod recovery;
pub mod replay;
mod routes;
mod secret;
mod service;
pub mod source;
mod spec;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;
mod token;
pub mod transport;
mod verdict;
mod wire;

pub use cache::{CacheBuilder, Entry, State, Stats, TokenCache};
pub use error::{Error, ErrorKind, TokenError};
pub use layer::AuthLayer;
pub use recovery::Recovery;
pub use routes::Route;
pub use secret::Secret;
pub use service::{Auth, ResponseFuture};
pub use source::{TokenProvider, TokenSource};
pub use spec::TokenSpec;
pub use token::{NewToken, Reason, Token};
pub use verdict::Verdict;
