//! The layer as a middleware of reqwest-middleware.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use bytes::Bytes;
use http::{Extensions, Method};
use http_body_util::Full;
use reqwest::{Body, Client, Request, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error, Next, Result};
use tokio::{task::JoinSet, time::timeout};
use tower_bearer::{
    AuthLayer, ErrorKind, TokenCache, TokenError, TokenSpec,
    credentials::ClientCredentials,
    layer::Recovery,
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
        let layer = layer.route(api.url(), reading()).unwrap();
        Self {
            login,
            api,
            cache,
            layer,
        }
    }

    /// The layer alone.
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

    /// The token at hand is one that the API refuses.
    async fn with_a_revoked_token(&self) {
        self.cache.warm([&reading(), &writing()]).await.unwrap();
        self.login.revoke_all();
        self.login.reset_counts();
    }

    fn fetches(&self) -> u64 {
        self.login.counts().requests
    }
}

fn reading() -> TokenSpec {
    TokenSpec::scopes(["read"])
}

fn writing() -> TokenSpec {
    TokenSpec::scopes(["write"])
}

/// The status, and what was done about it.
fn outcome(response: &Response) -> (u16, Option<&'static str>) {
    let recovery = response.extensions().get().map(Recovery::as_str);
    (response.status().as_u16(), recovery)
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<Response>> + Send + 'a>>;

/// Attempts that a middleware behind the layer has seen.
#[derive(Clone, Debug, Default, PartialEq)]
struct Attempts(Vec<String>);

/// Notes each attempt, and its token, in the extensions.
fn note<'a>(request: Request, extensions: &'a mut Extensions, next: Next<'a>) -> Running<'a> {
    let token = request.headers()["authorization"].to_str().unwrap();
    let attempts = extensions.get_or_insert_default::<Attempts>();
    attempts.0.push(token.to_owned());
    next.run(request, extensions)
}

#[tokio::test]
async fn a_request_names_its_token() {
    let stage = Stage::new().await;
    let client = stage.client();
    for _ in 0..3 {
        let response = client.get(stage.api.url_of("/")).send().await.unwrap();
        assert_eq!(outcome(&response), (200, None));
        let request = client.post(stage.api.url_of("/admin"));
        let request = request.with_extension(writing());
        let response = request.body("abc").send().await.unwrap();
        assert_eq!(outcome(&response), (200, None));
        assert_eq!(response.text().await.unwrap(), "abc");
    }
    assert_eq!(stage.fetches(), 2);
}

#[tokio::test]
async fn a_revoked_token_is_recovered_and_each_attempt_is_seen_behind_the_layer() {
    let stage = Stage::new().await;
    stage.with_a_revoked_token().await;
    let client = stage.builder().with(note).build();
    let mut extensions = Extensions::new();
    extensions.insert(writing());
    extensions.insert("the caller's own");
    let request = stage.request("/admin");
    let response = client
        .execute_with_extensions(request, &mut extensions)
        .await;
    let response = response.unwrap();
    assert_eq!(outcome(&response), (200, Some("recovered")));
    assert_eq!(response.text().await.unwrap(), "abc");
    assert_eq!((stage.fetches(), stage.cache.stats().replays), (1, 1));
    // What was noted there is the caller's to read, beside what was there before.
    let Attempts(tokens) = extensions.remove().unwrap();
    assert_eq!(tokens.len(), 2);
    assert_ne!(tokens[0], tokens[1]);
    assert_eq!(extensions.get(), Some(&writing()));
    assert_eq!(extensions.get(), Some(&"the caller's own"));
}

#[tokio::test]
async fn a_stream_goes_once_or_is_kept() {
    let stage = Stage::new().await;
    let stream = || Body::wrap(Full::new(Bytes::from("abc")));
    let url = stage.api.url_of("/");

    stage.with_a_revoked_token().await;
    let request = stage.client().post(&url).body(stream());
    let response = request.send().await.unwrap();
    assert_eq!(outcome(&response), (401, Some("not_replayable")));

    stage.with_a_revoked_token().await;
    let layer = stage.layer.clone().with_body_buffer(1 << 10, Body::wrap);
    let client = ClientBuilder::new(Client::new()).with(layer).build();
    let response = client.post(&url).body(stream()).send().await.unwrap();
    assert_eq!(outcome(&response), (200, Some("recovered")));
    assert_eq!(response.text().await.unwrap(), "abc");
}

#[tokio::test]
async fn without_replay_nothing_goes_twice() {
    let stage = Stage::new().await;
    stage.with_a_revoked_token().await;
    let layer = stage.layer.clone().without_replay();
    let client = ClientBuilder::new(Client::new()).with(layer).build();
    let response = client.execute(stage.request("/")).await.unwrap();
    assert_eq!(outcome(&response), (401, Some("not_replayable")));
    assert_eq!(stage.api.counts().requests, 1);
    let response = client.execute(stage.request("/")).await.unwrap();
    assert_eq!(outcome(&response), (200, None));
}

#[tokio::test]
async fn another_origins_401_is_not_judged() {
    let stage = Stage::new().await;
    let other = Api::start(&stage.login).await.unwrap();
    stage
        .api
        .fault_always(Fault::redirect(&other.url_of("/end")));
    let client = stage.client();
    for _ in 0..10 {
        let response = client.execute(stage.request("/")).await.unwrap();
        assert_eq!(outcome(&response), (401, None));
    }
    assert_eq!(
        (other.counts().requests, other.counts().with_token),
        (10, 0)
    );
    assert_eq!((stage.cache.stats().rejections, stage.fetches()), (0, 1));
}

#[tokio::test]
async fn a_crowd_waits_for_one_fetch() {
    let stage = Stage::new().await;
    let hold = stage.login.hold();
    let client = stage.client();
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let (client, request) = (client.clone(), stage.request("/"));
        tasks.spawn(async move { client.execute(request).await.unwrap().status() });
    }
    timeout(LIMIT, stage.login.wait_for_requests(1))
        .await
        .unwrap();
    hold.release();
    while let Some(status) = timeout(LIMIT, tasks.join_next()).await.unwrap() {
        assert_eq!(status.unwrap(), 200);
    }
    assert_eq!((stage.api.counts().ok, stage.fetches()), (100, 1));
}

