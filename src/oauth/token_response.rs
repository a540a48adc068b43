//! What a token endpoint answered (RFC 6749 §5): a token, or whose fault it is that there is none.
//!
//! Providers stray from the RFC in many small ways, and what has one clear meaning is read: numbers as strings, `scope`
//! as a list, a form instead of JSON, an error with status 200. What has none is malformed. Nothing of the body gets
//! into an error but the provider's own error code and description, cleaned and without the secrets that were sent.

use std::{
    borrow::Cow,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_TYPE, DATE, HeaderName, RETRY_AFTER},
};
use serde_json::{Map, Number, Value};
use zeroize::Zeroizing;

use super::{json::trimmed, redactor::Sent};
use crate::{
    error::{ErrorKind, TokenError},
    secret::wipe,
};

/// Characters of a description.
pub(super) const MAX_DESCRIPTION: usize = 300;
/// Characters of an error code or correlation id.
const MAX_WORD: usize = 80;
/// Bytes of claims.
const MAX_CLAIMS: usize = 8 << 10;
/// A wait beyond this is a mistake, and the cache waits for less anyway.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(366 * 24 * 3600);

/// What came back for a token request.
pub(crate) struct Answer<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    /// The present, by our wall clock.
    pub(crate) now: SystemTime,
}

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
    answer: &Answer<'_>,
    sent: &Sent,
) -> Result<TokenResponse, TokenError> {
    // RFC 6749 §5.2 gives errors the status 400 or 401. Some providers send them with 200: the member tells.
    let mut members = match Members::read(answer.body, content_type(answer.headers)) {
        Ok(members) => members,
        Err(unread) if answer.status.is_success() => return Err(unread.error()),
        Err(_) => Members::default(),
    };
    if !answer.status.is_success() || members.has("error") {
        return Err(refusal(answer, &members, sent));
    }
    members.bearer_type()?;
    Ok(TokenResponse {
        access_token: members.access_token()?,
        expires_in: members.lifetime(answer)?,
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
struct Members(Map<String, Value>);

impl Drop for Members {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

/// Why an answer has no members.
enum Unread {
    Empty,
    Nonsense,
}

impl Unread {
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

impl Members {
    fn read(body: &[u8], content_type: &str) -> Result<Self, Unread> {
        let body = trimmed(body);
        if body.is_empty() {
            return Err(Unread::Empty);
        }
        if body.starts_with(b"{") {
            // The error says what it met, so it is dropped: that may be the token.
            return serde_json::from_slice(body)
                .map(Self)
                .map_err(|_| Unread::Nonsense);
        }
        let is_form = content_type == "application/x-www-form-urlencoded" || looks_like_form(body);
        if !is_form {
            return Err(Unread::Nonsense);
        }
        let members = form_urlencoded::parse(body)
            .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())));
        Ok(Self(members.collect()))
    }

    /// Whether there is such a member, and it is not null.
    fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
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
    fn lifetime(&self, answer: &Answer<'_>) -> Result<Option<Duration>, TokenError> {
        if let Some(seconds) = self.seconds("expires_in")? {
            return Ok(Some(Duration::from_secs(seconds)));
        }
        let Some(end) = self.seconds("expires_on")? else {
            return Ok(None);
        };
        // The end is by the provider's clock, so the present should be too.
        let now = provider_time(answer).duration_since(UNIX_EPOCH);
        let left = end.saturating_sub(now.unwrap_or_default().as_secs());
        Ok(Some(Duration::from_secs(left)))
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
    let odd = |c: &u8| c.is_ascii_whitespace() || matches!(c, b'<' | b'{' | b'[');
    if body.iter().any(odd) {
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

/// The error that an answer without a token comes to.
fn refusal(answer: &Answer<'_>, members: &Members, sent: &Sent) -> TokenError {
    let code = members.text("error").map(|code| word(code, sent));
    let code = code.as_deref().filter(|code| !code.is_empty());
    let (kind, message) = match code {
        // Microsoft's word for: it would be granted, had somebody done something first.
        Some("invalid_grant") if needs_a_person(members) => PERSON,
        code => blame(answer.status, code),
    };
    let mut error = TokenError::new(kind, message);
    if let Some(description) = description(answer.headers, members, sent) {
        error = error.with_description(description);
    }
    if let Some(after) = retry_after(answer) {
        error = error.with_retry_after(after);
    }
    if let Some(claims) = claims(members) {
        error = error.with_claims(claims);
    }
    error
}

/// What is said where a person has to do something.
const PERSON: (ErrorKind, Cow<'static, str>) = (
    ErrorKind::InteractionRequired,
    Cow::Borrowed(
        "a person has to sign in or consent first: run the sign-in again, with the error's claims if it has any",
    ),
);

fn needs_a_person(members: &Members) -> bool {
    let suberror = members.text("suberror");
    suberror.is_some_and(|suberror| {
        matches!(
            suberror,
            "basic_action" | "additional_action" | "message_only" | "consent_required"
        )
    })
}

/// Who is to blame, and what to do about it.
fn blame(status: StatusCode, code: Option<&str>) -> (ErrorKind, Cow<'static, str>) {
    // A gateway's 429 may carry any body.
    if status == StatusCode::TOO_MANY_REQUESTS {
        let message = "the provider asks for fewer requests (429): share one cache, and wait";
        return (ErrorKind::Throttled, message.into());
    }
    // OpenID Connect Core §3.1.2.6, RFC 9470 §5, and Auth0's word.
    if let Some(
        "interaction_required"
        | "login_required"
        | "consent_required"
        | "account_selection_required"
        | "unmet_authentication_requirements"
        | "mfa_required",
    ) = code
    {
        return PERSON;
    }
    if let Some((kind, message)) = code.and_then(blame_by_code) {
        return (kind, message.into());
    }
    let reason = code.map_or_else(|| status.as_u16().to_string(), str::to_owned);
    match status.as_u16() {
        300..=399 => (
            ErrorKind::Malformed,
            format!(
                "the provider redirects token requests ({status}), and a redirect is never followed: configure the \
                 token endpoint's final address",
                status = status.as_u16(),
            )
            .into(),
        ),
        401 if code.is_none() => (
            ErrorKind::InvalidClient,
            "the provider refuses the client (401): check client id, secret and authentication method".into(),
        ),
        404 | 405 if code.is_none() => (
            ErrorKind::Refused,
            format!("no token endpoint is there ({reason}): check the token URL").into(),
        ),
        500.. => (
            ErrorKind::Unavailable,
            format!("the provider is out of order ({reason}): try again later").into(),
        ),
        _ => (
            ErrorKind::Refused,
            format!(
                "the provider refuses the token request ({reason}): compare its parameters with what the provider \
                 documents"
            )
            .into(),
        ),
    }
}

/// RFC 6749 §5.2, RFC 8707 §2, RFC 8693 §2.2.2.
fn blame_by_code(code: &str) -> Option<(ErrorKind, &'static str)> {
    Some(match code {
        "invalid_client" => (
            ErrorKind::InvalidClient,
            "the provider refuses the client (invalid_client): check client id, secret and authentication method",
        ),
        "unauthorized_client" => (
            ErrorKind::UnauthorizedClient,
            "the client may not use this grant (unauthorized_client): allow the grant in the client's registration",
        ),
        "invalid_grant" => (
            ErrorKind::InvalidGrant,
            "the provider refuses the grant (invalid_grant): it is expired, revoked or another client's; obtain a \
             new one",
        ),
        "invalid_scope" => (
            ErrorKind::InvalidScope,
            "the provider refuses the scopes (invalid_scope): check their spelling, and that the client may have them",
        ),
        "invalid_target" | "invalid_resource" => (
            ErrorKind::InvalidTarget,
            "the provider doesn't know the resource or audience (invalid_target): check how the API is registered",
        ),
        "access_denied" => (
            ErrorKind::AccessDenied,
            "access was denied (access_denied): have the client or person admitted to the API",
        ),
        "temporarily_unavailable" | "server_error" => (
            ErrorKind::Unavailable,
            "the provider is out of order for now: try again later",
        ),
        _ => return None,
    })
}

/// The provider's own words, and what its support will ask for.
fn description(headers: &HeaderMap, members: &Members, sent: &Sent) -> Option<String> {
    // RFC 6749 §5.2 puts a string beside `error`; Google's APIs put an object into it.
    let nested = members
        .0
        .get("error")
        .and_then(|error| error.get("message"));
    let told = members
        .text("error_description")
        .or(nested.and_then(Value::as_str));
    let mut parts = Vec::new();
    if let Some(told) = told.map(|told| clean(told, MAX_DESCRIPTION, sent)) {
        parts.push(told);
    }
    for name in ["suberror", "correlation_id", "trace_id"] {
        if let Some(value) = members.text(name) {
            parts.push(format!("{name} {}", word(value, sent)));
        }
    }
    for name in ["x-ms-request-id", "x-request-id", "request-id"] {
        let name = HeaderName::from_static(name);
        if let Some(value) = headers.get(&name).and_then(|value| value.to_str().ok()) {
            parts.push(format!("{name} {}", word(value, sent)));
        }
    }
    parts.retain(|part| !part.is_empty());
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Scrubs, then makes blanks of what could forge a line of a log, then cuts: a secret that is cut is not found.
fn clean(text: &str, bound: usize, sent: &Sent) -> String {
    let text = sent.scrub(text);
    let mut cleaned = String::new();
    for (count, c) in text.trim().chars().enumerate() {
        if count == bound {
            cleaned.push('…');
            break;
        }
        // Controls, and the marks that turn the direction of writing.
        let forges = c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        cleaned.push(if forges { ' ' } else { c });
    }
    cleaned
}

/// An identifier: a code or an id. Scrubbed while it is still as it was sent.
fn word(text: &str, sent: &Sent) -> String {
    let scrubbed = sent.scrub(text);
    let graphic = scrubbed.chars().filter(char::is_ascii_graphic);
    graphic.take(MAX_WORD).collect()
}

/// What the next sign-in must satisfy: JSON, as a string or as it is.
fn claims(members: &Members) -> Option<String> {
    let claims = match members.0.get("claims")? {
        Value::String(text) => text.clone(),
        object @ Value::Object(_) => object.to_string(),
        _ => return None,
    };
    (!claims.is_empty() && claims.len() <= MAX_CLAIMS).then_some(claims)
}

// RFC 9110 §10.2.3: Retry-After = HTTP-date / delay-seconds
pub(crate) fn retry_after(answer: &Answer<'_>) -> Option<Duration> {
    let text = answer.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if text.bytes().all(|c| c.is_ascii_digit()) && !text.is_empty() {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let then = httpdate::parse_http_date(text).ok()?;
        then.duration_since(provider_time(answer))
            .unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// The present by the provider's clock, if it tells.
fn provider_time(answer: &Answer<'_>) -> SystemTime {
    let date = answer.headers.get(DATE).and_then(|date| date.to_str().ok());
    date.and_then(|date| httpdate::parse_http_date(date).ok())
        .unwrap_or(answer.now)
}

/// The media type, without its parameters.
fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let media = value.and_then(|value| value.split(';').next());
    media.unwrap_or_default().trim()
}

fn malformed(message: impl Into<Cow<'static, str>>) -> TokenError {
    TokenError::new(ErrorKind::Malformed, message)
}
