//! A request to a token endpoint: the form, the address with its tenant, the headers.

use std::borrow::Cow;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri,
    header::{ACCEPT, CONTENT_TYPE, USER_AGENT},
};
use url::Url;
use zeroize::Zeroizing;

use crate::{error::TokenError, secret::wiped};

/// What an address may leave open.
const TENANT: &str = "{tenant}";

/// The parameters of a token request, in the order in which they are sent.
pub(crate) struct Form<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Form<'a> {
    pub(crate) fn new(grant_type: &'a str) -> Self {
        Self(vec![("grant_type".into(), grant_type.into())])
    }

    pub(crate) fn push(&mut self, name: &'a str, value: &'a str) {
        self.0.push((name.into(), value.into()));
    }

    /// Names the scopes; without any, the provider's default counts.
    pub(crate) fn push_scopes(&mut self, scopes: impl Iterator<Item = &'a str>) {
        let mut joined = String::new();
        for scope in scopes {
            if !joined.is_empty() {
                // RFC 6749 §3.3: "a list of space-delimited, case-sensitive strings".
                joined.push(' ');
            }
            joined.push_str(scope);
        }
        if !joined.is_empty() {
            self.0.push(("scope".into(), joined.into()));
        }
    }

    /// The form's bytes. Their room is taken at once, so that no copy of a secret stays behind in memory.
    fn encode(&self) -> Bytes {
        let room = self.0.iter().map(|(n, v)| 3 * (n.len() + v.len()) + 2);
        let mut out = Zeroizing::new(Vec::with_capacity(room.sum()));
        for (name, value) in &self.0 {
            if !out.is_empty() {
                out.push(b'&');
            }
            append(&mut out, name);
            out.push(b'=');
            append(&mut out, value);
        }
        wiped(out)
    }
}

/// The request itself. The headers are what the client's authentication has put there.
pub(crate) fn token_request(uri: Uri, form: &Form<'_>, headers: HeaderMap) -> Request<Bytes> {
    let mut request = Request::new(form.encode());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    for (name, value) in [
        (CONTENT_TYPE, "application/x-www-form-urlencoded"),
        (ACCEPT, "application/json"),
        (
            USER_AGENT,
            concat!("tower-bearer/", env!("CARGO_PKG_VERSION")),
        ),
    ] {
        let value = HeaderValue::from_static(value);
        request.headers_mut().insert(name, value);
    }
    request
}

/// The address of a token endpoint, in which `{tenant}` may stand for the tenant.
///
/// Building never fails; [`check`](Self::check) and [`uri`](Self::uri) tell what is wrong with it. No message echoes
/// an address that may hold a password.
#[derive(Clone)]
pub(crate) struct TokenUrl(Result<Checked, TokenError>);

#[derive(Clone)]
enum Checked {
    Fixed(Uri),
    Template(Box<str>),
}

impl TokenUrl {
    pub(crate) fn new(text: &str) -> Self {
        if !text.contains(TENANT) {
            return Self(parse(text).map(Checked::Fixed));
        }
        Self(check_template(text).map(|()| Checked::Template(text.into())))
    }

    /// Whether this can be an endpoint's address at all: with any tenant, if it leaves one open.
    pub(crate) fn check(&self) -> Result<(), TokenError> {
        self.sample().map(|_| ())
    }

    /// The address, with some tenant in it if it leaves one open.
    pub(crate) fn sample(&self) -> Result<Uri, TokenError> {
        match &self.0 {
            Ok(Checked::Fixed(uri)) => Ok(uri.clone()),
            Ok(Checked::Template(text)) => parse(&text.replace(TENANT, "tenant")),
            Err(error) => Err(error.clone()),
        }
    }

    /// The address as it was given, if it is one.
    pub(crate) fn text(&self) -> Option<String> {
        match self.0.as_ref().ok()? {
            Checked::Fixed(uri) => Some(uri.to_string()),
            Checked::Template(text) => Some(text.to_string()),
        }
    }

