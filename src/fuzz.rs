//! This module makes the private parsers available to the targets under `fuzz/`. It is only compiled with `--cfg fuzzing`.
//!
//! Each function asserts properties of the parser's output, in addition to the absence of panics.

use std::time::{Duration, UNIX_EPOCH};

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    uri::Scheme,
};

use crate::{
    error::TokenError,
    oauth::{self, EndpointResponse, Redactor},
    verdict::{self, Verdict},
};

/// A secret that no error may contain.
const SECRET: &str = "correct horse battery";

/// Parses a token response. The first two bytes determine the status, the third the headers, and the rest is the body.
pub fn token_response(data: &[u8]) {
    let Some(([high, low, flags], rest)) = data.split_first_chunk::<3>() else {
        return;
    };
    let code = 100 + u16::from_be_bytes([*high, *low]) % 900;
    let Ok(status) = StatusCode::from_u16(code) else {
        return;
    };
    let media_type = match flags & 3 {
        0 => "application/json",
        1 => "application/x-www-form-urlencoded",
        2 => "text/html",
        _ => "",
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    let mut body = rest;
    if flags & 4 != 0 {
        let end = rest.iter().position(|c| *c == b'\n').unwrap_or(rest.len());
        let (line, after) = rest.split_at(end);
        headers.extend(HeaderValue::from_bytes(line).map(|value| (RETRY_AFTER, value)));
        body = after;
    }
    let response = EndpointResponse {
        status,
        headers: &headers,
        body,
        now: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
    };
    let mut redactor = Redactor::default();
    redactor.add(SECRET);
    match oauth::token_response(&response, &redactor) {
        Ok(response) => {
            // RFC 6749 A.12: access-token = 1*VSCHAR
            let token = &response.access_token;
            assert!(!token.is_empty() && token.bytes().all(|c| matches!(c, 0x20..=0x7e)));
            assert!(status.is_success());
        }
        Err(error) => assert_is_safe_to_log(&error),
    }
}

/// Parses the bytes as a metadata document.
pub fn metadata(data: &[u8]) {
    let issuer = "https://login.example/acme";
    match oauth::metadata(data, issuer) {
        Ok(found) => {
            for endpoint in [found.token_endpoint]
                .iter()
                .chain(&found.mtls_token_endpoint)
            {
                assert_eq!(endpoint.scheme(), Some(&Scheme::HTTPS));
                assert!(endpoint.host().is_some());
            }
        }
        Err(error) => assert_is_safe_to_log(&error),
    }
    if let Ok(issuer) = str::from_utf8(data) {
        for url in oauth::well_known(issuer) {
            assert!(url.contains("/.well-known/"));
        }
    }
}

/// Parses each line of the bytes as a header line.
pub fn challenge(data: &[u8]) {
    let lines: Vec<_> = data.split(|c| *c == b'\n').collect();
    let found = oauth::challenges(lines.iter().copied());
    assert!(found.len() <= 32);
    for challenge in &found {
        assert!(!challenge.scheme.is_empty());
        assert!(challenge.params.len() <= 32);
    }
    let values = lines
        .iter()
        .filter_map(|line| HeaderValue::from_bytes(line).ok());
    let headers = HeaderMap::from_iter(values.map(|value| (WWW_AUTHENTICATE, value)));
    for status in [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN] {
        match verdict::classify(status, &headers) {
            Verdict::ScopesRequired(scopes) => assert!(!scopes.is_empty()),
            Verdict::Rejected => assert_eq!(status, StatusCode::UNAUTHORIZED),
            _ => {}
        }
    }
}

/// Parses the bytes as the encoded claims of a challenge.
pub fn claims(data: &[u8]) {
    let line = [
        b"Bearer error=\"insufficient_claims\", claims=\"",
        data,
        b"\"",
    ]
    .concat();
    let Ok(value) = HeaderValue::from_bytes(&line) else {
        return;
    };
    let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, value)]);
    if let Verdict::ClaimsRequired(claims) = verdict::classify(StatusCode::UNAUTHORIZED, &headers) {
        let claims: serde_json::Value = serde_json::from_str(&claims).unwrap_or_default();
        assert!(claims.is_object());
    }
}

/// Asserts that an error has one line of limited length, without the secret.
fn assert_is_safe_to_log(error: &TokenError) {
    let shown = error.to_string();
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    assert!(shown.len() < 4 << 10, "{}", shown.len());
    assert!(!format!("{shown} {error:?}").contains(SECRET), "{shown}");
}
