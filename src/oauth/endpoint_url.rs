//! This module implements [`EndpointUrl`], a configured token URL or issuer, which may contain `{tenant}`.
//!
//! The constructors never fail; [`sample`](EndpointUrl::sample) and [`uri`](EndpointUrl::uri) return the error of an invalid URL. No
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
    /// The URL or template as it was configured.
    text: Box<str>,
    /// The parsed URL; a template is filled with a sample tenant.
    sample: Result<Uri, TokenError>,
}

/// The meaning of a URL, which error messages name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    TokenUrl,
    Issuer,
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
        Self {
            kind,
            text: text.into(),
            sample: check_placeholders(kind, text)
                .and_then(|()| parse(kind, &text.replace(TENANT, "tenant"))),
        }
    }

    /// Returns the URL, or an error if it is not valid. A template is filled with a sample tenant.
    pub(crate) fn sample(&self) -> Result<Uri, TokenError> {
        self.sample.clone()
    }

    /// Returns the URL or template as it was configured, if it is valid.
    pub(crate) fn text(&self) -> Option<&str> {
        self.sample.is_ok().then_some(&self.text)
    }

    /// Returns the URL for this tenant.
    pub(crate) fn uri(&self, tenant: Option<&str>) -> Result<Uri, TokenError> {
        parse(self.kind, &self.expand(tenant)?)
    }

    /// Returns the URL for this tenant, otherwise exactly as it was configured.
    pub(crate) fn expand(&self, tenant: Option<&str>) -> Result<String, TokenError> {
        self.sample()?;
        let name = self.kind.name();
        match (self.text.contains(TENANT), tenant) {
            (false, None) => Ok(self.text.to_string()),
            (true, Some(tenant)) => Ok(self.text.replace(TENANT, tenant)),
            (true, None) => Err(TokenError::configuration(format!(
                "the {name} contains {{tenant}}, and the spec has no tenant: add TokenSpec::with_tenant, or write the \
                 tenant into the {name}",
            ))),
            // Otherwise the token would be for another tenant than the requested one.
            (false, Some(_)) => Err(TokenError::configuration(format!(
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
fn check_placeholders(kind: Kind, text: &str) -> Result<(), TokenError> {
    let after_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
    let mut parts = after_scheme.split(['/', '?', '#', '\\']);
    let mut after_each = parts.next().unwrap_or_default().split(TENANT).skip(1);
    if after_each.all(|rest| rest.starts_with('.')) {
        return Ok(());
    }
    Err(TokenError::configuration(format!(
        "the tenant would select the host of the {name}: write {{tenant}} into the path, or as a subdomain of a fixed \
         host",
        name = kind.name(),
    )))
}

/// Parses a URL, and returns an error if it is not allowed as a token URL or issuer.
pub(super) fn parse(kind: Kind, text: &str) -> Result<Uri, TokenError> {
    let fault = match Url::parse(text) {
        Err(_) => "is not a valid URL: write it as https://host/path",
        Ok(url) if !matches!(url.scheme(), "https" | "http") || url.host().is_none() => {
            "is not an http or https URL: write it as https://host/path"
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            "contains a user name or password: remove it, and configure client id and secret"
        }
        // RFC 6749 §3.2: "The endpoint URI MUST NOT include a fragment component."
        Ok(url) if url.fragment().is_some() => "has a fragment: remove it",
        // RFC 8414 §2: "The authorization server's issuer identifier, which is a URL that uses the "https" scheme and has no
        // query or fragment components."
        Ok(url) if kind == Kind::Issuer && url.query().is_some() => "has a query: remove it",
        Ok(_) if text.contains(['{', '}']) => "contains braces: {tenant} is the only placeholder",
        Ok(url) => match Uri::try_from(url.as_str()) {
            Ok(uri) => return Ok(uri),
            Err(_) => "contains characters that are not allowed in a URL: percent-encode them",
        },
    };
    let name = kind.name();
    Err(TokenError::configuration(format!("the {name} {fault}")))
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
            assert!(url.sample().is_ok());
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
                let error = url.sample().unwrap_err();
                let shown = format!("{error} {error:?}");
                assert!(
                    shown.contains(part) && !shown.contains("hunter2"),
                    "{text}: {shown}"
                );
            }
        }
        let text = "https://host/?key=hunter2";
        assert!(EndpointUrl::token_url(text).sample().is_ok());
        let error = EndpointUrl::issuer(text).sample().unwrap_err();
        assert!(error.to_string().contains("issuer has a query"), "{error}");
    }
}
