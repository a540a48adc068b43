//! Implements the inner services of the contenders: a client that does nothing, and an API that verifies tokens.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header::WWW_AUTHENTICATE};
use http_body_util::Full;
use tower::Service;

use crate::issuer::Issuer;

pub type Body = Full<Bytes>;

/// The URL that all requests go to.
pub const URL: &str = "https://stock.example.com/v2/items/4711?fields=all";

/// The challenge in a 401.
pub const CHALLENGE: &str = r#"Bearer error="invalid_token""#;

/// Accepts every request and responds with 200.
pub struct Nothing<E = Infallible>(PhantomData<fn() -> E>);

impl<E> Nothing<E> {
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E> Clone for Nothing<E> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<E> Service<Request<Body>> for Nothing<E> {
    type Response = Response<()>;
    type Error = E;
    type Future = Ready<Result<Response<()>, E>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        black_box(&request);
        ready(Ok(Response::new(())))
    }
}

/// Responds with 200 if the issuer accepts the token of the request, and otherwise with 401.
pub struct Api<E = Infallible> {
    issuer: Arc<Issuer>,
    errors: PhantomData<fn() -> E>,
}

impl<E> Api<E> {
    pub fn new(issuer: Arc<Issuer>) -> Self {
        Self {
            issuer,
            errors: PhantomData,
        }
    }
}

impl<E> Clone for Api<E> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.issuer))
    }
}

impl<E> Service<Request<Body>> for Api<E> {
    type Response = Response<()>;
    type Error = E;
    type Future = Ready<Result<Response<()>, E>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut response = Response::new(());
        *response.status_mut() = self.issuer.verify(request.headers());
        if response.status().is_client_error() {
            let challenge = HeaderValue::from_static(CHALLENGE);
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        ready(Ok(response))
    }
}

/// Makes the requests, which are the same for all contenders that take `http::Request`.
#[derive(Clone)]
pub struct Requests {
    pub uri: Uri,
    pub headers: HeaderMap,
    /// The capacity of the header map. 0 for the default.
    capacity: usize,
}

impl Requests {
    pub fn with_headers(count: usize) -> Self {
        let names = [
            "accept",
            "content-type",
            "user-agent",
            "x-request-id",
            "traceparent",
        ];
        let value = |name| HeaderValue::from_str(&format!("some value of {name}")).unwrap();
        Self {
            uri: Uri::from_static(URL),
            headers: names
                .into_iter()
                .take(count)
                .map(|name| (HeaderName::from_static(name), value(name)))
                .collect(),
            capacity: 0,
        }
    }

    /// Reserves capacity for one more header, so that adding the token does not make the header map grow.
    pub fn with_spare_capacity(mut self) -> Self {
        self.capacity = self.headers.len() + 1;
        self
    }

    /// Returns the headers of a request.
    pub fn headers(&self) -> HeaderMap {
        if self.capacity == 0 {
            return self.headers.clone();
        }
        let mut headers = HeaderMap::with_capacity(self.capacity);
        headers.extend(self.headers.clone());
        headers
    }

    pub fn next(&self) -> Request<Body> {
        let mut request = Request::new(Full::new(Bytes::from_static(b"{}")));
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers();
        request
    }
}
