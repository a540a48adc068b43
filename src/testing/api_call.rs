//! Defines the record of a request to the API, and the API's counters.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri, Version};

use super::token_call::header_names;

/// A request to an API as it arrived, returned by [`Api::requests`](super::Api::requests).
///
/// `Debug` output contains neither the token nor header values, the query or the body.
#[derive(Clone)]
#[non_exhaustive]
pub struct ApiCall {
    /// The method.
    pub method: Method,
    /// The request target as it was sent: a path over HTTP/1.1, an absolute URI over HTTP/2.
    pub uri: Uri,
    /// The protocol version.
    pub version: Version,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; empty until it has been read.
    pub body: Bytes,
    /// The bearer token, if the request has exactly one `Authorization` header and that contains one.
    pub token: Option<String>,
    /// The number of the connection that the request arrived on. The first connection is 1.
    pub connection: u64,
    /// The status of the response; `None` until there is a response.
    pub status: Option<StatusCode>,
}

/// The counters of an API. Responses are counted by status, including those made by faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApiCounts {
    /// Requests that arrived, with or without a response.
    pub requests: u64,
    /// Responses with a status of 200 to 299.
    pub ok: u64,
    /// Responses with status 401.
    pub unauthorized: u64,
    /// Responses with status 403.
    pub forbidden: u64,
    /// Requests with an `Authorization` header, whether or not it contains a token.
    pub with_token: u64,
    /// Requests without an `Authorization` header.
    pub without_token: u64,
    /// Requests that were affected by a fault, including delays.
    pub faulted: u64,
    /// Connections that were accepted.
    pub connections: u64,
    /// Bytes of request bodies that were read.
    pub body_bytes: u64,
}

impl fmt::Debug for ApiCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiCall")
            .field("method", &self.method)
            .field("path", &self.uri.path())
            .field("version", &self.version)
            .field("headers", &header_names(&self.headers))
            .field("body_len", &self.body.len())
            .field("has_token", &self.token.is_some())
            .field("connection", &self.connection)
            .field("status", &self.status)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_token_nor_query_nor_body() {
        let call = ApiCall {
            method: Method::POST,
            uri: Uri::from_static("/path?access_token=hidden"),
            version: Version::HTTP_11,
            headers: HeaderMap::from_iter([(
                http::header::AUTHORIZATION,
                "Bearer hidden".parse().unwrap(),
            )]),
            body: Bytes::from_static(b"hidden"),
            token: Some("hidden".into()),
            connection: 1,
            status: None,
        };
        let shown = format!("{call:?}");
        assert!(!shown.contains("hidden"), "{shown}");
        assert!(shown.contains("/path"), "{shown}");
    }
}
