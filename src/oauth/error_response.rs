//! This module converts error responses of token endpoints (RFC 6749 §5.2) to [`TokenError`].
//!
//! An error only contains the provider's error code, description, claims and request ids, without control characters and without
//! the secrets that were sent.

use std::borrow::Cow;

use http::{HeaderMap, StatusCode, header::HeaderName};
use serde_json::Value;

use super::{
    endpoint_response::EndpointResponse, redactor::Redactor, token_response::ResponseMembers,
};
use crate::error::{ErrorKind, TokenError};

/// The maximum number of characters of a description.
pub(super) const MAX_DESCRIPTION: usize = 300;
/// The maximum number of characters of an error code or request id.
const MAX_IDENTIFIER: usize = 80;
/// The maximum number of bytes of claims.
const MAX_CLAIMS: usize = 8 << 10;

/// Converts a response without a token.
pub(super) fn error_response(
    response: &EndpointResponse<'_>,
    members: &ResponseMembers,
    redactor: &Redactor,
) -> TokenError {
    let code = members.text("error").map(|code| identifier(code, redactor));
    let code = code.as_deref().filter(|code| !code.is_empty());
    let (kind, message) = match code {
        // Microsoft reports a missing interaction as `invalid_grant` with a suberror.
        Some("invalid_grant") if requires_interaction(members) => INTERACTION_REQUIRED,
        code => classify(response.status, code),
    };
    let mut error = TokenError::new(kind, message);
    if let Some(description) = description(response.headers, members, redactor) {
        error = error.with_description(description);
    }
    if let Some(after) = response.retry_after() {
        error = error.with_retry_after(after);
    }
    if let Some(claims) = claims(members) {
        error = error.with_claims(claims);
    }
    error
}

/// The error if a user has to act.
const INTERACTION_REQUIRED: (ErrorKind, Cow<'static, str>) = (
    ErrorKind::InteractionRequired,
    Cow::Borrowed(
        "a user has to sign in or consent first: run the sign-in again, with the error's claims if it has any",
    ),
);

fn requires_interaction(members: &ResponseMembers) -> bool {
    let suberror = members.text("suberror");
    suberror.is_some_and(|suberror| {
        matches!(
            suberror,
            "basic_action" | "additional_action" | "message_only" | "consent_required"
        )
    })
}

/// Returns the kind of the error, and a message with the remedy.
fn classify(status: StatusCode, code: Option<&str>) -> (ErrorKind, Cow<'static, str>) {
    // The body is ignored, because a gateway may have sent it.
    if status == StatusCode::TOO_MANY_REQUESTS {
        let message =
            "the provider throttles token requests (429): share one cache, and retry later";
        return (ErrorKind::Throttled, message.into());
    }
    // OpenID Connect Core §3.1.2.6, RFC 9470 §5, and Auth0's mfa_required.
    if let Some(
        "interaction_required"
        | "login_required"
        | "consent_required"
        | "account_selection_required"
        | "unmet_authentication_requirements"
        | "mfa_required",
    ) = code
    {
        return INTERACTION_REQUIRED;
    }
    if let Some((kind, message)) = code.and_then(classify_code) {
        return (kind, message.into());
    }
    let reason = code.map_or_else(|| status.as_u16().to_string(), str::to_owned);
    match status.as_u16() {
        300..=399 => (
            ErrorKind::Malformed,
            format!(
                "the provider redirects token requests ({status}), and redirects are not followed: configure the final URL \
                 of the token endpoint",
                status = status.as_u16(),
            )
            .into(),
        ),
        401 if code.is_none() => (
            ErrorKind::InvalidClient,
            "the provider rejects the client (401): check client id, secret and authentication method".into(),
        ),
        404 | 405 if code.is_none() => (
            ErrorKind::Refused,
            format!("the token URL is not a token endpoint ({reason}): check it").into(),
        ),
        500.. => (
            ErrorKind::Unavailable,
            format!("the provider is unavailable ({reason}): retry later").into(),
        ),
        _ => (
            ErrorKind::Refused,
            format!(
                "the provider rejects the token request ({reason}): compare its parameters with the provider's \
                 documentation"
            )
            .into(),
        ),
    }
}

