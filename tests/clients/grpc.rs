//! A generated gRPC client behind the layer, and a server that checks tokens.

use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::timeout};
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
    testing::{AuthorizationServer, Fault},
};

const LIMIT: Duration = Duration::from_secs(30);

type TransportError = tonic::transport::Error;
/// With errors that name their causes, so that tonic finds them.
type Client = MapErr<Auth<Channel>, fn(Error<TransportError>) -> WithCauses<TransportError>>;

struct Stage {
    login: AuthorizationServer,
    cache: TokenCache,
    client: HealthClient<Client>,
    calls: Arc<AtomicU64>,
}

impl Stage {
    /// A server that answers those whose token is good, and nobody if it `refuses_all`.
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
        let answer = timeout(LIMIT, self.client.clone().check(request))
            .await
            .unwrap()?;
        Ok(answer.into_inner().status())
    }

    fn counts(&self) -> (u64, u64) {
        (self.calls.load(Relaxed), self.login.counts().requests)
    }
}

#[tokio::test]
async fn a_good_token_goes_with_every_call() {
    let stage = Stage::new(false).await;
    for _ in 0..3 {
        assert_eq!(stage.check().await.unwrap(), ServingStatus::Serving);
    }
    assert_eq!(stage.counts(), (3, 1));
}

#[tokio::test]
async fn a_stream_bears_a_token_too() {
    let mut stage = Stage::new(false).await;
    let stream = stage.client.watch(HealthCheckRequest::default()).await;
    let first = timeout(LIMIT, stream.unwrap().into_inner().message())
        .await
        .unwrap();
    assert_eq!(first.unwrap().unwrap().status(), ServingStatus::Serving);
    assert_eq!(stage.counts(), (1, 1));
}

#[tokio::test]
async fn a_revoked_token_costs_one_call() {
    let stage = Stage::new(false).await;
    stage.check().await.unwrap();
    stage.login.revoke_all();
    let status = stage.check().await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unauthenticated, "no good token")
    );
    for _ in 0..3 {
        stage.check().await.unwrap();
    }
    // A call's body can't be had twice: nothing was sent again.
    assert_eq!(stage.counts(), (5, 2));
    let stats = stage.cache.stats();
    assert_eq!((stats.rejections, stats.replays), (1, 0));
}

#[tokio::test]
async fn six_revocations_in_a_row_are_believed_though_nothing_can_be_sent_twice() {
    let stage = Stage::new(false).await;
    stage.check().await.unwrap();
    for _ in 0..6 {
        stage.login.revoke_all();
        assert_eq!(
            stage.check().await.unwrap_err().code(),
            Code::Unauthenticated
        );
        stage.check().await.unwrap();
    }
    assert_eq!(stage.counts(), (13, 7));
}

#[tokio::test]
async fn a_server_that_refuses_every_token_does_not_cost_a_fetch_per_call() {
    let stage = Stage::new(true).await;
    for _ in 0..20 {
        assert_eq!(
            stage.check().await.unwrap_err().code(),
            Code::Unauthenticated
        );
    }
    assert_eq!(stage.counts(), (20, 6));
    assert_eq!(stage.cache.stats().rejections, 5);
}

#[tokio::test]
async fn a_crowd_waits_for_one_fetch() {
    let stage = Stage::new(false).await;
    let hold = stage.login.hold();
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let mut client = stage.client.clone();
        tasks.spawn(async move { client.check(HealthCheckRequest::default()).await.is_ok() });
    }
    timeout(LIMIT, stage.login.wait_for_requests(1))
        .await
        .unwrap();
    assert_eq!(stage.counts(), (0, 1));
    hold.release();
    while let Some(done) = timeout(LIMIT, tasks.join_next()).await.unwrap() {
        assert!(done.unwrap());
    }
    assert_eq!(stage.counts(), (100, 1));
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_the_callers_error_and_no_refusal() {
    let login = AuthorizationServer::start().await.unwrap();
    let closed = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let stage = Stage::over(login, url, Arc::default());
    let status = stage.check().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(stage.counts(), (0, 1));
    assert_eq!(stage.cache.stats().rejections, 0);
}

#[tokio::test]
async fn a_call_without_a_token_is_not_sent_and_says_why() {
    let stage = Stage::new(false).await;
    let refusal = Fault::answer(
        400,
        Some("application/json"),
        r#"{"error":"invalid_scope"}"#,
    );
    stage.login.fault_always(refusal);
    let status = stage.check().await.unwrap_err();
    assert!(status.message().contains("no token"), "{status}");
    assert_eq!(stage.counts(), (0, 1));
    // The error itself is among the causes.
    let mut cause = status.source();
    let kind = std::iter::from_fn(|| {
        let found = cause?;
        cause = found.source();
        Some(found)
    })
    .find_map(|cause| cause.downcast_ref::<TokenError>().map(TokenError::kind));
    assert_eq!(kind, Some(ErrorKind::InvalidScope));
}
