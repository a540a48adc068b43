//! This module classifies what a response says about the token that was sent, by its status and headers. No I/O.

use std::{sync::Arc, time::Duration};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{GeneralPurpose, general_purpose::PAD_INDIFFERENT},
};
use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{CONTENT_TYPE, WWW_AUTHENTICATE},
};
use serde_json::Value;

use crate::{
    error::TokenError,
    oauth::{Challenge, challenges},
};

/// The maximum size of decoded claims in bytes.
const MAX_CLAIMS: usize = 8 << 10;

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// What a response says about the token that was sent.
///
/// ```
/// use tower_bearer::layer::Verdict;
///
/// let verdict = Verdict::ScopesRequired(vec!["files:write".into()]);
/// assert_eq!(verdict.as_str(), "scope");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Nothing that another token would change.
    Pass,
    /// The token was rejected. Another token may be accepted.
    Rejected,
    /// The server requires a token with these claims. They are a JSON object in the format of OpenID Connect's claims request, which
    /// is used for continuous access evaluation.
    ClaimsRequired(Box<str>),
    /// The server requires a token with these additional scopes (RFC 6750 §3.1).
    ScopesRequired(Vec<String>),
    /// The server requires that the user authenticates again, or with a stronger method (RFC 9470 §3).
    StepUp {
        /// The accepted authentication context classes, space-separated, in order of preference.
        acr_values: Option<Box<str>>,
        /// The maximum time since the authentication.
        max_age: Option<Duration>,
    },
    /// The server requires a DPoP proof with its nonce (RFC 9449 §9).
    DpopNonce,
}

impl Verdict {
    /// Returns the name in snake case, for logs and metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Rejected => "rejected",
            Self::ClaimsRequired(_) => "claims",
            Self::ScopesRequired(_) => "scope",
            Self::StepUp { .. } => "step_up",
            Self::DpopNonce => "dpop_nonce",
        }
    }
}

/// What the layer did about a response that rejected the token. It is in the extensions of the response that the caller gets, unless
/// the first response passed.
///
/// ```
/// use tower_bearer::layer::Recovery;
///
/// fn log_recovery<B>(response: &http::Response<B>) {
///     match response.extensions().get::<Recovery>() {
///         None => {}
///         Some(Recovery::Recovered) => println!("the token was rejected, and another one was accepted"),
///         Some(Recovery::NoToken(error)) => println!("the token was rejected, and no other one could be fetched: {error}"),
///         Some(other) => println!("the request failed: {}", other.as_str()),
///     }
/// }
/// # log_recovery(&http::Response::new(()));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Recovery {
    /// The token was rejected, and the request was replayed with another one, which was accepted. This is the second response.
    Recovered,
    /// The token was rejected, and so was the next one. This is the second response.
    RejectedAgain,
    /// The token was rejected and is no longer used, but the request can't be replayed. This is the first response.
    NotReplayable,
    /// The token was rejected, and no other one could be obtained. This is the first response.
    NoToken(TokenError),
    /// The token was rejected, and its source returned the same token again. This is the first response.
    SameToken,
    /// The token was rejected, but the rejection limit is reached, so the token stays in use. This is the first response.
    RejectionLimitReached,
    /// The response requires something that the layer can't provide.
    Unsatisfiable(Verdict),
}

impl Recovery {
    /// Returns the name in snake case, for logs and metrics.
    ///
    /// ```
    /// assert_eq!(tower_bearer::layer::Recovery::SameToken.as_str(), "same_token");
    /// ```
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::RejectedAgain => "rejected_again",
            Self::NotReplayable => "not_replayable",
            Self::NoToken(_) => "no_token",
            Self::SameToken => "same_token",
            Self::RejectionLimitReached => "rejection_limit_reached",
            Self::Unsatisfiable(_) => "unsatisfiable",
        }
    }
}

/// A custom classification. `None` falls back to the built-in one.
pub(crate) type Classifier = Arc<dyn Fn(StatusCode, &HeaderMap) -> Option<Verdict> + Send + Sync>;

/// Returns `true` if the response has to be classified. Most responses only cost this check.
#[inline]
pub(crate) fn concerns_the_token(status: StatusCode, headers: &HeaderMap) -> bool {
    match status {
        StatusCode::OK => !headers.is_empty() && is_grpc(headers),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => true,
        _ => false,
    }
}

/// Classifies a response.
pub(crate) fn classify(status: StatusCode, headers: &HeaderMap) -> Verdict {
    match status {
        StatusCode::OK if is_grpc(headers) && is_unauthenticated(headers) => Verdict::Rejected,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => classify_challenges(status, headers),
        _ => Verdict::Pass,
    }
}

#[inline]
fn is_grpc(headers: &HeaderMap) -> bool {
    const MEDIA: &[u8] = b"application/grpc";
    let content_type = headers.get(CONTENT_TYPE);
    let media = content_type.and_then(|value| value.as_bytes().get(..MEDIA.len()));
    media.is_some_and(|media| media.eq_ignore_ascii_case(MEDIA))
}

