//! Checks the logs and metrics of the store behind a cache.

#[path = "support/faulty_store.rs"]
mod faulty_store;
mod support;

use std::collections::BTreeMap;

use faulty_store::FaultyStore;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use support::{Source, log, secs, spec, tenant};
use tokio::time::sleep;
use tower_bearer::{
    Secret, TokenCache,
    clock::Clock,
    store::{KeyRing, StoreErrorKind},
};

const KEY: &str = "0nF2ql0S7ivVYJz7IXgbRLHwlGAd0Vg5LGn6i3tGqzE=";

fn cache(source: &Source, store: &FaultyStore) -> TokenCache {
    TokenCache::builder(source.clone())
        .with_clock(Clock::tokio())
        .with_store(store.clone(), KeyRing::new(Secret::new(KEY)).unwrap())
        .with_store_namespace("tests")
        .build()
}

/// Runs two replicas through an outage of some seconds and a value written by another program.
async fn run() -> TokenCache {
    let (source, store) = (Source::new(), FaultyStore::default());
    let cache = cache(&source, &store);
    self::cache(&source, &store).get(spec()).await.unwrap();
    cache.get(spec()).await.unwrap();

    store.fail_all(Some(StoreErrorKind::Unavailable));
    for number in 0..5 {
        cache.get(&tenant(number)).await.unwrap();
        sleep(secs(1)).await;
    }
    store.fail_all(None);
    sleep(secs(9)).await;
    cache.get(&tenant("after")).await.unwrap();

    store.return_junk();
    cache.get(&tenant("junk")).await.unwrap();
    cache
}

#[tokio::test(start_paused = true)]
async fn outage_is_logged_when_it_begins_and_when_it_ends() {
    log::begin();
    run().await;
    let log = log::take();
    let of_level = |level: &str| -> Vec<&str> {
        let lines = log.lines().filter(|line| line.contains(level));
        lines.collect()
    };
    let [down, junk] = of_level(" WARN ")[..] else {
        panic!("{log}");
    };
    assert!(down.contains("store failed"), "{down}");
    assert!(
        down.contains("work=\"reading\" kind=\"unavailable\" error=scripted"),
        "{down}"
    );
    assert!(junk.contains("stored token can't be decrypted"), "{junk}");
    assert!(junk.contains("why=\"version\""), "{junk}");
    let [back] = of_level(" INFO ")[..] else {
        panic!("{log}");
    };
    assert!(
        back.contains("store recovered work=\"reading\" after="),
        "{back}"
    );
    assert_eq!(log.matches("token loaded from the store").count(), 1);
    assert!(log.matches("store failed").count() >= 3);
    for secret in ["token-1", KEY] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test(start_paused = true)]
async fn metrics_count_loads_errors_and_outages() {
    log::begin();
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let guard = metrics::set_default_local_recorder(&recorder);
    let cache = run().await;
    drop(guard);
    let sums: BTreeMap<String, u64> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .filter(|(key, ..)| key.key().name().contains("_store_"))
        .map(|(key, _, _, value)| {
            let labels = key.key().labels();
            let labels: Vec<_> = labels
                .map(|l| format!("{}={}", l.key(), l.value()))
                .collect();
            let value = match value {
                DebugValue::Counter(count) => count,
                DebugValue::Gauge(_) => panic!("no gauge is documented"),
                DebugValue::Histogram(values) => values.len() as u64,
            };
            (
                format!("{}{{{}}}", key.key().name(), labels.join(",")),
                value,
            )
        })
        .collect();
    let stats = cache.stats();
    let expected = [
        // The misses of the first replica, after the outage, and of the junk.
        ("tower_bearer_store_loads_total{outcome=miss}", 3),
        ("tower_bearer_store_loads_total{outcome=hit}", 1),
        ("tower_bearer_store_loads_total{outcome=unreadable}", 2),
        ("tower_bearer_store_load_seconds{}", 1),
        (
            "tower_bearer_store_errors_total{work=reading,kind=unavailable}",
            stats.store_errors,
        ),
        ("tower_bearer_store_outages_total{work=reading}", 1),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(sums, BTreeMap::from(expected));
    assert_eq!(
        (stats.store_hits, stats.store_misses, stats.store_unreadable),
        (1, 2, 2)
    );
    assert!((3..=5).contains(&stats.store_errors), "{stats:?}");
}
