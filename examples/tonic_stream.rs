//! Generated gRPC calls that are sent again after a refusal: unary ones, and those that open a stream.

use std::error::Error;

use tonic::transport::{Channel, Server, server::TcpIncoming};
use tonic::{Request, Status, body::Body, service::InterceptorLayer};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::ServiceBuilder;
use tower_bearer::testing::AuthorizationServer;
use tower_bearer::{AuthLayer, TokenCache, TokenSpec, credentials::ClientCredentials};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    let login = AuthorizationServer::start().await?;
    let (url, reporter) = serve(login.clone()).await?;

    // The body of a call can't be had twice by itself: what is sent of it is kept, up to 64 KiB.
    let source = ClientCredentials::new(login.token_url(), "client", "secret");
    let cache = TokenCache::new(source);
    let auth = AuthLayer::new(cache.clone())
        .route(&url, TokenSpec::scopes(["health"]))?
        .with_default_origin(&url)?
        .with_body_buffer(64 << 10, Body::new);
    let channel = Channel::from_shared(url)?.connect_lazy();
    let client = ServiceBuilder::new().map_err(tower_bearer::layer::Error::with_causes);
    let mut client = HealthClient::new(client.layer(auth).service(channel));
    let orders = || HealthCheckRequest {
        service: "orders".into(),
    };

    // A unary call and a stream, with a good token.
    client.check(orders()).await?;
    let mut stream = client.watch(orders()).await?.into_inner();
    stream.message().await?.ok_or("the stream is empty")?;
    println!(
        "A call and a stream cost {} fetch.",
        login.counts().requests
    );

    // The token is revoked, and nobody notices: the call is sent again with another.
    login.revoke_all();
    let answer = client.check(orders()).await?.into_inner();
    ensure(cache.stats().replays == 1, "the call was not sent again")?;
    println!(
        "The token was revoked. The next call: {:?}.",
        answer.status()
    );

    // So is a call that opens a stream. What comes later on it is the caller's.
    login.revoke_all();
    let mut next = client.watch(orders()).await?.into_inner();
    next.message().await?.ok_or("the stream is empty")?;
    ensure(cache.stats().replays == 2, "the call was not sent again")?;
    println!("It was revoked again. The next stream is open.");

    // A stream that was open stays so: servers look at a token when a call begins.
    let stopped = ServingStatus::NotServing;
    reporter.set_service_status("orders", stopped).await;
    for stream in [&mut stream, &mut next] {
        let change = stream.message().await?.ok_or("a stream has ended")?;
        println!("Both streams see the change: {:?}.", change.status());
    }

    let fetches = login.counts().requests;
    ensure(fetches == 3, "not one fetch for each token")?;
    println!("In all, the provider had {fetches} requests.");
    Ok(())
}

/// A server that answers those whose token the authorization server gave out, and the way to change what it says.
async fn serve(login: AuthorizationServer) -> Outcome<(String, HealthReporter)> {
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
    let (reporter, health) = tonic_health::server::health_reporter();
    let serving = ServingStatus::Serving;
    reporter.set_service_status("orders", serving).await;
    let server = Server::builder()
        .layer(InterceptorLayer::new(check))
        .add_service(health)
        .serve_with_incoming(incoming);
    tokio::spawn(server);
    Ok((url, reporter))
}

fn ensure(so: bool, what: &str) -> Outcome {
    so.then_some(()).ok_or_else(|| what.into())
}
