//! Counts the token requests of a hundred replicas: with a shared Redis, with a shared Redis while replicas are killed during
//! a fetch, and without a shared store.
//!
//! Each replica is a thread with its own runtime, cache and connection, under steady traffic. The bench starts a real Redis
//! server. Without `--bench`, as `cargo test` runs it, the run is short and prints no figures.

#[path = "../tests/support/redis.rs"]
mod redis_server;

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread,
    time::{Duration, Instant},
};

use redis_server::Redis;
use tokio::{
    runtime::Builder,
    sync::Notify,
    time::{self, MissedTickBehavior},
};
use tower_bearer::{
    NewToken, Secret, TokenCache, TokenError, TokenSource, TokenSpec,
    source::{SourceId, TokenRequest},
    store::{KeyRing, RedisStore},
};

const KEY: &str = "0nF2ql0S7ivVYJz7IXgbRLHwlGAd0Vg5LGn6i3tGqzE=";

/// The sizes of a run.
struct Extent {
    replicas: usize,
    /// The time after which a token is due for refresh. Its lifetime is four times as long.
    refresh_in: Duration,
    /// The number of tokens during the run. Each is replaced when it is due for refresh.
    lifetimes: u32,
    lifetimes_without_store: u32,
    is_bench: bool,
}

const FULL: Extent = Extent {
    replicas: 100,
    refresh_in: Duration::from_secs(4),
    lifetimes: 20,
    lifetimes_without_store: 5,
    is_bench: true,
};

const SHORT: Extent = Extent {
    replicas: 4,
    refresh_in: Duration::from_millis(500),
    lifetimes: 1,
    lifetimes_without_store: 1,
    is_bench: false,
};

/// The latency of the provider.
const PROVIDER_LATENCY: Duration = Duration::from_millis(30);
/// The interval between two requests of a replica.
const REQUEST_INTERVAL: Duration = Duration::from_millis(20);
const READ_TIMEOUT: Duration = Duration::from_millis(200);
/// A lease is two fifths of this, so that another replica can take over from a killed leader before the token expires.
const FETCH_TIMEOUT: Duration = Duration::from_secs(1);

/// The provider that all replicas share, and the counters of the run.
#[derive(Default)]
struct Provider {
    refresh_in: Duration,
    fetches: AtomicU64,
    issued: AtomicU64,
    /// Every other replica that fetches is killed.
    kills: bool,
    kills_next: AtomicBool,
    requests: AtomicU64,
    waited: AtomicU64,
    failures: AtomicU64,
    /// The number of different tokens that each replica has used, summed over all replicas.
    tokens_used: AtomicU64,
    /// The number of failed calls to the store.
    store_errors: AtomicU64,
    stop: AtomicBool,
}

/// Fetches tokens for one replica. The provider may kill the replica meanwhile.
struct Source {
    provider: Arc<Provider>,
    killed: Arc<Notify>,
}

impl TokenSource for Source {
    async fn fetch(&self, _: &TokenRequest) -> Result<NewToken, TokenError> {
        self.provider.fetches.fetch_add(1, SeqCst);
        if self.provider.kills && self.provider.kills_next.fetch_xor(true, SeqCst) {
            self.killed.notify_one();
            std::future::pending::<()>().await;
        }
        time::sleep(PROVIDER_LATENCY).await;
        let number = self.provider.issued.fetch_add(1, SeqCst);
        Ok(NewToken::bearer(&format!("token-{number}"))?
            .with_lifetime(self.provider.refresh_in * 4)
            .with_refresh_in(self.provider.refresh_in))
    }

    fn source_id(&self) -> Option<SourceId> {
        Some(SourceId::new("bench"))
    }
}

