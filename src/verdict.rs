//! What a response says about the token that was sent, by its status and headers alone.

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

/// Bytes of decoded claims.
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
    /// The token is rejected: another may do.
    Rejected,
    /// A token that satisfies these claims is wanted, a JSON object (OpenID's claims request; continuous access
    /// evaluation).
    ClaimsRequired(Box<str>),
    /// A token with these scopes too is wanted (RFC 6750 §3.1).
    ScopesRequired(Vec<String>),
    /// A person must authenticate again, or better (RFC 9470 §3).
    StepUp {
        /// How, best first, divided by blanks.
        acr_values: Option<Box<str>>,
        /// How long ago at most.
        max_age: Option<Duration>,
    },
    /// The same token with a proof over the server's nonce is wanted (RFC 9449 §9).
    DpopNonce,
}

impl Verdict {
    /// The verdict's name in snake_case, for logs and metrics.
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

/// What was done about a response that refused the token; in the extensions of the response that the caller gets, and
/// only if there was something to do.
///
/// ```
/// use tower_bearer::layer::Recovery;
///
/// fn note<B>(response: &http::Response<B>) {
///     match response.extensions().get::<Recovery>() {
///         None => {}
///         Some(Recovery::Recovered) => println!("the token was revoked, and nobody noticed"),
///         Some(Recovery::NoToken(error)) => println!("the 401 stands, for want of another token: {error}"),
///         Some(other) => println!("the response stands: {other:?}"),
///     }
/// }
/// # note(&http::Response::new(()));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Recovery {
    /// The token was refused; the request was sent again with another, and this is the answer.
    Recovered,
    /// The token was refused, and so was the next one: this is the second answer.
    RejectedAgain,
    /// The token was refused and is out of service; the request's body can't be sent twice, so this is the first answer.
    NotReplayable,
    /// The token was refused, and no other could be had; this is the first answer.
    NoToken(TokenError),
    /// The token was refused, and its source gave the very same one again; this is the first answer.
    SameToken,
    /// The token was refused, as too many were before it; it stays in service, and this is the first answer.
    RejectionLimitReached,
    /// The response wants something that another token of the same kind would not give it.
    Unsatisfiable(Verdict),
}

