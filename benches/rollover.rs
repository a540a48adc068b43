//! What a client under the layer notices when tokens end: by the clock, under steady traffic, and by a server that
//! refuses every one of them.
//!
//! Client, provider and API are in this process and speak over loopback sockets. Without `--bench`, as `cargo test` runs
//! it, everything takes a short turn and nothing is claimed.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicI64, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    task::JoinSet,
    time::{self, MissedTickBehavior},
};
use tower::{BoxError, Layer, Service, ServiceExt, util::BoxCloneService};
use tower_bearer::{
    AuthLayer, NewToken, TokenCache, TokenError, TokenSource, TokenSpec,
    credentials::ClientCredentials,
    source::TokenRequest,
    testing::{Api, AuthorizationServer, Fault},
};

type BoxedClient = BoxCloneService<Request<Full<Bytes>>, StatusCode, BoxError>;

/// How much of everything.
struct Extent {
    traffic: Duration,
    storm: usize,
}

const FULL: Extent = Extent {
    traffic: Duration::from_secs(42),
    storm: 10_000,
};

const SHORT: Extent = Extent {
    traffic: Duration::from_millis(100),
    storm: 200,
};

/// A token of this lifetime is due at `REFRESH_IN` and served until a tenth before its end, so a provider that takes
/// `PROVIDER_TAKES` is in time; and half of the time, a refresh is under way.
const LIFETIME: Duration = Duration::from_secs(8);
const REFRESH_IN: Duration = Duration::from_secs(4);
const PROVIDER_TAKES: Duration = Duration::from_secs(2);

const SENDERS: usize = 8;
/// Between two requests of a sender.
const PACE: Duration = Duration::from_millis(4);
/// Requests of a storm that are under way at once.
const CROWD: usize = 64;

/// A source that shows whether it is being asked: its count of beginnings and ends is odd then.
struct Watched {
    source: ClientCredentials,
    turns: Arc<AtomicU64>,
}

impl TokenSource for Watched {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        self.turns.fetch_add(1, SeqCst);
        let token = self.source.fetch(request).await;
        self.turns.fetch_add(1, SeqCst);
        token
    }
}

fn credentials(server: &AuthorizationServer) -> ClientCredentials {
    ClientCredentials::new(server.token_url(), "client", "secret")
}

/// A client that keeps its connections.
fn connections() -> Client<HttpConnector, Full<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

/// A client whose answers are read to their ends.
fn client<S>(service: S) -> BoxedClient
where
    S: Service<Request<Full<Bytes>>, Response = Response<Incoming>>,
    S: Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    BoxCloneService::new(service.map_err(Into::into).and_then(status_of_all))
}

async fn status_of_all(response: Response<Incoming>) -> Result<StatusCode, BoxError> {
    let status = response.status();
    response.into_body().collect().await?;
    Ok(status)
}

async fn send(client: &mut BoxedClient, url: &str) -> Result<StatusCode, BoxError> {
    let request = Request::get(url).body(Full::default())?;
    client.ready().await?.call(request).await
}

/// Whether this is a bench, and no test of one.
fn claimed() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

fn figure(name: &str, value: impl std::fmt::Display) {
    if claimed() {
        println!("figure {name} {value:.3}");
    }
}

/// What became of a request under steady traffic.
struct Sent {
    took: Duration,
    /// A refresh was under way at some time meanwhile.
    during: bool,
    served: bool,
}

async fn traffic(
    mut client: BoxedClient,
    url: String,
    turns: Arc<AtomicU64>,
    until: Instant,
) -> Vec<Sent> {
    let mut all = Vec::new();
    let mut ticks = time::interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while Instant::now() < until {
        ticks.tick().await;
        let (before, start) = (turns.load(SeqCst), Instant::now());
        let answer = send(&mut client, &url).await;
        let (after, took) = (turns.load(SeqCst), start.elapsed());
        all.push(Sent {
            took,
            during: before % 2 == 1 || after != before,
            served: matches!(answer, Ok(StatusCode::OK)),
        });
    }
    all
}

/// The slowest and the slowest but one in a thousand, in milliseconds.
fn slowest(sent: &[Sent], during: bool) -> (f64, f64) {
    let of_this_kind = sent.iter().filter(|sent| sent.during == during);
    let mut took: Vec<_> = of_this_kind
        .map(|s| s.took.as_secs_f64() * 1_000.0)
        .collect();
    took.sort_by(f64::total_cmp);
    let back = |n: usize| took.iter().rev().nth(n).copied().unwrap_or_default();
    (back(0), back(took.len() / 1_000))
}

