//! This module defines what the layer reads and changes of a response, for each response type.

use http::{HeaderMap, Response, StatusCode};
use url::Url;

use super::{
    drain::{Draining, drain_known},
    route_table::{RequestScheme, RequestTarget},
};
use crate::verdict::Recovery;

/// A response that the layer can classify: `http::Response<B>` with any body, or `reqwest::Response`.
///
/// This trait is sealed: it has no public methods, and can't be implemented outside this crate.
#[allow(private_bounds)]
pub trait HttpResponse: ResponseMessage {}

impl<B: 'static> HttpResponse for Response<B> {}

/// The parts of a response that the layer reads and changes.
pub(crate) trait ResponseMessage {
    fn status(&self) -> StatusCode;
    fn headers(&self) -> &HeaderMap;
    /// Returns the URL that the response comes from, if it is known.
    fn from(&self) -> Option<RequestTarget<'_>>;
    /// Adds what was done about the response to its extensions.
    fn set_recovery(&mut self, recovery: Recovery);
    /// Returns a future that drains the body, or `None` if the type of the body is not known.
    fn drain(self) -> Option<Draining>;
}

impl<B: 'static> ResponseMessage for Response<B> {
    #[inline]
    fn status(&self) -> StatusCode {
        self.status()
    }

    #[inline]
    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    /// A client that follows redirects can add this extension.
    fn from(&self) -> Option<RequestTarget<'_>> {
        let answered_by: &AnsweredBy = self.extensions().get()?;
        Some(target_of(&answered_by.0))
    }

    fn set_recovery(&mut self, recovery: Recovery) {
        self.extensions_mut().insert(recovery);
    }

    fn drain(self) -> Option<Draining> {
        drain_known(self.into_body())
    }
}

/// An extension with the URL that a response comes from, for clients that follow redirects.
#[derive(Clone, Debug)]
pub(crate) struct AnsweredBy(pub(crate) Url);

pub(super) fn target_of(url: &Url) -> RequestTarget<'_> {
    RequestTarget {
        scheme: RequestScheme::read(Some(url.scheme())),
        authority: Some(url.authority()),
        path: url.path(),
    }
}