/// Runs a replica until the run ends, and starts another whenever it is killed.
fn replica(provider: &Arc<Provider>, store: Option<&str>) {
    let mut last = String::new();
    while !provider.stop.load(Relaxed) {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let killed = Arc::new(Notify::new());
        let source = Source {
            provider: Arc::clone(provider),
            killed: Arc::clone(&killed),
        };
        let mut builder = TokenCache::builder(source).with_fetch_timeout(FETCH_TIMEOUT);
        if let Some(url) = store {
            let ring = KeyRing::new(Secret::new(KEY)).unwrap();
            // A hundred replicas on one machine may have to wait for a processor.
            let store = RedisStore::new(url)
                .unwrap()
                .with_read_timeout(READ_TIMEOUT);
            builder = builder.with_store(store, ring);
        }
        let cache = builder.build();
        runtime.block_on(async {
            tokio::select! {
                () = traffic(provider, &cache, &mut last) => {}
                () = killed.notified() => {}
            }
        });
        let errors = cache.stats().store_errors;
        provider.store_errors.fetch_add(errors, Relaxed);
    }
}

async fn traffic(provider: &Provider, cache: &TokenCache, last: &mut String) {
    let spec = TokenSpec::scopes(["read"]);
    let mut ticks = time::interval(REQUEST_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !provider.stop.load(Relaxed) {
        ticks.tick().await;
        let waits = cache.peek(&spec).is_none();
        match cache.get(&spec).await {
            Ok(token) if token.expose() != last => {
                token.expose().clone_into(last);
                provider.tokens_used.fetch_add(1, Relaxed);
            }
            Ok(_) => {}
            Err(_) => {
                provider.failures.fetch_add(1, Relaxed);
            }
        }
        provider.waited.fetch_add(waits.into(), Relaxed);
        provider.requests.fetch_add(1, Relaxed);
    }
}

/// Runs a fleet for the given number of token lifetimes, and returns the number of fetches per lifetime.
fn fleet(name: &str, extent: &Extent, lifetimes: u32, store: Option<&str>, kills: bool) -> f64 {
    let provider = Arc::new(Provider {
        refresh_in: extent.refresh_in,
        kills,
        kills_next: AtomicBool::new(true),
        ..Provider::default()
    });
    let replicas: Vec<_> = (0..extent.replicas)
        .map(|_| {
            let (provider, store) = (Arc::clone(&provider), store.map(str::to_owned));
            thread::spawn(move || replica(&provider, store.as_deref()))
        })
        .collect();
    // There is time for the last token to reach all replicas.
    let end = Instant::now() + extent.refresh_in * lifetimes + extent.refresh_in / 2;
    thread::sleep(end.saturating_duration_since(Instant::now()));
    provider.stop.store(true, Relaxed);
    for replica in replicas {
        replica.join().unwrap();
    }
    let count = |counter: &AtomicU64| counter.load(SeqCst) as f64;
    let lifetimes = count(&provider.tokens_used) / extent.replicas as f64;
    assert_eq!(count(&provider.failures), 0.0, "{name}: requests failed");
    if extent.is_bench {
        println!("figure fleet_{name}_requests {}", count(&provider.requests));
        println!(
            "figure fleet_{name}_requests_that_waited {}",
            count(&provider.waited)
        );
        println!("figure fleet_{name}_failures {}", count(&provider.failures));
        println!("figure fleet_{name}_fetches {}", count(&provider.fetches));
        println!("figure fleet_{name}_lifetimes {lifetimes:.2}");
        println!(
            "figure fleet_{name}_store_errors {}",
            count(&provider.store_errors)
        );
    }
    count(&provider.fetches) / lifetimes
}

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let extent = if is_bench { FULL } else { SHORT };
    let Some(redis) = Redis::start() else {
        return;
    };
    let url = redis.url();
    let mut figures = Vec::new();
    let shared = fleet("shared", &extent, extent.lifetimes, Some(&url), false);
    figures.push(("fetches_per_lifetime", shared));
    redis.ask::<()>(&["FLUSHALL"]);
    let killed = fleet("killed", &extent, extent.lifetimes, Some(&url), true);
    figures.push(("fetches_per_lifetime_leader_killed", killed));
    let without_store = fleet(
        "alone",
        &extent,
        extent.lifetimes_without_store,
        None,
        false,
    );
    figures.push(("fetches_per_lifetime_without_store", without_store));
    for (name, value) in figures {
        assert!(value >= 1.0, "{name}: {value}");
        if is_bench {
            println!("figure {name} {value:.3}");
        }
    }
}
