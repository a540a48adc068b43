//! What a hundred replicas ask of a provider that they share, over one Redis: with it, without it, and when whoever fetches
//! is killed at it each time.
//!
//! Each replica is a thread with a runtime, a cache and a connection of its own, under steady traffic. The Redis is real, and
//! started here. Without `--bench`, as `cargo test` runs it, everything takes a short turn and nothing is claimed.

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

/// How much of everything.
struct Extent {
    replicas: usize,
    /// Until a token is due for refresh; it would serve for more than three times as long.
    refresh_in: Duration,
    /// Of tokens, each of which gives way to the next when it is due.
    lifetimes: u32,
    lifetimes_without_store: u32,
    claimed: bool,
}

const FULL: Extent = Extent {
    replicas: 100,
    refresh_in: Duration::from_secs(4),
    lifetimes: 20,
    lifetimes_without_store: 5,
    claimed: true,
};

const SHORT: Extent = Extent {
    replicas: 4,
    refresh_in: Duration::from_millis(500),
    lifetimes: 1,
    lifetimes_without_store: 1,
    claimed: false,
};

/// What the provider takes.
const PROVIDER_TAKES: Duration = Duration::from_millis(30);
/// Between two requests of a replica.
const PACE: Duration = Duration::from_millis(20);
const READ_TIMEOUT: Duration = Duration::from_millis(200);
/// A lease is two fifths of it, so that a leader's death leaves time for another before the token ends.
const FETCH_TIMEOUT: Duration = Duration::from_secs(1);

/// The provider that all replicas ask, and what there is to tell.
#[derive(Default)]
struct Provider {
    refresh_in: Duration,
    asked: AtomicU64,
    given: AtomicU64,
    /// Whether whoever asks next is killed at it, if anybody is.
    kills: bool,
    spared: AtomicBool,
    requests: AtomicU64,
    waited: AtomicU64,
    failures: AtomicU64,
    /// Tokens that replicas have seen, all together.
    seen: AtomicU64,
    /// What the store was asked and did not do.
    store_errors: AtomicU64,
    over: AtomicBool,
}

/// A replica's way to the provider, which may kill it.
struct Source {
    provider: Arc<Provider>,
    death: Arc<Notify>,
}

impl TokenSource for Source {
    async fn fetch(&self, _: &TokenRequest) -> Result<NewToken, TokenError> {
        self.provider.asked.fetch_add(1, SeqCst);
        // Every other one.
        if self.provider.kills && !self.provider.spared.fetch_xor(true, SeqCst) {
            self.death.notify_one();
            std::future::pending::<()>().await;
        }
        time::sleep(PROVIDER_TAKES).await;
        let number = self.provider.given.fetch_add(1, SeqCst);
        Ok(NewToken::bearer(&format!("token-{number}"))?
            .with_lifetime(self.provider.refresh_in * 4)
            .with_refresh_in(self.provider.refresh_in))
    }

    fn source_id(&self) -> Option<SourceId> {
        Some(SourceId::new("bench"))
    }
}

/// A replica, and another in its place whenever it is killed, until it is over.
fn replica(provider: &Arc<Provider>, store: Option<&str>) {
    let mut last = String::new();
    while !provider.over.load(Relaxed) {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let death = Arc::new(Notify::new());
        let source = Source {
            provider: Arc::clone(provider),
            death: Arc::clone(&death),
        };
        let mut builder = TokenCache::builder(source).with_fetch_timeout(FETCH_TIMEOUT);
        if let Some(url) = store {
            let ring = KeyRing::new(Secret::new(KEY)).unwrap();
            // A hundred replicas on one machine may have to wait for its processors.
            let store = RedisStore::new(url)
                .unwrap()
                .with_read_timeout(READ_TIMEOUT);
            builder = builder.with_store(store, ring);
        }
        let cache = builder.build();
        runtime.block_on(async {
            tokio::select! {
                () = traffic(provider, &cache, &mut last) => {}
                () = death.notified() => {}
            }
        });
        let errors = cache.stats().store_errors;
        provider.store_errors.fetch_add(errors, Relaxed);
    }
}

async fn traffic(provider: &Provider, cache: &TokenCache, last: &mut String) {
    let spec = TokenSpec::scopes(["read"]);
    let mut pace = time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !provider.over.load(Relaxed) {
        pace.tick().await;
        let waits = cache.peek(&spec).is_none();
        match cache.get(&spec).await {
            Ok(token) if token.expose() != last => {
                token.expose().clone_into(last);
                provider.seen.fetch_add(1, Relaxed);
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

/// A fleet's life, for so many lifetimes of a token; how often the provider was asked in each.
fn fleet(name: &str, extent: &Extent, lifetimes: u32, store: Option<&str>, kills: bool) -> f64 {
    let provider = Arc::new(Provider {
        refresh_in: extent.refresh_in,
        kills,
        ..Provider::default()
    });
    let replicas: Vec<_> = (0..extent.replicas)
        .map(|_| {
            let (provider, store) = (Arc::clone(&provider), store.map(str::to_owned));
            thread::spawn(move || replica(&provider, store.as_deref()))
        })
        .collect();
    // The last token reaches everybody.
    let end = Instant::now() + extent.refresh_in * lifetimes + extent.refresh_in / 2;
    thread::sleep(end.saturating_duration_since(Instant::now()));
    provider.over.store(true, Relaxed);
    for replica in replicas {
        replica.join().unwrap();
    }
    let count = |counter: &AtomicU64| counter.load(SeqCst) as f64;
    let lifetimes = count(&provider.seen) / extent.replicas as f64;
    assert_eq!(count(&provider.failures), 0.0, "{name}: requests failed");
    if extent.claimed {
        println!("figure fleet_{name}_requests {}", count(&provider.requests));
        println!(
            "figure fleet_{name}_requests_that_waited {}",
            count(&provider.waited)
        );
        println!("figure fleet_{name}_failures {}", count(&provider.failures));
        println!("figure fleet_{name}_fetches {}", count(&provider.asked));
        println!("figure fleet_{name}_lifetimes {lifetimes:.2}");
        println!(
            "figure fleet_{name}_store_errors {}",
            count(&provider.store_errors)
        );
    }
    count(&provider.asked) / lifetimes
}

fn main() {
    let claimed = std::env::args().any(|argument| argument == "--bench");
    let extent = if claimed { FULL } else { SHORT };
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
    let alone = fleet(
        "alone",
        &extent,
        extent.lifetimes_without_store,
        None,
        false,
    );
    figures.push(("fetches_per_lifetime_without_store", alone));
    for (name, value) in figures {
        assert!(value >= 1.0, "{name}: {value}");
        if claimed {
            println!("figure {name} {value:.3}");
        }
    }
}
