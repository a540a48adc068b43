//! Shows in five steps what the layer does for a client. The servers count the requests: `cargo run --example quickstart`.

use std::time::Duration;

use reqwest::{Client, Method, Request};
use tokio::task::JoinSet;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};
use tower_bearer::testing::{Api, AuthorizationServer};
use tower_bearer::{AuthLayer, TokenCache, TokenSpec, credentials::ClientCredentials, layer::Auth};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Test servers in this process take the place of your own: an authorization server, and two APIs with one scope each.
    let login = AuthorizationServer::start().await?;
    let orders = Api::builder(&login).with_required_scope("/", "orders");
    let stock = Api::builder(&login).with_required_scope("/", "stock");
    let (orders, stock) = (orders.start().await?, stock.start().await?);

    // This is all that a program needs: a source of tokens, a cache for them, a layer with a route to each API, and a client.
    let source = ClientCredentials::new(login.token_url(), "client", "secret");
    let cache = TokenCache::new(source);
    let auth = AuthLayer::new(cache.clone())
        .route(orders.url(), TokenSpec::scopes(["orders"]))?
        .route(stock.url(), TokenSpec::scopes(["stock"]))?;
    let mut client = ServiceBuilder::new().layer(&auth).service(Client::new());

    // 1. The first request fetches a token. The cache has it for all the others.
    for _ in 0..1_000 {
        get(&mut client, &orders).await?;
    }
    let (accepted, fetches) = (orders.counts().ok, login.counts().requests);
    assert_eq!((accepted, fetches), (1_000, 1));
    println!("1. Cached: {accepted} requests needed {fetches} token request.");

    // 2. Tokens are refreshed in the background before they expire. The next token is soon due for a refresh,
    // and the server delays its response to that. Meanwhile, requests use the current token.
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
    assert_eq!(login.counts().issued, 2, "the refresh is not pending");
    println!("2. Refreshed in the background: 100 requests did not wait for a pending refresh.");
    login.set_lifetime(Some(Duration::from_secs(3600)));
    login.set_refresh_in(None);
    hold.release();
    cache.refresh(&TokenSpec::scopes(["orders"])).await?;

    // 3. The token is revoked while 500 requests are in flight. Each gets a 401 and is sent again with the next token.
    let http2 = auth.layer(Client::builder().http2_prior_knowledge().build()?);
    let hold = orders.hold();
    login.reset_counts();
    orders.reset_counts();
    let mut tasks = JoinSet::new();
    for number in 0..500 {
        let body = format!("order {number}; ").repeat(number);
        let mut request = Request::new(Method::POST, orders.url().parse()?);
        *request.body_mut() = Some(body.clone().into());
        let response = http2.clone().oneshot(request);
        tasks.spawn(async move { Ok::<_, BoxError>(response.await?.bytes().await? == body) });
    }
    orders.wait_for_requests(500).await;
    login.revoke_all();
    hold.release();
    while let Some(echoed) = tasks.join_next().await {
        assert!(echoed??, "the API did not receive the whole body");
    }
    let (rejected, fetches) = (orders.counts().unauthorized, login.counts().requests);
    assert_eq!((rejected, fetches), (500, 1));
    println!("3. Recovered: after {rejected} rejections, {fetches} token request was enough.");

    // 4. Each API gets the token of its own route.
    for api in [&orders, &stock].repeat(50) {
        get(&mut client, api).await?;
    }
    let forbidden = orders.counts().forbidden + stock.counts().forbidden;
    assert_eq!(forbidden, 0, "a token had the wrong scope");
    println!("4. Routed: of 100 requests to two APIs, {forbidden} had the other API's token.");

    // 5. A request to any other origin is sent without a token.
    let other = Api::unprotected(&login).await?;
    get(&mut client, &other).await?;
    assert_eq!(other.counts().with_token, 0);
    println!("5. Contained: an origin without a route received no token.");
    Ok(())
}

async fn get(client: &mut Auth<Client>, api: &Api) -> Result<(), BoxError> {
    let request = Request::new(Method::GET, api.url().parse()?);
    let response = client.ready().await?.call(request).await?;
    assert_eq!(response.status(), 200);
    Ok(())
}
