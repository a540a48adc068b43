//! Tests the layer over `ReqwestClient`, the adapter from `http::Request` to `reqwest::Client`.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt, Channel, Full};
use reqwest::{Body, Client};
use tower::{Layer, Service, ServiceExt};
use tower_bearer::{
    ErrorKind,
    clients::{ReqwestClient, ReqwestError},
    layer::{Auth, Error},
    testing::{Api, Fault},
};

use crate::fixture::{Fixture, oauth_error, recovery, within, writing};

impl Fixture {
    fn reqwest_client<B>(&self) -> Auth<ReqwestClient<B>> {
        self.layer.layer(ReqwestClient::new(Client::new()))
    }

    fn post<B>(&self, path: &str, body: B) -> Request<B> {
        Request::post(self.api.url_of(path)).body(body).unwrap()
    }
}

fn outcome<B>(response: &Response<B>) -> (u16, Option<&'static str>) {
    (response.status().as_u16(), recovery(response.extensions()))
}

async fn send<B>(client: &mut Auth<ReqwestClient<B>>, request: Request<B>) -> Response<Body>
where
    Auth<ReqwestClient<B>>:
        Service<Request<B>, Response = Response<Body>, Error = Error<ReqwestError>>,
{
    client.ready().await.unwrap().call(request).await.unwrap()
}

async fn read(response: Response<Body>) -> Bytes {
    let body = within(response.into_body().collect()).await;
    body.unwrap().to_bytes()
}

#[tokio::test]
async fn spec_of_a_request_replaces_the_routes() {
    let fixture = Fixture::new().await;
    let mut client = fixture.reqwest_client();
    for _ in 0..3 {
        let response = send(&mut client, fixture.post("/admin", "abc")).await;
        assert_eq!(outcome(&response), (403, Some("unsatisfiable")));
        let mut request = fixture.post("/admin", "abc");
        request.extensions_mut().insert(writing());
        let response = send(&mut client, request).await;
        assert_eq!(outcome(&response), (200, None));
        assert_eq!(read(response).await, "abc");
    }
    assert_eq!(fixture.fetches(), 2);
}

#[tokio::test]
async fn revoked_token_is_replaced_with_the_requests_spec() {
    let fixture = Fixture::new().await;
    let mut client = fixture.reqwest_client();
    fixture.cache_revoked_tokens().await;
    let mut request = fixture.post("/admin", String::from("abc"));
    request.extensions_mut().insert(writing());
    let response = send(&mut client, request).await;
    assert_eq!(outcome(&response), (200, Some("recovered")));
    assert_eq!(read(response).await, "abc");
    let calls = fixture.api.requests();
    let bodies: Vec<_> = calls.into_iter().map(|call| call.body).collect();
    assert_eq!(bodies, ["abc", "abc"]);
    assert_eq!((fixture.fetches(), fixture.cache.stats().replays), (1, 1));
}

#[tokio::test]
async fn stream_is_replayed_only_from_a_buffer() {
    let fixture = Fixture::new().await;
    let stream = || Body::wrap(Full::new(Bytes::from("abc")));
    let mut client = fixture.reqwest_client::<Body>();
    fixture.cache_revoked_tokens().await;
    let response = send(&mut client, fixture.post("/", Body::from("abc"))).await;
    assert_eq!(outcome(&response), (200, Some("recovered")));

    fixture.login.revoke_all();
    let response = send(&mut client, fixture.post("/", stream())).await;
    assert_eq!(outcome(&response), (401, Some("not_replayable")));

    fixture.cache_revoked_tokens().await;
    let layer = fixture.layer.clone().with_body_buffer(1 << 10, Body::wrap);
    let client = layer.layer(ReqwestClient::new(Client::new()));
    let response = client.oneshot(fixture.post("/", stream())).await.unwrap();
    assert_eq!(outcome(&response), (200, Some("recovered")));
    assert_eq!(read(response).await, "abc");
}

