//! Sends ten thousand requests through two replicas during each fault of their Redis: none fails, and none waits for long.

#[path = "support/redis.rs"]
mod redis_server;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use redis_server::{Redis, ask};
use tokio::{
    task::JoinSet,
    time::{self, sleep},
};
use tower::{Layer, ServiceExt};
use tower_bearer::{
    AuthLayer, NewToken, Secret, TokenCache, TokenSpec, source,
    store::{KeyRing, RedisStore},
    telemetry::{TokenEvent, TokenEvents},
    token::TokenOrigin,
};

const KEY: &str = "0nF2ql0S7ivVYJz7IXgbRLHwlGAd0Vg5LGn6i3tGqzE=";
const REQUESTS: u64 = 10_000;
const SENDERS: u64 = 20;
/// The interval of a sender's requests. A fault lasts for about three seconds, and so for several probes of the store.
const PACE: Duration = Duration::from_millis(5);
/// The number of requests of each replica for the same token.
const SHARE: u64 = 5;
/// The time that the provider needs.
const PROVIDER: Duration = Duration::from_millis(2);
/// The time limits of a read and a write, and a reserve for a busy machine.
const LIMIT: Duration = Duration::from_millis(2_500);
/// The lifetime of a lease is added if Redis grants one, but both the response and the token are lost.
const LIMIT_WITH_LEASE: Duration = Duration::from_millis(4_000 + 2_500);

