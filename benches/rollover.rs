//! Measures how the replacement of tokens affects requests: of tokens that expire under steady traffic, and of tokens that an
//! API rejects one after the other.
//!
//! Client, provider and API run in this process and communicate over loopback sockets. Without `--bench`, as `cargo test` runs
//! it, the run is short and prints no figures.

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

/// The sizes of a run.
struct Extent {
    traffic: Duration,
    rejected_requests: usize,
}

const FULL: Extent = Extent {
    traffic: Duration::from_secs(42),
    rejected_requests: 10_000,
};

const SHORT: Extent = Extent {
    traffic: Duration::from_millis(100),
    rejected_requests: 200,
};

/// A token with this lifetime is due for refresh after `REFRESH_IN` and used until a tenth of the lifetime is left. A provider
/// with the latency `PROVIDER_LATENCY` is fast enough, and a refresh is in flight half of the time.
const LIFETIME: Duration = Duration::from_secs(8);
const REFRESH_IN: Duration = Duration::from_secs(4);
const PROVIDER_LATENCY: Duration = Duration::from_secs(2);

const SENDERS: usize = 8;
/// The interval between two requests of a sender.
const REQUEST_INTERVAL: Duration = Duration::from_millis(4);
/// The number of requests in flight to the API that rejects all tokens.
const CONCURRENCY: usize = 64;

/// Counts the starts and the ends of fetches. The count is odd while a fetch is in flight.
struct ObservedSource {
    source: ClientCredentials,
    fetch_events: Arc<AtomicU64>,
}

impl TokenSource for ObservedSource {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        self.fetch_events.fetch_add(1, SeqCst);
        let token = self.source.fetch(request).await;
        self.fetch_events.fetch_add(1, SeqCst);
        token
    }
}

fn credentials(server: &AuthorizationServer) -> ClientCredentials {
    ClientCredentials::new(server.token_url(), "client", "secret")
}

/// Returns a client with a connection pool.
fn pooled_client() -> Client<HttpConnector, Full<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

/// Returns a client that reads each response body to its end.
fn client<S>(service: S) -> BoxedClient
where
    S: Service<Request<Full<Bytes>>, Response = Response<Incoming>>,
    S: Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    BoxCloneService::new(service.map_err(Into::into).and_then(read_to_end))
}

async fn read_to_end(response: Response<Incoming>) -> Result<StatusCode, BoxError> {
    let status = response.status();
    response.into_body().collect().await?;
    Ok(status)
}

async fn send(client: &mut BoxedClient, url: &str) -> Result<StatusCode, BoxError> {
    let request = Request::get(url).body(Full::default())?;
    client.ready().await?.call(request).await
}

/// Returns `true` under `cargo bench`, and `false` under `cargo test`, which only checks that the bench runs.
fn is_bench() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

fn figure(name: &str, value: impl std::fmt::Display) {
    if is_bench() {
        println!("figure {name} {value:.3}");
    }
}

/// The outcome of a request under steady traffic.
struct Sent {
    took: Duration,
    /// `true` if a fetch was in flight at some time during the request.
    during_fetch: bool,
    accepted: bool,
}