#[tokio::test]
async fn a_middleware_before_the_layer_that_tries_again_keeps_the_requests_spec() {
    fn twice<'a>(request: Request, extensions: &'a mut Extensions, next: Next<'a>) -> Running<'a> {
        Box::pin(async move {
            let again = request.try_clone().unwrap();
            let first = next.clone().run(request, extensions).await;
            assert_eq!(first.unwrap().status(), 503);
            next.run(again, extensions).await
        })
    }
    let stage = Stage::new().await;
    stage.api.fault(Fault::status(503));
    let client = ClientBuilder::new(Client::new()).with(twice);
    let client = client.with(stage.layer.clone()).with(note).build();
    let mut extensions = Extensions::new();
    extensions.insert(writing());
    let request = stage.request("/admin");
    let response = client
        .execute_with_extensions(request, &mut extensions)
        .await;
    assert_eq!(outcome(&response.unwrap()), (200, None));
    assert_eq!(extensions.get::<Attempts>().unwrap().0.len(), 2);
    assert_eq!(stage.fetches(), 1);
}

#[tokio::test]
async fn extensions_come_back_from_a_request_that_is_given_up() {
    let stage = Stage::new().await;
    let client = stage.builder().with(note).build();
    let mut extensions = Extensions::new();
    extensions.insert(reading());
    // While the token is fetched, and while the answer is awaited.
    for attempts in [0, 1] {
        let _hold = match attempts {
            0 => stage.login.hold(),
            _ => stage.api.hold(),
        };
        let request = stage.request("/");
        let arrived = async {
            match attempts {
                0 => stage.login.wait_for_requests(1).await,
                _ => stage.api.wait_for_requests(1).await,
            }
        };
        {
            let mut sending = pin!(client.execute_with_extensions(request, &mut extensions));
            let arrived = timeout(LIMIT, arrived);
            tokio::select! {
                response = &mut sending => panic!("{response:?}"),
                arrived = arrived => arrived.unwrap(),
            }
        }
        assert_eq!(extensions.get(), Some(&reading()));
        let seen = extensions.get::<Attempts>().map_or(0, |seen| seen.0.len());
        assert_eq!(seen, attempts);
    }
}

#[tokio::test]
async fn errors_can_be_told_apart_and_extensions_come_back_with_them() {
    let stage = Stage::new().await;
    let send = async |client: ClientWithMiddleware, request: Request| {
        let mut extensions = Extensions::new();
        extensions.insert(reading());
        let error = client
            .execute_with_extensions(request, &mut extensions)
            .await;
        assert_eq!(extensions.get(), Some(&reading()));
        error.unwrap_err()
    };

    // The token's: nothing was sent.
    let refusal = r#"{"error":"invalid_client"}"#;
    let refusal = Fault::answer(401, Some("application/json"), refusal);
    stage.login.fault(refusal);
    let error = send(stage.client(), stage.request("/")).await;
    let Error::Middleware(error) = error else {
        panic!("{error:?}");
    };
    let error: &TokenError = error.downcast_ref().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidClient);
    assert_eq!(stage.api.counts().requests, 0);

    // A middleware's behind the layer: it is handed on as it is.
    let stage = Stage::new().await;
    let client = ClientBuilder::new(Client::new()).with(stage.layer.clone());
    let client = client.with(fail).build();
    let error = send(client, stage.request("/")).await;
    let Error::Middleware(error) = error else {
        panic!("{error:?}");
    };
    assert!(error.is::<std::io::Error>(), "{error:?}");

    // The client's.
    let gone = Api::start(&stage.login).await.unwrap().url();
    let layer = AuthLayer::new(stage.cache.clone());
    let layer = layer.route(&gone, reading()).unwrap();
    let client = ClientBuilder::new(Client::new()).with(layer).build();
    let error = send(client, Request::new(Method::GET, gone.parse().unwrap())).await;
    assert!(error.is_connect(), "{error:?}");
}

fn fail<'a>(_: Request, _: &'a mut Extensions, _: Next<'a>) -> Running<'a> {
    let error = std::io::Error::other("mine");
    Box::pin(async { Err(Error::middleware(error)) })
}