    /// The address for this tenant.
    pub(crate) fn uri(&self, tenant: Option<&str>) -> Result<Uri, TokenError> {
        match (&self.0, tenant) {
            (Err(error), _) => Err(error.clone()),
            (Ok(Checked::Fixed(uri)), None) => Ok(uri.clone()),
            (Ok(Checked::Template(text)), Some(tenant)) => parse(&text.replace(TENANT, tenant)),
            (Ok(Checked::Template(_)), None) => Err(TokenError::configuration(
                "the token URL has {tenant} in it, and the spec names none: add TokenSpec::with_tenant, or write \
                 the tenant into the URL",
            )),
            // A token of another tenant than the one asked for must not come of it.
            (Ok(Checked::Fixed(_)), Some(_)) => Err(TokenError::configuration(
                "the spec names a tenant, and the token URL has no place for it: write {tenant} into the URL, or \
                 leave the tenant out of the spec",
            )),
        }
    }
}

/// Whether a tenant can only ever choose a name below the host that is written out.
fn check_template(text: &str) -> Result<(), TokenError> {
    let after_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = after_scheme
        .split(['/', '?', '#', '\\'])
        .next()
        .unwrap_or_default();
    let mut after_each = authority.split(TENANT).skip(1);
    if after_each.any(|rest| !rest.starts_with('.')) {
        return Err(TokenError::configuration(
            "the tenant would choose the token URL's host: write {tenant} into the path, or before a dot and the \
             rest of the host",
        ));
    }
    parse(&text.replace(TENANT, "tenant")).map(|_| ())
}

fn parse(text: &str) -> Result<Uri, TokenError> {
    let fault = |message| Err(TokenError::configuration(message));
    let Ok(url) = Url::parse(text) else {
        return fault("the token URL is no URL: write it as https://host/path");
    };
    if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
        return fault("the token URL is no web address: write it as https://host/path");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return fault(
            "the token URL has a user name or password in it: give the client id and secret by themselves",
        );
    }
    // RFC 6749 §3.2: "The endpoint URI MUST NOT include a fragment component."
    if url.fragment().is_some() {
        return fault("the token URL has a fragment: leave out what stands from # on");
    }
    if text.contains(['{', '}']) {
        return fault("the token URL has braces in it: only {tenant} is filled in");
    }
    Uri::try_from(url.as_str()).or_else(|_| {
        fault("the token URL has characters in it that can't be sent: percent-encode them")
    })
}

fn append(out: &mut Vec<u8>, text: &str) {
    for piece in form_urlencoded::byte_serialize(text.as_bytes()) {
        out.extend_from_slice(piece.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_encoded_in_order() {
        let mut form = Form::new("client_credentials");
        form.push_scopes(["a", "b:c"].into_iter());
        form.push("resource", "https://x/ y");
        form.push("resource", "é&=");
        assert_eq!(
            form.encode(),
            "grant_type=client_credentials&scope=a+b%3Ac&resource=https%3A%2F%2Fx%2F+y&resource=%C3%A9%26%3D"
        );
    }

    #[test]
    fn no_scope_is_no_parameter() {
        let mut form = Form::new("x");
        form.push_scopes(std::iter::empty());
        assert_eq!(form.encode(), "grant_type=x");
    }

    #[test]
    fn the_tenant_stands_in_path_or_host() {
        for (template, filled) in [
            (
                "https://login.example/{tenant}/token",
                "https://login.example/a.b-c/token",
            ),
            (
                "https://{tenant}.login.example/token?t={tenant}",
                "https://a.b-c.login.example/token?t=a.b-c",
            ),
        ] {
            let url = TokenUrl::new(template);
            assert!(url.check().is_ok());
            assert_eq!(url.uri(Some("a.b-c")).unwrap().to_string(), filled);
            let error = url.uri(None).unwrap_err();
            assert!(error.to_string().contains("with_tenant"), "{error}");
        }
    }

    #[test]
    fn a_tenant_without_a_place_is_an_error() {
        let url = TokenUrl::new("https://login.example/token");
        assert!(url.uri(None).is_ok());
        assert!(
            url.uri(Some("a"))
                .unwrap_err()
                .to_string()
                .contains("{tenant}")
        );
    }

    #[test]
    fn what_is_no_endpoint_is_told_without_an_echo() {
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
            let error = TokenUrl::new(text).check().unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(
                shown.contains(part) && !shown.contains("hunter2"),
                "{text}: {shown}"
            );
        }
    }
}
