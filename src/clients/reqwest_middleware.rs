//! This module implements the `Middleware` trait of reqwest-middleware for [`AuthLayer`]: the layer wraps the rest of the chain.
//!
//! The request is processed by [`Auth`], as with any other client. This module adapts the types: a request with its spec, a replay
//! policy for such requests, and a service over the rest of the chain. The extensions of the caller are passed to each attempt, and
//! are returned to the caller even if the request is cancelled.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use async_trait::async_trait;
use http::{Extensions, HeaderMap, Method};
use reqwest::{Request, Response};
use reqwest_middleware::{Middleware, Next, Result};
use tower_service::Service;

use crate::{
    layer::{Auth, AuthLayer, Error, HttpRequest, RequestScheme, replay::ReplayPolicy},
    token::TokenSpec,
};

/// See [`clients`](crate::clients#as-a-middleware-of-reqwest-middleware).
#[cfg_attr(docsrs, doc(cfg(feature = "reqwest-middleware")))]
#[async_trait]
impl<R> Middleware for AuthLayer<R>
where
    R: ReplayPolicy<Request> + Send + Sync + 'static,
    R::Spare<()>: Send,
    R::Rest: Send,
{
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let request = MiddlewareRequest {
            request,
            spec: extensions.get().cloned(),
        };
        // Returned to the caller on drop, also when the request is cancelled.
        let shared = CallerExtensions::new(extensions);
        let rest = RestOfChain {
            next,
            extensions: Arc::clone(&shared.shared),
        };
        let mut auth = Auth::new(rest, self.shared(), MiddlewareReplay(self.replay().clone()));
        let response = auth.send(request).await;
        response.map_err(|error| match error {
            Error::Token(error) => reqwest_middleware::Error::middleware(error),
            Error::Inner(error) => error,
        })
    }
}

/// A request, and the spec from its extensions.
struct MiddlewareRequest {
    request: Request,
    spec: Option<TokenSpec>,
}

/// Applies a replay policy for `reqwest::Request` to these requests.
#[derive(Clone)]
struct MiddlewareReplay<R>(R);

/// The rest of the chain as a service.
#[derive(Clone)]
struct RestOfChain<'a> {
    next: Next<'a>,
    extensions: Arc<Mutex<Extensions>>,
}

/// The extensions of the caller while attempts use them. They are moved back on drop.
struct CallerExtensions<'a> {
    caller: &'a mut Extensions,
    shared: Arc<Mutex<Extensions>>,
}

/// The extensions while one attempt uses them. They are moved back on drop.
struct AttemptExtensions {
    extensions: Extensions,
    shared: Arc<Mutex<Extensions>>,
}

impl HttpRequest for MiddlewareRequest {
    fn method(&self) -> &Method {
        self.request.method()
    }

    fn scheme(&self) -> RequestScheme {
        self.request.scheme()
    }

    fn authority(&self) -> Option<&str> {
        self.request.authority()
    }

    fn path(&self) -> &str {
        self.request.path()
    }

    fn spec(&self) -> Option<&TokenSpec> {
        self.spec.as_ref()
    }

    fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.request.headers_mut()
    }

    fn try_clone(&mut self) -> Option<Self> {
        Some(Self {
            request: self.request.try_clone()?,
            spec: self.spec.clone(),
        })
    }
}

impl<R: ReplayPolicy<Request>> ReplayPolicy<MiddlewareRequest> for MiddlewareReplay<R> {
    /// The service is stored next to what the policy keeps, whose type then does not depend on the lifetime of the chain.
    type Spare<S> = Option<(S, R::Spare<()>, Option<TokenSpec>)>;
    type Rest = R::Rest;

    fn keep<S: Clone>(&self, service: &S, request: &mut MiddlewareRequest) -> Self::Spare<S> {
        let spare = self.0.keep(&(), &mut request.request);
        Some((service.clone(), spare, request.spec.clone()))
    }

    fn take<S>(spare: &mut Self::Spare<S>) -> Option<(S, MiddlewareRequest, R::Rest)> {
        let (service, mut spare, spec) = spare.take()?;
        let ((), request, rest) = R::take(&mut spare)?;
        Some((service, MiddlewareRequest { request, spec }, rest))
    }

    fn complete(request: &mut MiddlewareRequest, rest: R::Rest) {
        R::complete(&mut request.request, rest);
    }
}

impl<'a> Service<MiddlewareRequest> for RestOfChain<'a> {
    type Response = Response;
    type Error = reqwest_middleware::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response>> + Send + 'a>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: MiddlewareRequest) -> Self::Future {
        let Self { next, extensions } = self.clone();
        Box::pin(async move {
            let mut attempt = AttemptExtensions::from(extensions);
            next.run(request.request, &mut attempt.extensions).await
        })
    }
}

impl<'a> CallerExtensions<'a> {
    fn new(caller: &'a mut Extensions) -> Self {
        let shared = Arc::new(Mutex::new(mem::take(caller)));
        Self { caller, shared }
    }
}

impl Drop for CallerExtensions<'_> {
    fn drop(&mut self) {
        *self.caller = mem::take(&mut *lock(&self.shared));
    }
}

impl From<Arc<Mutex<Extensions>>> for AttemptExtensions {
    fn from(shared: Arc<Mutex<Extensions>>) -> Self {
        let extensions = mem::take(&mut *lock(&shared));
        Self { extensions, shared }
    }
}

impl Drop for AttemptExtensions {
    fn drop(&mut self) {
        *lock(&self.shared) = mem::take(&mut self.extensions);
    }
}

/// Locks the extensions. The lock is only held to move them in or out.
fn lock(extensions: &Mutex<Extensions>) -> MutexGuard<'_, Extensions> {
    extensions.lock().unwrap_or_else(PoisonError::into_inner)
}
