//! Builds the servers' responses.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, PRAGMA};
use http::{Response, StatusCode};
use serde_json::Value;

use super::response_body::ResponseBody;

/// Builds a JSON response that must not be cached.
///
/// RFC 6749, section 5.1: "The authorization server MUST include the HTTP "Cache-Control" response header field [...] with a
/// value of "no-store" in any response containing tokens, credentials, or other sensitive information, as well as the "Pragma"
/// response header field [...] with a value of "no-cache"."
pub(super) fn json_response(status: StatusCode, body: &Value) -> Response<ResponseBody> {
    let mut response = with_status(status, ResponseBody::from(Bytes::from(body.to_string())));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

pub(super) fn with_status(status: StatusCode, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}
