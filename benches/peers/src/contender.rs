//! What a contender is: a way to send requests with a token at hand, the same without the peer, and a cold start.

use std::{
    convert::Infallible,
    fmt,
    future::poll_fn,
    hint::black_box,
    sync::{Arc, LazyLock},
};

use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use tokio::runtime::Runtime;
use tower::{Service, ServiceExt};

use crate::{
    issuer::Issuer,
    services::{Body, Nothing, Requests, URL},
};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Sends so many requests, on the thread that calls it.
pub type Batch = Box<dyn FnMut(&Requests, u32) + Send>;

/// Makes a batch for a thread; all of them share one cache, whose token is at hand.
pub type Batches = Box<dyn Fn() -> Batch + Send + Sync>;

/// Sends one request with a token for the scope, and says what came back.
pub type Caller =
    Arc<dyn Fn(&'static str) -> BoxFuture<'static, Result<StatusCode, BoxError>> + Send + Sync>;

/// Makes a caller whose cache is empty and asks the issuer.
pub type ColdStart = Box<dyn Fn(Arc<Issuer>) -> BoxFuture<'static, Caller> + Send + Sync>;

pub struct Contender {
    /// The crate, as the lock file calls it.
    pub package: &'static str,
    /// What of it is measured.
    pub what: &'static str,
    /// The peer's own kind of requests to a client that does nothing.
    pub without: Batches,
    /// The same with the peer in between.
    pub with: Batches,
    /// If it has a cache.
    pub cold: Option<ColdStart>,
    /// Whether it looks at the answers.
    pub reacts: bool,
    /// Whether one object has tokens for several scopes.
    pub scopes: bool,
    /// What must be known to read its line.
    pub note: &'static str,
}

/// Drives whatever the peers leave to a runtime.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    });
    &RUNTIME
}

/// Runs a batch of requests to its end on this thread.
pub fn drive(batch: impl Future<Output = ()>) {
    let _entered = runtime().enter();
    futures_executor::block_on(batch);
}

/// Batches that send `http::Request`s through clones of a service.
pub fn through<S>(service: S) -> Batches
where
    S: Service<Request<Body>> + Clone + Send + Sync + 'static,
    S::Error: fmt::Debug,
{
    Box::new(move || {
        let mut service = service.clone();
        Box::new(move |requests, count| {
            drive(async {
                for _ in 0..count {
                    let request = black_box(requests.next());
                    poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
                    black_box(service.call(request).await.unwrap());
                }
            });
        })
    })
}

/// Batches that send `http::Request`s to nothing: what most contenders are net of.
pub fn nothing() -> Batches {
    through(Nothing::<Infallible>::new())
}

/// Batches that have a function put the token on `http::Request`s.
pub fn putting<P, F>(put: P) -> Batches
where
    P: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Request<Body>> + Send,
{
    Box::new(move || {
        let put = put.clone();
        let mut service = Nothing::<Infallible>::new();
        Box::new(move |requests, count| {
            drive(async {
                for _ in 0..count {
                    let request = black_box(requests.next());
                    let request = put(request).await;
                    poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
                    black_box(service.call(request).await.unwrap());
                }
            });
        })
    })
}

/// A caller over clones of a service.
pub fn caller<S>(service: S) -> Caller
where
    S: Service<Request<Body>, Response = Response<()>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    Arc::new(move |_| {
        let service = service.clone();
        Box::pin(async move {
            let response = service.oneshot(request()).await.map_err(Into::into)?;
            Ok(response.status())
        })
    })
}

/// A request like any other.
pub fn request() -> Request<Body> {
    let mut request = Request::new(Body::default());
    *request.uri_mut() = http::Uri::from_static(URL);
    request
}
