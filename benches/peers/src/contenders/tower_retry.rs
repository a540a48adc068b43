//! Measures what applications often do: a fixed header, and a retry after a 401.

use std::{
    convert::Infallible,
    future::{Ready, ready},
};

use ::tower_http::auth::AddAuthorizationLayer;
use http::{Request, Response, StatusCode};
use tower::{
    Layer,
    retry::{Policy, RetryLayer},
};

use crate::{
    contender::{Contender, nothing, through},
    services::{Body, Nothing},
};

pub fn header() -> Contender {
    let header = AddAuthorizationLayer::bearer(&"t".repeat(1024));
    let client = header.layer(Nothing::<Infallible>::new());
    Contender {
        package: "tower",
        what: "`Retry` around tower-http's header",
        without: nothing(),
        with: through(RetryLayer::new(RetryOnUnauthorized).layer(client)),
        cold: None,
        reacts: true,
        scopes: false,
        note: "clones each request; sends the same token again",
    }
}

#[derive(Clone)]
struct RetryOnUnauthorized;

impl<E> Policy<Request<Body>, Response<()>, E> for RetryOnUnauthorized {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Body>,
        result: &mut Result<Response<()>, E>,
    ) -> Option<Ready<()>> {
        let is_rejected =
            matches!(result, Ok(response) if response.status() == StatusCode::UNAUTHORIZED);
        is_rejected.then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        Some(request.clone())
    }
}
