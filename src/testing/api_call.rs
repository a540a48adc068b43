//! What the API remembers of a request, and its counters.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri, Version};

use super::token_call::header_names;

/// A request as it arrived. [`Api::requests`](super::Api::requests) has them in order.
///
/// `Debug` shows neither the token nor the values of headers, the query or the body.
#[derive(Clone)]
#[non_exhaustive]
pub struct ApiCall {
    /// The method.
    pub method: Method,
    /// The address as it was sent: a path with HTTP/1.1, all of it with HTTP/2.
    pub uri: Uri,
    /// The protocol it came in.
    pub version: Version,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; empty as long as it has not been read.
    pub body: Bytes,
    /// The bearer token, if there is one `Authorization` header and it holds one.
    pub token: Option<String>,
    /// Which connection it came in on: the first is 1.
    pub connection: u64,
    /// The status of the answer; `None` as long as there is none.
    pub status: Option<StatusCode>,
}

/// The counters of an API. Statuses count as they were answered, those of faults too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApiCounts {
    /// Requests that arrived, whatever became of them.
    pub requests: u64,
    /// Answers with a status of 200 to 299.
    pub ok: u64,
    /// Answers with status 401.
    pub unauthorized: u64,
    /// Answers with status 403.
    pub forbidden: u64,
    /// Requests with an `Authorization` header, whatever is in it.
    pub with_token: u64,
    /// Requests without an `Authorization` header.
    pub without_token: u64,
    /// Requests that met a fault, be it only a delay.
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
