//! A generated gRPC client whose calls bear tokens, and a server that checks them.

use std::error::Error;

use tonic::transport::{Channel, Server, server::TcpIncoming};
use tonic::{Code, Request, Status, service::InterceptorLayer};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::ServiceBuilder;
use tower_bearer::testing::AuthorizationServer;
use tower_bearer::{AuthLayer, TokenCache, TokenSpec, credentials::ClientCredentials};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    let login = AuthorizationServer::start().await?;
    let url = serve(login.clone()).await?;

    // A generated client names a path and no origin: the default origin is where its requests go.
    let source = ClientCredentials::new(login.token_url(), "client", "secret");
    let cache = TokenCache::new(source);
    let auth = AuthLayer::new(cache.clone())
        .route(&url, TokenSpec::scopes(["health"]))?
        .with_default_origin(&url)?;
    let channel = Channel::from_shared(url)?.connect_lazy();
    // With errors that name their causes, tonic tells a status code from them.
    let client = ServiceBuilder::new().map_err(tower_bearer::layer::Error::with_causes);
    let mut client = HealthClient::new(client.layer(auth).service(channel));

    let health = || HealthCheckRequest {
        service: String::new(),
    };
    for _ in 0..100 {
        client.check(health()).await?;
    }
    let fetches = login.counts().requests;
    ensure(fetches == 1, "not one fetch for all")?;
    println!("100 calls were answered, and cost {fetches} token request.");

    // The body of a call can't be had twice: a revoked token costs one call, and is out of service then.
    login.revoke_all();
    let refusal = client
        .check(health())
        .await
        .err()
        .ok_or("a revoked token was taken")?;
    ensure(
        refusal.code() == Code::Unauthenticated,
        "refused for another reason",
    )?;
    println!("The token was revoked: {}.", refusal.message());
    client.check(health()).await?;
    let (fetches, rejections) = (login.counts().requests, cache.stats().rejections);
    ensure(
        (fetches, rejections) == (2, 1),
        "the revoked token was kept",
    )?;
    println!("The next call was answered, with token {fetches}.");
    Ok(())
}

/// A server that answers those whose token the authorization server gave out.
async fn serve(login: AuthorizationServer) -> Outcome<String> {
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

fn ensure(so: bool, what: &str) -> Outcome {
    so.then_some(()).ok_or_else(|| what.into())
}
