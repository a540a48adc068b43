//! Shares one cache between two clients and many tasks, and uses the cache directly, without the layer.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::task::JoinSet;
use tower::{BoxError, Layer, ServiceExt};
use tower_bearer::testing::{Api, AuthorizationServer};
use tower_bearer::{AuthLayer, TokenCache, TokenSpec, credentials::ClientCredentials};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let login = AuthorizationServer::start().await?;
    let api = Api::start(&login).await?;
    let spec = TokenSpec::scopes(["read"]);
    let source = ClientCredentials::new(login.token_url(), "client", "secret");
    let cache = TokenCache::new(source);

    // Fifty tasks send requests through two clients, while the provider delays its response.
    let layer = || AuthLayer::new(cache.clone()).route(api.url(), spec.clone());
    let over_reqwest = layer()?.layer(reqwest::Client::new());
    let over_hyper = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let over_hyper = layer()?.layer(over_hyper);
    let hold = login.hold();
    let mut tasks = JoinSet::new();
    for _ in 0..25 {
        let request = reqwest::Request::new(reqwest::Method::GET, api.url().parse()?);
        let response = over_reqwest.clone().oneshot(request);
        tasks.spawn(async move { Ok::<_, BoxError>(response.await?.status()) });
        let request = Request::get(api.url()).body(Full::default())?;
        let response = over_hyper.clone().oneshot(request);
        tasks.spawn(async move { Ok::<_, BoxError>(response.await?.status()) });
    }
    login.wait_for_requests(1).await;
    hold.release();
    while let Some(status) = tasks.join_next().await {
        assert_eq!(status??, 200);
    }
    let (accepted, fetches) = (api.counts().ok, login.counts().requests);
    assert_eq!((accepted, fetches), (50, 1));
    println!("{accepted} tasks with two clients needed {fetches} token request.");

    // A token that an API rejected is dropped from the cache, once.
    let token = cache.get(&spec).await?;
    assert!(cache.peek(&spec).is_some());
    assert!(cache.reject(&token));
    assert!(!cache.reject(&token));
    assert!(cache.peek(&spec).is_none());

    // `get` fetches a token if none is cached, and `refresh` always does.
    let second = cache.get(&spec).await?;
    let third = cache.refresh(&spec).await?;
    assert!(token.generation() < second.generation());
    assert!(second.generation() < third.generation());

    // `warm` fetches only tokens that are not cached.
    let write = TokenSpec::scopes(["write"]);
    cache.warm([&spec, &write]).await?;
    assert_eq!(login.counts().requests, 4);
    for entry in cache.entries() {
        println!("{:?} is {}.", entry.spec, entry.state.as_str());
    }
    assert!(cache.remove(&write));
    assert!(cache.peek(&write).is_none());
    let stats = cache.stats();
    println!("{stats:?}");
    assert_eq!(stats.fetches, 4);
    assert_eq!(stats.rejections, 1);
    assert_eq!(stats.evictions, 0);
    Ok(())
}
