//! [`ReplayPolicy`], and the policies that keep no bytes: [`CloneBody`], [`NoReplay`] and [`ReplayIf`].

use std::fmt;

use http::{HeaderMap, Method};

use crate::layer::HttpRequest;

/// How a layer goes about sending a request twice. The policies of this module are the ways there are.
pub trait ReplayPolicy<Req>: Clone {
    /// What is kept of a request until its response is judged.
    type Spare<S>;
    /// What a kept request still lacks while it waits for its token.
    type Rest;

    /// Keeps what is needed to send the request again, if that can be.
    fn keep<S: Clone>(&self, service: &S, request: &mut Req) -> Self::Spare<S>;

    /// The service and the request to send, if they were kept. Nothing is taken away from the first sending yet.
    fn take<S>(spare: &mut Self::Spare<S>) -> Option<(S, Req, Self::Rest)>;

    /// Makes the request whole: it is sent again for certain.
    fn complete(request: &mut Req, rest: Self::Rest);
}

/// Requests are sent again after a refusal, where their bodies can be had twice. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneBody;

impl<Req: HttpRequest> ReplayPolicy<Req> for CloneBody {
    type Spare<S> = Option<(S, Req)>;
    type Rest = ();

    #[inline]
    fn keep<S: Clone>(&self, service: &S, request: &mut Req) -> Self::Spare<S> {
        let twin = request.try_clone()?;
        Some((service.clone(), twin))
    }

    fn take<S>(spare: &mut Self::Spare<S>) -> Option<(S, Req, ())> {
        let (service, request) = spare.take()?;
        Some((service, request, ()))
    }

    fn complete(_: &mut Req, (): ()) {}
}

/// No request is sent again; made by [`AuthLayer::without_replay`](crate::AuthLayer::without_replay).
#[derive(Clone, Copy, Debug, Default)]
pub struct NoReplay;

impl<Req> ReplayPolicy<Req> for NoReplay {
    type Spare<S> = ();
    type Rest = ();

    #[inline]
    fn keep<S: Clone>(&self, _: &S, _: &mut Req) -> Self::Spare<S> {}

    fn take<S>((): &mut Self::Spare<S>) -> Option<(S, Req, ())> {
        None
    }

    fn complete(_: &mut Req, (): ()) {}
}

/// Requests are sent again as another policy says, if the user's own test agrees; made by
/// [`AuthLayer::with_replay_when`](crate::AuthLayer::with_replay_when).
#[derive(Clone, Copy)]
pub struct ReplayIf<R, F> {
    policy: R,
    test: F,
}

impl<R, F> ReplayIf<R, F> {
    pub(crate) fn new(policy: R, test: F) -> Self {
        Self { policy, test }
    }

    /// The same test over another policy.
    pub(crate) fn over<P>(self, policy: P) -> ReplayIf<P, F> {
        ReplayIf::new(policy, self.test)
    }
}

impl<Req, R, F> ReplayPolicy<Req> for ReplayIf<R, F>
where
    Req: HttpRequest,
    R: ReplayPolicy<Req>,
    F: Fn(&Method, &HeaderMap) -> bool + Clone,
{
    type Spare<S> = Option<R::Spare<S>>;
    type Rest = R::Rest;

    #[inline]
    fn keep<S: Clone>(&self, service: &S, request: &mut Req) -> Self::Spare<S> {
        let agreed = (self.test)(request.method(), request.headers());
        agreed.then(|| self.policy.keep(service, request))
    }

    fn take<S>(spare: &mut Self::Spare<S>) -> Option<(S, Req, R::Rest)> {
        R::take(spare.as_mut()?)
    }

    fn complete(request: &mut Req, rest: R::Rest) {
        R::complete(request, rest);
    }
}

impl<R: fmt::Debug, F> fmt::Debug for ReplayIf<R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayIf")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
