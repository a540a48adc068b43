//! Wraps a `reqwest::Client`, and shows what a response tells about a token that was rejected.

use bytes::Bytes;
use http_body_util::Full;
use reqwest::{Body, Client, Method, Request, Response};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tower_bearer::testing::{Api, AuthorizationServer};
use tower_bearer::{
    AuthLayer, TokenCache, TokenSpec,
    credentials::ClientCredentials,
    layer::{Auth, Recovery},
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let login = AuthorizationServer::start().await?;
    let api = Api::start(&login).await?;

    let source = ClientCredentials::new(login.token_url(), "client", "secret");
    let auth = AuthLayer::new(TokenCache::new(source))
        .route(api.url(), TokenSpec::scopes(["orders.write"]))?;
    let mut client = ServiceBuilder::new().layer(auth).service(Client::new());

    let response = post(&mut client, &api, Body::from("in memory")).await?;
    assert!(recovery(&response).is_none());
    println!("With a valid token: {}.", response.status());

    login.revoke_all();
    let response = post(&mut client, &api, Body::from("in memory")).await?;
    let status = response.status();
    assert_eq!(status, 200);
    assert!(matches!(recovery(&response), Some(Recovery::Recovered)));
    let echo = response.text().await?;
    assert_eq!(echo, "in memory");
    println!("With a revoked token: {status} to the replay, which sent {echo:?} again.");

    // A streamed body can't be sent again. The rejected token is dropped from the cache nevertheless.
    login.revoke_all();
    let stream = Body::wrap(Full::<Bytes>::from("read once"));
    let response = post(&mut client, &api, stream).await?;
    assert_eq!(response.status(), 401);
    assert!(matches!(recovery(&response), Some(Recovery::NotReplayable)));
    println!(
        "With a revoked token and a streamed body: {}.",
        response.status()
    );
    let response = post(&mut client, &api, Body::from("in memory")).await?;
    assert!(recovery(&response).is_none());
    println!("The next request: {}.", response.status());

    // An API that rejects every token receives two of them. Then its 401 is returned to the caller.
    api.always_unauthorized(true);
    let response = post(&mut client, &api, Body::from("in memory")).await?;
    assert_eq!(response.status(), 401);
    assert!(matches!(recovery(&response), Some(Recovery::RejectedAgain)));
    println!(
        "From an API that rejects every token: {}.",
        response.status()
    );

    let (requests, fetches) = (api.counts().requests, login.counts().requests);
    assert_eq!((requests, fetches), (7, 4));
    println!("In total: {requests} API requests and {fetches} token requests.");
    Ok(())
}

async fn post(client: &mut Auth<Client>, api: &Api, body: Body) -> Result<Response, BoxError> {
    let mut request = Request::new(Method::POST, api.url_of("/orders").parse()?);
    *request.body_mut() = Some(body);
    Ok(client.ready().await?.call(request).await?)
}

/// Returns how the layer handled a rejection. `None` if the first response was accepted.
fn recovery(response: &Response) -> Option<&Recovery> {
    response.extensions().get()
}