/// Returns `true` for the status UNAUTHENTICATED in the headers of a gRPC response (a "Trailers-Only" response).
fn is_unauthenticated(headers: &HeaderMap) -> bool {
    headers.get(&GRPC_STATUS).is_some_and(|code| code == "16")
}

fn classify_challenges(status: StatusCode, headers: &HeaderMap) -> Verdict {
    let lines = headers.get_all(WWW_AUTHENTICATE);
    let challenges = challenges(lines.iter().map(|line| line.as_bytes()));
    // RFC 9449 §9: "the WWW-Authenticate header field using the error value use_dpop_nonce".
    let requires_nonce = |challenge: &Challenge| {
        challenge.scheme == "dpop" && challenge.param("error") == Some("use_dpop_nonce")
    };
    match (status, classify_bearer(&challenges)) {
        // RFC 6750 §3.1: of Bearer's errors, only insufficient_scope is sent with 403.
        (StatusCode::FORBIDDEN, Some(scope @ Verdict::ScopesRequired(_))) => scope,
        (StatusCode::FORBIDDEN, _) => Verdict::Pass,
        (_, Some(verdict)) => verdict,
        // Many APIs send a 401 without a challenge.
        (_, None) if challenges.is_empty() => Verdict::Rejected,
        (_, None) if challenges.iter().any(requires_nonce) => Verdict::DpopNonce,
        // The server accepts no bearer token.
        (_, None) => Verdict::Pass,
    }
}

/// Classifies the Bearer challenges. The first one with a known error decides. Without a known error, the token is rejected.
fn classify_bearer(challenges: &[Challenge]) -> Option<Verdict> {
    let mut bearer = challenges
        .iter()
        .filter(|challenge| challenge.scheme == "bearer")
        .peekable();
    bearer.peek()?;
    Some(bearer.find_map(classify_error).unwrap_or(Verdict::Rejected))
}

// RFC 6750 §3.1, RFC 9470 §3
fn classify_error(challenge: &Challenge) -> Option<Verdict> {
    Some(match challenge.param("error")? {
        "invalid_token" => Verdict::Rejected,
        "invalid_request" => Verdict::Pass,
        "insufficient_scope" => challenge
            .param("scope")
            .and_then(parse_scopes)
            .map_or(Verdict::Pass, Verdict::ScopesRequired),
        "insufficient_claims" => challenge
            .param("claims")
            .and_then(decode_claims)
            .map_or(Verdict::Pass, Verdict::ClaimsRequired),
        "insufficient_user_authentication" => Verdict::StepUp {
            acr_values: challenge.param("acr_values").map(Box::from),
            max_age: challenge
                .param("max_age")
                .and_then(|seconds| seconds.parse().ok())
                .map(Duration::from_secs),
        },
        _ => return None,
    })
}

