//! [`AuthLayer`] as a middleware of reqwest-middleware: the rest of the chain is the client that the layer wraps.
//!
//! So the way of a request is the one of `service.rs`. What is here is its clothes: a request that has its spec beside it,
//! a replay policy that minds that, a service over the rest of the chain, and the caller's extensions, which are lent to each
//! attempt and come back however it ends.

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
    error::Error,
    layer::{Auth, AuthLayer, HttpRequest, RequestScheme, replay::ReplayPolicy},
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
        let request = Asked {
            request,
            spec: extensions.get().cloned(),
        };
        // They come back when this goes, whether the answer came or was given up.
        let lent = Lent::new(extensions);
        let rest = Rest {
            next,
            extensions: Arc::clone(&lent.shared),
        };
        let mut auth = Auth::new(rest, self.shared(), AskedAgain(self.replay().clone()));
        let answer = auth.send(request).await;
        answer.map_err(|error| match error {
            Error::Token(error) => reqwest_middleware::Error::middleware(error),
            Error::Inner(error) => error,
        })
    }
}

/// A request, and the token that its extensions ask for.
struct Asked {
    request: Request,
    spec: Option<TokenSpec>,
}

/// What another policy says of requests, said of these.
#[derive(Clone)]
struct AskedAgain<R>(R);

/// The rest of the chain as a service.
#[derive(Clone)]
struct Rest<'a> {
    next: Next<'a>,
    extensions: Arc<Mutex<Extensions>>,
}

/// The caller's extensions, while attempts take them in turns.
struct Lent<'a> {
    own: &'a mut Extensions,
    shared: Arc<Mutex<Extensions>>,
}

/// The same in the hands of one attempt.
struct Taken {
    extensions: Extensions,
    shared: Arc<Mutex<Extensions>>,
}

impl HttpRequest for Asked {
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

impl<R: ReplayPolicy<Request>> ReplayPolicy<Asked> for AskedAgain<R> {
    /// The service stands beside what the policy keeps, which then is the same for any lifetime of a chain.
    type Spare<S> = Option<(S, R::Spare<()>, Option<TokenSpec>)>;
    type Rest = R::Rest;

    fn keep<S: Clone>(&self, service: &S, request: &mut Asked) -> Self::Spare<S> {
        let spare = self.0.keep(&(), &mut request.request);
        Some((service.clone(), spare, request.spec.clone()))
    }

    fn take<S>(spare: &mut Self::Spare<S>) -> Option<(S, Asked, R::Rest)> {
        let (service, mut spare, spec) = spare.take()?;
        let ((), request, rest) = R::take(&mut spare)?;
        Some((service, Asked { request, spec }, rest))
    }

    fn complete(asked: &mut Asked, rest: R::Rest) {
        R::complete(&mut asked.request, rest);
    }
}

impl<'a> Service<Asked> for Rest<'a> {
    type Response = Response;
    type Error = reqwest_middleware::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response>> + Send + 'a>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, asked: Asked) -> Self::Future {
        let Self { next, extensions } = self.clone();
        Box::pin(async move {
            let mut taken = Taken::from(extensions);
            next.run(asked.request, &mut taken.extensions).await
        })
    }
}

impl<'a> Lent<'a> {
    fn new(own: &'a mut Extensions) -> Self {
        let shared = Arc::new(Mutex::new(mem::take(own)));
        Self { own, shared }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        *self.own = mem::take(&mut *lock(&self.shared));
    }
}

impl From<Arc<Mutex<Extensions>>> for Taken {
    fn from(shared: Arc<Mutex<Extensions>>) -> Self {
        let extensions = mem::take(&mut *lock(&shared));
        Self { extensions, shared }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        *lock(&self.shared) = mem::take(&mut self.extensions);
    }
}

/// Nothing panics while it is held: it is for a move in and a move out.
fn lock(extensions: &Mutex<Extensions>) -> MutexGuard<'_, Extensions> {
    extensions.lock().unwrap_or_else(PoisonError::into_inner)
}
