//! The adapter that lets a `reqwest::Client` take `http::Request`, behind the layer.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt, Channel, Full};
use reqwest::{Body, Client};
use tokio::time::timeout;
use tower::{Layer, Service, ServiceExt};
use tower_bearer::{
    AuthLayer, ErrorKind, TokenCache, TokenSpec,
    clients::{ReqwestClient, ReqwestError},
    credentials::ClientCredentials,
    layer::{Auth, Error, Recovery},
    testing::{Api, AuthorizationServer, Fault},
};

const LIMIT: Duration = Duration::from_secs(30);

struct Stage {
    login: AuthorizationServer,
    api: Api,
    cache: TokenCache,
    layer: AuthLayer,
}

impl Stage {
    /// An API whose `/admin` wants another scope than its route's.
    async fn new() -> Self {
        let login = AuthorizationServer::start().await.unwrap();
        let api = Api::builder(&login).requiring_scope("/admin", "write");
        let api = api.start().await.unwrap();
        let source = ClientCredentials::new(login.token_url(), "client", "secret");
        let cache = TokenCache::new(source);
        let layer = AuthLayer::new(cache.clone());
        let layer = layer.route(api.url(), TokenSpec::scopes(["read"])).unwrap();
        Self {
            login,
            api,
            cache,
            layer,
        }
    }

    fn client<B>(&self) -> Auth<ReqwestClient<B>> {
        self.layer.layer(ReqwestClient::new(Client::new()))
    }

    fn post<B>(&self, path: &str, body: B) -> Request<B> {
        Request::post(self.api.url_of(path)).body(body).unwrap()
    }

    fn fetches(&self) -> u64 {
        self.login.counts().requests
    }
}

fn writing() -> TokenSpec {
    TokenSpec::scopes(["write"])
}

/// The status, and what was done about it.
fn outcome<B>(response: &Response<B>) -> (u16, Option<&'static str>) {
    let recovery = response.extensions().get().map(Recovery::as_str);
    (response.status().as_u16(), recovery)
}

async fn read(response: Response<Body>) -> Bytes {
    let body = timeout(LIMIT, response.into_body().collect()).await;
    body.unwrap().unwrap().to_bytes()
}

#[tokio::test]
async fn a_request_names_its_token() {
    let stage = Stage::new().await;
    let mut client = stage.client();
    for _ in 0..3 {
        let request = stage.post("/admin", "abc");
        let response = client.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(outcome(&response), (403, Some("unsatisfiable")));
        let mut request = stage.post("/admin", "abc");
        request.extensions_mut().insert(writing());
        let response = client.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(outcome(&response), (200, None));
        assert_eq!(read(response).await, "abc");
    }
    assert_eq!(stage.fetches(), 2);
}

#[tokio::test]
async fn a_revoked_token_of_a_requests_own_is_recovered_with_the_same_spec() {
    let stage = Stage::new().await;
    let mut client = stage.client();
    stage.cache.warm([&writing()]).await.unwrap();
    stage.login.revoke_all();
    let mut request = stage.post("/admin", String::from("abc"));
    request.extensions_mut().insert(writing());
    let response = client.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(outcome(&response), (200, Some("recovered")));
    assert_eq!(read(response).await, "abc");
    let calls = stage.api.requests();
    let bodies: Vec<_> = calls.into_iter().map(|call| call.body).collect();
    assert_eq!(bodies, ["abc", "abc"]);
    assert_eq!((stage.fetches(), stage.cache.stats().replays), (2, 1));
}

#[tokio::test]
async fn a_body_of_reqwest_in_memory_goes_twice_and_a_stream_only_if_it_is_kept() {
    let stage = Stage::new().await;
    let stream = || Body::wrap(Full::new(Bytes::from("abc")));
    stage
        .cache
        .warm([&TokenSpec::scopes(["read"])])
        .await
        .unwrap();
    let mut client = stage.client::<Body>();

    stage.login.revoke_all();
    let request = stage.post("/", Body::from("abc"));
    let response = client.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(outcome(&response), (200, Some("recovered")));

    stage.login.revoke_all();
    let request = stage.post("/", stream());
    let response = client.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(outcome(&response), (401, Some("not_replayable")));

    stage
        .cache
        .warm([&TokenSpec::scopes(["read"])])
        .await
        .unwrap();
    stage.login.revoke_all();
    let layer = stage.layer.clone().with_body_buffer(1 << 10, Body::wrap);
    let client = layer.layer(ReqwestClient::new(Client::new()));
    let response = client.oneshot(stage.post("/", stream())).await.unwrap();
    assert_eq!(outcome(&response), (200, Some("recovered")));
    assert_eq!(read(response).await, "abc");
}

