//! Gives the calls of a generated gRPC client tokens, which the server verifies.

use tonic::transport::{Channel, Server, server::TcpIncoming};
use tonic::{Code, Request, Status, service::InterceptorLayer};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::{BoxError, ServiceBuilder};
use tower_bearer::testing::AuthorizationServer;
use tower_bearer::{AuthLayer, TokenCache, TokenSpec, credentials::ClientCredentials};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let login = AuthorizationServer::start().await?;
    let url = serve(login.clone()).await?;

    // The requests of a generated client have only a path. The default origin says which route they take.
    let source = ClientCredentials::new(login.token_url(), "client", "secret");
    let cache = TokenCache::new(source);
    let auth = AuthLayer::new(cache.clone())
        .route(&url, TokenSpec::scopes(["health"]))?
        .with_default_origin(&url)?;
    let channel = Channel::from_shared(url)?.connect_lazy();
    // `with_causes` keeps the causes of errors, from which tonic derives the status code.
    let client = ServiceBuilder::new().map_err(tower_bearer::layer::Error::with_causes);
    let mut client = HealthClient::new(client.layer(auth).service(channel));

    let health = || HealthCheckRequest {
        service: String::new(),
    };
    for _ in 0..100 {
        client.check(health()).await?;
    }
    let fetches = login.counts().requests;
    assert_eq!(fetches, 1);
    println!("100 calls needed {fetches} token request.");

    // The streamed body of a call can't be sent again without a buffer, so the first call with a revoked token fails. The token
    // is dropped from the cache.
    login.revoke_all();
    let status = client.check(health()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    println!(
        "The call with a revoked token failed: {}.",
        status.message()
    );
    client.check(health()).await?;
    let (fetches, rejections) = (login.counts().requests, cache.stats().rejections);
    assert_eq!((fetches, rejections), (2, 1));
    println!("The next call succeeded, with token {fetches}.");
    Ok(())
}

/// Starts a server that verifies tokens, and returns its URL.
async fn serve(login: AuthorizationServer) -> Result<String, BoxError> {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?;
    let url = format!("http://{}", incoming.local_addr()?);
    let check = move |request: Request<()>| {
        let header = request.metadata().get("authorization");
        let token = header.and_then(|header| header.to_str().ok()?.strip_prefix("Bearer "));
        match token {
            Some(token) if login.is_valid(token, Some("health")) => Ok(request),
            _ => Err(Status::unauthenticated("the token is not valid")),
        }
    };
    let (_, health) = tonic_health::server::health_reporter();
    let server = Server::builder()
        .layer(InterceptorLayer::new(check))
        .add_service(health)
        .serve_with_incoming(incoming);
    tokio::spawn(server);
    Ok(url)
}
