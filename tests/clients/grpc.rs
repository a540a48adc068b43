//! Tests a generated gRPC client behind the layer against a server that checks tokens.

use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tonic::{
    Code, Request, Status,
    service::InterceptorLayer,
    transport::{Channel, Server, server::TcpIncoming},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::{Layer, util::MapErr};
use tower_bearer::{
    AuthLayer, ErrorKind, TokenCache, TokenError, TokenSpec,
    credentials::ClientCredentials,
    layer::{Auth, Error, WithCauses},
    testing::AuthorizationServer,
};

use crate::fixture::{oauth_error, within};

type TransportError = tonic::transport::Error;
/// A channel whose errors expose their causes to tonic.
type Client = MapErr<Auth<Channel>, fn(Error<TransportError>) -> WithCauses<TransportError>>;

struct Fixture {
    login: AuthorizationServer,
    cache: TokenCache,
    client: HealthClient<Client>,
    calls: Arc<AtomicU64>,
}

impl Fixture {
    /// Starts a server that accepts valid tokens, or no token if `refuses_all` is set.
    async fn new(refuses_all: bool) -> Self {
        let login = AuthorizationServer::start().await.unwrap();
        let calls = Arc::new(AtomicU64::new(0));
        let (issuer, count) = (login.clone(), Arc::clone(&calls));
        let check = move |request: Request<()>| {
            count.fetch_add(1, Relaxed);
            let header = request.metadata().get("authorization");
            let token = header.and_then(|header| header.to_str().ok()?.strip_prefix("Bearer "));
            match token {
                Some(token) if !refuses_all && issuer.is_valid(token, Some("health")) => {
                    Ok(request)
                }
                _ => Err(Status::unauthenticated("no good token")),
            }
        };
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let url = format!("http://{}", incoming.local_addr().unwrap());
        let server = Server::builder()
            .layer(InterceptorLayer::new(check))
            .add_service(tonic_health::server::health_reporter().1)
            .serve_with_incoming(incoming);
        tokio::spawn(server);
        Self::over(login, url, calls)
    }

    fn over(login: AuthorizationServer, url: String, calls: Arc<AtomicU64>) -> Self {
        let source = ClientCredentials::new(login.token_url(), "client", "secret");
        let cache = TokenCache::new(source);
        let layer = AuthLayer::new(cache.clone())
            .route(&url, TokenSpec::scopes(["health"]))
            .unwrap()
            .with_default_origin(&url)
            .unwrap();
        let channel = Channel::from_shared(url).unwrap().connect_lazy();
        Self {
            login,
            cache,
            client: HealthClient::new(MapErr::new(layer.layer(channel), Error::with_causes)),
            calls,
        }
    }

    async fn check(&self) -> Result<ServingStatus, Status> {
        let request = HealthCheckRequest::default();
        let answer = within(self.client.clone().check(request)).await?;
        Ok(answer.into_inner().status())
    }

    fn counts(&self) -> (u64, u64) {
        (self.calls.load(Relaxed), self.login.counts().requests)
    }
}

#[tokio::test]
async fn valid_token_is_fetched_once() {
    let fixture = Fixture::new(false).await;
    for _ in 0..3 {
        assert_eq!(fixture.check().await.unwrap(), ServingStatus::Serving);
    }
    assert_eq!(fixture.counts(), (3, 1));
}

#[tokio::test]
async fn streaming_call_has_a_token() {
    let mut fixture = Fixture::new(false).await;
    let stream = fixture.client.watch(HealthCheckRequest::default()).await;
    let first = within(stream.unwrap().into_inner().message()).await;
    assert_eq!(first.unwrap().unwrap().status(), ServingStatus::Serving);
    assert_eq!(fixture.counts(), (1, 1));
}

#[tokio::test]
async fn each_revocation_costs_one_call_and_one_fetch() {
    let fixture = Fixture::new(false).await;
    fixture.check().await.unwrap();
    // The body of a call cannot be cloned, so nothing is replayed, and no rejection is refunded.
    for _ in 0..5 {
        fixture.login.revoke_all();
        let status = fixture.check().await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert_eq!(status.message(), "no good token");
        fixture.check().await.unwrap();
    }
    assert_eq!(fixture.counts(), (11, 6));
    let stats = fixture.cache.stats();
    assert_eq!((stats.rejections, stats.replays), (5, 0));
    assert_eq!(stats.rejection_limit_reached, 0);
}

#[tokio::test]
async fn rejected_calls_do_not_cost_a_fetch_each() {
    let fixture = Fixture::new(true).await;
    for _ in 0..20 {
        let status = fixture.check().await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
    }
    assert_eq!(fixture.counts(), (20, 6));
    assert_eq!(fixture.cache.stats().rejections, 5);
}

#[tokio::test]
async fn unreachable_server_is_not_a_rejection() {
    let login = AuthorizationServer::start().await.unwrap();
    let closed = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let fixture = Fixture::over(login, url, Arc::default());
    let status = fixture.check().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(fixture.counts(), (0, 1));
    assert_eq!(fixture.cache.stats().rejections, 0);
}

#[tokio::test]
async fn token_error_fails_the_call_with_its_cause() {
    let fixture = Fixture::new(false).await;
    let refusal = oauth_error(400, "invalid_scope");
    fixture.login.fault_always(refusal);
    let status = fixture.check().await.unwrap_err();
    assert!(status.message().contains("no token"), "{status}");
    assert_eq!(fixture.counts(), (0, 1));
    let mut cause = status.source();
    let kind = std::iter::from_fn(|| {
        let found = cause?;
        cause = found.source();
        Some(found)
    })
    .find_map(|cause| cause.downcast_ref::<TokenError>().map(TokenError::kind));
    assert_eq!(kind, Some(ErrorKind::InvalidScope));
}
