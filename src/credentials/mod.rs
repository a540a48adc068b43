//! Sources of tokens, one for each way to obtain them.
//!
//! # Which one do I need?
//!
//! | you have | you want a token for | take |
//! |---|---|---|
//! | a client id and a secret | the program itself | [`ClientCredentials`] |
//! | code of your own that gets tokens | whatever it gets them for | [`source::from_fn`](crate::source::from_fn) |
//!
//! Each makes one attempt when it is asked and keeps nothing: put a [`TokenCache`](crate::TokenCache) in front.
//!
//! They differ from [`transport`](crate::transport) in that they know what to ask; the transport knows how to get there.

mod client_auth;
mod client_credentials;
mod endpoint;

#[cfg(feature = "jwt")]
#[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
pub use crate::jws::{SigningAlgorithm, SigningKey};
pub use client_auth::ClientAuth;
pub use client_credentials::ClientCredentials;
