//! This module parses the responses of token endpoints (RFC 6749 §5.1).
//!
//! Many providers deviate from the RFC. A deviation with only one possible meaning is accepted: numbers as strings, `scope` as an
//! array, a form instead of JSON, an error with status 200. Everything else is malformed. Parse errors show nothing of the body.

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

/// A successful token response.
pub(crate) struct TokenResponse {
    pub(crate) access_token: Zeroizing<String>,
    /// The lifetime, counted from the response.
    pub(crate) expires_in: Option<Duration>,
    pub(crate) refresh_in: Option<Duration>,
    /// The granted scopes, separated by single spaces.
    pub(crate) scope: Option<String>,
    pub(crate) refresh_token: Option<Zeroizing<String>>,
    /// The type of the token, in the response of a token exchange (RFC 8693).
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

/// Parses a response. The redactor removes secrets from the provider's error description.
pub(crate) fn token_response(
    response: &EndpointResponse<'_>,
    redactor: &Redactor,
) -> Result<TokenResponse, TokenError> {
    // RFC 6749 §5.2 defines the status 400 or 401 for errors. Some providers send errors with 200.
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

/// The members of a response body, wiped on drop.
#[derive(Default)]
pub(super) struct ResponseMembers(Map<String, Value>);

impl Drop for ResponseMembers {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

/// The reason why a body has no members.
enum UnreadableBody {
    Empty,
    NeitherJsonNorForm,
}

impl UnreadableBody {
    fn error(self) -> TokenError {
        match self {
            // A proxy may have dropped the body, so a retry may succeed.
            Self::Empty => malformed(
                "the provider's response is empty: check that the token URL is that of the token endpoint",
            )
            .with_retryable(true),
            Self::NeitherJsonNorForm => malformed(
                "the provider's response is neither JSON nor a form: check that the token URL is that of the token endpoint",
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
            // The parse error is dropped because it may quote the token.
            return serde_json::from_slice(body)
                .map(Self)
                .map_err(|_| UnreadableBody::NeitherJsonNorForm);
        }
        let is_form = content_type == "application/x-www-form-urlencoded" || looks_like_form(body);
        if !is_form {
            return Err(UnreadableBody::NeitherJsonNorForm);
        }
        let members = form_urlencoded::parse(body)
            .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())));
        Ok(Self(members.collect()))
    }

    /// Returns `true` if the member exists and is not null.
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
                "the provider's response has no access_token string: check that the token URL is that of the token endpoint",
            ));
        };
        // RFC 6749 A: VSCHAR = %x20-7E. A header value would lose a space at either end.
        let printable = token.bytes().all(|c| matches!(c, 0x20..=0x7e));
        if token.is_empty() || !printable || token.starts_with(' ') || token.ends_with(' ') {
            return Err(malformed(
                "the provider's access_token is empty or not valid in a header: configure the provider to issue printable ASCII",
            ));
        }
        Ok(token)
    }

    // RFC 6749 §5.1: "token_type REQUIRED. The type of the token issued […]. Value is case insensitive." Without
    // it, Bearer is assumed.
    fn bearer_type(&self) -> Result<(), TokenError> {
        if !self.has("token_type") {
            return Ok(());
        }
        match self.text("token_type") {
            Some(token_type) if token_type.eq_ignore_ascii_case("bearer") => Ok(()),
            Some(token_type) if token_type.eq_ignore_ascii_case("dpop") => Err(malformed(
                "the provider bound the token to a key (token_type DPoP), which is not supported: register the client \
                 for bearer tokens",
            )),
            // RFC 8693 §2.2.1: "If the issued token is not an access token or usable as an access token, then the
            // token_type value N_A is used to indicate that an OAuth 2.0 token_type identifier is not applicable".
            Some(token_type) if token_type.eq_ignore_ascii_case("n_a") => Err(malformed(
                "the provider issued a token that can't be sent as a bearer token (token_type N_A): request the \
                 requested_token_type access_token",
            )),
            _ => Err(malformed(
                "the provider's token is not of the type Bearer: register the client for bearer tokens",
            )),
        }
    }

    /// Returns the remaining lifetime of the token.
    fn lifetime(&self, response: &EndpointResponse<'_>) -> Result<Option<Duration>, TokenError> {
        if let Some(seconds) = self.seconds("expires_in")? {
            return Ok(Some(Duration::from_secs(seconds)));
        }
        let Some(expires_on) = self.seconds("expires_on")? else {
            return Ok(None);
        };
        // `expires_on` is a time of the provider's clock, so it is compared with that clock.
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
                "the provider's {name} is not a non-negative number of seconds: report this to the provider"
            )));
        };
        Ok(Some(seconds))
    }

    /// Returns the granted scopes. RFC 6749 §3.3 defines a string; some providers send an array.
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

/// Returns `true` if a body of another content type is a form with known members.
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
        // The number is too large for a float.
        (None, None) => seconds_of_text(&number.to_string()),
    }
}

fn seconds_of_text(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    // Excludes `inf` and `NaN`, which Rust parses as floats.
    let allowed = |c: u8| c.is_ascii_digit() || b"+-.eE".contains(&c);
    if !text.bytes().all(allowed) {
        return None;
    }
    seconds_of_float(text.parse().ok()?)
}

fn seconds_of_float(seconds: f64) -> Option<u64> {
    // The cast saturates and truncates.
    (seconds >= 0.0).then_some(seconds as u64)
}

fn malformed(message: impl Into<Cow<'static, str>>) -> TokenError {
    TokenError::new(ErrorKind::Malformed, message)
}
