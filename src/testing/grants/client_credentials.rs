//! Grants a token to the client itself (RFC 6749, section 4.4).

use super::super::issued_tokens::Authorization;
use super::Grant;

pub(super) const NAME: &str = "client_credentials";

pub(super) fn grant(authorization: Authorization) -> Grant {
    Grant {
        authorization,
        ..Grant::default()
    }
}