/// Parses scopes. Returns `None` if there is none, or an invalid one.
fn parse_scopes(text: &str) -> Option<Vec<String>> {
    // RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
    let allowed = |c: u8| matches!(c, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    if !text.bytes().all(allowed) {
        return None;
    }
    let scopes = text.split(' ').filter(|scope| !scope.is_empty());
    let scopes: Vec<_> = scopes.map(str::to_owned).collect();
    (!scopes.is_empty()).then_some(scopes)
}

/// Decodes a JSON object in base64 or base64url, with or without padding.
fn decode_claims(text: &str) -> Option<Box<str>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(&STANDARD, PAD_INDIFFERENT);
    if text.len() > MAX_CLAIMS.div_ceil(3) * 4 {
        return None;
    }
    let standard = text.replace('-', "+").replace('_', "/");
    let bytes = LENIENT.decode(standard).ok()?;
    let claims = String::from_utf8(bytes).ok()?;
    let is_object = serde_json::from_str(&claims).is_ok_and(|value: Value| value.is_object());
    (is_object && claims.len() <= MAX_CLAIMS).then(|| claims.into_boxed_str())
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn verdict_of(status: u16, lines: &[&str]) -> Verdict {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(
                WWW_AUTHENTICATE,
                HeaderValue::from_bytes(line.as_bytes()).unwrap(),
            );
        }
        classify(StatusCode::from_u16(status).unwrap(), &headers)
    }

    fn claims(encoded: &str) -> Verdict {
        verdict_of(
            401,
            &[&format!(
                "Bearer error=\"insufficient_claims\", claims=\"{encoded}\""
            )],
        )
    }

    #[test]
    fn vectors_are_classified() {
        let vectors = include_str!("../tests/vectors/www_authenticate.json");
        let vectors: Value = serde_json::from_str(vectors).unwrap();
        for case in vectors["cases"].as_array().unwrap() {
            let name = &case["name"];
            let lines = case["www_authenticate"].as_array().unwrap();
            let lines: Vec<_> = lines.iter().map(|line| line.as_str().unwrap()).collect();
            let verdict = verdict_of(case["status"].as_u64().unwrap() as u16, &lines);
            let shown = match verdict.as_str() {
                "rejected" => "refresh",
                other => other,
            };
            assert_eq!(shown, case["verdict"], "{name}");
            match verdict {
                Verdict::ClaimsRequired(claims) => {
                    let claims: Value = serde_json::from_str(&claims).unwrap();
                    assert_eq!(claims, case["claims"], "{name}");
                }
                Verdict::ScopesRequired(scopes) => {
                    assert_eq!(Value::from(scopes), case["scope"], "{name}");
                }
                Verdict::StepUp {
                    acr_values,
                    max_age,
                } => {
                    assert_eq!(acr_values.as_deref(), case["acr_values"].as_str(), "{name}");
                    let max_age = max_age.map(|age| age.as_secs());
                    assert_eq!(max_age, case["max_age"].as_u64(), "{name}");
                }
                _ => {}
            }
        }
    }

    #[test]
    fn the_first_known_error_decides() {
        let invalid = "Bearer error=\"invalid_token\"";
        assert_eq!(
            verdict_of(
                401,
                &[
                    "Bearer",
                    "Bearer error=x",
                    "Bearer error=invalid_request",
                    invalid
                ]
            ),
            Verdict::Pass
        );
        assert_eq!(
            verdict_of(401, &[invalid, "Bearer error=invalid_request"]),
            Verdict::Rejected
        );
        assert_eq!(verdict_of(401, &["Bearer error=x"]), Verdict::Rejected);
    }

    #[test]
    fn unreadable_header_counts_as_absent() {
        for line in ["", ", ,", "=?", "\"", "é"] {
            assert_eq!(verdict_of(401, &[line]), Verdict::Rejected, "{line}");
            assert_eq!(verdict_of(403, &[line]), Verdict::Pass, "{line}");
        }
    }

    #[test]
    fn required_scopes_are_read_from_401_and_403() {
        for status in [401, 403] {
            let expected = Verdict::ScopesRequired(vec!["a".into(), "b".into()]);
            assert_eq!(
                verdict_of(
                    status,
                    &["Bearer error=insufficient_scope, scope=\" a  b \""]
                ),
                expected
            );
            for scope in ["", ", scope=\"\"", ", scope=\"é\"", ", scope=\"a\\\"\""] {
                let line = format!("Bearer error=insufficient_scope{scope}");
                assert_eq!(verdict_of(status, &[&line]), Verdict::Pass, "{line}");
            }
        }
    }

    #[test]
    fn dpop_nonce_counts_only_without_a_bearer_challenge() {
        let nonce = "DPoP error=\"use_dpop_nonce\"";
        assert_eq!(
            verdict_of(401, &["Basic realm=x", nonce]),
            Verdict::DpopNonce
        );
        assert_eq!(verdict_of(401, &["Bearer", nonce]), Verdict::Rejected);
        assert_eq!(verdict_of(403, &[nonce]), Verdict::Pass);
    }

    #[test]
    fn claims_are_decoded_in_both_alphabets() {
        let text = r#"{"a":"???>>>é"}"#;
        let standard = BASE64_STANDARD.encode(text);
        let url_safe = BASE64_URL_SAFE_NO_PAD.encode(text);
        assert!(standard.contains(['+', '/']) && url_safe.contains(['-', '_']));
        for encoded in [&standard, &url_safe] {
            assert_eq!(claims(encoded), Verdict::ClaimsRequired(text.into()));
        }
    }

    #[test]
    fn invalid_claims_pass() {
        for text in [&b"[]"[..], b"7", b"", b"{", b"{\"a\":\"\xff\"}"] {
            assert_eq!(claims(&BASE64_STANDARD.encode(text)), Verdict::Pass);
        }
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_CLAIMS));
        assert_eq!(claims(&BASE64_STANDARD.encode(long)), Verdict::Pass);
        let fits = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_CLAIMS - 8));
        assert!(matches!(
            claims(&BASE64_STANDARD.encode(fits)),
            Verdict::ClaimsRequired(_)
        ));
    }

    #[test]
    fn grpc_status_is_read_from_the_headers() {
        for (status, content_type, code, rejected) in [
            (200, "application/grpc", "16", true),
            (200, "Application/gRPC+proto", "16", true),
            (200, "application/grpc", "7", false),
            (200, "application/json", "16", false),
            (500, "application/grpc", "16", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            headers.insert("grpc-status", HeaderValue::from_static(code));
            let verdict = classify(StatusCode::from_u16(status).unwrap(), &headers);
            assert_eq!(
                verdict == Verdict::Rejected,
                rejected,
                "{content_type} {code}"
            );
        }
    }

    proptest! {
        #[test]
        fn classification_never_panics(line in "[\\t -~\u{80}-\u{ff}]{0,80}", status in prop::sample::select(vec![401u16, 403])) {
            verdict_of(status, &["Bearer error=insufficient_claims, claims=", &line]);
            verdict_of(status, &[&format!("Bearer error=insufficient_claims, claims=\"{line}\"")]);
        }
    }
}
