//! Builds the proxy's own responses: pages, and problem documents (RFC 9457).

use std::error::Error;

use http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::Full;
use serde_json::json;
use tower_bearer::TokenError;

use crate::body::Payload;

pub(crate) fn page(content_type: &'static str, text: String) -> Response<Payload> {
    let mut response = Response::new(Payload::new(Full::from(text)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Returns a problem document. `detail` says what is wrong and how to fix it.
pub(crate) fn problem(status: StatusCode, kind: &str, detail: &str) -> Response<Payload> {
    response(status, kind, detail, None)
}

/// Returns the response for a request whose token could not be fetched.
pub(crate) fn no_token(error: &TokenError) -> Response<Payload> {
    let seconds = error.retry_after().map(|after| {
        let whole = after.as_secs();
        whole + u64::from(after.subsec_nanos() > 0)
    });
    let kind = error.kind().as_str();
    response(StatusCode::BAD_GATEWAY, kind, &with_causes(error), seconds)
}

/// Returns the response for an upstream that cannot be reached.
pub(crate) fn unreachable(error: &dyn Error) -> Response<Payload> {
    problem(StatusCode::BAD_GATEWAY, "upstream", &with_causes(error))
}

/// Returns the response for a method that a page does not support.
pub(crate) fn only_get() -> Response<Payload> {
    let detail = "this page supports only GET and HEAD";
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

fn response(
    status: StatusCode,
    kind: &str,
    detail: &str,
    retry_after: Option<u64>,
) -> Response<Payload> {
    let mut members = json!({
        "type": format!("urn:tower-bearer:{kind}"),
        "title": title(status, kind),
        "status": status.as_u16(),
        "detail": detail,
        "kind": kind,
    });
    if let (Some(seconds), Some(members)) = (retry_after, members.as_object_mut()) {
        members.insert("retry_after".into(), seconds.into());
    }
    let mut response = page("application/problem+json", members.to_string());
    *response.status_mut() = status;
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

fn title(status: StatusCode, kind: &str) -> &'static str {
    match status {
        StatusCode::BAD_GATEWAY if kind == "upstream" => "The upstream can't be reached",
        StatusCode::BAD_GATEWAY => "No token is available for the request",
        StatusCode::FORBIDDEN => "The proxy rejects the request",
        StatusCode::BAD_REQUEST | StatusCode::NOT_IMPLEMENTED => "The request can't be forwarded",
        StatusCode::METHOD_NOT_ALLOWED => "The method is not supported",
        _ => "Not found",
    }
}

/// Formats an error and its causes.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(beneath) = cause {
        text.push_str(&format!(": {beneath}"));
        cause = beneath.source();
    }
    text
}
