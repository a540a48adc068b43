//! Implements the grants of the token endpoint, one file each.

mod client_credentials;
mod dispatch;
mod jwt_bearer;
mod password;
mod refresh_token;
mod saml2_bearer;
mod token_exchange;

pub(super) use dispatch::{Grant, GrantContext, NAMES, client_is_optional, evaluate};
