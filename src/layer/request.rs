//! This module defines what the layer reads and changes of a request, for each request type.

use http::{HeaderMap, Method, Request};

use super::{
    route_table::{RequestScheme, RequestTarget},
    try_clone::try_clone,
};

/// A request that the layer can add a token to: `http::Request<B>` with any body, or `reqwest::Request`.
///
/// This trait is sealed: it has no public methods, and can't be implemented outside this crate.
#[allow(private_bounds)]
pub trait HttpRequest: RequestMessage {}

impl<B: 'static> HttpRequest for Request<B> {}

/// The parts of a request that the layer reads and changes.
pub(crate) trait RequestMessage: Sized {
    fn method(&self) -> &Method;
    fn scheme(&self) -> RequestScheme;
    fn authority(&self) -> Option<&str>;
    fn path(&self) -> &str;
    fn headers(&self) -> &HeaderMap;
    fn headers_mut(&mut self) -> &mut HeaderMap;
    /// Returns a copy of the request if its body can be cloned cheaply. The request itself does not change.
    fn try_clone(&mut self) -> Option<Self>;

    fn target(&self) -> RequestTarget<'_> {
        RequestTarget {
            scheme: self.scheme(),
            authority: self.authority(),
            path: self.path(),
        }
    }
}

impl<B: 'static> RequestMessage for Request<B> {
    #[inline]
    fn method(&self) -> &Method {
        self.method()
    }

    #[inline(always)]
    fn scheme(&self) -> RequestScheme {
        RequestScheme::read(self.uri().scheme_str())
    }

    #[inline(always)]
    fn authority(&self) -> Option<&str> {
        self.uri().authority().map(http::uri::Authority::as_str)
    }

    #[inline(always)]
    fn path(&self) -> &str {
        self.uri().path()
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
        try_clone(self)
    }
}
