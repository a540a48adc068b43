//! Replays the calls of a generated gRPC client after a rejection: unary calls, and calls that open a stream.

use tonic::transport::{Channel, Server, server::TcpIncoming};
use tonic::{Request, Status, body::Body, service::InterceptorLayer};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::{BoxError, ServiceBuilder};
use tower_bearer::testing::AuthorizationServer;
use tower_bearer::{AuthLayer, TokenCache, TokenSpec, credentials::ClientCredentials};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let login = AuthorizationServer::start().await?;
    let (url, reporter) = serve(login.clone()).await?;

    // The body of a call is a stream. It is buffered while it is sent, up to 64 KiB, so that it can be sent again.
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

    // A unary call and a stream share a token.
    client.check(orders()).await?;
    let mut stream = client.watch(orders()).await?.into_inner();
    stream.message().await?.ok_or("the stream is empty")?;
    let fetches = login.counts().requests;
    println!("A call and a stream needed {fetches} token request.");

    // The token is revoked. The next call is sent again with a new token, and the caller gets its response.
    login.revoke_all();
    let response = client.check(orders()).await?.into_inner();
    assert_eq!(cache.stats().replays, 1);
    let status = response.status();
    println!("The token was revoked. The next call was replayed: {status:?}.");

    // A call that opens a stream is sent again too.
    login.revoke_all();
    let mut next = client.watch(orders()).await?.into_inner();
    next.message().await?.ok_or("the stream is empty")?;
    assert_eq!(cache.stats().replays, 2);
    println!("The token was revoked again. The call that opens a stream was replayed.");

    // Open streams are not affected: this server verifies the token when a call begins.
    let stopped = ServingStatus::NotServing;
    reporter.set_service_status("orders", stopped).await;
    for stream in [&mut stream, &mut next] {
        let change = stream.message().await?.ok_or("a stream has ended")?;
        println!("An open stream received {:?}.", change.status());
    }

    let fetches = login.counts().requests;
    assert_eq!(fetches, 3);
    println!("The provider received {fetches} token requests in total.");
    Ok(())
}

/// Starts a server that verifies tokens. Returns its URL, and the handle that changes the reported health.
async fn serve(login: AuthorizationServer) -> Result<(String, HealthReporter), BoxError> {
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
