//! Wraps a `reqwest::Client` in the adapter for `http::Request`, so that a request can require another token than its route.

use http::{Request, request::Builder};
use reqwest::{Body, Client, Response};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tower_bearer::testing::{Api, AuthorizationServer};
use tower_bearer::{
    AuthLayer, TokenCache, TokenSpec,
    layer::{Auth, Recovery},
};
use tower_bearer::{clients::ReqwestClient, credentials::ClientCredentials};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let login = AuthorizationServer::start().await?;
    let api = Api::builder(&login)
        .with_required_scope("/orders", "orders.read")
        .with_required_scope("/orders/new", "orders.write");
    let api = api.start().await?;

    let source = ClientCredentials::new(login.token_url(), "client", "secret");
    let cache = TokenCache::new(source);
    let auth =
        AuthLayer::new(cache.clone()).route(api.url(), TokenSpec::scopes(["orders.read"]))?;
    let client = ReqwestClient::new(Client::new());
    let mut client = ServiceBuilder::new().layer(auth).service(client);

    let list = Request::get(api.url_of("/orders"));
    let response = send(&mut client, list, "").await?;
    assert_eq!(response.status(), 200);
    println!("With the route's token: {}.", response.status());

    // The spec is built once and cloned for each request, which only increments a reference count.
    let writing = TokenSpec::scopes(["orders.read", "orders.write"]);
    let order = || Request::post(api.url_of("/orders/new")).extension(writing.clone());
    let response = send(&mut client, order(), "three of them").await?;
    assert_eq!(response.status(), 200);
    println!("With the request's own token: {}.", response.status());

    for entry in cache.entries() {
        let scopes: Vec<_> = entry.spec.iter_scopes().collect();
        println!("In the cache: a token for {scopes:?}.");
    }
    assert_eq!(cache.entries().len(), 2);

    // The body is a string, so the request can be sent twice. The response is a `reqwest::Response` again.
    login.revoke_all();
    let response = send(&mut client, order(), "three of them").await?;
    let recovery = response.extensions().get::<Recovery>();
    assert!(matches!(recovery, Some(Recovery::Recovered)));
    let path = response.url().path().to_owned();
    let echo = response.text().await?;
    assert_eq!(echo, "three of them");
    println!("With a revoked token: {path} accepted the replay, which sent {echo:?} again.");

    // A request with a spec to an origin without a route is an error, and is not sent.
    let other = Request::get("https://other.example/").extension(writing);
    let error = send(&mut client, other, "").await.unwrap_err();
    println!("To an origin without a route: {error}.");
    Ok(())
}

async fn send(
    client: &mut Auth<ReqwestClient>,
    request: Builder,
    body: &'static str,
) -> Result<Response, BoxError> {
    let request = request.body(Body::from(body))?;
    let response = client.ready().await?.call(request).await?;
    Ok(Response::from(response))
}
