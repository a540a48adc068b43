//! The layer as a middleware of reqwest-middleware, with reqwest's own way to build requests.

use std::error::Error;

use bytes::Bytes;
use http_body_util::Full;
use reqwest::{Body, Client};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use tower_bearer::testing::{Api, AuthorizationServer, Fault};
use tower_bearer::{
    AuthLayer, TokenCache, TokenError, TokenSpec, credentials::ClientCredentials, layer::Recovery,
};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    let login = AuthorizationServer::start().await?;
    let api = Api::builder(&login).requiring_scope("/orders/new", "orders.write");
    let api = api.start().await?;

    let source = ClientCredentials::new(login.token_url(), "client", "secret");
    let auth = AuthLayer::new(TokenCache::new(source))
        .route(api.url(), TokenSpec::scopes(["orders.read"]))?
        // Bodies that are streams can be sent twice too.
        .with_body_buffer(64 << 10, Body::wrap);
    let client: ClientWithMiddleware = ClientBuilder::new(Client::new()).with(auth).build();

    let response = client.get(api.url_of("/orders")).send().await?;
    ensure(response.status() == 200, "the route's token was refused")?;
    println!("With the route's token: {}.", response.status());

    let write = TokenSpec::scopes(["orders.write"]);
    let order = || {
        let body = Body::wrap(Full::<Bytes>::from("streamed"));
        let request = client.post(api.url_of("/orders/new")).body(body);
        request.with_extension(write.clone())
    };
    let response = order().send().await?;
    ensure(response.status() == 200, "its own token was refused")?;
    println!("With the request's own: {}.", response.status());

    login.revoke_all();
    let response = order().send().await?;
    let told = response.extensions().get::<Recovery>().cloned();
    ensure(matches!(told, Some(Recovery::Recovered)), "no recovery")?;
    let echo = response.text().await?;
    ensure(echo == "streamed", "the body was another")?;
    println!("A revoked token: the second attempt sent {echo:?} again.");

    // No token: nothing is sent, and the error says why.
    let refusal = Fault::answer(
        400,
        Some("application/json"),
        r#"{"error":"invalid_scope"}"#,
    );
    login.fault(refusal);
    let calls = api.counts().requests;
    let request = client.get(api.url_of("/orders"));
    let request = request.with_extension(TokenSpec::scopes(["orders.burn"]));
    let error = request.send().await.err().ok_or("a token without leave")?;
    let reqwest_middleware::Error::Middleware(error) = error else {
        return Err("not an error of the layer's".into());
    };
    let error: &TokenError = error.downcast_ref().ok_or("not an error about a token")?;
    println!("Without a token: {error}.");
    ensure(api.counts().requests == calls, "it was sent all the same")?;

    let (requests, fetches) = (api.counts().requests, login.counts().requests);
    ensure((requests, fetches) == (4, 4), "other counts")?;
    println!("In all, the API had {requests} requests, and the provider {fetches}.");
    Ok(())
}

fn ensure(so: bool, what: &str) -> Outcome {
    so.then_some(()).ok_or_else(|| what.into())
}
