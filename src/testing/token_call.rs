//! What the authorization server remembers of a token request, and its counters.

use std::collections::BTreeMap;
use std::fmt;

use http::header::{HeaderMap, HeaderName};
use http::{StatusCode, Version};

use super::client_auth::AuthMethod;

/// A token request as it arrived. [`AuthorizationServer::requests`](super::AuthorizationServer::requests) has them in order.
///
/// `Debug` shows the names of parameters and headers, and no values but those of `grant_type`, `scope`, `resource` and
/// `audience`.
#[derive(Clone)]
#[non_exhaustive]
pub struct TokenCall {
    /// The parameters, decoded, in their order.
    pub form: Vec<(String, String)>,
    /// How the client authenticated, or tried to.
    pub auth: AuthMethod,
    /// The headers.
    pub headers: HeaderMap,
    /// The protocol it came in.
    pub version: Version,
    /// Which connection it came in on: the first is 1.
    pub connection: u64,
    /// The status of the answer; `None` as long as there is none.
    pub status: Option<StatusCode>,
}

/// The counters of an authorization server, over token requests only. A request may be in several of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenCounts {
    /// Requests that arrived, whatever became of them.
    pub requests: u64,
    /// Tokens that were given out.
    pub issued: u64,
    /// Requests that were properly refused, not by a fault.
    pub refused: u64,
    /// Requests that met a fault, be it only a delay.
    pub faulted: u64,
    pub(super) grants: BTreeMap<String, u64>,
}

impl TokenCall {
    /// The first parameter of that name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let (_, value) = self.form.iter().find(|(key, _)| key == name)?;
        Some(value)
    }
}

impl TokenCounts {
    /// How many of the requests had this `grant_type`.
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

/// All of a header map that may be shown.
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
    fn debug_shows_what_was_asked_and_no_secret() {
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
