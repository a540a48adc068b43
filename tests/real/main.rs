//! Against servers that others wrote: oidc-provider and django-oauth-toolkit, which `tests/run` starts.
//!
//! Each way to get a token goes the whole way: the token is fetched, used at an API that the server protects, known to the
//! server's introspection, revoked, and replaced without the caller noticing.

mod client_auth;
mod client_credentials;
#[path = "../support/connector.rs"]
mod connector;
mod discovery;
mod http_client;
mod jwt_signing;
mod lifecycle;
mod on_behalf_of;
#[cfg(feature = "password")]
mod password;
mod refresh_token;
mod saml2_bearer;
mod secret_rotation;
mod server;
mod static_token;
#[path = "../support/temp_folder.rs"]
mod temp_folder;
