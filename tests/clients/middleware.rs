//! Tests the layer as a middleware of reqwest-middleware.

use std::pin::Pin;

use http::{Extensions, Method};
use reqwest::{Client, Request, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error, Next, Result};
use tower_bearer::{
    AuthLayer, ErrorKind, TokenError,
    testing::{Api, Fault},
};

use crate::fixture::{Fixture, oauth_error, reading, recovery, within, writing};

impl Fixture {
    fn client(&self) -> ClientWithMiddleware {
        self.builder().build()
    }

    fn builder(&self) -> ClientBuilder {
        ClientBuilder::new(Client::new()).with(self.layer.clone())
    }

    fn request(&self, path: &str) -> Request {
        let mut request = Request::new(Method::POST, self.api.url_of(path).parse().unwrap());
        *request.body_mut() = Some("abc".into());
        request
    }
}

fn outcome(response: &Response) -> (u16, Option<&'static str>) {
    (response.status().as_u16(), recovery(response.extensions()))
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<Response>> + Send + 'a>>;

/// The tokens of the attempts that an inner middleware has seen.
#[derive(Clone, Debug, Default, PartialEq)]
struct Attempts(Vec<String>);

/// Records the token of each attempt in the extensions.
fn note<'a>(request: Request, extensions: &'a mut Extensions, next: Next<'a>) -> Running<'a> {
    let token = request.headers()["authorization"].to_str().unwrap();
    let attempts = extensions.get_or_insert_default::<Attempts>();
    attempts.0.push(token.to_owned());
    next.run(request, extensions)
}

#[tokio::test]
async fn spec_of_a_request_replaces_the_routes() {
    let fixture = Fixture::new().await;
    let client = fixture.client();
    for _ in 0..3 {
        let response = client.get(fixture.api.url_of("/")).send().await.unwrap();
        assert_eq!(outcome(&response), (200, None));
        let request = client.post(fixture.api.url_of("/admin"));
        let request = request.with_extension(writing());
        let response = request.body("abc").send().await.unwrap();
        assert_eq!(outcome(&response), (200, None));
        assert_eq!(response.text().await.unwrap(), "abc");
    }
    assert_eq!(fixture.fetches(), 2);
}

#[tokio::test]
async fn inner_middleware_sees_each_attempt() {
    let fixture = Fixture::new().await;
    fixture.cache_revoked_tokens().await;
    let client = fixture.builder().with(note).build();
    let mut extensions = Extensions::new();
    extensions.insert(writing());
    extensions.insert("the caller's own");
    let request = fixture.request("/admin");
    let sending = client.execute_with_extensions(request, &mut extensions);
    let response = sending.await.unwrap();
    assert_eq!(outcome(&response), (200, Some("recovered")));
    assert_eq!(response.text().await.unwrap(), "abc");
    assert_eq!((fixture.fetches(), fixture.cache.stats().replays), (1, 1));
    // The caller can read the recorded attempts and its own extensions.
    let Attempts(tokens) = extensions.remove().unwrap();
    assert_eq!(tokens.len(), 2);
    assert_ne!(tokens[0], tokens[1]);
    assert_eq!(extensions.get(), Some(&writing()));
    assert_eq!(extensions.get(), Some(&"the caller's own"));
}

#[tokio::test]
async fn response_of_another_origin_is_not_a_rejection() {
    let fixture = Fixture::new().await;
    let other = Api::start(&fixture.login).await.unwrap();
    let redirect = Fault::redirect(&other.url_of("/end"));
    fixture.api.fault_always(redirect);
    let client = fixture.client();
    for _ in 0..10 {
        let response = client.execute(fixture.request("/")).await.unwrap();
        assert_eq!(outcome(&response), (401, None));
    }
    let there = other.counts();
    assert_eq!((there.requests, there.with_token), (10, 0));
    assert_eq!(fixture.cache.stats().rejections, 0);
    assert_eq!(fixture.fetches(), 1);
}

#[tokio::test]
async fn outer_retry_keeps_the_requests_spec() {
    fn twice<'a>(request: Request, extensions: &'a mut Extensions, next: Next<'a>) -> Running<'a> {
        Box::pin(async move {
            let again = request.try_clone().unwrap();
            let first = next.clone().run(request, extensions).await;
            assert_eq!(first.unwrap().status(), 503);
            next.run(again, extensions).await
        })
    }
    let fixture = Fixture::new().await;
    fixture.api.fault(Fault::status(503));
    let client = ClientBuilder::new(Client::new()).with(twice);
    let client = client.with(fixture.layer.clone()).with(note).build();
    let mut extensions = Extensions::new();
    extensions.insert(writing());
    let request = fixture.request("/admin");
    let sending = client.execute_with_extensions(request, &mut extensions);
    assert_eq!(outcome(&sending.await.unwrap()), (200, None));
    assert_eq!(extensions.get::<Attempts>().unwrap().0.len(), 2);
    assert_eq!(fixture.fetches(), 1);
}

#[tokio::test]
async fn cancelled_request_returns_the_extensions() {
    let fixture = Fixture::new().await;
    let client = fixture.builder().with(note).build();
    let mut extensions = Extensions::new();
    extensions.insert(reading());
    // Cancels during the fetch, then while waiting for the response.
    for attempts in [0, 1] {
        let _hold = match attempts {
            0 => fixture.login.hold(),
            _ => fixture.api.hold(),
        };
        let arrived = async {
            match attempts {
                0 => fixture.login.wait_for_requests(1).await,
                _ => fixture.api.wait_for_requests(1).await,
            }
        };
        tokio::select! {
            response = client.execute_with_extensions(fixture.request("/"), &mut extensions) => panic!("{response:?}"),
            () = within(arrived) => {}
        }
        assert_eq!(extensions.get(), Some(&reading()));
        let seen = extensions.get::<Attempts>().map_or(0, |seen| seen.0.len());
        assert_eq!(seen, attempts);
    }
}

#[tokio::test]
async fn errors_are_distinct_and_return_the_extensions() {
    let fixture = Fixture::new().await;
    let send = async |client: ClientWithMiddleware, request: Request| {
        let mut extensions = Extensions::new();
        extensions.insert(reading());
        let error = client
            .execute_with_extensions(request, &mut extensions)
            .await;
        assert_eq!(extensions.get(), Some(&reading()));
        error.unwrap_err()
    };

    // An error of the token: nothing was sent.
    fixture.login.fault(oauth_error(401, "invalid_client"));
    let error = send(fixture.client(), fixture.request("/")).await;
    let Error::Middleware(error) = error else {
        panic!("{error:?}");
    };
    let error: &TokenError = error.downcast_ref().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidClient);
    assert_eq!(fixture.api.counts().requests, 0);

    // An error of an inner middleware passes unchanged.
    let fixture = Fixture::new().await;
    let client = ClientBuilder::new(Client::new()).with(fixture.layer.clone());
    let client = client.with(fail).build();
    let error = send(client, fixture.request("/")).await;
    let Error::Middleware(error) = error else {
        panic!("{error:?}");
    };
    assert!(error.is::<std::io::Error>(), "{error:?}");

    // An error of the client.
    let gone = Api::start(&fixture.login).await.unwrap().url();
    let layer = AuthLayer::new(fixture.cache.clone());
    let layer = layer.route(&gone, reading()).unwrap();
    let client = ClientBuilder::new(Client::new()).with(layer).build();
    let error = send(client, Request::new(Method::GET, gone.parse().unwrap())).await;
    assert!(error.is_connect(), "{error:?}");
}

fn fail<'a>(_: Request, _: &'a mut Extensions, _: Next<'a>) -> Running<'a> {
    let error = std::io::Error::other("mine");
    Box::pin(async { Err(Error::middleware(error)) })
}
