//! What the layer is for, in five stories, with counts that the servers took: `cargo run --example quickstart`.

use std::{error::Error, time::Duration};

use reqwest::{Client, Method, Request};
use tokio::task::JoinSet;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_bearer::testing::{Api, AuthorizationServer};
use tower_bearer::{AuthLayer, TokenCache, TokenSpec, credentials::ClientCredentials, layer::Auth};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    // An authorization server and two APIs in this process. You have your own.
    let login = AuthorizationServer::start().await?;
    let orders = Api::builder(&login).requiring_scope("/", "orders");
    let stock = Api::builder(&login).requiring_scope("/", "stock");
    let (orders, stock) = (orders.start().await?, stock.start().await?);

    // All that a program needs: a cache over a source of tokens, a layer that says where they go, and a client.
    let source = ClientCredentials::new(login.token_url(), "client", "secret");
    let cache = TokenCache::new(source);
    let auth = AuthLayer::new(cache.clone())
        .route(orders.url(), TokenSpec::scopes(["orders"]))?
        .route(stock.url(), TokenSpec::scopes(["stock"]))?;
    let mut client = ServiceBuilder::new().layer(&auth).service(Client::new());

    for _ in 0..1_000 {
        get(&mut client, &orders).await?;
    }
    let (answers, fetches) = (orders.counts().ok, login.counts().requests);
    ensure((answers, fetches) == (1_000, 1), "not one fetch for all")?;
    println!("1. {answers} requests were answered, for {fetches} token request.");

    // A token of 8 seconds is due for refresh after 2. The provider leaves that waiting, and requests go on.
    login.set_lifetime(Some(Duration::from_secs(8)));
    login.set_refresh_in(Some(Duration::from_secs(1)));
    cache.refresh(&TokenSpec::scopes(["orders"])).await?;
    let hold = login.hold();
    while login.counts().requests == 2 {
        get(&mut client, &orders).await?;
    }
    for _ in 0..100 {
        get(&mut client, &orders).await?;
    }
    ensure(login.counts().issued == 2, "the refresh did not wait")?;
    println!("2. 100 requests were answered while a refresh was left waiting.");
    login.set_lifetime(Some(Duration::from_secs(3600)));
    login.set_refresh_in(None);
    hold.release();
    cache.refresh(&TokenSpec::scopes(["orders"])).await?;

    // 500 requests arrive, over one connection; then their token is revoked.
    let crowd = auth.layer(Client::builder().http2_prior_knowledge().build()?);
    let hold = orders.hold();
    login.reset_counts();
    orders.reset_counts();
    let mut tasks = JoinSet::new();
    for number in 0..500 {
        let body = format!("order {number}; ").repeat(number);
        let mut request = Request::new(Method::POST, orders.url().parse()?);
        *request.body_mut() = Some(body.clone().into());
        let response = crowd.clone().oneshot(request);
        tasks.spawn(async move { Outcome::Ok(response.await?.bytes().await? == body) });
    }
    orders.wait_for_requests(500).await;
    login.revoke_all();
    hold.release();
    while let Some(same) = tasks.join_next().await {
        ensure(same??, "a body was not the same")?;
    }
    let (refused, fetches) = (orders.counts().unauthorized, login.counts().requests);
    ensure((refused, fetches) == (500, 1), "not one fetch for all")?;
    println!("3. {refused} requests met a revoked token: {fetches} token request, no body lost.");

    for api in [&orders, &stock].repeat(50) {
        get(&mut client, api).await?;
    }
    let wrong = orders.counts().forbidden + stock.counts().forbidden;
    ensure(wrong == 0, "a token had the wrong scope")?;
    println!("4. 100 requests to two APIs with two scopes, {wrong} with the wrong token.");

    let stranger = Api::unprotected(&login).await?;
    get(&mut client, &stranger).await?;
    ensure(stranger.counts().with_token == 0, "a stranger got a token")?;
    println!("5. An origin that no route names got no token.");
    Ok(())
}

async fn get(client: &mut Auth<Client>, api: &Api) -> Outcome {
    let request = Request::new(Method::GET, api.url().parse()?);
    let response = client.ready().await?.call(request).await?;
    ensure(response.status() == 200, "a request was refused")
}

fn ensure(so: bool, what: &str) -> Outcome {
    so.then_some(()).ok_or_else(|| what.into())
}
