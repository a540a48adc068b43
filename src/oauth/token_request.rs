//! This module builds the form and the headers of a token request.

use std::borrow::Cow;

use bytes::Bytes;
use form_urlencoded::Serializer;
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri,
    header::{ACCEPT, CONTENT_TYPE, USER_AGENT},
};
use zeroize::Zeroizing;

use crate::secret::wiped;

/// The parameters of a token request, in the order in which they are sent.
pub(crate) struct Form<'a>(Vec<(&'a str, Cow<'a, str>)>);

impl<'a> Form<'a> {
    pub(crate) fn new(grant_type: &'a str) -> Self {
        Self(vec![("grant_type", grant_type.into())])
    }

    pub(crate) fn push(&mut self, name: &'a str, value: &'a str) {
        self.0.push((name, value.into()));
    }

    /// Adds the scopes. Without scopes the parameter is omitted, so that the provider grants its default.
    pub(crate) fn push_scopes(&mut self, scopes: impl Iterator<Item = &'a str>) {
        // RFC 6749 §3.3: "a list of space-delimited, case-sensitive strings".
        let scopes = scopes.collect::<Vec<_>>().join(" ");
        if !scopes.is_empty() {
            self.0.push(("scope", scopes.into()));
        }
    }

    /// Encodes the form into a buffer that is allocated once, so that no copy of a secret remains in freed memory.
    fn encode(&self) -> Bytes {
        let capacities = self.0.iter().map(|(n, v)| 3 * (n.len() + v.len()) + 2);
        let mut encoded = Zeroizing::new(String::with_capacity(capacities.sum()));
        Serializer::new(&mut *encoded).extend_pairs(&self.0);
        wiped(encoded)
    }
}

/// Builds a token request. `headers` are those that client authentication added.
pub(crate) fn token_request(uri: Uri, form: &Form<'_>, mut headers: HeaderMap) -> Request<Bytes> {
    let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    headers.insert(CONTENT_TYPE, form_type);
    request(Method::POST, uri, headers, form.encode())
}

/// Builds the request for a metadata document.
pub(crate) fn document_request(uri: Uri) -> Request<Bytes> {
    request(Method::GET, uri, HeaderMap::new(), Bytes::new())
}

fn request(method: Method, uri: Uri, mut headers: HeaderMap, body: Bytes) -> Request<Bytes> {
    const NAME: &str = concat!("tower-bearer/", env!("CARGO_PKG_VERSION"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(NAME));
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    request
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
