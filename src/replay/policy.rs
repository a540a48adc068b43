//! [`Replay`], and the policies that keep no bytes: [`Twice`], [`Once`] and [`When`].

use std::fmt;

use http::{HeaderMap, Method};

use crate::message::Outgoing;

/// How a layer goes about sending a request twice. The policies of this module are the ways there are.
pub trait Replay<Req>: Clone {
    /// What is kept of a request until its response is judged.
    type Spare<S>;

    /// Keeps what is needed to send the request again, if that can be.
    fn keep<S: Clone>(&self, service: &S, request: &mut Req) -> Self::Spare<S>;

    /// The service and the request to send, if they were kept.
    fn take<S>(spare: &mut Self::Spare<S>) -> Option<(S, Req)>;
}

/// Requests are sent again after a refusal, where their bodies can be had twice. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Twice;

impl<Req: Outgoing> Replay<Req> for Twice {
    type Spare<S> = Option<(S, Req)>;

    #[inline]
    fn keep<S: Clone>(&self, service: &S, request: &mut Req) -> Self::Spare<S> {
        let twin = request.twin()?;
        Some((service.clone(), twin))
    }

    fn take<S>(spare: &mut Self::Spare<S>) -> Option<(S, Req)> {
        spare.take()
    }
}

/// No request is sent again; made by [`AuthLayer::without_replay`](crate::AuthLayer::without_replay).
#[derive(Clone, Copy, Debug, Default)]
pub struct Once;

impl<Req> Replay<Req> for Once {
    type Spare<S> = ();

    #[inline]
    fn keep<S: Clone>(&self, _: &S, _: &mut Req) -> Self::Spare<S> {}

    fn take<S>((): &mut Self::Spare<S>) -> Option<(S, Req)> {
        None
    }
}

/// Requests are sent again as another policy says, if the user's own test agrees; made by
/// [`AuthLayer::with_replay_when`](crate::AuthLayer::with_replay_when).
#[derive(Clone, Copy)]
pub struct When<R, F> {
    policy: R,
    test: F,
}

impl<R, F> When<R, F> {
    pub(crate) fn new(policy: R, test: F) -> Self {
        Self { policy, test }
    }
}

impl<Req, R, F> Replay<Req> for When<R, F>
where
    Req: Outgoing,
    R: Replay<Req>,
    F: Fn(&Method, &HeaderMap) -> bool + Clone,
{
    type Spare<S> = Option<R::Spare<S>>;

    #[inline]
    fn keep<S: Clone>(&self, service: &S, request: &mut Req) -> Self::Spare<S> {
        let agreed = (self.test)(request.method(), request.headers());
        agreed.then(|| self.policy.keep(service, request))
    }

    fn take<S>(spare: &mut Self::Spare<S>) -> Option<(S, Req)> {
        R::take(spare.as_mut()?)
    }
}

impl<R: fmt::Debug, F> fmt::Debug for When<R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("When")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
