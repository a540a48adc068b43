//! An address that somebody configured, in which `{tenant}` may stand for the tenant: a token URL, or an issuer.
//!
//! Building never fails; [`check`](EndpointUrl::check) and [`uri`](EndpointUrl::uri) tell what is wrong with it. No message echoes
//! an address that may hold a password.

use http::Uri;
use url::Url;

use crate::error::TokenError;

/// What an address may leave open.
const TENANT: &str = "{tenant}";

#[derive(Clone)]
pub(crate) struct EndpointUrl {
    kind: Kind,
    checked: Result<CheckedUrl, TokenError>,
}

/// What the address is of; the messages say it.
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
    /// The address of a token endpoint.
    pub(crate) fn token_url(text: &str) -> Self {
        Self::new(Kind::TokenUrl, text)
    }

    /// The name of a provider, under which its metadata are found.
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

    /// Whether this can be such an address at all: with any tenant, if it leaves one open.
    pub(crate) fn check(&self) -> Result<(), TokenError> {
        self.sample().map(|_| ())
    }

    /// The address, with some tenant in it if it leaves one open.
    pub(crate) fn sample(&self) -> Result<Uri, TokenError> {
        match &self.checked {
            Ok(CheckedUrl::Fixed(_, uri)) => Ok(uri.clone()),
            Ok(CheckedUrl::Template(text)) => parse(self.kind, &text.replace(TENANT, "tenant")),
            Err(error) => Err(error.clone()),
        }
    }

    /// The address as it was given, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match self.checked.as_ref().ok()? {
            CheckedUrl::Fixed(text, _) | CheckedUrl::Template(text) => Some(text),
        }
    }

    /// The address for this tenant.
    pub(crate) fn uri(&self, tenant: Option<&str>) -> Result<Uri, TokenError> {
        match (&self.checked, tenant) {
            (Ok(CheckedUrl::Fixed(_, uri)), None) => Ok(uri.clone()),
            _ => parse(self.kind, &self.expand(tenant)?),
        }
    }

    /// The address for this tenant, letter by letter as it was given.
    pub(crate) fn expand(&self, tenant: Option<&str>) -> Result<String, TokenError> {
        let name = self.kind.name();
        match (&self.checked, tenant) {
            (Err(error), _) => Err(error.clone()),
            (Ok(CheckedUrl::Fixed(text, _)), None) => Ok(text.to_string()),
            (Ok(CheckedUrl::Template(text)), Some(tenant)) => Ok(text.replace(TENANT, tenant)),
            (Ok(CheckedUrl::Template(_)), None) => Err(TokenError::configuration(format!(
                "the {name} has {{tenant}} in it, and the spec names none: add TokenSpec::with_tenant, or write the \
                 tenant into the {name}",
            ))),
            // A token of another tenant than the one asked for must not come of it.
            (Ok(CheckedUrl::Fixed(..)), Some(_)) => Err(TokenError::configuration(format!(
                "the spec names a tenant, and the {name} has no place for it: write {{tenant}} into the {name}, or \
                 leave the tenant out of the spec",
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

/// Whether a tenant can only ever choose a name below the host that is written out.
fn check_template(kind: Kind, text: &str) -> Result<(), TokenError> {
    let after_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = after_scheme
        .split(['/', '?', '#', '\\'])
        .next()
        .unwrap_or_default();
    let mut after_each = authority.split(TENANT).skip(1);
    if after_each.any(|rest| !rest.starts_with('.')) {
        return Err(TokenError::configuration(format!(
            "the tenant would choose the host of the {name}: write {{tenant}} into the path, or before a dot and the \
             rest of the host",
            name = kind.name(),
        )));
    }
    parse(kind, &text.replace(TENANT, "tenant")).map(|_| ())
}

/// The address that a text is, if it is a fit one.
pub(super) fn parse(kind: Kind, text: &str) -> Result<Uri, TokenError> {
    let name = kind.name();
    let fault = |fault: &str| {
        let message = format!("the {name} {fault}");
        Err(TokenError::configuration(message))
    };
    let Ok(url) = Url::parse(text) else {
        return fault("is no URL: write it as https://host/path");
    };
    if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
        return fault("is no web address: write it as https://host/path");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return fault(
            "has a user name or password in it: give the client id and secret by themselves",
        );
    }
    // RFC 6749 §3.2: "The endpoint URI MUST NOT include a fragment component."
    if url.fragment().is_some() {
        return fault("has a fragment: leave out what stands from # on");
    }
    // RFC 8414 §2: "The authorization server's issuer identifier, which is a URL that uses the "https" scheme and has no
    // query or fragment components."
    if kind == Kind::Issuer && url.query().is_some() {
        return fault("has a query: leave out what stands from ? on");
    }
    if text.contains(['{', '}']) {
        return fault("has braces in it: only {tenant} is filled in");
    }
    Uri::try_from(url.as_str())
        .or_else(|_| fault("has characters in it that can't be sent: percent-encode them"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenant_stands_in_path_or_host() {
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
    fn a_tenant_without_a_place_is_an_error() {
        let url = EndpointUrl::token_url("https://login.example/token");
        assert!(url.uri(None).is_ok());
        let error = url.uri(Some("a")).unwrap_err();
        assert!(error.to_string().contains("{tenant}"), "{error}");
    }

    #[test]
    fn an_issuer_stays_letter_by_letter_as_it_was_given() {
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
    fn what_is_no_address_is_told_without_an_echo() {
        for (text, part) in [
            ("hunter2", "no URL"),
            ("ftp://hunter2/", "web address"),
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
            ("", "no URL"),
        ] {
            for address in [EndpointUrl::token_url(text), EndpointUrl::issuer(text)] {
                let error = address.check().unwrap_err();
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
