//! Defines a contender: functions that send requests with a cached token, without the peer, and with an empty cache.

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

/// Sends the given number of requests on the calling thread.
pub type Batch = Box<dyn FnMut(&Requests, u32) + Send>;

/// Makes a batch for a thread. All batches share one cache, which has the token.
pub type Batches = Box<dyn Fn() -> Batch + Send + Sync>;

/// Sends one request with a token for the scope, and returns the status of the response.
pub type Caller =
    Arc<dyn Fn(&'static str) -> BoxFuture<'static, Result<StatusCode, BoxError>> + Send + Sync>;

/// Makes a caller whose cache is empty and fetches from the issuer.
pub type ColdStart = Box<dyn Fn(Arc<Issuer>) -> BoxFuture<'static, Caller> + Send + Sync>;

pub struct Contender {
    /// The name of the crate in the lock file.
    pub package: &'static str,
    /// The part of the crate that is measured.
    pub what: &'static str,
    /// Sends the peer's type of request to a client that does nothing.
    pub without: Batches,
    /// Sends the same requests through the peer to that client.
    pub with: Batches,
    /// Starts with an empty cache. `None` if the peer has no cache.
    pub cold: Option<ColdStart>,
    /// `true` if the peer reacts to a 401.
    pub reacts: bool,
    /// `true` if one object provides tokens for several scopes.
    pub scopes: bool,
    /// A note that explains the row in the tables.
    pub note: &'static str,
}

/// Returns the runtime for the background tasks of the peers.
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

/// Returns batches that send each `http::Request` through a clone of the service.
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

/// Returns batches that send each `http::Request` to a service that does nothing. The costs of most contenders are net of
/// these.
pub fn nothing() -> Batches {
    through(Nothing::<Infallible>::new())
}

/// Returns batches that have a function add the token to each `http::Request`.
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

/// Returns a caller that sends each request through a clone of the service.
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

/// Returns a request without extra headers.
pub fn request() -> Request<Body> {
    let mut request = Request::new(Body::default());
    *request.uri_mut() = http::Uri::from_static(URL);
    request
}
