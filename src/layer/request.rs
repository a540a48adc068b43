//! What the layer needs of a request, whichever client it belongs to.

use http::{HeaderMap, Method, Request};

use super::try_clone::try_clone;
use crate::{
    layer::{RequestScheme, RequestTarget},
    token::TokenSpec,
};

/// A request that can be given a token.
pub trait HttpRequest: Sized {
    /// Its method.
    fn method(&self) -> &Method;
    /// The scheme of its URL.
    fn scheme(&self) -> RequestScheme;
    /// The authority of its URL, if there is one.
    fn authority(&self) -> Option<&str>;
    /// The path of its URL.
    fn path(&self) -> &str;
    /// Its own spec, if it has one.
    fn spec(&self) -> Option<&TokenSpec>;
    /// Its headers.
    fn headers(&self) -> &HeaderMap;
    /// Its headers, to change.
    fn headers_mut(&mut self) -> &mut HeaderMap;
    /// A second one like it, if that is cheap. This one stays what it is.
    fn try_clone(&mut self) -> Option<Self>;

    /// Where it goes.
    fn target(&self) -> RequestTarget<'_> {
        RequestTarget {
            scheme: self.scheme(),
            authority: self.authority(),
            path: self.path(),
        }
    }
}

impl<B: 'static> HttpRequest for Request<B> {
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
    fn spec(&self) -> Option<&TokenSpec> {
        self.extensions().get()
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
