//! What a token endpoint answered (RFC 6749 §5): a token, or whose fault it is that there is none.
//!
//! Providers stray from the RFC in many small ways, and what has one clear meaning is read: numbers as strings, `scope`
//! as a list, a form instead of JSON, an error with status 200. What has none is malformed. Nothing of the body gets
//! into an error but the provider's own error code and description, cleaned and without the secrets that were sent.

use std::{
    borrow::Cow,
    fmt,
    time::{Duration, UNIX_EPOCH},
};

use serde_json::{Map, Number, Value};
use zeroize::Zeroizing;

use super::{
    endpoint_response::EndpointResponse, error_response::error_response, json::trim,
    redactor::Redactor,
};
use crate::{
    error::{ErrorKind, TokenError},
    secret::wipe,
};

/// A token and what was said about it.
pub(crate) struct TokenResponse {
    pub(crate) access_token: Zeroizing<String>,
    /// From the moment of the answer.
    pub(crate) expires_in: Option<Duration>,
    pub(crate) refresh_in: Option<Duration>,
    /// The scopes granted, divided by single blanks.
    pub(crate) scope: Option<String>,
    pub(crate) refresh_token: Option<Zeroizing<String>>,
    /// What kind of token it is, where a token exchange says so (RFC 8693).
    pub(crate) issued_token_type: Option<String>,
}

impl fmt::Debug for TokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenResponse")
            .field("access_token", &format_args!("redacted"))
            .field("expires_in", &self.expires_in)
            .field("refresh_in", &self.refresh_in)
            .field("scope", &self.scope)
            .field("refresh_token", &format_args!("redacted"))
            .field("issued_token_type", &self.issued_token_type)
            .finish()
    }
}

/// Reads an answer. What was `sent` is taken out of the provider's words, should it echo them.
pub(crate) fn token_response(
    response: &EndpointResponse<'_>,
    redactor: &Redactor,
) -> Result<TokenResponse, TokenError> {
    // RFC 6749 §5.2 gives errors the status 400 or 401. Some providers send them with 200: the member tells.
    let mut members = match ResponseMembers::read(response.body, response.content_type()) {
        Ok(members) => members,
        Err(unreadable) if response.status.is_success() => return Err(unreadable.error()),
        Err(_) => ResponseMembers::default(),
    };
    if !response.status.is_success() || members.has("error") {
        return Err(error_response(response, &members, redactor));
    }
    members.bearer_type()?;
    Ok(TokenResponse {
        access_token: members.access_token()?,
        expires_in: members.lifetime(response)?,
        refresh_in: members.seconds("refresh_in")?.map(Duration::from_secs),
        scope: members.scope(),
        refresh_token: members
            .take_text("refresh_token")
            .map(Zeroizing::new)
            .filter(|token| !token.is_empty()),
        issued_token_type: members.text("issued_token_type").map(str::to_owned),
    })
}

/// The members of an answer, wiped when dropped.
#[derive(Default)]
pub(super) struct ResponseMembers(Map<String, Value>);

