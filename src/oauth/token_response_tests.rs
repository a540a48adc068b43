//! These tests parse responses of token endpoints.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, DATE, HeaderName, RETRY_AFTER},
};
use proptest::prelude::*;
use serde_json::Value;

use super::{
    basic::basic_credentials,
    endpoint_response::{EndpointResponse, MAX_RETRY_AFTER},
    error_response::MAX_DESCRIPTION,
    redactor::Redactor,
    token_response::{TokenResponse, token_response},
};
use crate::error::{ErrorKind, TokenError};

/// The current time in whole seconds, the resolution of the header `Date`.
const NOW: u64 = 1_700_000_000;

struct Case<'a> {
    status: u16,
    headers: Vec<(&'static str, &'a str)>,
    body: &'a str,
}

impl<'a> Case<'a> {
    fn ok(body: &'a str) -> Self {
        Self::status(200, body)
    }

    fn status(status: u16, body: &'a str) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json")],
            body,
        }
    }

    fn header(mut self, name: &'static str, value: &'a str) -> Self {
        self.headers.retain(|(found, _)| *found != name);
        self.headers.push((name, value));
        self
    }

    fn read(&self) -> Result<TokenResponse, TokenError> {
        self.read_after(&Redactor::default())
    }

    fn read_after(&self, redactor: &Redactor) -> Result<TokenResponse, TokenError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let response = EndpointResponse {
            status: StatusCode::from_u16(self.status).unwrap(),
            headers: &headers,
            body: self.body.as_bytes(),
            now: now(),
        };
        token_response(&response, redactor)
    }

    fn error(&self) -> TokenError {
        self.read().err().unwrap()
    }

    fn kind(&self) -> ErrorKind {
        self.error().kind()
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn with_lifetime(json: &str) -> String {
    format!(r#"{{"access_token":"90d","expires_in":{json}}}"#)
}

fn lifetime(json: &str) -> Result<Option<u64>, ErrorKind> {
    let body = with_lifetime(json);
    let response = Case::ok(&body).read().map_err(|error| error.kind())?;
    Ok(response.expires_in.map(|lifetime| lifetime.as_secs()))
}

/// Replaces the placeholders of the vectors for times: EPOCH+n and HTTPDATE+n.
fn fill_in(text: &str) -> String {
    let mut text = text.to_owned();
    for (placeholder, sign) in [("EPOCH+", 1), ("EPOCH-", -1), ("HTTPDATE+", 1)] {
        while let Some(at) = text.find(placeholder) {
            let digits: String = text[at + placeholder.len()..]
                .chars()
                .take_while(char::is_ascii_digit)
                .collect();
            let time = NOW as i64 + sign * digits.parse::<i64>().unwrap();
            let shown = if placeholder.starts_with("HTTP") {
                httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(time as u64))
            } else {
                time.to_string()
            };
            text.replace_range(at..at + placeholder.len() + digits.len(), &shown);
        }
    }
    text
}

#[test]
fn vectors_are_parsed_as_expected() {
    let vectors = include_str!("../../tests/vectors/token_response.json");
    let vectors: Value = serde_json::from_str(vectors).unwrap();
    for case in vectors["cases"].as_array().unwrap() {
        let name = &case["name"];
        let mut headers = HeaderMap::new();
        if let Some(value) = case["content_type"].as_str() {
            headers.insert(CONTENT_TYPE, value.parse().unwrap());
        }
        for (name, value) in case["headers"].as_object().into_iter().flatten() {
            let name: HeaderName = name.parse().unwrap();
            headers.insert(name, fill_in(value.as_str().unwrap()).parse().unwrap());
        }
        let body = fill_in(case["body"].as_str().unwrap());
        let response = EndpointResponse {
            status: StatusCode::from_u16(case["status"].as_u64().unwrap() as u16).unwrap(),
            headers: &headers,
            body: body.as_bytes(),
            now: now(),
        };
        match token_response(&response, &Redactor::default()) {
            Ok(response) => check_response(&response, &case["ok"], name),
            Err(error) => check_error(&error, &case["error"], name),
        }
    }
}

fn check_response(response: &TokenResponse, expected: &Value, name: &Value) {
    let expected = expected.as_object().unwrap_or_else(|| panic!("{name}"));
    for (member, value) in expected {
        let found: Value = match member.as_str() {
            "access_token" => response.access_token.as_str().into(),
            // Every other type is an error.
            "token_type" => "Bearer".into(),
            "expires_in" => response.expires_in.map(|d| d.as_secs()).into(),
            "refresh_in" => response.refresh_in.map(|d| d.as_secs()).into(),
            "scope" => response
                .scope
                .as_deref()
                .unwrap()
                .split(' ')
                .collect::<Vec<_>>()
                .into(),
            _ => panic!("{member}"),
        };
        assert_eq!(&found, value, "{name}: {member}");
    }
}

fn check_error(error: &TokenError, expected: &Value, name: &Value) {
    let expected = expected
        .as_object()
        .unwrap_or_else(|| panic!("{name}: {error}"));
    for (member, value) in expected {
        let found: Value = match member.as_str() {
            "kind" => error.kind().as_str().into(),
            "retryable" => error.is_retryable().into(),
            "retry_after" => error.retry_after().map(|d| d.as_secs()).into(),
            "description" => error.description().into(),
            other => panic!("{other}"),
        };
        assert_eq!(&found, value, "{name}: {member}");
    }
    let shown = format!("{error} {error:?}");
    assert!(
        !shown.contains("90d") && !shown.contains("a\\nb"),
        "{shown}"
    );
}

#[test]
fn lifetime_is_read_in_every_notation() {
    for (json, seconds) in [
        ("0", 0),
        ("-0.0", 0),
        ("\" 60 \"", 60),
        ("\"3600.5\"", 3600),
        ("1e3", 1000),
        ("\"1e3\"", 1000),
        ("9223372036854775808", 1 << 63),
        ("18446744073709551615", u64::MAX),
        ("99999999999999999999999", u64::MAX),
        ("\"18446744073709551616\"", u64::MAX),
        ("1e300", u64::MAX),
        ("\"1e400\"", u64::MAX),
    ] {
        assert_eq!(lifetime(json), Ok(Some(seconds)), "{json}");
    }
    assert_eq!(lifetime("\"\""), Ok(None));
}

#[test]
fn invalid_lifetime_is_malformed() {
    for json in [
        "-1", "-0.5", "\"-1\"", "\"NaN\"", "\"inf\"", "\"soon\"", "true", "[]", "{}",
    ] {
        assert_eq!(lifetime(json), Err(ErrorKind::Malformed), "{json}");
    }
}

#[test]
fn date_header_corrects_expires_on() {
    let date = httpdate::fmt_http_date(now() + Duration::from_secs(1000));
    for end in [(NOW + 1600).to_string(), format!("\"{}\"", NOW + 1600)] {
        let body = format!(r#"{{"access_token":"90d","expires_on":{end}}}"#);
        let response = Case::ok(&body).header("date", &date).read().unwrap();
        assert_eq!(response.expires_in, Some(Duration::from_secs(600)));
    }
    let past = r#"{"access_token":"90d","expires_on":5}"#;
    assert_eq!(
        Case::ok(past).read().unwrap().expires_in,
        Some(Duration::ZERO)
    );
}

#[test]
fn expires_in_takes_precedence_over_expires_on() {
    let body = r#"{"access_token":"90d","expires_in":60,"expires_on":"never"}"#;
    assert_eq!(
        Case::ok(body).read().unwrap().expires_in,
        Some(Duration::from_secs(60))
    );
}

#[test]
fn whitespace_and_byte_order_mark_are_skipped() {
    for body in [
        "\u{feff}{\"access_token\":\"90d\"}",
        " \r\n\u{feff} {\"access_token\":\"90d\"}\n\t ",
    ] {
        assert_eq!(
            Case::ok(body).read().unwrap().access_token.as_str(),
            "90d",
            "{body:?}"
        );
    }
}

#[test]
fn scope_may_be_an_array() {
    for (json, scope) in [
        (r#"["a","b c",1]"#, Some("a b c")),
        (r#"" a  b ""#, Some("a b")),
        ("null", None),
        ("7", None),
    ] {
        let body = format!(r#"{{"access_token":"90d","scope":{json}}}"#);
        assert_eq!(Case::ok(&body).read().unwrap().scope.as_deref(), scope);
    }
}

#[test]
fn error_next_to_a_token_is_an_error() {
    for error in [r#""invalid_grant""#, r#""""#, "false", "{}", "7"] {
        let body = format!(r#"{{"access_token":"90d","error":{error}}}"#);
        assert!(Case::ok(&body).read().is_err(), "{error}");
    }
    assert!(
        Case::ok(r#"{"access_token":"90d","error":null}"#)
            .read()
            .is_ok()
    );
}

#[test]
fn token_with_a_space_at_either_end_is_malformed() {
    for token in [" a", "a ", "é", "\u{7f}"] {
        let body = format!(r#"{{"access_token":"{token}"}}"#);
        assert_eq!(Case::ok(&body).kind(), ErrorKind::Malformed, "{token:?}");
    }
    assert!(Case::ok(r#"{"access_token":"a b"}"#).read().is_ok());
}

#[test]
fn error_of_a_dpop_token_names_dpop() {
    let error = Case::ok(r#"{"access_token":"90d","token_type":"DPoP"}"#).error();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.to_string().contains("DPoP"));
}

#[test]
fn unexpected_json_is_malformed() {
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    for body in [
        deep.as_str(),
        r#"{"access_token":"#,
        "[]",
        "\"90d\"",
        "{}",
        "true",
    ] {
        assert_eq!(Case::ok(body).kind(), ErrorKind::Malformed);
    }
    let twice = r#"{"access_token":"first","access_token":"90d"}"#;
    assert_eq!(Case::ok(twice).read().unwrap().access_token.as_str(), "90d");
}

#[test]
fn error_code_or_status_determines_the_kind() {
    use ErrorKind::*;
    for (status, body, kind, retryable) in [
        (
            400,
            r#"{"error":"unauthorized_client"}"#,
            UnauthorizedClient,
            false,
        ),
        (400, r#"{"error":"invalid_target"}"#, InvalidTarget, false),
        (403, r#"{"error":"access_denied"}"#, AccessDenied, false),
        (
            400,
            r#"{"error":"consent_required"}"#,
            InteractionRequired,
            false,
        ),
        (
            400,
            r#"{"error":"login_required"}"#,
            InteractionRequired,
            false,
        ),
        (
            400,
            r#"{"error":"temporarily_unavailable"}"#,
            Unavailable,
            true,
        ),
        (400, r#"{"error":"server_error"}"#, Unavailable, true),
        (400, r#"{"error":"slow_down"}"#, Refused, false),
        (400, r#"{"error":"authorization_pending"}"#, Refused, false),
        (400, r#"{"error":"something_else"}"#, Refused, false),
        (200, r#"{"error":"something_else"}"#, Refused, false),
        (
            400,
            r#"{"error":{"code":400,"message":"bad"}}"#,
            Refused,
            false,
        ),
        (
            400,
            "error=invalid_grant&error_description=old",
            InvalidGrant,
            false,
        ),
        (500, r#"{"error":"something_else"}"#, Unavailable, true),
        (
            400,
            r#"{"access_token":"90d","expires_in":60}"#,
            Refused,
            false,
        ),
        (429, "<html>", Throttled, true),
        (429, r#"{"error":"invalid_client"}"#, Throttled, true),
        (401, "", InvalidClient, false),
        (401, "<html>", InvalidClient, false),
        (401, r#"{"error":"something_else"}"#, Refused, false),
        (403, "", Refused, false),
        (404, "<html>", Refused, false),
        (599, "", Unavailable, true),
        (307, r#"{"access_token":"90d"}"#, Malformed, false),
        (204, "", Malformed, true),
        (200, " \u{feff} ", Malformed, true),
    ] {
        let error = Case::status(status, body).error();
        assert_eq!(error.kind(), kind, "{status} {body}");
        assert_eq!(error.is_retryable(), retryable, "{status} {body}");
    }
}

#[test]
fn error_of_a_redirect_names_the_remedy() {
    let error = Case::status(302, "").header("location", "https://elsewhere.example/?hunter2");
    let shown = error.error().to_string();
    assert!(
        shown.contains("final URL") && !shown.contains("hunter2"),
        "{shown}"
    );
}

#[test]
fn retry_after_is_read_as_seconds_or_date() {
    let server = now() + Duration::from_secs(7200);
    let (date, then) = (
        httpdate::fmt_http_date(server),
        httpdate::fmt_http_date(server + Duration::from_secs(5)),
    );
    for (text, seconds) in [
        ("0", Some(0)),
        (" 7 ", Some(7)),
        ("7200", Some(7200)),
        (
            "99999999999999999999999999",
            Some(MAX_RETRY_AFTER.as_secs()),
        ),
        (then.as_str(), Some(5)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
        ("-1", None),
        ("soon", None),
        ("", None),
    ] {
        let case = Case::status(503, "")
            .header("retry-after", text)
            .header("date", &date);
        assert_eq!(
            case.error().retry_after(),
            seconds.map(Duration::from_secs),
            "{text}"
        );
    }
}

#[test]
fn error_contains_the_claims() {
    for claims in [r#""{\"a\":{}}""#, r#"{"a":{}}"#] {
        let body = format!(r#"{{"error":"interaction_required","claims":{claims}}}"#);
        assert_eq!(
            Case::status(400, &body).error().claims(),
            Some(r#"{"a":{}}"#)
        );
    }
    let long = format!(
        r#"{{"error":"interaction_required","claims":"{}"}}"#,
        "x".repeat(9000)
    );
    assert_eq!(Case::status(400, &long).error().claims(), None);
}

#[test]
fn description_is_truncated_and_cleaned() {
    let long = format!(
        r#"{{"error":"invalid_grant","error_description":"a\nb\u001b[31m\u202e{}"}}"#,
        "é".repeat(1000)
    );
    let error = Case::status(400, &long).error();
    let description = error.description().unwrap();
    assert_eq!(description.chars().count(), MAX_DESCRIPTION + 1);
    assert!(
        description.starts_with("a b [31m é") && description.ends_with('…'),
        "{description}"
    );
    let odd = r#"{"error":"invalid_grant","error_description":{"a":1}}"#;
    assert_eq!(Case::status(400, odd).error().description(), None);
}

#[test]
fn description_contains_the_ids_for_support() {
    let body = r#"{"error":"invalid_grant","error_description":"AADSTS70002: old","suberror":"bad_token","correlation_id":"c-1","trace_id":"t-1"}"#;
    let error = Case::status(400, body)
        .header("x-ms-request-id", "r-1")
        .error();
    assert_eq!(
        error.description(),
        Some(
            "AADSTS70002: old; suberror bad_token; correlation_id c-1; trace_id t-1; x-ms-request-id r-1"
        )
    );
}

#[test]
fn echoed_secrets_are_redacted() {
    let (id, secret) = ("orders", "s3cret of +mine");
    let credentials = basic_credentials(id, secret);
    let mut redactor = Redactor::default();
    redactor.add_client(id, secret);
    redactor.add("refresh-token");
    for echo in [
        "s3cret of +mine",
        "s3cret%20of%20%2Bmine",
        "s3cret+of+%2Bmine",
        str::from_utf8(&credentials).unwrap(),
        "refresh-token",
    ] {
        // Also where the description is truncated.
        for before in [0, MAX_DESCRIPTION - 5] {
            let body = format!(
                r#"{{"error":"invalid_client","error_description":"{}{echo}","suberror":"{echo}"}}"#,
                "x".repeat(before)
            );
            let error = Case::status(401, &body)
                .read_after(&redactor)
                .err()
                .unwrap();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(&echo[..5]), "{shown}");
        }
    }
}

#[test]
fn short_secret_redacts_the_whole_text() {
    let mut redactor = Redactor::default();
    redactor.add("a");
    assert_eq!(redactor.redact("banana"), "[redacted]");
    assert_eq!(redactor.redact("kiwi"), "kiwi");
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(
        status in 200u16..600,
        body in prop::collection::vec(any::<u8>(), 0..300),
        form in any::<bool>(),
        wait in "[ -~]{0,40}",
    ) {
        let mut headers = HeaderMap::new();
        if form {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        }
        headers.insert(RETRY_AFTER, wait.parse().unwrap());
        headers.insert(DATE, wait.parse().unwrap());
        let response = EndpointResponse { status: StatusCode::from_u16(status).unwrap(), headers: &headers, body: &body, now: now() };
        let _ = token_response(&response, &Redactor::default());
    }

    #[test]
    fn arbitrary_members_do_not_panic(
        token in "\\PC{0,10}",
        time in prop_oneof![any::<f64>().prop_map(|f| format!("{f:e}")), any::<i64>().prop_map(|i| i.to_string()), "\\PC{0,10}"],
        quoted in any::<bool>(),
    ) {
        let time = if quoted { Value::String(time).to_string() } else { time };
        let body = format!(r#"{{"access_token":{},"expires_in":{time},"expires_on":{time},"refresh_in":{time}}}"#, Value::String(token));
        let _ = Case::ok(&body).read();
    }
}
