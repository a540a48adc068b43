//! From the `grant_type` to the grant.

use std::collections::HashMap;

use tokio::time::Instant;

use super::super::families::Families;
use super::super::form::Form;
use super::super::refusal::Refusal;
use super::super::token_store::{Asked, Issued, TokenStore};
use super::{
    client_credentials, jwt_bearer, password, refresh_token, saml2_bearer, token_exchange,
};

pub(in super::super) const NAMES: [&str; 6] = [
    client_credentials::NAME,
    jwt_bearer::NAME,
    password::NAME,
    refresh_token::NAME,
    saml2_bearer::NAME,
    token_exchange::NAME,
];

/// What the server knows when it is asked.
pub(in super::super) struct Known<'a> {
    pub(in super::super) users: &'a HashMap<String, String>,
    /// Assertions that are believed, and whom they speak for.
    pub(in super::super) assertions: &'a HashMap<String, String>,
    pub(in super::super) tokens: &'a TokenStore,
    pub(in super::super) families: &'a mut Families,
    pub(in super::super) now: Instant,
}

/// What a grant comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Granted {
    pub(in super::super) asked: Asked,
    /// The refresh token that was used for it.
    pub(in super::super) refreshed: Option<String>,
    /// Whether a person is there whom a refresh token could stand for.
    pub(in super::super) for_a_person: bool,
    /// The type that the answer names (RFC 8693).
    pub(in super::super) issued_token_type: Option<String>,
}

/// What this request of an authenticated client asks for.
pub(in super::super) fn asked(
    client: String,
    form: &Form,
    known: &mut Known<'_>,
) -> Result<Granted, Refusal> {
    let asked = Asked {
        client,
        scopes: form.scopes()?,
        resources: form.all("resource"),
        audiences: form.all("audience"),
        ..Asked::default()
    };
    match form.required("grant_type")? {
        client_credentials::NAME => Ok(client_credentials::granted(asked)),
        jwt_bearer::NAME => jwt_bearer::granted(asked, form, known),
        password::NAME => password::granted(asked, form, known),
        refresh_token::NAME => refresh_token::granted(asked, form, known),
        saml2_bearer::NAME => saml2_bearer::granted(asked, form, known),
        token_exchange::NAME => token_exchange::granted(asked, form, known),
        _ => Err(Refusal::unsupported_grant_type()),
    }
}

/// RFC 7521, section 4.1: "authentication of the client is optional" where an assertion is the grant. On somebody's behalf it
/// is not.
pub(in super::super) fn needs_no_client(form: &Form) -> bool {
    let one = |name| form.one(name).ok().flatten();
    let optional = [jwt_bearer::NAME, saml2_bearer::NAME, token_exchange::NAME];
    one("grant_type").is_some_and(|grant| optional.contains(&grant))
        && one("requested_token_use").is_none()
        && one("client_id").is_none()
}

impl Known<'_> {
    /// A token of this server's that is good now.
    pub(super) fn token(&self, token: &str) -> Option<&Issued> {
        self.tokens.find_usable(token, self.now)
    }
}