/// A fault of Redis: its name, how it begins and ends, and the longest time that a request may take.
type Fault = (&'static str, Action, Action, Duration);

enum Action {
    Nothing,
    Signal(&'static str),
    Kill,
    StartAgain,
    Command(&'static [&'static str]),
    /// Runs a closure repeatedly, with this pause.
    Repeat(u64, fn(&mut redis::Connection)),
}

use Action::{Command, Kill, Nothing, Repeat, Signal, StartAgain};

impl Action {
    fn run(&self, redis: &mut Redis) -> Option<Disturbance> {
        match self {
            Nothing => {}
            Signal(signal) => redis.signal(signal),
            Kill => redis.kill(),
            StartAgain => redis.start_again(),
            Command(words) => redis.ask(words),
            Repeat(pause, act) => {
                let pause = Duration::from_millis(*pause);
                return Some(Disturbance::start(redis, pause, *act));
            }
        }
        None
    }
}

#[rustfmt::skip]
const FAULTS: &[Fault] = &[
    ("none", Nothing, Nothing, LIMIT),
    ("stopped", Signal("STOP"), Signal("CONT"), LIMIT),
    ("killed", Kill, StartAgain, LIMIT),
    ("paused", Command(&["CLIENT", "PAUSE", "4000", "ALL"]), Nothing, LIMIT),
    ("connections_killed", Repeat(20, kill_connections), Nothing, LIMIT_WITH_LEASE),
    ("out_of_memory", Command(&["CONFIG", "SET", "maxmemory", "1"]), Command(&["CONFIG", "SET", "maxmemory", "0"]), LIMIT),
    // The primary does not exist.
    ("read_only", Command(&["REPLICAOF", "127.0.0.1", "1"]), Command(&["REPLICAOF", "NO", "ONE"]), LIMIT),
    ("junk", Repeat(1, overwrite_values), Command(&["FLUSHALL"]), LIMIT),
    ("of_another_type", Repeat(1, change_types), Command(&["FLUSHALL"]), LIMIT_WITH_LEASE),
];

fn kill_connections(on: &mut redis::Connection) {
    let _ = ask::<u64>(on, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
}

fn overwrite_values(on: &mut redis::Connection) {
    let keys: Vec<String> = ask(on, &["KEYS", "*:value"]).unwrap_or_default();
    for key in keys {
        let _ = ask::<()>(on, &["SET", &key, "junk", "XX", "KEEPTTL"]);
    }
}

fn change_types(on: &mut redis::Connection) {
    let keys: Vec<String> = ask(on, &["KEYS", "*"]).unwrap_or_default();
    for key in keys {
        let _ = ask::<()>(on, &["DEL", &key]);
        let _ = ask::<()>(on, &["RPUSH", &key, "junk"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_or_waits_for_long_during_a_fault() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let fleet = Fleet::new(&redis.store());
    for (name, begin, end, limit) in FAULTS {
        let before = fleet.counts();
        let disturbance = begin.run(&mut redis);
        let slowest = fleet.requests().await;
        drop(disturbance);
        end.run(&mut redis);
        let after = fleet.counts();
        let worst = slowest.as_secs_f64() * 1_000.0;
        println!("figure store_{name}_worst_ms {worst:.1}");
        let provider = after.provider - before.provider;
        println!("figure store_{name}_provider_requests {provider}");
        let outages = after.outages - before.outages;
        println!("figure store_{name}_outages_told {outages}");
        assert!(slowest < *limit, "{name}: {slowest:?}");
        fleet.wait_for_recovery(name).await;
    }
}

/// Two replicas over one Redis, each with a separate connection.
struct Fleet {
    replicas: [TokenCache; 2],
    provider: Arc<AtomicU64>,
    outages: OutageCounter,
    next: Arc<AtomicU64>,
}

/// The counters at one time.
struct Counts {
    provider: u64,
    outages: u64,
}

impl Fleet {
    fn new(store: &RedisStore) -> Self {
        let provider = Arc::new(AtomicU64::new(0));
        let outages = OutageCounter::default();
        let replicas = [(); 2].map(|()| {
            let provider = Arc::clone(&provider);
            let source = source::from_fn(move |_| {
                let number = provider.fetch_add(1, SeqCst);
                async move {
                    sleep(PROVIDER).await;
                    let token = NewToken::bearer(&format!("token-{number}"))?;
                    Ok(token.with_lifetime(Duration::from_secs(3_600)))
                }
            });
            // Changing the user separates the connections from those of other clones.
            let store = store.clone().with_user("default");
            TokenCache::builder(source)
                .with_max_entries(1_000_000)
                .with_events(outages.clone())
                .with_store(store, KeyRing::new(Secret::new(KEY)).unwrap())
                .with_store_namespace("faults")
                .build()
        });
        Self {
            replicas,
            provider,
            outages,
            next: Arc::default(),
        }
    }

    /// Sends all requests, none of which may fail, and returns the time of the slowest.
    async fn requests(&self) -> Duration {
        let first = self.next.fetch_add(REQUESTS, SeqCst);
        let mut senders = JoinSet::new();
        for sender in 0..SENDERS {
            let replica = self.replicas[(sender % 2) as usize].clone();
            senders.spawn(async move {
                let layer = AuthLayer::new(replica)
                    .route("https://api.example", TokenSpec::default())
                    .unwrap();
                let api = tower::service_fn(async |request: http::Request<()>| {
                    assert!(request.headers().contains_key("authorization"));
                    Ok::<_, std::io::Error>(http::Response::new(()))
                });
                let mut slowest = Duration::ZERO;
                let mut pace = time::interval(PACE);
                for i in 0..REQUESTS / SENDERS {
                    pace.tick().await;
                    // Both replicas request the same token, each several times.
                    let key = first + (i / SHARE) * SENDERS + sender / 2;
                    let mut request = http::Request::get("https://api.example/").body(()).unwrap();
                    let spec = TokenSpec::default().with_tenant(key.to_string());
                    request.extensions_mut().insert(spec);
                    let begun = Instant::now();
                    layer.layer(api).oneshot(request).await.unwrap();
                    slowest = slowest.max(begun.elapsed());
                }
                slowest
            });
        }
        senders.join_all().await.into_iter().max().unwrap()
    }

    /// Waits until one replica loads what the other has fetched.
    async fn wait_for_recovery(&self, after: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let spec = TokenSpec::default()
                .with_tenant(format!("recovery-{}", self.next.fetch_add(1, SeqCst)));
            let [one, other] = &self.replicas;
            let fetched = one.get(&spec).await.unwrap();
            let found = other.get(&spec).await.unwrap();
            if (fetched.origin(), found.origin()) == (TokenOrigin::Provider, TokenOrigin::Store) {
                break;
            }
            assert!(
                Instant::now() < end,
                "the store is not used again after {after}"
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn counts(&self) -> Counts {
        Counts {
            provider: self.provider.load(SeqCst),
            outages: self.outages.0.load(SeqCst),
        }
    }
}

/// Counts the outages that are reported to the operator.
#[derive(Clone, Default)]
struct OutageCounter(Arc<AtomicU64>);

impl TokenEvents for OutageCounter {
    fn on_event(&self, event: &TokenEvent<'_>) {
        if matches!(event, TokenEvent::StoreFailed { first: true, .. }) {
            self.0.fetch_add(1, SeqCst);
        }
    }
}

/// A thread that repeats an action until this is dropped.
struct Disturbance {
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Disturbance {
    fn start(redis: &Redis, pause: Duration, act: fn(&mut redis::Connection)) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, mut on) = (Arc::clone(&stop), redis.connection());
        let thread = thread::spawn(move || {
            while !stopped.load(SeqCst) {
                act(&mut on);
                thread::sleep(pause);
            }
        });
        Self {
            stop,
            thread: Mutex::new(Some(thread)),
        }
    }
}

impl Drop for Disturbance {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.lock().unwrap().take() {
            thread.join().unwrap();
        }
    }
}