impl Recovery {
    /// The outcome's name in snake_case, for logs and metrics.
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

/// A user's own judge: its word counts, and where it has none, ours.
pub(crate) type Classifier = Arc<dyn Fn(StatusCode, &HeaderMap) -> Option<Verdict> + Send + Sync>;

/// Whether there is anything to judge. For nearly all responses there is not, and this is all that they cost.
#[inline]
pub(crate) fn concerns_the_token(status: StatusCode, headers: &HeaderMap) -> bool {
    match status {
        StatusCode::OK => !headers.is_empty() && is_grpc(headers),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => true,
        _ => false,
    }
}

/// Judges a response.
pub(crate) fn classify(status: StatusCode, headers: &HeaderMap) -> Verdict {
    match status {
        StatusCode::OK if is_grpc(headers) => classify_grpc(headers),
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

/// gRPC's UNAUTHENTICATED in the response's headers (a "Trailers-Only" response).
fn classify_grpc(headers: &HeaderMap) -> Verdict {
    const UNAUTHENTICATED: &[u8] = b"16";
    match headers.get(&GRPC_STATUS) {
        Some(code) if code == UNAUTHENTICATED => Verdict::Rejected,
        _ => Verdict::Pass,
    }
}

fn classify_challenges(status: StatusCode, headers: &HeaderMap) -> Verdict {
    let lines = headers.get_all(WWW_AUTHENTICATE);
    let challenges = challenges(lines.iter().map(|line| line.as_bytes()));
    let verdict = judge_bearer(&challenges);
    if status == StatusCode::FORBIDDEN {
        // RFC 6750 §3.1: of Bearer's errors, insufficient_scope alone goes with 403.
        return match verdict {
            Some(scope @ Verdict::ScopesRequired(_)) => scope,
            _ => Verdict::Pass,
        };
    }
    if let Some(verdict) = verdict {
        return verdict;
    }
    // Many APIs answer 401 without saying why.
    if challenges.is_empty() {
        return Verdict::Rejected;
    }
    // RFC 9449 §9: "the WWW-Authenticate header field using the error value use_dpop_nonce".
    let wants_nonce = |challenge: &Challenge| {
        challenge.scheme == "dpop" && challenge.param("error") == Some("use_dpop_nonce")
    };
    if challenges.iter().any(wants_nonce) {
        return Verdict::DpopNonce;
    }
    // No bearer token would do.
    Verdict::Pass
}

/// What the Bearer challenges say. The first with an error that we know decides; without any, the token is rejected.
fn judge_bearer(challenges: &[Challenge]) -> Option<Verdict> {
    let mut bearer = challenges
        .iter()
        .filter(|challenge| challenge.scheme == "bearer")
        .peekable();
    bearer.peek()?;
    Some(bearer.find_map(judge_error).unwrap_or(Verdict::Rejected))
}

// RFC 6750 §3.1, RFC 9470 §3
fn judge_error(challenge: &Challenge) -> Option<Verdict> {
    Some(match challenge.param("error")? {
        "invalid_token" => Verdict::Rejected,
        "invalid_request" => Verdict::Pass,
        "insufficient_scope" => challenge
            .param("scope")
            .and_then(scopes)
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

/// The scopes, unless there is none, or one that can't be asked for.
fn scopes(text: &str) -> Option<Vec<String>> {
    // RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
    let allowed = |c: u8| matches!(c, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    if !text.bytes().all(allowed) {
        return None;
    }
    let scopes: Vec<_> = text.split(' ').filter(|scope| !scope.is_empty()).collect();
    (!scopes.is_empty()).then(|| scopes.into_iter().map(str::to_owned).collect())
}

/// A JSON object in base64 or base64url, padded or not.
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

    fn of(status: u16, lines: &[&str]) -> Verdict {
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
        of(
            401,
            &[&format!(
                "Bearer error=\"insufficient_claims\", claims=\"{encoded}\""
            )],
        )
    }

    #[test]
    fn every_vector_gets_its_verdict() {
        let vectors = include_str!("../tests/vectors/www_authenticate.json");
        let vectors: Value = serde_json::from_str(vectors).unwrap();
        for case in vectors["cases"].as_array().unwrap() {
            let name = &case["name"];
            let lines = case["www_authenticate"].as_array().unwrap();
            let lines: Vec<_> = lines.iter().map(|line| line.as_str().unwrap()).collect();
            let verdict = of(case["status"].as_u64().unwrap() as u16, &lines);
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
            of(
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
            of(401, &[invalid, "Bearer error=invalid_request"]),
            Verdict::Rejected
        );
        assert_eq!(of(401, &["Bearer error=x"]), Verdict::Rejected);
    }

    #[test]
    fn an_empty_or_unreadable_header_counts_as_none() {
        for line in ["", ", ,", "=?", "\"", "é"] {
            assert_eq!(of(401, &[line]), Verdict::Rejected, "{line}");
            assert_eq!(of(403, &[line]), Verdict::Pass, "{line}");
        }
    }

    #[test]
    fn missing_scopes_mean_the_same_on_401_as_on_403() {
        for status in [401, 403] {
            let wanted = Verdict::ScopesRequired(vec!["a".into(), "b".into()]);
            assert_eq!(
                of(
                    status,
                    &["Bearer error=insufficient_scope, scope=\" a  b \""]
                ),
                wanted
            );
            for scope in ["", ", scope=\"\"", ", scope=\"é\"", ", scope=\"a\\\"\""] {
                let line = format!("Bearer error=insufficient_scope{scope}");
                assert_eq!(of(status, &[&line]), Verdict::Pass, "{line}");
            }
        }
    }

    #[test]
    fn a_nonce_counts_only_where_no_bearer_challenge_is() {
        let nonce = "DPoP error=\"use_dpop_nonce\"";
        assert_eq!(of(401, &["Basic realm=x", nonce]), Verdict::DpopNonce);
        assert_eq!(of(401, &["Bearer", nonce]), Verdict::Rejected);
        assert_eq!(of(403, &[nonce]), Verdict::Pass);
    }

    #[test]
    fn claims_are_read_in_either_alphabet() {
        let text = r#"{"a":"???>>>é"}"#;
        let standard = BASE64_STANDARD.encode(text);
        let url_safe = BASE64_URL_SAFE_NO_PAD.encode(text);
        assert!(standard.contains(['+', '/']) && url_safe.contains(['-', '_']));
        for encoded in [&standard, &url_safe] {
            assert_eq!(claims(encoded), Verdict::ClaimsRequired(text.into()));
        }
    }

    #[test]
    fn claims_that_are_no_object_pass() {
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
    fn grpc_says_it_in_its_own_header() {
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
        fn no_header_makes_it_panic(line in "[\\t -~\u{80}-\u{ff}]{0,80}", status in prop::sample::select(vec![401u16, 403])) {
            of(status, &["Bearer error=insufficient_claims, claims=", &line]);
            of(status, &[&format!("Bearer error=insufficient_claims, claims=\"{line}\"")]);
        }
    }
}
