//! Defines the errors of RFC 6749, section 5.2, and their HTTP responses.

use http::header::{ALLOW, HeaderValue, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use serde_json::json;

use super::response::json_response;
use super::response_body::ResponseBody;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OAuthError {
    error: &'static str,
    description: &'static str,
    status: StatusCode,
    challenge: bool,
}

impl OAuthError {
    pub(super) fn invalid_request(description: &'static str) -> Self {
        Self::bad_request("invalid_request", description)
    }

    pub(super) fn invalid_scope(description: &'static str) -> Self {
        Self::bad_request("invalid_scope", description)
    }

    pub(super) fn invalid_grant(description: &'static str) -> Self {
        Self::bad_request("invalid_grant", description)
    }

    pub(super) fn unsupported_grant_type() -> Self {
        Self::bad_request("unsupported_grant_type", "unsupported grant_type")
    }

    /// RFC 6749, section 5.2: "If the client attempted to authenticate via the "Authorization" request header field, the authorization server MUST
    /// respond with an HTTP 401 (Unauthorized) status code and include the "WWW-Authenticate" response header field matching
    /// the authentication scheme used by the client."
    pub(super) fn invalid_client(tried_header: bool) -> Self {
        let description = "unknown client, or client authentication failed";
        let error = Self::bad_request("invalid_client", description);
        Self {
            status: StatusCode::UNAUTHORIZED,
            challenge: tried_header,
            ..error
        }
    }

    /// RFC 6749, section 3.2: "The client MUST use the HTTP "POST" method when making access token requests."
    pub(super) fn wrong_method() -> Self {
        let error = Self::invalid_request("the method must be POST");
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            ..error
        }
    }

    pub(super) fn server_error(description: &'static str) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            ..Self::bad_request("server_error", description)
        }
    }

    pub(super) fn into_response(self) -> Response<ResponseBody> {
        let body = json!({ "error": self.error, "error_description": self.description });
        let mut response = json_response(self.status, &body);
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("POST"));
        }
        if self.challenge {
            response.headers_mut().insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"token\""),
            );
        }
        response
    }

    fn bad_request(error: &'static str, description: &'static str) -> Self {
        Self {
            error,
            description,
            status: StatusCode::BAD_REQUEST,
            challenge: false,
        }
    }
}
