//! A `reqwest::Client` behind its adapter, which takes `http::Request`: each request names its token, if it wants another
//! than its route's.

use std::error::Error;

use http::{Request, request::Builder};
use reqwest::{Body, Client, Response};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_bearer::testing::{Api, AuthorizationServer};
use tower_bearer::{
    AuthLayer, TokenCache, TokenSpec,
    layer::{Auth, Recovery},
};
use tower_bearer::{clients::ReqwestClient, credentials::ClientCredentials};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    let login = AuthorizationServer::start().await?;
    let api = Api::builder(&login)
        .requiring_scope("/orders", "orders.read")
        .requiring_scope("/orders/new", "orders.write");
    let api = api.start().await?;

    let source = ClientCredentials::new(login.token_url(), "client", "secret");
    let cache = TokenCache::new(source);
    let auth =
        AuthLayer::new(cache.clone()).route(api.url(), TokenSpec::scopes(["orders.read"]))?;
    let client = ReqwestClient::new(Client::new());
    let mut client = ServiceBuilder::new().layer(auth).service(client);

    let list = Request::get(api.url_of("/orders"));
    let response = send(&mut client, list, "").await?;
    ensure(response.status() == 200, "the route's token was refused")?;
    println!("With the route's token: {}.", response.status());

    // Built once, and cloned for each request: that is one reference count.
    let writing = TokenSpec::scopes(["orders.read", "orders.write"]);
    let order = || Request::post(api.url_of("/orders/new")).extension(writing.clone());
    let response = send(&mut client, order(), "three of them").await?;
    ensure(response.status() == 200, "its own token was refused")?;
    println!("With the request's own: {}.", response.status());

    for entry in cache.entries() {
        let scopes: Vec<_> = entry.spec.iter_scopes().collect();
        println!("In the cache: a token for {scopes:?}.");
    }
    ensure(cache.entries().len() == 2, "not a token for each spec")?;

    // The body is a string, so the request can be sent twice. What comes back is streamed, or read by reqwest's own means.
    login.revoke_all();
    let response = send(&mut client, order(), "three of them").await?;
    let told = response.extensions().get::<Recovery>().cloned();
    ensure(matches!(told, Some(Recovery::Recovered)), "no recovery")?;
    let url = response.url().clone();
    let echo = response.text().await?;
    ensure(echo == "three of them", "the body was another")?;
    println!(
        "A revoked token: {} answered the second attempt, which sent {echo:?} again.",
        url.path()
    );

    // A spec is no way around the routes.
    let elsewhere = Request::get("https://elsewhere.example/").extension(writing);
    let refusal = send(&mut client, elsewhere, "").await.err();
    println!("Elsewhere: {}.", refusal.ok_or("a token went elsewhere")?);
    Ok(())
}

async fn send(
    client: &mut Auth<ReqwestClient>,
    request: Builder,
    body: &'static str,
) -> Outcome<Response> {
    let request = request.body(Body::from(body))?;
    let response = client.ready().await?.call(request).await?;
    Ok(Response::from(response))
}

fn ensure(so: bool, what: &str) -> Outcome {
    so.then_some(()).ok_or_else(|| what.into())
}
