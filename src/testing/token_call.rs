//! Defines the record of a token request, and the counters of the authorization server.

use std::collections::BTreeMap;
use std::fmt;

use http::header::{HeaderMap, HeaderName};
use http::{StatusCode, Version};

use super::client_auth::AuthMethod;

/// A token request as it arrived, returned by [`AuthorizationServer::requests`](super::AuthorizationServer::requests).
///
/// `Debug` output contains the names of parameters and headers, and only the values of `grant_type`, `scope`, `resource` and
/// `audience`.
#[derive(Clone)]
#[non_exhaustive]
pub struct TokenCall {
    /// The decoded form parameters, in the order of the request.
    pub form: Vec<(String, String)>,
    /// How the client authenticated or tried to authenticate.
    pub auth: AuthMethod,
    /// The headers.
    pub headers: HeaderMap,
    /// The protocol version.
    pub version: Version,
    /// The number of the connection that the request arrived on. The first connection is 1.
    pub connection: u64,
    /// The status of the response; `None` until there is a response.
    pub status: Option<StatusCode>,
}

/// The counters of an authorization server. They count token requests only, and a request may be counted by several of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenCounts {
    /// Requests that arrived, with or without a response.
    pub requests: u64,
    /// Requests for which a token was issued.
    pub issued: u64,
    /// Requests that the server rejected with an OAuth error. Faults are not included.
    pub refused: u64,
    /// Requests that were affected by a fault, including delays.
    pub faulted: u64,
    pub(super) grants: BTreeMap<String, u64>,
}

impl TokenCall {
    /// Returns the first parameter with this name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let (_, value) = self.form.iter().find(|(key, _)| key == name)?;
        Some(value)
    }
}

impl TokenCounts {
    /// Returns the number of requests with this `grant_type`.
    pub fn of_grant(&self, grant_type: &str) -> u64 {
        self.grants.get(grant_type).copied().unwrap_or_default()
    }
}

impl fmt::Debug for TokenCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form: Vec<_> = self
            .form
            .iter()
            .map(|(name, value)| (name, shown(name, value)))
            .collect();
        f.debug_struct("TokenCall")
            .field("form", &form)
            .field("auth", &self.auth)
            .field("headers", &header_names(&self.headers))
            .field("version", &self.version)
            .field("connection", &self.connection)
            .field("status", &self.status)
            .finish()
    }
}

/// Returns the names of the headers, which unlike their values may be shown.
pub(super) fn header_names(headers: &HeaderMap) -> Vec<&str> {
    headers.keys().map(HeaderName::as_str).collect()
}

fn shown<'a>(name: &str, value: &'a str) -> &'a str {
    match name {
        "grant_type" | "scope" | "resource" | "audience" => value,
        _ => "***",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_request_and_no_secret() {
        let pairs = [
            ("grant_type", "client_credentials"),
            ("scope", "read"),
            ("client_secret", "hidden"),
        ];
        let call = TokenCall {
            form: pairs
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            auth: AuthMethod::Post,
            headers: HeaderMap::from_iter([(
                http::header::AUTHORIZATION,
                "Basic hidden".parse().unwrap(),
            )]),
            version: Version::HTTP_11,
            connection: 1,
            status: None,
        };
        let shown = format!("{call:?}");
        assert!(!shown.contains("hidden"), "{shown}");
        assert!(
            shown.contains("client_credentials") && shown.contains("read"),
            "{shown}"
        );
        assert_eq!(call.parameter("scope"), Some("read"));
    }
}
