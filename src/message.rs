//! What the layer needs of a request and of a response, whichever client they belong to.

use http::{HeaderMap, Request, Response, StatusCode, Uri};

use crate::{
    recovery::Recovery,
    replay,
    routes::{Scheme, Target},
    spec::TokenSpec,
};

#[inline]
fn target_of_uri(uri: &Uri) -> Target<'_> {
    Target {
        scheme: Scheme::of_uri(uri.scheme()),
        authority: uri.authority().map(http::uri::Authority::as_str),
        path: uri.path(),
    }
}

#[cfg(feature = "reqwest")]
#[inline]
fn target_of_url(url: &url::Url) -> Target<'_> {
    Target {
        scheme: Scheme::of_url(url.scheme()),
        authority: Some(url.authority()),
        path: url.path(),
    }
}

/// A request that can be given a token.
pub trait Outgoing: Sized {
    /// Where it goes.
    fn target(&self) -> Target<'_>;
    /// Its own spec, if it has one.
    fn spec(&self) -> Option<&TokenSpec>;
    /// Its headers.
    fn headers(&self) -> &HeaderMap;
    /// Its headers, to change.
    fn headers_mut(&mut self) -> &mut HeaderMap;
    /// A second one like it, if that is cheap.
    fn twin(&self) -> Option<Self>;
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
    #[inline]
    fn target(&self) -> Target<'_> {
        target_of_uri(self.uri())
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
    #[inline]
    fn target(&self) -> Target<'_> {
        target_of_url(self.url())
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
        Some(target_of_url(self.url()))
    }

    fn note(&mut self, recovery: Recovery) {
        self.extensions_mut().insert(recovery);
    }
}