#[tokio::test]
async fn unfinished_body_is_replayed_from_its_start() {
    let fixture = Fixture::new().await;
    fixture.cache_revoked_tokens().await;
    // The API responds before the body ends.
    let refusal = Fault::challenge(401, r#"Bearer error="invalid_token""#);
    fixture.api.fault(refusal.before_body());
    let layer = fixture.layer.clone().with_body_buffer(1 << 10, Body::wrap);
    let client = layer.layer(ReqwestClient::new(Client::new()));
    let (mut writer, body) = Channel::<Bytes, Infallible>::new(1);
    let request = fixture.post("/", Body::wrap(body));
    let sending = tokio::spawn(client.oneshot(request));
    writer.send_data("first, ".into()).await.unwrap();
    within(fixture.api.wait_for_requests(2)).await;
    writer.send(Frame::data("second".into())).await.unwrap();
    drop(writer);
    let response = within(sending).await.unwrap().unwrap();
    assert_eq!(outcome(&response), (200, Some("recovered")));
    assert_eq!(read(response).await, "first, second");
}

#[tokio::test]
async fn response_of_another_origin_is_not_a_rejection() {
    let fixture = Fixture::new().await;
    let other = Api::start(&fixture.login).await.unwrap();
    let location = other.url_of("/end");
    fixture.api.fault_always(Fault::redirect(&location));
    let mut client = fixture.reqwest_client();
    for _ in 0..10 {
        let response = send(&mut client, fixture.post("/start", "abc")).await;
        assert_eq!(outcome(&response), (401, None));
        assert_eq!(reqwest::Response::from(response).url().as_str(), location);
    }
    let there = other.counts();
    assert_eq!((there.requests, there.with_token), (10, 0));
    assert_eq!(fixture.cache.stats().rejections, 0);
    assert_eq!(fixture.fetches(), 1);
}

#[tokio::test]
async fn redirected_401_of_the_same_origin_is_a_rejection() {
    let fixture = Fixture::new().await;
    fixture.cache_revoked_tokens().await;
    fixture.api.fault(Fault::redirect("/end"));
    let mut client = fixture.reqwest_client();
    let response = send(&mut client, fixture.post("/start", "abc")).await;
    assert_eq!(outcome(&response), (200, Some("recovered")));
    assert_eq!(fixture.cache.stats().rejections, 1);
}

#[tokio::test]
async fn response_keeps_version_and_headers_and_streams() {
    let fixture = Fixture::new().await;
    let mut client = fixture.reqwest_client();
    let fault = Fault::drip(Duration::from_millis(1));
    fixture
        .api
        .fault(fault.with_header("x-one", "1").with_header("x-one", "2"));
    let response = send(&mut client, fixture.post("/", "abcdef")).await;
    assert_eq!(response.version(), Version::HTTP_11);
    let ones: Vec<_> = response.headers().get_all("x-one").iter().collect();
    assert_eq!(ones, ["1", "2"]);
    let mut body = response.into_body();
    let mut frames = Vec::new();
    while let Some(frame) = within(body.frame()).await {
        frames.push(frame.unwrap().into_data().unwrap());
    }
    assert!(frames.len() > 1, "{frames:?}");
    assert_eq!(frames.concat(), b"abcdef");
}

#[tokio::test]
async fn request_without_an_origin_is_an_error() {
    let fixture = Fixture::new().await;
    let layer = fixture.layer.clone();
    let layer = layer.with_default_origin(fixture.api.url()).unwrap();
    let client = layer.layer(ReqwestClient::new(Client::new()));
    let request = Request::get("/items?key=hidden").body("").unwrap();
    let error = client.oneshot(request).await.unwrap_err();
    let Error::Inner(error @ ReqwestError::InvalidUri { .. }) = error else {
        panic!("{error:?}");
    };
    assert!(error.to_string().contains("no scheme and host"), "{error}");
    assert!(!format!("{error:?}").contains("hidden"));
    assert!(error.client().is_none());
    assert_eq!(fixture.api.counts().requests, 0);
}

#[tokio::test]
async fn client_and_token_errors_are_distinct() {
    let fixture = Fixture::new().await;
    // An error of the client.
    let gone = Api::start(&fixture.login).await.unwrap().url();
    let request = Request::get(gone).body("").unwrap();
    let error = fixture.reqwest_client().oneshot(request).await.unwrap_err();
    let Error::Inner(ReqwestError::Client(error)) = error else {
        panic!("{error:?}");
    };
    assert!(error.is_connect(), "{error:?}");
    // An error of the token.
    fixture.login.fault(oauth_error(400, "invalid_scope"));
    let request = fixture.post("/", "abc");
    let error = fixture.reqwest_client().oneshot(request).await.unwrap_err();
    let kind = error.token().map(|error| error.kind());
    assert_eq!(kind, Some(ErrorKind::InvalidScope));
    assert_eq!(fixture.api.counts().requests, 0);
}
