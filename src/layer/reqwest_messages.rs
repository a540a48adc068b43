//! reqwest's own requests and responses.

use http::{HeaderMap, Method, StatusCode};

use super::{
    drain::{Draining, drain},
    request::HttpRequest,
    response::{HttpResponse, target_of},
};
use crate::{
    layer::{RequestScheme, RequestTarget},
    token::TokenSpec,
    verdict::Recovery,
};

impl HttpRequest for reqwest::Request {
    #[inline]
    fn method(&self) -> &Method {
        self.method()
    }

    #[inline(always)]
    fn scheme(&self) -> RequestScheme {
        RequestScheme::read(Some(self.url().scheme()))
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
    fn try_clone(&mut self) -> Option<Self> {
        Self::try_clone(self)
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
    fn from(&self) -> Option<RequestTarget<'_>> {
        Some(target_of(self.url()))
    }

    fn note(&mut self, recovery: Recovery) {
        self.extensions_mut().insert(recovery);
    }

    fn drain(self) -> Option<Draining> {
        Some(Box::pin(drain(reqwest::Body::from(self))))
    }
}
