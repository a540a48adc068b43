//! This module converts error responses of token endpoints (RFC 6749 §5.2) to [`TokenError`].
//!
//! An error only contains the provider's error code, description, claims and request ids, without control characters and without
//! the secrets that were sent.

use http::StatusCode;
use serde_json::Value;

use super::{endpoint_response::EndpointResponse, redactor::Redactor, text::graphic};
use crate::{
    error::{ErrorKind, TokenError},
    util::secret_json::SecretJson,
};

/// The maximum number of characters of a description.
pub(super) const MAX_DESCRIPTION: usize = 300;
/// The maximum number of characters of an error code or request id.
const MAX_IDENTIFIER: usize = 80;
/// The maximum number of bytes of claims.
const MAX_CLAIMS: usize = 8 << 10;

/// Converts a response without a token.
pub(super) fn error_response(
    response: &EndpointResponse<'_>,
    members: &SecretJson,
    redactor: &Redactor,
) -> TokenError {
    let code = members.text("error").map(|code| identifier(code, redactor));
    let code = code.as_deref().filter(|code| !code.is_empty());
    let (kind, message) = classify(response.status, code, members.text("suberror"));
    let status = response.status.as_u16().to_string();
    let message = message
        .replace("{status}", &status)
        .replace("{reason}", code.unwrap_or(&status));
    let mut error = TokenError::new(kind, message);
    if let Some(description) = description(response, members, redactor) {
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

/// Returns the kind of the error and a message with the remedy, in which `{status}` and `{reason}` (the code, otherwise the
/// status) are placeholders.
fn classify(
    status: StatusCode,
    code: Option<&str>,
    suberror: Option<&str>,
) -> (ErrorKind, &'static str) {
    let requires_interaction = match code {
        // Microsoft reports a missing interaction as `invalid_grant` with a suberror.
        Some("invalid_grant") => matches!(
            suberror,
            Some("basic_action" | "additional_action" | "message_only" | "consent_required")
        ),
        // OpenID Connect Core §3.1.2.6, RFC 9470 §5, and Auth0's mfa_required.
        Some(
            "interaction_required"
            | "login_required"
            | "consent_required"
            | "account_selection_required"
            | "unmet_authentication_requirements"
            | "mfa_required",
        ) => true,
        _ => false,
    };
    // The codes are those of RFC 6749 §5.2, RFC 8707 §2 and RFC 8693 §2.2.2.
    match (status.as_u16(), code) {
        // Other codes are ignored, because a gateway may have sent the body.
        (429, _) if !(requires_interaction && code == Some("invalid_grant")) => (
            ErrorKind::Throttled,
            "the provider throttles token requests (429): share one cache, and retry later",
        ),
        _ if requires_interaction => (
            ErrorKind::InteractionRequired,
            "a user has to sign in or consent first: run the sign-in again, with the error's claims if it has any",
        ),
        (_, Some("invalid_client")) | (401, None) => (
            ErrorKind::InvalidClient,
            "the provider rejects the client ({reason}): check client id, secret and authentication method",
        ),
        (_, Some("unauthorized_client")) => (
            ErrorKind::UnauthorizedClient,
            "the client may not use this grant (unauthorized_client): allow the grant in the client's registration",
        ),
        (_, Some("invalid_grant")) => (
            ErrorKind::InvalidGrant,
            "the provider rejects the grant (invalid_grant): it has expired, was revoked or belongs to another client; obtain \
             a new one",
        ),
        (_, Some("invalid_scope")) => (
            ErrorKind::InvalidScope,
            "the provider rejects the scopes (invalid_scope): check their spelling and the permissions of the client",
        ),
        (_, Some("invalid_target" | "invalid_resource")) => (
            ErrorKind::InvalidTarget,
            "the provider doesn't know the resource or audience (invalid_target): check the registration of the API",
        ),
        (_, Some("access_denied")) => (
            ErrorKind::AccessDenied,
            "access was denied (access_denied): grant the client or user access to the API",
        ),
        (_, Some("temporarily_unavailable" | "server_error")) => (
            ErrorKind::Unavailable,
            "the provider is temporarily unavailable: retry later",
        ),
        (300..=399, _) => (
            ErrorKind::Malformed,
            "the provider redirects token requests ({status}), and redirects are not followed: configure the final URL of \
             the token endpoint",
        ),
        (404 | 405, None) => (
            ErrorKind::Refused,
            "the token URL is not a token endpoint ({reason}): check it",
        ),
        (500.., _) => (
            ErrorKind::Unavailable,
            "the provider is unavailable ({reason}): retry later",
        ),
        _ => (
            ErrorKind::Refused,
            "the provider rejects the token request ({reason}): compare its parameters with the provider's documentation",
        ),
    }
}

/// Returns the provider's description and the ids that its support needs.
fn description(
    response: &EndpointResponse<'_>,
    members: &SecretJson,
    redactor: &Redactor,
) -> Option<String> {
    // RFC 6749 §5.2 defines a string next to `error`; Google's APIs send an object as `error`.
    let nested = || members.0.get("error")?.get("message")?.as_str();
    let text = members.text("error_description").or_else(nested);
    let ids = ["suberror", "correlation_id", "trace_id"].map(|name| (name, members.text(name)));
    let headers = ["x-ms-request-id", "x-request-id", "request-id"];
    let headers = headers.map(|name| (name, response.header(name)));
    let ids = ids
        .into_iter()
        .chain(headers)
        .filter_map(|(name, id)| Some(format!("{name} {}", identifier(id?, redactor))));
    let text = text.map(|text| clean(text, redactor));
    let text = text.filter(|text| !text.is_empty());
    let parts: Vec<_> = text.into_iter().chain(ids).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Redacts, then replaces characters that could forge log lines, then truncates: a truncated secret would not be found.
fn clean(text: &str, redactor: &Redactor) -> String {
    // Control characters, and those that change the direction of text.
    let is_unsafe = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let text = redactor.redact(text).trim().replace(is_unsafe, " ");
    let shortened = text.chars().nth(MAX_DESCRIPTION).map(|_| '…');
    text.chars()
        .take(MAX_DESCRIPTION)
        .chain(shortened)
        .collect()
}

/// Cleans an error code or id. It is redacted first, while it is unchanged.
fn identifier(text: &str, redactor: &Redactor) -> String {
    graphic(&redactor.redact(text), MAX_IDENTIFIER)
}

/// Returns the claims that the next sign-in must satisfy: JSON, as a string or as an object.
fn claims(members: &SecretJson) -> Option<String> {
    let claims = match members.0.get("claims")? {
        Value::String(text) => text.clone(),
        object @ Value::Object(_) => object.to_string(),
        _ => return None,
    };
    (!claims.is_empty() && claims.len() <= MAX_CLAIMS).then_some(claims)
}
