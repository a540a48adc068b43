//! The private parsers as functions of bytes, for the targets under `fuzz/`; built with `--cfg fuzzing` alone.
//!
//! Each says what must hold of whatever it reads, beyond that nothing panics.

use std::time::{Duration, UNIX_EPOCH};

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    uri::Scheme,
};

use crate::{
    error::TokenError,
    oauth::{self, Answer, Sent},
    verdict::{self, Verdict},
};

/// What no error may show.
const SECRET: &str = "correct horse battery";

/// The first two bytes make the status, the next one the headers, the rest is the body.
pub fn token_response(data: &[u8]) {
    let Some(([high, low, flags], rest)) = data.split_first_chunk::<3>() else {
        return;
    };
    let code = 100 + u16::from_be_bytes([*high, *low]) % 900;
    let Ok(status) = StatusCode::from_u16(code) else {
        return;
    };
    let mut headers = HeaderMap::new();
    let kinds = [
        "application/json",
        "application/x-www-form-urlencoded",
        "text/html",
        "",
    ];
    let kind = kinds
        .get(usize::from(flags & 3))
        .copied()
        .unwrap_or_default();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    let mut body = rest;
    if flags & 4 != 0 {
        let end = rest.iter().position(|c| *c == b'\n').unwrap_or(rest.len());
        let (line, after) = rest.split_at(end);
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.insert(RETRY_AFTER, value);
        }
        body = after;
    }
    let answer = Answer {
        status,
        headers: &headers,
        body,
        now: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
    };
    let mut sent = Sent::default();
    sent.add(SECRET);
    match wire::token_response(&answer, &sent) {
        Ok(response) => {
            // RFC 6749 A.12: access-token = 1*VSCHAR
            let token = &response.access_token;
            assert!(!token.is_empty() && token.bytes().all(|c| matches!(c, 0x20..=0x7e)));
            assert!(status.is_success());
        }
        Err(error) => assert_fit_to_show(&error),
    }
}

/// All of it is a document.
pub fn metadata(data: &[u8]) {
    let issuer = "https://login.example/acme";
    match wire::metadata(data, issuer) {
        Ok(found) => {
            let endpoints = [
                Some(&found.token_endpoint),
                found.mtls_token_endpoint.as_ref(),
            ];
            for endpoint in endpoints.into_iter().flatten() {
                assert_eq!(endpoint.scheme(), Some(&Scheme::HTTPS));
                assert!(endpoint.host().is_some());
            }
        }
        Err(error) => assert_fit_to_show(&error),
    }
    if let Ok(issuer) = str::from_utf8(data) {
        for place in wire::well_known(issuer) {
            assert!(place.contains("/.well-known/"));
        }
    }
}

/// Each line is a header line.
pub fn challenge(data: &[u8]) {
    let lines: Vec<_> = data.split(|c| *c == b'\n').collect();
    let found = wire::challenges(lines.iter().copied());
    assert!(found.len() <= 32);
    for challenge in &found {
        assert!(!challenge.scheme.is_empty());
        assert!(challenge.params.len() <= 32);
    }
    for status in [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN] {
        let mut headers = HeaderMap::new();
        for line in &lines {
            if let Ok(value) = HeaderValue::from_bytes(line) {
                headers.append(WWW_AUTHENTICATE, value);
            }
        }
        match verdict::classify(status, &headers) {
            Verdict::ScopesRequired(scopes) => assert!(!scopes.is_empty()),
            Verdict::Rejected => assert_eq!(status, StatusCode::UNAUTHORIZED),
            _ => {}
        }
    }
}

/// All of it is the encoded claims of a challenge.
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

/// One line, of a bounded length, without the secret that was sent.
fn assert_fit_to_show(error: &TokenError) {
    let shown = error.to_string();
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    assert!(shown.len() < 4 << 10, "{}", shown.len());
    assert!(!format!("{shown} {error:?}").contains(SECRET), "{shown}");
}