/// RFC 6749 §5.2, RFC 8707 §2, RFC 8693 §2.2.2.
fn classify_code(code: &str) -> Option<(ErrorKind, &'static str)> {
    Some(match code {
        "invalid_client" => (
            ErrorKind::InvalidClient,
            "the provider rejects the client (invalid_client): check client id, secret and authentication method",
        ),
        "unauthorized_client" => (
            ErrorKind::UnauthorizedClient,
            "the client may not use this grant (unauthorized_client): allow the grant in the client's registration",
        ),
        "invalid_grant" => (
            ErrorKind::InvalidGrant,
            "the provider rejects the grant (invalid_grant): it has expired, was revoked or belongs to another client; obtain \
             a new one",
        ),
        "invalid_scope" => (
            ErrorKind::InvalidScope,
            "the provider rejects the scopes (invalid_scope): check their spelling and the permissions of the client",
        ),
        "invalid_target" | "invalid_resource" => (
            ErrorKind::InvalidTarget,
            "the provider doesn't know the resource or audience (invalid_target): check the registration of the API",
        ),
        "access_denied" => (
            ErrorKind::AccessDenied,
            "access was denied (access_denied): grant the client or user access to the API",
        ),
        "temporarily_unavailable" | "server_error" => (
            ErrorKind::Unavailable,
            "the provider is temporarily unavailable: retry later",
        ),
        _ => return None,
    })
}

/// Returns the provider's description and the ids that its support needs.
fn description(
    headers: &HeaderMap,
    members: &ResponseMembers,
    redactor: &Redactor,
) -> Option<String> {
    // RFC 6749 §5.2 defines a string next to `error`; Google's APIs send an object as `error`.
    let nested = members
        .value("error")
        .and_then(|error| error.get("message"));
    let text = members
        .text("error_description")
        .or(nested.and_then(Value::as_str));
    let mut parts = Vec::new();
    if let Some(text) = text.map(|text| clean(text, MAX_DESCRIPTION, redactor)) {
        parts.push(text);
    }
    for name in ["suberror", "correlation_id", "trace_id"] {
        if let Some(value) = members.text(name) {
            parts.push(format!("{name} {}", identifier(value, redactor)));
        }
    }
    for name in ["x-ms-request-id", "x-request-id", "request-id"] {
        let name = HeaderName::from_static(name);
        if let Some(value) = headers.get(&name).and_then(|value| value.to_str().ok()) {
            parts.push(format!("{name} {}", identifier(value, redactor)));
        }
    }
    parts.retain(|part| !part.is_empty());
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Redacts, then replaces characters that could forge log lines, then truncates: a truncated secret would not be found.
fn clean(text: &str, limit: usize, redactor: &Redactor) -> String {
    let text = redactor.redact(text);
    let mut cleaned = String::new();
    for (count, c) in text.trim().chars().enumerate() {
        if count == limit {
            cleaned.push('…');
            break;
        }
        // Control characters, and those that change the direction of text.
        let is_unsafe = c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        cleaned.push(if is_unsafe { ' ' } else { c });
    }
    cleaned
}

/// Cleans an error code or id. It is redacted first, while it is unchanged.
fn identifier(text: &str, redactor: &Redactor) -> String {
    let redacted = redactor.redact(text);
    let graphic = redacted.chars().filter(char::is_ascii_graphic);
    graphic.take(MAX_IDENTIFIER).collect()
}

/// Returns the claims that the next sign-in must satisfy: JSON, as a string or as an object.
fn claims(members: &ResponseMembers) -> Option<String> {
    let claims = match members.value("claims")? {
        Value::String(text) => text.clone(),
        object @ Value::Object(_) => object.to_string(),
        _ => return None,
    };
    (!claims.is_empty() && claims.len() <= MAX_CLAIMS).then_some(claims)
}
