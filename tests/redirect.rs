//! Tests redirects that the client follows: tokens stay at the first origin, and so does recovery.

use http::Method;
use reqwest::{Client, Request, Response, redirect::Policy};
use tower::{Layer, ServiceExt};
use tower_bearer::{
    Auth, AuthLayer, Recovery, TokenCache, TokenSpec,
    credentials::ClientCredentials,
    testing::{Api, AuthorizationServer, Fault},
};

struct Stage {
    login: AuthorizationServer,
    api: Api,
    /// An API on another origin, without a route.
    other: Api,
    cache: TokenCache,
    layer: AuthLayer,
}

impl Stage {
    async fn new() -> Self {
        let login = AuthorizationServer::start().await.unwrap();
        let api = Api::start(&login).await.unwrap();
        let other = Api::start(&login).await.unwrap();
        let source = ClientCredentials::new(login.token_url(), "client", "secret");
        let cache = TokenCache::new(source);
        let layer = AuthLayer::new(cache.clone());
        let layer = layer.route(api.url(), spec()).unwrap();
        Self {
            login,
            api,
            other,
            cache,
            layer,
        }
    }

    fn redirect_to_the_other(&self) {
        let location = self.other.url_of("/end");
        self.api.fault(Fault::redirect(&location));
    }

    async fn post(&self) -> Response {
        post(&self.layer.layer(Client::new()), &self.api).await
    }
}

fn spec() -> TokenSpec {
    TokenSpec::scopes(["read"])
}

async fn post(client: &Auth<Client>, api: &Api) -> Response {
    let mut request = Request::new(Method::POST, api.url_of("/start").parse().unwrap());
    *request.body_mut() = Some("abc".into());
    client.clone().oneshot(request).await.unwrap()
}

/// Returns the status and the recovery.
fn outcome(response: &Response) -> (u16, Option<&'static str>) {
    let recovery = response.extensions().get().map(Recovery::as_str);
    (response.status().as_u16(), recovery)
}

#[tokio::test]
async fn redirect_to_an_unlisted_origin_carries_no_token() {
    let stage = Stage::new().await;
    let location = stage.other.url_of("/end");
    stage.api.fault_always(Fault::redirect(&location));
    for _ in 0..10 {
        let response = stage.post().await;
        assert_eq!(outcome(&response), (401, None));
        assert_eq!(response.url().as_str(), location);
    }
    assert_eq!(stage.api.counts().with_token, 10);
    let there = stage.other.counts();
    assert_eq!((there.requests, there.with_token), (10, 0));
    let stats = stage.cache.stats();
    assert_eq!((stats.rejections, stats.replays), (0, 0));
    assert_eq!(stats.rejection_limit_reached, 0);
    assert_eq!(stage.login.counts().requests, 1);
    // The token is still valid and cached.
    stage.api.clear_faults();
    let response = stage.post().await;
    assert_eq!(outcome(&response), (200, None));
    assert_eq!(stage.login.counts().requests, 1);
}

#[tokio::test]
async fn redirect_to_a_listed_origin_carries_no_token() {
    let stage = Stage::new().await;
    let layer = stage.layer.clone().route(stage.other.url(), spec());
    let client = layer.unwrap().layer(Client::new());
    stage.redirect_to_the_other();
    let response = post(&client, &stage.api).await;
    assert_eq!(outcome(&response), (401, None));
    assert_eq!(stage.other.counts().with_token, 0);
    assert_eq!(stage.cache.stats().rejections, 0);
    assert_eq!(stage.login.counts().requests, 1);
}

#[tokio::test]
async fn challenge_of_another_origin_has_no_recovery() {
    let stage = Stage::new().await;
    stage.redirect_to_the_other();
    let challenge = r#"Bearer error="insufficient_scope", scope="everything""#;
    let fault = Fault::status(403).with_header("www-authenticate", challenge);
    stage.other.fault(fault);
    let response = stage.post().await;
    assert_eq!(outcome(&response), (403, None));
}

#[tokio::test]
async fn same_origin_401_is_recovered_from_the_first_url() {
    let stage = Stage::new().await;
    stage.api.fault(Fault::redirect("/end"));
    stage.api.fault(Fault::none());
    stage.api.fault(Fault::redirect("/end"));
    stage.cache.warm([&spec()]).await.unwrap();
    stage.login.revoke_all();
    let response = stage.post().await;
    assert_eq!(outcome(&response), (200, Some("recovered")));
    assert_eq!(response.url().path(), "/end");
    assert_eq!(response.bytes().await.unwrap(), "abc");
    let calls = stage.api.requests();
    let paths: Vec<_> = calls.iter().map(|call| call.uri.path()).collect();
    assert_eq!(paths, ["/start", "/end", "/start", "/end"]);
    assert!(calls.iter().all(|call| call.body == "abc"));
    assert_eq!(calls[0].token, calls[1].token);
    assert_ne!(calls[1].token, calls[2].token);
    assert_eq!(calls[2].token, calls[3].token);
    assert_eq!(stage.cache.stats().rejections, 1);
    assert_eq!(stage.login.counts().requests, 2);
}

#[tokio::test]
async fn unfollowed_redirect_is_returned() {
    let stage = Stage::new().await;
    let client = Client::builder().redirect(Policy::none()).build().unwrap();
    let client = stage.layer.layer(client);
    stage.redirect_to_the_other();
    let response = post(&client, &stage.api).await;
    assert_eq!(outcome(&response), (307, None));
    assert_eq!(stage.other.counts().requests, 0);
}
