//! reqwest's own requests and responses.

use http::{HeaderMap, Method, StatusCode};

use super::{
    drain::{Draining, drain},
    incoming::{HttpResponse, target_of},
    outgoing::HttpRequest,
};
use crate::{
    recovery::Recovery,
    routes::{Scheme, Target},
    spec::TokenSpec,
};

impl HttpRequest for reqwest::Request {
    #[inline]
    fn method(&self) -> &Method {
        self.method()
    }

    #[inline(always)]
    fn scheme(&self) -> Scheme {
        Scheme::read(Some(self.url().scheme()))
    }

    #[inline(always)]
    fn authority(&self) -> Option<&str> {
        Some(self.url().authority())
    }

    #[inline(always)]
    fn path(&self) -> &str {
        self.url().path()
    }

    /// Its extensions can't be read from outside.
    #[inline]
    fn spec(&self) -> Option<&TokenSpec> {
        None
    }

    #[inline]
    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    #[inline]
    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }

    #[inline]
    fn twin(&mut self) -> Option<Self> {
        self.try_clone()
    }
}

impl HttpResponse for reqwest::Response {
    #[inline]
    fn status(&self) -> StatusCode {
        self.status()
    }

    #[inline]
    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    /// A redirect may have been followed.
    fn from(&self) -> Option<Target<'_>> {
        Some(target_of(self.url()))
    }

    fn note(&mut self, recovery: Recovery) {
        self.extensions_mut().insert(recovery);
    }

    fn drain(self) -> Option<Draining> {
        Some(Box::pin(drain(reqwest::Body::from(self))))
    }
}