async fn send_at_intervals(
    mut client: BoxedClient,
    url: String,
    fetch_events: Arc<AtomicU64>,
    until: Instant,
) -> Vec<Sent> {
    let mut all = Vec::new();
    let mut ticks = time::interval(REQUEST_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while Instant::now() < until {
        ticks.tick().await;
        let (before, start) = (fetch_events.load(SeqCst), Instant::now());
        let response = send(&mut client, &url).await;
        let (after, took) = (fetch_events.load(SeqCst), start.elapsed());
        all.push(Sent {
            took,
            during_fetch: before % 2 == 1 || after != before,
            accepted: matches!(response, Ok(StatusCode::OK)),
        });
    }
    all
}

/// Returns the longest time and the 99.9th percentile, in milliseconds.
fn slowest(sent: &[Sent], during_fetch: bool) -> (f64, f64) {
    let selected = sent.iter().filter(|sent| sent.during_fetch == during_fetch);
    let mut took: Vec<_> = selected.map(|s| s.took.as_secs_f64() * 1_000.0).collect();
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
    let fetch_events = Arc::new(AtomicU64::new(0));
    let cache = TokenCache::new(ObservedSource {
        source: credentials(&server),
        fetch_events: Arc::clone(&fetch_events),
    });
    let spec = TokenSpec::scopes(["read"]);
    let layer = AuthLayer::new(cache.clone())
        .route(api.url(), spec.clone())
        .unwrap();
    cache.get(&spec).await.unwrap();
    server.fault_always(Fault::delay(PROVIDER_LATENCY));
    let mut client = client(layer.layer(pooled_client()));
    for _ in 0..SENDERS {
        send(&mut client, &api.url()).await.unwrap();
    }
    let before = cache.stats();
    let until = Instant::now() + extent.traffic;
    let senders: JoinSet<_> = (0..SENDERS)
        .map(|_| send_at_intervals(client.clone(), api.url(), Arc::clone(&fetch_events), until))
        .collect();
    let sent: Vec<Sent> = senders.join_all().await.into_iter().flatten().collect();
    let after = cache.stats();
    let failures = sent.iter().filter(|sent| !sent.accepted).count();
    figure("rollover_requests", sent.len());
    figure(
        "rollover_rollovers",
        after.fetches - before.fetches - (fetch_events.load(SeqCst) % 2),
    );
    figure(
        "rollover_requests_that_waited",
        after.misses - before.misses,
    );
    figure("rollover_failures", failures);
    let (slow, p999) = slowest(&sent, true);
    let (slow_elsewhere, p999_elsewhere) = slowest(&sent, false);
    figure("rollover_slowest_ms", slow);
    figure("elsewhere_slowest_ms", slow_elsewhere);
    figure("rollover_slowest_ratio", slow / slow_elsewhere);
    figure("rollover_p999_ms", p999);
    figure("elsewhere_p999_ms", p999_elsewhere);
    figure("rollover_p999_ratio", p999 / p999_elsewhere);
}

/// Sends requests until `stop` is set. Returns the number of requests, and of those that failed.
async fn send_until(mut client: BoxedClient, url: String, stop: Arc<AtomicBool>) -> (u64, u64) {
    let (mut sent, mut failures) = (0, 0);
    while !stop.load(Relaxed) {
        let accepted = matches!(send(&mut client, &url).await, Ok(StatusCode::OK));
        sent += 1;
        failures += u64::from(!accepted);
    }
    (sent, failures)
}

/// Sends requests to an API that rejects every token, while others go to two APIs that accept the tokens of the same provider.
async fn rejecting_api(name: &str, requests: usize, replay: bool) {
    let server = AuthorizationServer::start().await.unwrap();
    let [rejecting, healthy, other] = [
        Api::start(&server).await.unwrap(),
        Api::start(&server).await.unwrap(),
        Api::start(&server).await.unwrap(),
    ];
    for api in [&rejecting, &healthy, &other] {
        api.record(false);
    }
    rejecting.always_unauthorized(true);
    let one = TokenSpec::scopes(["read"]);
    let layer = AuthLayer::new(TokenCache::new(credentials(&server)))
        .route(rejecting.url(), one.clone())
        .unwrap()
        .route(healthy.url(), one)
        .unwrap()
        .route(other.url(), TokenSpec::scopes(["other"]))
        .unwrap();
    let client = match replay {
        true => client(layer.layer(pooled_client())),
        false => client(layer.without_replay().layer(pooled_client())),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let background =
        |api: &Api| tokio::spawn(send_until(client.clone(), api.url(), Arc::clone(&stop)));
    let (same_key, other_key) = (background(&healthy), background(&other));

    let left = Arc::new(AtomicI64::new(requests as i64));
    let senders_to_rejecting: JoinSet<_> = (0..CONCURRENCY)
        .map(|_| {
            let (mut client, url, left) = (client.clone(), rejecting.url(), Arc::clone(&left));
            async move {
                while left.fetch_sub(1, Relaxed) > 0 {
                    let status = send(&mut client, &url).await.unwrap();
                    assert_eq!(status, StatusCode::UNAUTHORIZED);
                }
            }
        })
        .collect();
    senders_to_rejecting.join_all().await;
    stop.store(true, Relaxed);

    figure(&format!("{name}_token_requests"), server.counts().requests);
    figure(&format!("{name}_api_requests"), rejecting.counts().requests);
    let (sent, failures) = same_key.await.unwrap();
    figure(&format!("{name}_healthy_requests"), sent);
    figure(&format!("{name}_healthy_failures"), failures);
    let (sent, failures) = other_key.await.unwrap();
    figure(&format!("{name}_other_key_requests"), sent);
    figure(&format!("{name}_other_key_failures"), failures);
}

#[tokio::main]
async fn main() {
    let extent = if is_bench() { FULL } else { SHORT };
    rollovers(&extent).await;
    rejecting_api("storm", extent.rejected_requests, true).await;
    rejecting_api("storm_without_replay", extent.rejected_requests, false).await;
}
