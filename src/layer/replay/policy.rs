//! This module defines [`ReplayPolicy`], and the policies that do not buffer: [`CloneBody`], [`NoReplay`] and [`ReplayIf`].

use std::fmt;

use http::{HeaderMap, Method};

use crate::layer::HttpRequest;

/// A policy that decides which requests are replayed, and how. Each is set by a method of [`AuthLayer`](crate::AuthLayer).
///
/// This trait is sealed: it can't be implemented outside this crate. Code that is generic over the policy may need bounds on the
/// associated types:
///
/// ```
/// use tower::{Service, ServiceExt};
/// use tower_bearer::layer::{Auth, Error, HttpResponse, replay::ReplayPolicy};
///
/// type Request = http::Request<String>;
///
/// /// Sends a request in a separate task.
/// fn spawn<S, R>(client: Auth<S, R>, request: Request) -> tokio::task::JoinHandle<Result<S::Response, Error<S::Error>>>
/// where
///     S: Service<Request, Response: HttpResponse + Send, Error: Send, Future: Send> + Clone + Send + 'static,
///     R: ReplayPolicy<Request, Saved<S>: Send, PausedBody: Send> + Send + 'static,
/// {
///     tokio::spawn(client.oneshot(request))
/// }
/// ```
#[allow(private_bounds)]
pub trait ReplayPolicy<Req>: Clone + SealedPolicy {
    /// A request that is saved until its response is classified, with the service that replays it.
    type Saved<S>;
    /// The body of a saved request. Its first sending is paused until it is known whether the request is replayed.
    type PausedBody;

    /// Saves what is needed to replay the request.
    #[doc(hidden)]
    fn save<S: Clone>(&self, service: &S, request: &mut Req) -> Self::Saved<S>;

    /// Returns the service and the request if the request can be replayed. Pauses the first sending of its body.
    #[doc(hidden)]
    fn take<S>(saved: &mut Self::Saved<S>) -> Option<(S, Req, Self::PausedBody)>;

    /// Adds the body to a request that is going to be replayed. This ends the first sending of the body with an error.
    #[doc(hidden)]
    fn complete(_request: &mut Req, _paused: Self::PausedBody) {}
}

/// Seals [`ReplayPolicy`].
pub(crate) trait SealedPolicy {}

impl SealedPolicy for CloneBody {}
impl SealedPolicy for NoReplay {}
impl<R, F> SealedPolicy for ReplayIf<R, F> {}

/// Replays requests whose bodies can be cloned. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneBody;

impl<Req: HttpRequest> ReplayPolicy<Req> for CloneBody {
    type Saved<S> = Option<(S, Req)>;
    type PausedBody = ();

    #[inline]
    fn save<S: Clone>(&self, service: &S, request: &mut Req) -> Self::Saved<S> {
        let copy = request.try_clone()?;
        Some((service.clone(), copy))
    }

    fn take<S>(saved: &mut Self::Saved<S>) -> Option<(S, Req, ())> {
        let (service, request) = saved.take()?;
        Some((service, request, ()))
    }
}

/// Replays no request. Created by [`AuthLayer::without_replay`](crate::AuthLayer::without_replay).
#[derive(Clone, Copy, Debug, Default)]
pub struct NoReplay;

impl<Req> ReplayPolicy<Req> for NoReplay {
    type Saved<S> = ();
    type PausedBody = ();

    #[inline]
    fn save<S: Clone>(&self, _: &S, _: &mut Req) -> Self::Saved<S> {}

    fn take<S>((): &mut Self::Saved<S>) -> Option<(S, Req, ())> {
        None
    }
}

/// Replays requests as another policy does, if a test of the method and the headers returns `true`. Created by
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

    /// Replaces the policy.
    pub(crate) fn with_inner<P>(self, policy: P) -> ReplayIf<P, F> {
        ReplayIf::new(policy, self.test)
    }
}

impl<Req, R, F> ReplayPolicy<Req> for ReplayIf<R, F>
where
    Req: HttpRequest,
    R: ReplayPolicy<Req>,
    F: Fn(&Method, &HeaderMap) -> bool + Clone,
{
    type Saved<S> = Option<R::Saved<S>>;
    type PausedBody = R::PausedBody;

    #[inline]
    fn save<S: Clone>(&self, service: &S, request: &mut Req) -> Self::Saved<S> {
        let may_replay = (self.test)(request.method(), request.headers());
        may_replay.then(|| self.policy.save(service, request))
    }

    fn take<S>(saved: &mut Self::Saved<S>) -> Option<(S, Req, R::PausedBody)> {
        R::take(saved.as_mut()?)
    }

    fn complete(request: &mut Req, paused: R::PausedBody) {
        R::complete(request, paused);
    }
}

impl<R: fmt::Debug, F> fmt::Debug for ReplayIf<R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayIf")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
