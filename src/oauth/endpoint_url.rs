//! This module implements [`EndpointUrl`], a configured token URL or issuer, which may contain `{tenant}`.
//!
//! The constructors never fail; [`check`](EndpointUrl::check) and [`uri`](EndpointUrl::uri) return the error of an invalid URL. No
//! error shows a URL, because it may contain a password.

use http::Uri;
use url::Url;

use crate::error::TokenError;

/// The placeholder for the tenant.
const TENANT: &str = "{tenant}";

/// A token URL or an issuer from the configuration.
#[derive(Clone)]
pub(crate) struct EndpointUrl {
    kind: Kind,
    checked: Result<CheckedUrl, TokenError>,
}

/// The meaning of a URL, which error messages name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    TokenUrl,
    Issuer,
}

#[derive(Clone)]
enum CheckedUrl {
    Fixed(Box<str>, Uri),
    Template(Box<str>),
}

impl EndpointUrl {
    /// Creates the URL of a token endpoint.
    pub(crate) fn token_url(text: &str) -> Self {
        Self::new(Kind::TokenUrl, text)
    }

    /// Creates the issuer of a provider, from which the URLs of its metadata are derived.
    pub(crate) fn issuer(text: &str) -> Self {
        Self::new(Kind::Issuer, text)
    }

    fn new(kind: Kind, text: &str) -> Self {
        let checked = if text.contains(TENANT) {
            check_template(kind, text).map(|()| CheckedUrl::Template(text.into()))
        } else {
            parse(kind, text).map(|uri| CheckedUrl::Fixed(text.into(), uri))
        };
        Self { kind, checked }
    }

    /// Returns an error if the URL is not valid. A template is checked with a sample tenant.
    pub(crate) fn check(&self) -> Result<(), TokenError> {
        self.sample().map(|_| ())
    }

    /// Returns the URL; a template is filled with a sample tenant.
    pub(crate) fn sample(&self) -> Result<Uri, TokenError> {
        match &self.checked {
            Ok(CheckedUrl::Fixed(_, uri)) => Ok(uri.clone()),
            Ok(CheckedUrl::Template(text)) => parse(self.kind, &text.replace(TENANT, "tenant")),
            Err(error) => Err(error.clone()),
        }
    }

    /// Returns the URL or template as it was configured, if it is valid.
    pub(crate) fn text(&self) -> Option<&str> {
        match self.checked.as_ref().ok()? {
            CheckedUrl::Fixed(text, _) | CheckedUrl::Template(text) => Some(text),
        }
    }

    /// Returns the URL for this tenant.
    pub(crate) fn uri(&self, tenant: Option<&str>) -> Result<Uri, TokenError> {
        match (&self.checked, tenant) {
            (Ok(CheckedUrl::Fixed(_, uri)), None) => Ok(uri.clone()),
            _ => parse(self.kind, &self.expand(tenant)?),
        }
    }

    /// Returns the URL for this tenant, otherwise exactly as it was configured.
    pub(crate) fn expand(&self, tenant: Option<&str>) -> Result<String, TokenError> {
        let name = self.kind.name();
        match (&self.checked, tenant) {
            (Err(error), _) => Err(error.clone()),
            (Ok(CheckedUrl::Fixed(text, _)), None) => Ok(text.to_string()),
            (Ok(CheckedUrl::Template(text)), Some(tenant)) => Ok(text.replace(TENANT, tenant)),
            (Ok(CheckedUrl::Template(_)), None) => Err(TokenError::configuration(format!(
                "the {name} contains {{tenant}}, and the spec has no tenant: add TokenSpec::with_tenant, or write the \
                 tenant into the {name}",
            ))),
            // Otherwise the token would be for another tenant than the requested one.
            (Ok(CheckedUrl::Fixed(..)), Some(_)) => Err(TokenError::configuration(format!(
                "the spec has a tenant, and the {name} does not contain {{tenant}}: write {{tenant}} into the {name}, or \
                 remove the tenant from the spec",
            ))),
        }
    }
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::TokenUrl => "token URL",
            Self::Issuer => "issuer",
        }
    }
}

/// Returns an error unless a tenant can only select a path, or a subdomain of the configured host.
fn check_template(kind: Kind, text: &str) -> Result<(), TokenError> {
    let after_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = after_scheme
        .split(['/', '?', '#', '\\'])
        .next()
        .unwrap_or_default();
    let mut after_each = authority.split(TENANT).skip(1);
    if after_each.any(|rest| !rest.starts_with('.')) {
        return Err(TokenError::configuration(format!(
            "the tenant would select the host of the {name}: write {{tenant}} into the path, or as a subdomain of a fixed \
             host",
            name = kind.name(),
        )));
    }
    parse(kind, &text.replace(TENANT, "tenant")).map(|_| ())
}