#[tokio::test]
async fn a_request_body_that_is_still_being_written_is_sent_again_from_its_start() {
    let stage = Stage::new().await;
    stage
        .cache
        .warm([&TokenSpec::scopes(["read"])])
        .await
        .unwrap();
    stage.login.revoke_all();
    // The answer doesn't wait for the body.
    let refusal = Fault::challenge(401, r#"Bearer error="invalid_token""#);
    stage.api.fault(refusal.before_body());
    let layer = stage.layer.clone().with_body_buffer(1 << 10, Body::wrap);
    let client = layer.layer(ReqwestClient::new(Client::new()));
    let (mut writer, body) = Channel::<Bytes, Infallible>::new(1);
    let request = stage.post("/", Body::wrap(body));
    let sending = tokio::spawn(client.oneshot(request));
    writer.send_data("first, ".into()).await.unwrap();
    timeout(LIMIT, stage.api.wait_for_requests(2))
        .await
        .unwrap();
    writer.send(Frame::data("second".into())).await.unwrap();
    drop(writer);
    let response = timeout(LIMIT, sending).await.unwrap().unwrap().unwrap();
    assert_eq!(outcome(&response), (200, Some("recovered")));
    assert_eq!(read(response).await, "first, second");
}

#[tokio::test]
async fn another_origins_401_is_not_judged_and_its_url_is_told() {
    let stage = Stage::new().await;
    let other = Api::start(&stage.login).await.unwrap();
    let location = other.url_of("/end");
    stage.api.fault_always(Fault::redirect(&location));
    let mut client = stage.client();
    for _ in 0..10 {
        let request = stage.post("/start", "abc");
        let response = client.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(outcome(&response), (401, None));
        assert_eq!(reqwest::Response::from(response).url().as_str(), location);
    }
    let there = other.counts();
    assert_eq!((there.requests, there.with_token), (10, 0));
    assert_eq!((stage.cache.stats().rejections, stage.fetches()), (0, 1));
}

#[tokio::test]
async fn the_same_origins_401_behind_a_redirect_is_judged() {
    let stage = Stage::new().await;
    stage
        .cache
        .warm([&TokenSpec::scopes(["read"])])
        .await
        .unwrap();
    stage.login.revoke_all();
    stage.api.fault(Fault::redirect("/end"));
    let mut client = stage.client();
    let request = stage.post("/start", "abc");
    let response = client.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(outcome(&response), (200, Some("recovered")));
    assert_eq!(stage.cache.stats().rejections, 1);
}

#[tokio::test]
async fn a_response_is_what_reqwest_received_and_streams() {
    let stage = Stage::new().await;
    let mut client = stage.client();
    let fault = Fault::drip(Duration::from_millis(1));
    stage
        .api
        .fault(fault.with_header("x-one", "1").with_header("x-one", "2"));
    let request = stage.post("/", "abcdef");
    let response = client.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_11);
    let ones: Vec<_> = response.headers().get_all("x-one").iter().collect();
    assert_eq!(ones, ["1", "2"]);
    let mut body = response.into_body();
    let mut frames = Vec::new();
    while let Some(frame) = timeout(LIMIT, body.frame()).await.unwrap() {
        frames.push(frame.unwrap().into_data().unwrap());
    }
    assert!(frames.len() > 1, "{frames:?}");
    assert_eq!(frames.concat(), b"abcdef");
}

#[tokio::test]
async fn a_request_without_an_origin_is_not_sent_and_says_why() {
    let stage = Stage::new().await;
    let layer = stage
        .layer
        .clone()
        .with_default_origin(stage.api.url())
        .unwrap();
    let client = layer.layer(ReqwestClient::new(Client::new()));
    let request = Request::get("/items?key=hidden").body("").unwrap();
    let error = client.oneshot(request).await.unwrap_err();
    let Error::Inner(error @ ReqwestError::Address { .. }) = error else {
        panic!("{error:?}");
    };
    assert!(error.to_string().contains("names no origin"), "{error}");
    assert!(!format!("{error:?}").contains("hidden"));
    assert!(error.client().is_none());
    assert_eq!(stage.api.counts().requests, 0);
}

#[tokio::test]
async fn errors_can_be_told_apart() {
    let stage = Stage::new().await;
    // The client's own.
    let gone = Api::start(&stage.login).await.unwrap().url();
    let request = Request::get(gone).body("").unwrap();
    let error = stage.client().oneshot(request).await.unwrap_err();
    let Error::Inner(ReqwestError::Client(error)) = error else {
        panic!("{error:?}");
    };
    assert!(error.is_connect(), "{error:?}");
    // The token's.
    let refusal = r#"{"error":"invalid_scope"}"#;
    let refusal = Fault::answer(400, Some("application/json"), refusal);
    stage.login.fault(refusal);
    let request = stage.post("/", "abc");
    let error = stage.client().oneshot(request).await.unwrap_err();
    let kind = error.token().map(|error| error.kind());
    assert_eq!(kind, Some(ErrorKind::InvalidScope));
    assert_eq!(stage.api.counts().requests, 0);
}
