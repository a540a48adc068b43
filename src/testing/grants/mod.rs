//! The grants that the token endpoint knows, one file each: what does the request ask for, and may the client have it?

mod client_credentials;
mod dispatch;
mod jwt_bearer;
mod password;
mod refresh_token;
mod saml2_bearer;
mod token_exchange;

pub(super) use dispatch::{Grant, GrantContext, NAMES, client_is_optional, evaluate};
