//! This module implements the message traits for the requests and responses of reqwest.

use http::{HeaderMap, Method, StatusCode};

use super::{
    drain::{Draining, drain},
    request::{HttpRequest, RequestMessage},
    response::{HttpResponse, ResponseMessage, target_of},
    route_table::{RequestScheme, RequestTarget},
};
use crate::verdict::Recovery;

impl HttpRequest for reqwest::Request {}

impl RequestMessage for reqwest::Request {
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

impl HttpResponse for reqwest::Response {}

impl ResponseMessage for reqwest::Response {
    #[inline]
    fn status(&self) -> StatusCode {
        self.status()
    }

    #[inline]
    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    /// The client may have followed a redirect.
    fn from(&self) -> Option<RequestTarget<'_>> {
        Some(target_of(self.url()))
    }

    fn set_recovery(&mut self, recovery: Recovery) {
        self.extensions_mut().insert(recovery);
    }

    fn drain(self) -> Option<Draining> {
        Some(Box::pin(drain(reqwest::Body::from(self))))
    }
}
