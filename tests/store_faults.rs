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

/// A fault of Redis, and how it begins and ends.
struct Fault {
    name: &'static str,
    begin: fn(&mut Redis) -> Option<Disturbance>,
    end: fn(&mut Redis),
    /// The longest time that a request may take.
    limit: Duration,
}

impl Fault {
    const fn new(
        name: &'static str,
        begin: fn(&mut Redis) -> Option<Disturbance>,
        end: fn(&mut Redis),
    ) -> Self {
        let limit = LIMIT;
        Self {
            name,
            begin,
            end,
            limit,
        }
    }
}

const FAULTS: &[Fault] = &[
    Fault::new("none", |_| None, |_| ()),
    Fault::new(
        "stopped",
        |redis| {
            redis.signal("STOP");
            None
        },
        |redis| redis.signal("CONT"),
    ),
    Fault::new(
        "killed",
        |redis| {
            redis.kill();
            None
        },
        Redis::start_again,
    ),
    Fault::new(
        "paused",
        |redis| {
            redis.ask::<()>(&["CLIENT", "PAUSE", "4000", "ALL"]);
            None
        },
        |_| (),
    ),
    Fault {
        limit: LIMIT_WITH_LEASE,
        ..Fault::new(
            "connections_killed",
            |redis| {
                Some(Disturbance::start(redis, Duration::from_millis(20), |on| {
                    let _ = ask::<u64>(on, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
                }))
            },
            |_| (),
        )
    },
    Fault::new(
        "out_of_memory",
        |redis| {
            redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
            None
        },
        |redis| redis.ask(&["CONFIG", "SET", "maxmemory", "0"]),
    ),
    // The primary does not exist.
    Fault::new(
        "read_only",
        |redis| {
            redis.ask::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
            None
        },
        |redis| redis.ask(&["REPLICAOF", "NO", "ONE"]),
    ),
    Fault::new(
        "junk",
        |redis| {
            Some(Disturbance::start(redis, Duration::from_millis(1), |on| {
                let keys: Vec<String> = ask(on, &["KEYS", "*:value"]).unwrap_or_default();
                for key in keys {
                    let _ = ask::<()>(on, &["SET", &key, "junk", "XX", "KEEPTTL"]);
                }
            }))
        },
        |redis| redis.ask(&["FLUSHALL"]),
    ),
    Fault {
        limit: LIMIT_WITH_LEASE,
        ..Fault::new(
            "of_another_type",
            |redis| {
                Some(Disturbance::start(redis, Duration::from_millis(1), |on| {
                    let keys: Vec<String> = ask(on, &["KEYS", "*"]).unwrap_or_default();
                    for key in keys {
                        let _ = ask::<()>(on, &["DEL", &key]);
                        let _ = ask::<()>(on, &["RPUSH", &key, "junk"]);
                    }
                }))
            },
            |redis| redis.ask(&["FLUSHALL"]),
        )
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_or_waits_for_long_during_a_fault() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let fleet = Fleet::new(&redis.store());
    for fault in FAULTS {
        let before = fleet.counts();
        let disturbance = (fault.begin)(&mut redis);
        let slowest = fleet.requests().await;
        drop(disturbance);
        (fault.end)(&mut redis);
        let after = fleet.counts();
        let outages = after.outages - before.outages;
        println!(
            "figure store_{}_worst_ms {:.1}",
            fault.name,
            slowest.as_secs_f64() * 1_000.0
        );
        println!(
            "figure store_{}_provider_requests {}",
            fault.name,
            after.provider - before.provider
        );
        println!("figure store_{}_outages_told {outages}", fault.name);
        assert!(slowest < fault.limit, "{}: {slowest:?}", fault.name);
        fleet.wait_for_recovery(fault.name).await;
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
