//! Implements token sources, one for each OAuth grant.
//!
//! # Which source to use
//!
//! | you have | you request tokens for | source |
//! |---|---|---|
//! | a client id and a secret, key or certificate | the program itself | [`ClientCredentials`] |
//! | the token of the calling user, from Microsoft's provider | that user, at the next service | [`OnBehalfOf`] |
//! | the token of the calling user, from another provider | that user, at the next service | [`TokenExchange`] |
//! | the token of a cluster, a cloud or a pipeline | the program, at another provider | [`TokenExchange`] with a fixed subject, or [`JwtBearer`] |
//! | a refresh token of a user who signed in | that user | [`RefreshToken`] |
//! | the key of a service account | that account | [`JwtBearer`] |
//! | a SAML 2.0 assertion | its subject | [`Saml2Bearer`] |
//! | a personal access token or a static API key | the API that it is valid for | [`Static`] |
//! | a user name and a password, and no other way | that user | `Password`, feature `password` |
//! | custom code that gets tokens | | [`source::from_fn`](crate::source::from_fn) |
//!
//! Sources that call a provider are made with a [`TokenEndpoint`]: the provider's URL, and the client that calls it.
//! [`ClientAuth`] says how that client authenticates.
//!
//! A source makes one attempt per call and stores no access tokens; put a [`TokenCache`](crate::TokenCache) in front of it.

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
