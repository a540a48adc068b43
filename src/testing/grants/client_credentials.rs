//! A token for the client itself: RFC 6749, section 4.4.

use super::super::token_store::Asked;
use super::Granted;

pub(super) const NAME: &str = "client_credentials";

pub(super) fn granted(asked: Asked) -> Granted {
    Granted {
        asked,
        ..Granted::default()
    }
}
