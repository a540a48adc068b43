//! This module implements the `Middleware` trait of reqwest-middleware for [`AuthLayer`]: the layer wraps the rest of the chain.
//!
//! The request is processed by [`Auth`], as with any other client. This module adapts the replay
//! policy and the rest of the chain, as a service. The extensions of the caller are passed to each attempt, and
//! are returned to the caller even if the request is cancelled.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use async_trait::async_trait;
use http::Extensions;
use reqwest::{Request, Response};
use reqwest_middleware::{Middleware, Next, Result};
use tower_service::Service;

use crate::layer::{
    Auth, AuthLayer, Error,
    replay::{ReplayPolicy, SealedPolicy},
};

/// See [`clients`](crate::clients#as-a-middleware-of-reqwest-middleware).
#[cfg_attr(docsrs, doc(cfg(feature = "reqwest-middleware")))]
#[async_trait]
impl<R> Middleware for AuthLayer<R>
where
    R: ReplayPolicy<Request> + Send + Sync + 'static,
    R::Saved<()>: Send,
    R::PausedBody: Send,
{
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let own_spec = extensions.get().cloned();
        let shared = Arc::default();
        // Returned to the caller on drop, also when the request is cancelled.
        let _swapped = SwappedExtensions::new(extensions, Arc::clone(&shared));
        let rest = RestOfChain { next, shared };
        let mut auth = Auth::new(rest, self.shared(), MiddlewareReplay(self.replay().clone()));
        auth.send(request, |_| own_spec)
            .await
            .map_err(|error| match error {
                Error::Token(error) => reqwest_middleware::Error::middleware(error),
                Error::Inner(error) => error,
            })
    }
}

/// Applies a replay policy. The service is stored next to what the policy saves, whose type then does not depend on the lifetime of
/// the chain.
#[derive(Clone)]
struct MiddlewareReplay<R>(R);

/// The rest of the chain as a service.
#[derive(Clone)]
struct RestOfChain<'a> {
    next: Next<'a>,
    shared: Arc<Mutex<Extensions>>,
}

/// Swaps extensions with the shared ones, and swaps them back on drop.
struct SwappedExtensions<'a> {
    extensions: &'a mut Extensions,
    shared: Arc<Mutex<Extensions>>,
}

impl<R> SealedPolicy for MiddlewareReplay<R> {}

impl<R: ReplayPolicy<Request>> ReplayPolicy<Request> for MiddlewareReplay<R> {
    type Saved<S> = (Option<S>, R::Saved<()>);
    type PausedBody = R::PausedBody;

    fn save<S: Clone>(&self, service: &S, request: &mut Request) -> Self::Saved<S> {
        (Some(service.clone()), self.0.save(&(), request))
    }

    fn take<S>((service, saved): &mut Self::Saved<S>) -> Option<(S, Request, R::PausedBody)> {
        let ((), request, paused) = R::take(saved)?;
        Some((service.take()?, request, paused))
    }

    fn complete(request: &mut Request, paused: R::PausedBody) {
        R::complete(request, paused);
    }
}

impl<'a> Service<Request> for RestOfChain<'a> {
    type Response = Response;
    type Error = reqwest_middleware::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response>> + Send + 'a>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Self { next, shared } = self.clone();
        Box::pin(async move {
            let mut extensions = Extensions::new();
            let attempt = SwappedExtensions::new(&mut extensions, shared);
            next.run(request, &mut *attempt.extensions).await
        })
    }
}

impl<'a> SwappedExtensions<'a> {
    fn new(extensions: &'a mut Extensions, shared: Arc<Mutex<Extensions>>) -> Self {
        let mut swapped = Self { extensions, shared };
        swapped.swap();
        swapped
    }

    /// The lock is only held while the extensions are swapped.
    fn swap(&mut self) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        mem::swap(self.extensions, &mut shared);
    }
}

impl Drop for SwappedExtensions<'_> {
    fn drop(&mut self) {
        self.swap();
    }
}
