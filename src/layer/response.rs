//! What the layer needs of a response, whichever client it belongs to.

use http::{HeaderMap, Response, StatusCode};
use url::Url;

use super::drain::{Draining, drain_known};
use crate::{
    layer::{RequestScheme, RequestTarget},
    verdict::Recovery,
};

/// A response that can be judged.
pub trait HttpResponse {
    /// Its status.
    fn status(&self) -> StatusCode;
    /// Its headers.
    fn headers(&self) -> &HeaderMap;
    /// Where it comes from, if the client tells.
    fn from(&self) -> Option<RequestTarget<'_>>;
    /// Notes what was done about it.
    fn note(&mut self, recovery: Recovery);
    /// Reads what is left of it, as far as that is worth the connection it came on; none if its body is of a kind that we
    /// can't read.
    fn drain(self) -> Option<Draining>;
}

impl<B: 'static> HttpResponse for Response<B> {
    #[inline]
    fn status(&self) -> StatusCode {
        self.status()
    }

    #[inline]
    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    /// A client that follows redirects tells by an extension: see [`AnsweredBy`].
    fn from(&self) -> Option<RequestTarget<'_>> {
        let answered_by: &AnsweredBy = self.extensions().get()?;
        Some(target_of(&answered_by.0))
    }

    fn note(&mut self, recovery: Recovery) {
        self.extensions_mut().insert(recovery);
    }

    fn drain(self) -> Option<Draining> {
        drain_known(self.into_body())
    }
}

/// The URL that a response comes from, in its extensions, where the client may have followed redirects.
#[derive(Clone, Debug)]
pub(crate) struct AnsweredBy(pub(crate) Url);

pub(super) fn target_of(url: &Url) -> RequestTarget<'_> {
    RequestTarget {
        scheme: RequestScheme::read(Some(url.scheme())),
        authority: Some(url.authority()),
        path: url.path(),
    }
}
