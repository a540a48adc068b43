//! Ten thousand requests of two replicas while the Redis behind them is in trouble: none fails, and none waits for long.

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
/// Between two requests of a sender: the trouble lasts for about three seconds, over several trials of the store.
const PACE: Duration = Duration::from_millis(5);
/// So many requests of each replica want the same token.
const SHARE: u64 = 5;
/// What the provider takes.
const PROVIDER: Duration = Duration::from_millis(2);
/// A read and a write of the store at their bounds, and what a busy machine adds.
const BOUNDS: Duration = Duration::from_millis(2_500);
/// Where Redis gives a lease and its answer is lost, and then the token is lost too, nobody has that lease until it ends.
const A_LEASE: Duration = Duration::from_millis(4_000 + 2_500);

/// What goes wrong, how it begins and how it ends.
struct Trouble {
    name: &'static str,
    begin: fn(&mut Redis) -> Option<Pest>,
    end: fn(&mut Redis),
    /// What a request may take.
    longest: Duration,
}

const TROUBLES: &[Trouble] = &[
    Trouble {
        name: "none",
        begin: |_| None,
        end: |_| (),
        longest: BOUNDS,
    },
    Trouble {
        name: "stopped",
        begin: |redis| {
            redis.signal("STOP");
            None
        },
        end: |redis| redis.signal("CONT"),
        longest: BOUNDS,
    },
    Trouble {
        name: "killed",
        begin: |redis| {
            redis.kill();
            None
        },
        end: Redis::start_again,
        longest: BOUNDS,
    },
    Trouble {
        name: "paused",
        begin: |redis| {
            redis.ask::<()>(&["CLIENT", "PAUSE", "4000", "ALL"]);
            None
        },
        end: |_| (),
        longest: BOUNDS,
    },
    Trouble {
        name: "connections_killed",
        begin: |redis| {
            Some(Pest::start(redis, Duration::from_millis(20), |on| {
                let _ = ask::<u64>(on, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            }))
        },
        end: |_| (),
        longest: A_LEASE,
    },
    Trouble {
        name: "out_of_memory",
        begin: |redis| {
            redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
            None
        },
        end: |redis| redis.ask(&["CONFIG", "SET", "maxmemory", "0"]),
        longest: BOUNDS,
    },
    Trouble {
        name: "read_only",
        begin: |redis| {
            // Nobody is there.
            redis.ask::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
            None
        },
        end: |redis| redis.ask(&["REPLICAOF", "NO", "ONE"]),
        longest: BOUNDS,
    },
    Trouble {
        name: "junk",
        begin: |redis| {
            Some(Pest::start(redis, Duration::from_millis(1), |on| {
                let keys: Vec<String> = ask(on, &["KEYS", "*:value"]).unwrap_or_default();
                for key in keys {
                    let _ = ask::<()>(on, &["SET", &key, "junk", "XX", "KEEPTTL"]);
                }
            }))
        },
        end: |redis| redis.ask(&["FLUSHALL"]),
        longest: BOUNDS,
    },
    Trouble {
        name: "of_another_type",
        begin: |redis| {
            Some(Pest::start(redis, Duration::from_millis(1), |on| {
                let keys: Vec<String> = ask(on, &["KEYS", "*"]).unwrap_or_default();
                for key in keys {
                    let _ = ask::<()>(on, &["DEL", &key]);
                    let _ = ask::<()>(on, &["RPUSH", &key, "junk"]);
                }
            }))
        },
        end: |redis| redis.ask(&["FLUSHALL"]),
        longest: A_LEASE,
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_during_each_trouble_and_none_fails_or_waits_for_long() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let fleet = Fleet::new(&redis.store());
    for trouble in TROUBLES {
        let before = fleet.account();
        let pest = (trouble.begin)(&mut redis);
        let slowest = fleet.requests().await;
        drop(pest);
        (trouble.end)(&mut redis);
        let after = fleet.account();
        let outages = after.outages - before.outages;
        println!(
            "figure store_{}_worst_ms {:.1}",
            trouble.name,
            slowest.as_secs_f64() * 1_000.0
        );
        println!(
            "figure store_{}_provider_requests {}",
            trouble.name,
            after.provider - before.provider
        );
        println!("figure store_{}_outages_told {outages}", trouble.name);
        assert!(slowest < trouble.longest, "{}: {slowest:?}", trouble.name);
        fleet.is_well_again(trouble.name).await;
    }
}

/// Two replicas over one Redis, each with a connection of its own.
struct Fleet {
    replicas: [TokenCache; 2],
    provider: Arc<AtomicU64>,
    told: Told,
    next: Arc<AtomicU64>,
}

/// What has been counted so far.
struct Account {
    provider: u64,
    outages: u64,
}

impl Fleet {
    fn new(store: &RedisStore) -> Self {
        let provider = Arc::new(AtomicU64::new(0));
        let told = Told::default();
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
            // Its own user: connections are shared by the clones of a store alone.
            let store = store.clone().with_user("default");
            TokenCache::builder(source)
                .with_max_entries(1_000_000)
                .with_events(told.clone())
                .with_store(store, KeyRing::new(Secret::new(KEY)).unwrap())
                .with_store_namespace("faults")
                .build()
        });
        Self {
            replicas,
            provider,
            told,
            next: Arc::default(),
        }
    }

    /// All the requests, none of which fails; and how long the slowest took.
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
                    // Both replicas want it, and each wants it several times.
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

    /// Waits until one replica finds what the other has fetched.
    async fn is_well_again(&self, after: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let spec = TokenSpec::default()
                .with_tenant(format!("well-{}", self.next.fetch_add(1, SeqCst)));
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

    fn account(&self) -> Account {
        Account {
            provider: self.provider.load(SeqCst),
            outages: self.told.0.load(SeqCst),
        }
    }
}

/// Counts the outages that an operator is told.
#[derive(Clone, Default)]
struct Told(Arc<AtomicU64>);

impl TokenEvents for Told {
    fn on_event(&self, event: &TokenEvent<'_>) {
        if matches!(event, TokenEvent::StoreFailed { first: true, .. }) {
            self.0.fetch_add(1, SeqCst);
        }
    }
}

/// Somebody who does the same again and again, until it is dropped.
struct Pest {
    enough: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Pest {
    fn start(redis: &Redis, pause: Duration, act: fn(&mut redis::Connection)) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let (seen, mut on) = (Arc::clone(&enough), redis.connection());
        let thread = thread::spawn(move || {
            while !seen.load(SeqCst) {
                act(&mut on);
                thread::sleep(pause);
            }
        });
        Self {
            enough,
            thread: Mutex::new(Some(thread)),
        }
    }
}

impl Drop for Pest {
    fn drop(&mut self) {
        self.enough.store(true, SeqCst);
        if let Some(thread) = self.thread.lock().unwrap().take() {
            thread.join().unwrap();
        }
    }
}