/// Parses a URL, and returns an error if it is not allowed as a token URL or issuer.
pub(super) fn parse(kind: Kind, text: &str) -> Result<Uri, TokenError> {
    let name = kind.name();
    let fault = |fault: &str| {
        let message = format!("the {name} {fault}");
        Err(TokenError::configuration(message))
    };
    let Ok(url) = Url::parse(text) else {
        return fault("is not a valid URL: write it as https://host/path");
    };
    if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
        return fault("is not an http or https URL: write it as https://host/path");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return fault(
            "contains a user name or password: remove it, and configure client id and secret",
        );
    }
    // RFC 6749 §3.2: "The endpoint URI MUST NOT include a fragment component."
    if url.fragment().is_some() {
        return fault("has a fragment: remove it");
    }
    // RFC 8414 §2: "The authorization server's issuer identifier, which is a URL that uses the "https" scheme and has no
    // query or fragment components."
    if kind == Kind::Issuer && url.query().is_some() {
        return fault("has a query: remove it");
    }
    if text.contains(['{', '}']) {
        return fault("contains braces: {tenant} is the only placeholder");
    }
    Uri::try_from(url.as_str()).or_else(|_| {
        fault("contains characters that are not allowed in a URL: percent-encode them")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_is_inserted_into_path_or_host() {
        for (template, expected) in [
            (
                "https://login.example/{tenant}/token",
                "https://login.example/a.b-c/token",
            ),
            (
                "https://{tenant}.login.example/token?t={tenant}",
                "https://a.b-c.login.example/token?t=a.b-c",
            ),
        ] {
            let url = EndpointUrl::token_url(template);
            assert!(url.check().is_ok());
            assert_eq!(url.uri(Some("a.b-c")).unwrap().to_string(), expected);
            let error = url.uri(None).unwrap_err();
            assert!(error.to_string().contains("with_tenant"), "{error}");
        }
    }

    #[test]
    fn tenant_without_a_placeholder_is_an_error() {
        let url = EndpointUrl::token_url("https://login.example/token");
        assert!(url.uri(None).is_ok());
        let error = url.uri(Some("a")).unwrap_err();
        assert!(error.to_string().contains("{tenant}"), "{error}");
    }

    #[test]
    fn issuer_is_kept_exactly_as_configured() {
        for text in ["https://login.example", "https://LOGIN.example:443/"] {
            let issuer = EndpointUrl::issuer(text);
            assert_eq!(issuer.expand(None).unwrap(), text);
            assert_eq!(issuer.text(), Some(text));
        }
        let issuer = EndpointUrl::issuer("https://login.example/{tenant}/v2.0");
        let expanded = issuer.expand(Some("acme")).unwrap();
        assert_eq!(expanded, "https://login.example/acme/v2.0");
    }

    #[test]
    fn invalid_url_is_reported_without_showing_it() {
        for (text, part) in [
            ("hunter2", "not a valid URL"),
            ("ftp://hunter2/", "not an http"),
            ("https://user:hunter2@host/", "password"),
            ("https://hunter2@host/", "user name"),
            ("https://host/#hunter2", "fragment"),
            ("https://host/{hunter2}", "braces"),
            ("https://host/{tenant}/{hunter2}", "braces"),
            ("https://{tenant}/hunter2", "host"),
            ("https://login.{tenant}:443/hunter2", "host"),
            ("https://{tenant}@hunter2/", "host"),
            ("https://host:{tenant}/hunter2", "host"),
            ("{tenant}hunter2", "host"),
            ("", "not a valid URL"),
        ] {
            for url in [EndpointUrl::token_url(text), EndpointUrl::issuer(text)] {
                let error = url.check().unwrap_err();
                let shown = format!("{error} {error:?}");
                assert!(
                    shown.contains(part) && !shown.contains("hunter2"),
                    "{text}: {shown}"
                );
            }
        }
        let text = "https://host/?key=hunter2";
        assert!(EndpointUrl::token_url(text).check().is_ok());
        let error = EndpointUrl::issuer(text).check().unwrap_err();
        assert!(error.to_string().contains("issuer has a query"), "{error}");
    }
}
