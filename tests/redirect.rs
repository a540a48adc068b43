//! Tests redirects that the client follows: tokens stay at the first origin, and so does recovery.

use http::Method;
use reqwest::{Client, Request, Response, redirect::Policy};
use tower::{Layer, ServiceExt};
use tower_bearer::{
    AuthLayer, TokenCache, TokenSpec,
    credentials::ClientCredentials,
    layer::{Auth, Recovery},
    testing::{Api, AuthorizationServer, Fault},
};

struct Servers {
    login: AuthorizationServer,
    api: Api,
    /// An API on another origin, without a route.
    other: Api,
    cache: TokenCache,
    layer: AuthLayer,
}

impl Servers {
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
    let servers = Servers::new().await;
    let location = servers.other.url_of("/end");
    servers.api.fault_always(Fault::redirect(&location));
    for _ in 0..10 {
        let response = servers.post().await;
        assert_eq!(outcome(&response), (401, None));
        assert_eq!(response.url().as_str(), location);
    }
    assert_eq!(servers.api.counts().with_token, 10);
    let there = servers.other.counts();
    assert_eq!((there.requests, there.with_token), (10, 0));
    let stats = servers.cache.stats();
    assert_eq!((stats.rejections, stats.replays), (0, 0));
    assert_eq!(stats.rejection_limit_reached, 0);
    assert_eq!(servers.login.counts().requests, 1);
    // The token is still valid and cached.
    servers.api.clear_faults();
    let response = servers.post().await;
    assert_eq!(outcome(&response), (200, None));
    assert_eq!(servers.login.counts().requests, 1);
}

#[tokio::test]
async fn redirect_to_a_listed_origin_carries_no_token() {
    let servers = Servers::new().await;
    let layer = servers.layer.clone().route(servers.other.url(), spec());
    let client = layer.unwrap().layer(Client::new());
    servers.redirect_to_the_other();
    let response = post(&client, &servers.api).await;
    assert_eq!(outcome(&response), (401, None));
    assert_eq!(servers.other.counts().with_token, 0);
    assert_eq!(servers.cache.stats().rejections, 0);
    assert_eq!(servers.login.counts().requests, 1);
}

#[tokio::test]
async fn challenge_of_another_origin_has_no_recovery() {
    let servers = Servers::new().await;
    servers.redirect_to_the_other();
    let challenge = r#"Bearer error="insufficient_scope", scope="everything""#;
    let fault = Fault::status(403).with_header("www-authenticate", challenge);
    servers.other.fault(fault);
    let response = servers.post().await;
    assert_eq!(outcome(&response), (403, None));
}

#[tokio::test]
async fn same_origin_401_is_recovered_from_the_first_url() {
    let servers = Servers::new().await;
    servers.api.fault(Fault::redirect("/end"));
    servers.api.fault(Fault::none());
    servers.api.fault(Fault::redirect("/end"));
    servers.cache.warm([&spec()]).await.unwrap();
    servers.login.revoke_all();
    let response = servers.post().await;
    assert_eq!(outcome(&response), (200, Some("recovered")));
    assert_eq!(response.url().path(), "/end");
    assert_eq!(response.bytes().await.unwrap(), "abc");
    let calls = servers.api.requests();
    let paths: Vec<_> = calls.iter().map(|call| call.uri.path()).collect();
    assert_eq!(paths, ["/start", "/end", "/start", "/end"]);
    assert!(calls.iter().all(|call| call.body == "abc"));
    assert_eq!(calls[0].token, calls[1].token);
    assert_ne!(calls[1].token, calls[2].token);
    assert_eq!(calls[2].token, calls[3].token);
    assert_eq!(servers.cache.stats().rejections, 1);
    assert_eq!(servers.login.counts().requests, 2);
}

#[tokio::test]
async fn unfollowed_redirect_is_returned() {
    let servers = Servers::new().await;
    let client = Client::builder().redirect(Policy::none()).build().unwrap();
    let client = servers.layer.layer(client);
    servers.redirect_to_the_other();
    let response = post(&client, &servers.api).await;
    assert_eq!(outcome(&response), (307, None));
    assert_eq!(servers.other.counts().requests, 0);
}
