//! This module builds the form and the headers of a token request.

use std::borrow::Cow;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri,
    header::{ACCEPT, CONTENT_TYPE, USER_AGENT},
};
use zeroize::Zeroizing;

use crate::secret::wiped;

/// The parameters of a token request, in the order in which they are sent.
pub(crate) struct Form<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Form<'a> {
    pub(crate) fn new(grant_type: &'a str) -> Self {
        Self(vec![("grant_type".into(), grant_type.into())])
    }

    pub(crate) fn push(&mut self, name: &'a str, value: &'a str) {
        self.0.push((name.into(), value.into()));
    }

    /// Adds the scopes. Without scopes the parameter is omitted, so that the provider grants its default.
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

    /// Encodes the form into a buffer that is allocated once, so that no copy of a secret remains in freed memory.
    fn encode(&self) -> Bytes {
        let capacities = self.0.iter().map(|(n, v)| 3 * (n.len() + v.len()) + 2);
        let mut out = Zeroizing::new(Vec::with_capacity(capacities.sum()));
        for (name, value) in &self.0 {
            if !out.is_empty() {
                out.push(b'&');
            }
            append_encoded(&mut out, name);
            out.push(b'=');
            append_encoded(&mut out, value);
        }
        wiped(out)
    }
}

/// Builds the token request. `headers` are those that client authentication added.
pub(crate) fn token_request(uri: Uri, form: &Form<'_>, headers: HeaderMap) -> Request<Bytes> {
    let mut request = Request::new(form.encode());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(CONTENT_TYPE, form);
    insert_common_headers(request.headers_mut());
    request
}

/// Builds the request for a metadata document.
pub(crate) fn document_request(uri: Uri) -> Request<Bytes> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = uri;
    insert_common_headers(request.headers_mut());
    request
}

fn insert_common_headers(headers: &mut HeaderMap) {
    const NAME: &str = concat!("tower-bearer/", env!("CARGO_PKG_VERSION"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(NAME));
}

fn append_encoded(out: &mut Vec<u8>, text: &str) {
    for part in form_urlencoded::byte_serialize(text.as_bytes()) {
        out.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_is_encoded_in_order() {
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
    fn scope_parameter_is_omitted_without_scopes() {
        let mut form = Form::new("x");
        form.push_scopes(std::iter::empty());
        assert_eq!(form.encode(), "grant_type=x");
    }
}
