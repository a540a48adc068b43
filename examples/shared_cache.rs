//! One cache behind two clients and many tasks; and all that it does without any HTTP.

use std::error::Error;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::task::JoinSet;
use tower::{Layer, ServiceExt};
use tower_bearer::testing::{Api, AuthorizationServer};
use tower_bearer::{AuthLayer, TokenCache, TokenSpec, credentials::ClientCredentials};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    let login = AuthorizationServer::start().await?;
    let api = Api::start(&login).await?;
    let spec = TokenSpec::scopes(["read"]);
    let source = ClientCredentials::new(login.token_url(), "client", "secret");
    let cache = TokenCache::new(source);

    // Two layers, two clients, fifty tasks, and a provider that takes its time.
    let layer = || AuthLayer::new(cache.clone()).route(api.url(), spec.clone());
    let over_reqwest = layer()?.layer(reqwest::Client::new());
    let over_hyper = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let over_hyper = layer()?.layer(over_hyper);
    let hold = login.hold();
    let mut tasks = JoinSet::new();
    for _ in 0..25 {
        let request = reqwest::Request::new(reqwest::Method::GET, api.url().parse()?);
        let response = over_reqwest.clone().oneshot(request);
        tasks.spawn(async move { Outcome::Ok(response.await?.status()) });
        let request = Request::get(api.url()).body(Full::default())?;
        let response = over_hyper.clone().oneshot(request);
        tasks.spawn(async move { Outcome::Ok(response.await?.status()) });
    }
    login.wait_for_requests(1).await;
    hold.release();
    while let Some(status) = tasks.join_next().await {
        ensure(status?? == 200, "a request was refused")?;
    }
    let (answers, fetches) = (api.counts().ok, login.counts().requests);
    ensure((answers, fetches) == (50, 1), "not one fetch for all")?;
    println!("{answers} tasks over two clients, {fetches} token request.");

    // The same cache by hand.
    let token = cache.get(&spec).await?;
    ensure(cache.peek(&spec).is_some(), "the token is not in service")?;
    ensure(
        cache.reject(&token),
        "the token was not taken out of service",
    )?;
    ensure(!cache.reject(&token), "it was taken out twice")?;
    ensure(
        cache.peek(&spec).is_none(),
        "a rejected token is in service",
    )?;
    let second = cache.get(&spec).await?;
    let third = cache.refresh(&spec).await?;
    ensure(
        token.generation() < second.generation(),
        "the same token again",
    )?;
    ensure(second.generation() < third.generation(), "no refresh")?;
    let write = TokenSpec::scopes(["write"]);
    cache.warm([&spec, &write]).await?;
    ensure(
        login.counts().requests == 4,
        "what was there was fetched again",
    )?;
    for entry in cache.entries() {
        println!("{:?} is {}.", entry.spec, entry.state.as_str());
    }
    ensure(cache.remove(&write), "there was nothing to remove")?;
    ensure(cache.peek(&write).is_none(), "it is still there")?;
    let stats = cache.stats();
    println!("{stats:?}");
    ensure(stats.fetches == 4, "other counts")?;
    ensure(stats.rejections == 1, "other counts")?;
    ensure(stats.evictions == 0, "other counts")?;
    Ok(())
}

fn ensure(so: bool, what: &str) -> Outcome {
    so.then_some(()).ok_or_else(|| what.into())
}
