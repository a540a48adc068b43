//! What the layer needs of a request and of a response, whichever client they belong to.

use http::{HeaderMap, Request, Response, StatusCode};

use crate::{
    recovery::Recovery,
    replay,
    routes::{Scheme, Target},
    spec::TokenSpec,
};

/// A request that can be given a token.
pub trait Outgoing: Sized {
    /// The scheme of its URL.
    fn scheme(&self) -> Scheme;
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
    /// A second one like it, if that is cheap.
    fn twin(&self) -> Option<Self>;

    /// Where it goes.
    fn target(&self) -> Target<'_> {
        Target {
            scheme: self.scheme(),
            authority: self.authority(),
            path: self.path(),
        }
    }
}

/// A response that can be judged.
pub trait Incoming {
    /// Its status.
    fn status(&self) -> StatusCode;
    /// Its headers.
    fn headers(&self) -> &HeaderMap;
    /// Where it comes from, if the client tells.
    fn from(&self) -> Option<Target<'_>>;
    /// Notes what was done about it.
    fn note(&mut self, recovery: Recovery);
}

impl<B: 'static> Outgoing for Request<B> {
    #[inline(always)]
    fn scheme(&self) -> Scheme {
        Scheme::read(self.uri().scheme_str())
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
    fn twin(&self) -> Option<Self> {
        replay::twin(self)
    }
}

impl<B> Incoming for Response<B> {
    #[inline]
    fn status(&self) -> StatusCode {
        self.status()
    }

    #[inline]
    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    fn from(&self) -> Option<Target<'_>> {
        None
    }

    fn note(&mut self, recovery: Recovery) {
        self.extensions_mut().insert(recovery);
    }
}

#[cfg(feature = "reqwest")]
impl Outgoing for reqwest::Request {
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
    fn twin(&self) -> Option<Self> {
        self.try_clone()
    }
}

#[cfg(feature = "reqwest")]
impl Incoming for reqwest::Response {
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
        let url = self.url();
        Some(Target {
            scheme: Scheme::read(Some(url.scheme())),
            authority: Some(url.authority()),
            path: url.path(),
        })
    }

    fn note(&mut self, recovery: Recovery) {
        self.extensions_mut().insert(recovery);
    }
}
