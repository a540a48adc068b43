//! What everybody writes: a fixed header, and the request once more if it was refused.

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
        with: through(RetryLayer::new(OnceMore).layer(client)),
        cold: None,
        reacts: true,
        scopes: false,
        note: "keeps a copy of each request; sends the same token again",
    }
}

#[derive(Clone)]
struct OnceMore;

impl<E> Policy<Request<Body>, Response<()>, E> for OnceMore {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Body>,
        result: &mut Result<Response<()>, E>,
    ) -> Option<Ready<()>> {
        let refused =
            matches!(result, Ok(response) if response.status() == StatusCode::UNAUTHORIZED);
        refused.then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        Some(request.clone())
    }
}
