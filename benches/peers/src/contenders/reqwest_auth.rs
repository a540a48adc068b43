//! Measures a middleware of reqwest-middleware that requests a token from its source for each request.

use std::{fmt, sync::Arc};

use ::reqwest_auth::AuthorizationHeaderMiddleware;
use async_trait::async_trait;
use http::Extensions;
use reqwest::{Client, Method, Request, Response, Url};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next};
use token_source::TokenSource;

use crate::{
    contender::{Batches, BoxError, Contender, drive},
    services::URL,
};

pub fn middleware() -> Contender {
    let source: Arc<dyn TokenSource> = Arc::new(Fixed(format!("Bearer {}", "t".repeat(1024))));
    let client = ClientBuilder::new(Client::new());
    let with = client.with(AuthorizationHeaderMiddleware::from(source));
    Contender {
        package: "reqwest-auth",
        what: "`AuthorizationHeaderMiddleware`",
        without: batches(ClientBuilder::new(Client::new()).with(Nothing).build()),
        with: batches(with.with(Nothing).build()),
        cold: None,
        reacts: false,
        scopes: false,
        note: "no cache: its source has a fixed token; measured in the middleware chain of reqwest-middleware",
    }
}

fn batches(client: ClientWithMiddleware) -> Batches {
    Box::new(move || {
        let client = client.clone();
        Box::new(move |requests, count| {
            let url: Url = URL.parse().unwrap();
            drive(async {
                for _ in 0..count {
                    let mut request = Request::new(Method::GET, url.clone());
                    *request.headers_mut() = requests.headers();
                    client.execute(request).await.unwrap();
                }
            });
        })
    })
}

struct Fixed(String);

impl fmt::Debug for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fixed(_)")
    }
}

#[async_trait]
impl TokenSource for Fixed {
    async fn token(&self) -> Result<String, BoxError> {
        Ok(self.0.clone())
    }
}

/// Responds with 200 and sends nothing.
struct Nothing;

#[async_trait]
impl Middleware for Nothing {
    async fn handle(
        &self,
        request: Request,
        _: &mut Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        std::hint::black_box(request);
        Ok(Response::from(http::Response::new("")))
    }
}