impl Drop for ResponseMembers {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

/// Why an answer has no members.
enum UnreadableBody {
    Empty,
    Nonsense,
}

impl UnreadableBody {
    fn error(self) -> TokenError {
        match self {
            // A proxy on the way lost it: worth another attempt.
            Self::Empty => malformed(
                "the provider's answer is empty: check that the token URL is the token endpoint's",
            )
            .with_retryable(true),
            Self::Nonsense => malformed(
                "the provider's answer is neither JSON nor a form: check that the token URL is the token endpoint's",
            ),
        }
    }
}

impl ResponseMembers {
    fn read(body: &[u8], content_type: &str) -> Result<Self, UnreadableBody> {
        let body = trim(body);
        if body.is_empty() {
            return Err(UnreadableBody::Empty);
        }
        if body.starts_with(b"{") {
            // The error says what it met, so it is dropped: that may be the token.
            return serde_json::from_slice(body)
                .map(Self)
                .map_err(|_| UnreadableBody::Nonsense);
        }
        let is_form = content_type == "application/x-www-form-urlencoded" || looks_like_form(body);
        if !is_form {
            return Err(UnreadableBody::Nonsense);
        }
        let members = form_urlencoded::parse(body)
            .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())));
        Ok(Self(members.collect()))
    }

    /// Whether there is such a member, and it is not null.
    fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    fn take_text(&mut self, name: &str) -> Option<String> {
        match self.0.remove(name)? {
            Value::String(text) => Some(text),
            mut other => {
                wipe(&mut other);
                None
            }
        }
    }

    // RFC 6749 A.12: access-token = 1*VSCHAR
    fn access_token(&mut self) -> Result<Zeroizing<String>, TokenError> {
        let Some(token) = self.take_text("access_token").map(Zeroizing::new) else {
            return Err(malformed(
                "the provider's answer has no access_token that is a string: check that the token URL is the token \
                 endpoint's",
            ));
        };
        // RFC 6749 A: VSCHAR = %x20-7E. A blank at either end would not survive in a header.
        let printable = token.bytes().all(|c| matches!(c, 0x20..=0x7e));
        if token.is_empty() || !printable || token.starts_with(' ') || token.ends_with(' ') {
            return Err(malformed(
                "the provider's access_token is empty or can't stand in a header: ask for one of printable ASCII",
            ));
        }
        Ok(token)
    }

    // RFC 6749 §5.1: "token_type REQUIRED. The type of the token issued […]. Value is case insensitive." Those who
    // leave it out mean Bearer.
    fn bearer_type(&self) -> Result<(), TokenError> {
        if !self.has("token_type") {
            return Ok(());
        }
        match self.text("token_type") {
            Some(kind) if kind.eq_ignore_ascii_case("bearer") => Ok(()),
            Some(kind) if kind.eq_ignore_ascii_case("dpop") => Err(malformed(
                "the provider bound the token to a key (token_type DPoP), and no proof can be sent with it: register \
                 the client for bearer tokens",
            )),
            // RFC 8693 §2.2.1: "If the issued token is not an access token or usable as an access token, then the
            // token_type value N_A is used to indicate that an OAuth 2.0 token_type identifier is not applicable".
            Some(kind) if kind.eq_ignore_ascii_case("n_a") => Err(malformed(
                "the provider issued a token that can't be sent as a bearer token (token_type N_A): ask for the \
                 requested_token_type access_token",
            )),
            _ => Err(malformed(
                "the provider's token is not of the type Bearer, so it can't be sent: register the client for bearer \
                 tokens",
            )),
        }
    }

    /// How long the token lives from now on.
    fn lifetime(&self, response: &EndpointResponse<'_>) -> Result<Option<Duration>, TokenError> {
        if let Some(seconds) = self.seconds("expires_in")? {
            return Ok(Some(Duration::from_secs(seconds)));
        }
        let Some(expires_on) = self.seconds("expires_on")? else {
            return Ok(None);
        };
        // The end is by the provider's clock, so the present should be too.
        let now = response.provider_time().duration_since(UNIX_EPOCH);
        let remaining = expires_on.saturating_sub(now.unwrap_or_default().as_secs());
        Ok(Some(Duration::from_secs(remaining)))
    }

    fn seconds(&self, name: &str) -> Result<Option<u64>, TokenError> {
        let seconds = match self.0.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Number(number)) => seconds_of_number(number),
            Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
            Some(Value::String(text)) => seconds_of_text(text.trim()),
            Some(_) => None,
        };
        let Some(seconds) = seconds else {
            return Err(malformed(format!(
                "the provider's {name} is no number of seconds from zero on: ask it to mend that"
            )));
        };
        Ok(Some(seconds))
    }

    /// RFC 6749 §3.3 makes it one string; some send a list.
    fn scope(&self) -> Option<String> {
        let scopes: Vec<&str> = match self.0.get("scope")? {
            Value::String(text) => text.split_ascii_whitespace().collect(),
            Value::Array(values) => values
                .iter()
                .filter_map(Value::as_str)
                .flat_map(str::split_ascii_whitespace)
                .collect(),
            _ => return None,
        };
        Some(scopes.join(" "))
    }
}

/// Whether a body without a telling content type is a form with members that we know.
fn looks_like_form(body: &[u8]) -> bool {
    let is_unexpected = |c: &u8| c.is_ascii_whitespace() || matches!(c, b'<' | b'{' | b'[');
    if body.iter().any(is_unexpected) {
        return false;
    }
    form_urlencoded::parse(body).any(|(name, _)| matches!(&*name, "access_token" | "error"))
}

fn seconds_of_number(number: &Number) -> Option<u64> {
    match (number.as_u64(), number.as_f64()) {
        (Some(seconds), _) => Some(seconds),
        (None, Some(seconds)) => seconds_of_float(seconds),
        // Beyond every float.
        (None, None) => seconds_of_text(&number.to_string()),
    }
}

fn seconds_of_text(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    // Not the names of infinity and of no number.
    let allowed = |c: u8| c.is_ascii_digit() || b"+-.eE".contains(&c);
    if !text.bytes().all(allowed) {
        return None;
    }
    seconds_of_float(text.parse().ok()?)
}

fn seconds_of_float(seconds: f64) -> Option<u64> {
    // The cast saturates, and cuts the fraction off.
    (seconds >= 0.0).then_some(seconds as u64)
}

fn malformed(message: impl Into<Cow<'static, str>>) -> TokenError {
    TokenError::new(ErrorKind::Malformed, message)
}
