//! Tests the library against oidc-provider and django-oauth-toolkit, which `tests/run` starts.
//!
//! For each grant, a token is fetched, used at an API that the server protects, introspected, revoked, and replaced
//! without an error for the caller.

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
