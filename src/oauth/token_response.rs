//! This module parses the responses of token endpoints (RFC 6749 §5.1).
//!
//! Many providers deviate from the RFC. A deviation with only one possible meaning is accepted: numbers as strings, `scope` as an
//! array, a form instead of JSON, an error with status 200. Everything else is malformed. Parse errors show nothing of the body.

use std::{
    borrow::Cow,
    mem,
    time::{Duration, UNIX_EPOCH},
};

use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    endpoint_response::EndpointResponse, error_response::error_response, redactor::Redactor,
    text::trim,
};
use crate::{
    error::{ErrorKind, TokenError},
    util::secret_json::SecretJson,
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

/// Parses a response. The redactor removes secrets from the provider's error description.
pub(crate) fn token_response(
    response: &EndpointResponse<'_>,
    redactor: &Redactor,
) -> Result<TokenResponse, TokenError> {
    // RFC 6749 §5.2 defines the status 400 or 401 for errors. Some providers send errors with 200.
    let mut members = match read_members(response.body, response.content_type()) {
        Err(error) if response.status.is_success() => return Err(error),
        members => members.unwrap_or_default(),
    };
    if !response.status.is_success() || value(&members, "error").is_some() {
        return Err(error_response(response, &members, redactor));
    }
    check_token_type(&members)?;
    Ok(TokenResponse {
        access_token: access_token(&mut members)?,
        expires_in: lifetime(&members, response)?,
        refresh_in: seconds(&members, "refresh_in")?.map(Duration::from_secs),
        scope: scope(&members),
        refresh_token: take_text(&mut members, "refresh_token").filter(|token| !token.is_empty()),
        issued_token_type: members.text("issued_token_type").map(str::to_owned),
    })
}

fn read_members(body: &[u8], content_type: &str) -> Result<SecretJson, TokenError> {
    let body = trim(body);
    if body.is_empty() {
        // A proxy may have dropped the body, so a retry may succeed.
        return Err(malformed(
            "the provider's response is empty: check that the token URL is that of the token endpoint",
        )
        .with_retryable(true));
    }
    let members = if body.starts_with(b"{") {
        SecretJson::parse(body)
    } else if content_type == "application/x-www-form-urlencoded" || looks_like_form(body) {
        let members = form_urlencoded::parse(body)
            .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())));
        Some(SecretJson(members.collect()))
    } else {
        None
    };
    members.ok_or_else(|| {
        malformed(
            "the provider's response is neither JSON nor a form: check that the token URL is that of the token endpoint",
        )
    })
}

/// Returns a member that is not null.
fn value<'a>(members: &'a SecretJson, name: &str) -> Option<&'a Value> {
    members.0.get(name).filter(|value| !value.is_null())
}

fn take_text(members: &mut SecretJson, name: &str) -> Option<Zeroizing<String>> {
    match members.0.get_mut(name)? {
        Value::String(text) => Some(mem::take(text).into()),
        _ => None,
    }
}

// RFC 6749 A.12: access-token = 1*VSCHAR
fn access_token(members: &mut SecretJson) -> Result<Zeroizing<String>, TokenError> {
    let token = take_text(members, "access_token").ok_or_else(|| {
        malformed(
            "the provider's response has no access_token string: check that the token URL is that of the token endpoint",
        )
    })?;
    // RFC 6749 A: VSCHAR = %x20-7E. A header value would lose a space at either end.
    let printable = token.bytes().all(|c| matches!(c, 0x20..=0x7e));
    if token.is_empty() || !printable || token.starts_with(' ') || token.ends_with(' ') {
        return Err(malformed(
            "the provider's access_token is empty or not valid in a header: configure the provider to issue printable ASCII",
        ));
    }
    Ok(token)
}

/// Returns an error unless the token is a bearer token.
fn check_token_type(members: &SecretJson) -> Result<(), TokenError> {
    // RFC 6749 §5.1: "token_type REQUIRED. The type of the token issued […]. Value is case insensitive." Without it, Bearer is
    // assumed.
    let Some(token_type) = value(members, "token_type") else {
        return Ok(());
    };
    let token_type = token_type.as_str().map(str::to_ascii_lowercase);
    Err(malformed(match token_type.as_deref() {
        Some("bearer") => return Ok(()),
        Some("dpop") => {
            "the provider bound the token to a key (token_type DPoP), which is not supported: register the client for \
             bearer tokens"
        }
        // RFC 8693 §2.2.1: "If the issued token is not an access token or usable as an access token, then the
        // token_type value N_A is used to indicate that an OAuth 2.0 token_type identifier is not applicable".
        Some("n_a") => {
            "the provider issued a token that can't be sent as a bearer token (token_type N_A): request the \
             requested_token_type access_token"
        }
        _ => {
            "the provider's token is not of the type Bearer: register the client for bearer tokens"
        }
    }))
}

/// Returns the remaining lifetime of the token.
fn lifetime(
    members: &SecretJson,
    response: &EndpointResponse<'_>,
) -> Result<Option<Duration>, TokenError> {
    let lifetime = match seconds(members, "expires_in")? {
        Some(lifetime) => Some(lifetime),
        // `expires_on` is a time of the provider's clock, so it is compared with that clock.
        None => seconds(members, "expires_on")?.map(|expires_on| {
            let now = response.provider_time().duration_since(UNIX_EPOCH);
            expires_on.saturating_sub(now.unwrap_or_default().as_secs())
        }),
    };
    Ok(lifetime.map(Duration::from_secs))
}

/// Returns a number of seconds, which may be a string. `None` if the member is null, empty or missing.
fn seconds(members: &SecretJson, name: &str) -> Result<Option<u64>, TokenError> {
    let seconds = match value(members, name) {
        None => return Ok(None),
        Some(Value::Number(number)) => parse_seconds(&number.to_string()),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => parse_seconds(text.trim()),
        Some(_) => None,
    };
    seconds.map(Some).ok_or_else(|| {
        malformed(format!(
            "the provider's {name} is not a non-negative number of seconds: report this to the provider"
        ))
    })
}

fn parse_seconds(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    // Excludes `inf` and `NaN`, which Rust parses as floats.
    let allowed = |c: u8| c.is_ascii_digit() || b"+-.eE".contains(&c);
    let seconds: f64 = text.bytes().all(allowed).then(|| text.parse().ok())??;
    // The cast saturates and truncates.
    (seconds >= 0.0).then_some(seconds as u64)
}

/// Returns the granted scopes. RFC 6749 §3.3 defines a string; some providers send an array.
fn scope(members: &SecretJson) -> Option<String> {
    let texts: Vec<&str> = match members.0.get("scope")? {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    let scopes = texts.iter().flat_map(|text| text.split_ascii_whitespace());
    Some(scopes.collect::<Vec<_>>().join(" "))
}

/// Returns `true` if a body of another content type is a form with known members.
fn looks_like_form(body: &[u8]) -> bool {
    let is_unexpected = |c: &u8| c.is_ascii_whitespace() || matches!(c, b'<' | b'{' | b'[');
    !body.iter().any(is_unexpected)
        && form_urlencoded::parse(body).any(|(name, _)| matches!(&*name, "access_token" | "error"))
}

fn malformed(message: impl Into<Cow<'static, str>>) -> TokenError {
    TokenError::new(ErrorKind::Malformed, message)
}