async fn rollovers(extent: &Extent) {
    let server = AuthorizationServer::builder()
        .with_lifetime(LIFETIME)
        .start()
        .await
        .unwrap();
    server.set_refresh_in(Some(REFRESH_IN));
    let api = Api::start(&server).await.unwrap();
    api.record(false);
    let turns = Arc::new(AtomicU64::new(0));
    let cache = TokenCache::new(Watched {
        source: credentials(&server),
        turns: Arc::clone(&turns),
    });
    let spec = TokenSpec::scopes(["read"]);
    let layer = AuthLayer::new(cache.clone())
        .route(api.url(), spec.clone())
        .unwrap();
    cache.get(&spec).await.unwrap();
    server.fault_always(Fault::delay(PROVIDER_TAKES));
    let mut client = client(layer.layer(connections()));
    for _ in 0..SENDERS {
        send(&mut client, &api.url()).await.unwrap();
    }
    let before = cache.stats();
    let until = Instant::now() + extent.traffic;
    let senders: JoinSet<_> = (0..SENDERS)
        .map(|_| traffic(client.clone(), api.url(), Arc::clone(&turns), until))
        .collect();
    let sent: Vec<Sent> = senders.join_all().await.into_iter().flatten().collect();
    let after = cache.stats();
    let unserved = sent.iter().filter(|sent| !sent.served).count();
    figure("rollover_requests", sent.len());
    figure(
        "rollover_rollovers",
        after.fetches - before.fetches - (turns.load(SeqCst) % 2),
    );
    figure(
        "rollover_requests_that_waited",
        after.misses - before.misses,
    );
    figure("rollover_failures", unserved);
    let (slow, p999) = slowest(&sent, true);
    let (slow_elsewhere, p999_elsewhere) = slowest(&sent, false);
    figure("rollover_slowest_ms", slow);
    figure("elsewhere_slowest_ms", slow_elsewhere);
    figure("rollover_slowest_ratio", slow / slow_elsewhere);
    figure("rollover_p999_ms", p999);
    figure("elsewhere_p999_ms", p999_elsewhere);
    figure("rollover_p999_ratio", p999 / p999_elsewhere);
}

/// Sends until it is told that it is enough, and counts: requests, and those that were not served.
async fn meanwhile(mut client: BoxedClient, url: String, enough: Arc<AtomicBool>) -> (u64, u64) {
    let (mut sent, mut failures) = (0, 0);
    while !enough.load(Relaxed) {
        let served = matches!(send(&mut client, &url).await, Ok(StatusCode::OK));
        sent += 1;
        failures += u64::from(!served);
    }
    (sent, failures)
}

/// An API refuses everything, as fast as it is asked; others on the same provider go on.
async fn storm(name: &str, requests: usize, replay: bool) {
    let server = AuthorizationServer::start().await.unwrap();
    let [refusing, healthy, other] = [
        Api::start(&server).await.unwrap(),
        Api::start(&server).await.unwrap(),
        Api::start(&server).await.unwrap(),
    ];
    for api in [&refusing, &healthy, &other] {
        api.record(false);
    }
    refusing.always_unauthorized(true);
    let one = TokenSpec::scopes(["read"]);
    let layer = AuthLayer::new(TokenCache::new(credentials(&server)))
        .route(refusing.url(), one.clone())
        .unwrap()
        .route(healthy.url(), one)
        .unwrap()
        .route(other.url(), TokenSpec::scopes(["other"]))
        .unwrap();
    let client = match replay {
        true => client(layer.layer(connections())),
        false => client(layer.without_replay().layer(connections())),
    };
    let enough = Arc::new(AtomicBool::new(false));
    let beside =
        |api: &Api| tokio::spawn(meanwhile(client.clone(), api.url(), Arc::clone(&enough)));
    let (beside_it, other_key) = (beside(&healthy), beside(&other));

    let left = Arc::new(AtomicI64::new(requests as i64));
    let crowd: JoinSet<_> = (0..CROWD)
        .map(|_| {
            let (mut client, url, left) = (client.clone(), refusing.url(), Arc::clone(&left));
            async move {
                while left.fetch_sub(1, Relaxed) > 0 {
                    let answer = send(&mut client, &url).await.unwrap();
                    assert_eq!(answer, StatusCode::UNAUTHORIZED);
                }
            }
        })
        .collect();
    crowd.join_all().await;
    enough.store(true, Relaxed);

    figure(&format!("{name}_token_requests"), server.counts().requests);
    figure(&format!("{name}_api_requests"), refusing.counts().requests);
    let (sent, failures) = beside_it.await.unwrap();
    figure(&format!("{name}_healthy_requests"), sent);
    figure(&format!("{name}_healthy_failures"), failures);
    let (sent, failures) = other_key.await.unwrap();
    figure(&format!("{name}_other_key_requests"), sent);
    figure(&format!("{name}_other_key_failures"), failures);
}

#[tokio::main]
async fn main() {
    let extent = if claimed() { FULL } else { SHORT };
    rollovers(&extent).await;
    storm("storm", extent.storm, true).await;
    storm("storm_without_replay", extent.storm, false).await;
}
