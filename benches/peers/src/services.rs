//! What is behind the contenders that are Tower services: a client that does nothing, and an API that judges tokens.

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

/// What a 401 says.
pub const CHALLENGE: &str = r#"Bearer error="invalid_token""#;

/// Takes a request and answers 200.
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

/// Takes a request and answers as the issuer judges its token.
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

/// Requests to send, made alike for all that take `http::Request`.
#[derive(Clone)]
pub struct Requests {
    pub uri: Uri,
    pub headers: HeaderMap,
    /// How many headers there is room for.
    room: usize,
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
            room: 0,
        }
    }

    /// The same, with room for a header more: what is allocated then is not the request's own.
    pub fn with_room(mut self) -> Self {
        self.room = self.headers.len() + 1;
        self
    }

    /// A request's headers.
    pub fn headers(&self) -> HeaderMap {
        if self.room == 0 {
            return self.headers.clone();
        }
        let mut headers = HeaderMap::with_capacity(self.room);
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
