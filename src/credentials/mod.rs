//! Sources of tokens, one for each way to obtain them.
//!
//! # Which one do I need?
//!
//! | you have | you want a token for | take |
//! |---|---|---|
//! | a client id and a secret | the program itself | [`ClientCredentials`] |
//! | the token of the user who called, and Microsoft's provider | that user, at the next service | [`OnBehalfOf`] |
//! | the token of the user who called, and another provider | that user, at the next service | [`TokenExchange`] |
//! | the token of a cluster, a cloud or a pipeline | the program, elsewhere | [`TokenExchange`] with its own subject, or [`JwtBearer`] |
//! | a refresh token of somebody who signed in | that person | [`RefreshToken`] |
//! | a service account's key | that account | [`JwtBearer`] |
//! | a SAML 2.0 assertion | whomever it speaks for | [`Saml2Bearer`] |
//! | a token that somebody made by hand | whatever it opens | [`Static`] |
//! | a name, a password and no other way | that name | `Password`, feature `password` |
//! | code of your own that gets tokens | whatever it gets them for | [`source::from_fn`](crate::source::from_fn) |
//!
//! Those that ask a provider are made with a [`TokenEndpoint`]: the provider's address or issuer, and as whom to ask.
//!
//! Each makes one attempt when it is asked and keeps no access token: put a [`TokenCache`](crate::TokenCache) in front.
//!
//! How the client proves itself is the same question for each: see [`ClientAuth`].
//!
//! They differ from [`transport`](crate::transport) in that they know what to ask; the transport knows how to get there.

pub mod assertion;
mod assertion_grant;
mod client_auth;
mod client_credentials;
mod discovery;
mod endpoint;
mod exchange;
mod jwt_bearer;
mod on_behalf_of;
#[cfg(feature = "password")]
mod password;
mod refresh_token;
mod rotation;
mod saml2_bearer;
#[cfg(feature = "jwt")]
mod signed;
mod static_token;
mod token_exchange;

#[cfg(feature = "jwt")]
#[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
pub use crate::jwt::{SigningAlgorithm, SigningKey};
pub use client_auth::ClientAuth;
pub use client_credentials::ClientCredentials;
pub use endpoint::TokenEndpoint;
pub use jwt_bearer::JwtBearer;
pub use on_behalf_of::OnBehalfOf;
#[cfg(feature = "password")]
#[cfg_attr(docsrs, doc(cfg(feature = "password")))]
pub use password::Password;
pub use refresh_token::RefreshToken;
pub use saml2_bearer::Saml2Bearer;
pub use static_token::Static;
pub use token_exchange::TokenExchange;
