//! Uses the layer as a middleware of reqwest-middleware, with reqwest's request builders.

use bytes::Bytes;
use http_body_util::Full;
use reqwest::{Body, Client};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use tower::BoxError;
use tower_bearer::testing::{Api, AuthorizationServer, Fault};
use tower_bearer::{
    AuthLayer, TokenCache, TokenError, TokenSpec, credentials::ClientCredentials, layer::Recovery,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let login = AuthorizationServer::start().await?;
    let api = Api::builder(&login).with_required_scope("/orders/new", "orders.write");
    let api = api.start().await?;

    let source = ClientCredentials::new(login.token_url(), "client", "secret");
    let auth = AuthLayer::new(TokenCache::new(source))
        .route(api.url(), TokenSpec::scopes(["orders.read"]))?
        // Streamed bodies up to this size can be sent twice too.
        .with_body_buffer(64 << 10, Body::wrap);
    let client: ClientWithMiddleware = ClientBuilder::new(Client::new()).with(auth).build();

    let response = client.get(api.url_of("/orders")).send().await?;
    assert_eq!(response.status(), 200);
    println!("With the route's token: {}.", response.status());

    let write = TokenSpec::scopes(["orders.write"]);
    let order = || {
        let body = Body::wrap(Full::<Bytes>::from("streamed"));
        let request = client.post(api.url_of("/orders/new")).body(body);
        request.with_extension(write.clone())
    };
    let response = order().send().await?;
    assert_eq!(response.status(), 200);
    println!("With the request's own token: {}.", response.status());

    login.revoke_all();
    let response = order().send().await?;
    let recovery = response.extensions().get::<Recovery>();
    assert!(matches!(recovery, Some(Recovery::Recovered)));
    let echo = response.text().await?;
    assert_eq!(echo, "streamed");
    println!("With a revoked token: the replay sent {echo:?} again.");

    // If the token can't be fetched, the request is not sent, and the error contains the reason.
    let refusal = Fault::response(
        400,
        Some("application/json"),
        r#"{"error":"invalid_scope"}"#,
    );
    login.fault(refusal);
    let calls = api.counts().requests;
    let request = client.get(api.url_of("/orders"));
    let request = request.with_extension(TokenSpec::scopes(["orders.burn"]));
    let error = request.send().await.unwrap_err();
    let reqwest_middleware::Error::Middleware(error) = error else {
        return Err("the error is not from the layer".into());
    };
    let error: &TokenError = error.downcast_ref().ok_or("not a token error")?;
    println!("Without a token: {error}.");
    assert_eq!(api.counts().requests, calls, "the request was sent");

    let (requests, fetches) = (api.counts().requests, login.counts().requests);
    assert_eq!((requests, fetches), (4, 4));
    println!("In total: {requests} API requests and {fetches} token requests.");
    Ok(())
}
