//! Tests that each event is reported once to the log, the metrics and the event listener.

mod support;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use support::{Answer, Api, HOUR, Source, layer, log, outcome, request, secs, send, settle, spec};
use tokio::time::advance;
use tower::Layer;
use tower_bearer::{
    ErrorKind, TokenCache,
    cache::EntryState,
    clock::Clock,
    telemetry::{TokenEvent, TokenEvents},
    token::{FetchReason, TokenOrigin},
};

/// An event listener that records the names of events.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<String>>>);

impl TokenEvents for Listener {
    fn on_event(&self, event: &TokenEvent<'_>) {
        let name = match event {
            TokenEvent::AttemptFailed { attempt, .. } => format!("attempt {attempt} failed"),
            TokenEvent::Fetched { token, .. } => format!("fetched: {}", token.reason().as_str()),
            TokenEvent::FetchFailed { reason, error, .. } => {
                format!("failed: {}: {}", reason.as_str(), error.kind())
            }
            TokenEvent::Waited { .. } => "waited".to_owned(),
            TokenEvent::Rejected { .. } => "rejected".to_owned(),
            TokenEvent::RejectionLimitReached { first, .. } => format!("storm: {first}"),
            TokenEvent::RecoveryFinished { recovery, .. } => {
                format!("refused: {}", recovery.as_str())
            }
            other => panic!("{other:?}"),
        };
        self.0.lock().unwrap().push(name);
    }
}

impl Listener {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Returns the value of each changed metric by name and labels; for a histogram, the number of values.
fn sums(snapshotter: &Snapshotter) -> BTreeMap<String, f64> {
    let metrics = snapshotter.snapshot().into_vec();
    let named = metrics.into_iter().map(|(key, _, _, value)| {
        let (name, labels) = (key.key().name(), key.key().labels());
        let labels = labels.map(|label| format!("{}={}", label.key(), label.value()));
        let labels = labels.collect::<Vec<_>>().join(",");
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(level) => level.0,
            DebugValue::Histogram(values) => values.len() as f64,
        };
        (format!("{name}{{{labels}}}"), value)
    });
    named.collect()
}

fn cache_with(listener: &Listener, source: &Source) -> TokenCache {
    log::begin();
    TokenCache::builder(source.clone())
        .with_clock(Clock::tokio())
        .with_events(listener.clone())
        .build()
}

#[tokio::test(start_paused = true)]
async fn every_event_is_reported_once() {
    let (listener, source, api) = (Listener::default(), Source::new(), Api::new());
    let cache = cache_with(&listener, &source);
    let mut client = layer(&cache).layer(api.clone());

    source.push_answer(Answer::fail(ErrorKind::Unavailable));
    send(&mut client, request("/")).await.await.unwrap();
    let events = ["attempt 1 failed", "fetched: missing", "waited"];
    assert_eq!(listener.take(), events);
    let log = log::take();
    for line in [
        "DEBUG fetch{spec=TokenSpec { scopes: [\"read\"] } reason=\"missing\"}: tower_bearer: token request failed, retrying",
        "tower_bearer: token fetched spec=TokenSpec { scopes: [\"read\"] } generation=",
        "DEBUG tower_bearer: request waited for a token",
    ] {
        assert_eq!(log.matches(line).count(), 1, "{line}\n{log}");
    }

    // A hit reports nothing.
    send(&mut client, request("/")).await.await.unwrap();
    assert!(listener.take().is_empty() && log::take().is_empty());

    api.revoke("token-2");
    let response = send(&mut client, request("/")).await.await.unwrap();
    assert_eq!(outcome(&response), (200, Some("recovered")));
    let events = "rejected, fetched: rejected, waited, refused: recovered";
    assert_eq!(listener.take().join(", "), events);

    // The refresh of the token is due.
    advance(secs(3400)).await;
    source.push_answer(Answer::fail(ErrorKind::InvalidScope));
    send(&mut client, request("/")).await.await.unwrap();
    settle().await;
    assert_eq!(listener.take(), ["failed: stale: invalid_scope"]);
    let log = log::take();
    assert_eq!(log.matches(" WARN ").count(), 1, "{log}");
    assert!(log.contains("kind=\"invalid_scope\""), "{log}");
}

#[tokio::test(start_paused = true)]
async fn rejection_limit_warns_once() {
    let listener = Listener::default();
    let cache = cache_with(&listener, &Source::new());
    let mut client = layer(&cache).layer(Api::new());
    for _ in 0..50 {
        send(&mut client, request("/refused")).await.await.unwrap();
    }
    let events = listener.take();
    let count = |name| events.iter().filter(|event| *event == name).count();
    assert_eq!(count("storm: true"), 1);
    assert_eq!(count("storm: false"), 44);
    assert_eq!(log::take().matches(" WARN ").count(), 1);
    assert_eq!(cache.entries()[0].state, EntryState::RejectionLimitReached);
}

#[tokio::test(start_paused = true)]
async fn metrics_count_every_event() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (source, api) = (Source::new(), Api::new());
    let cache = cache_with(&Listener::default(), &source);
    let mut client = layer(&cache).layer(api.clone());

    source.push_answer(Answer::fail(ErrorKind::Unavailable));
    for _ in 0..5 {
        send(&mut client, request("/")).await.await.unwrap();
    }
    api.revoke("token-2");
    send(&mut client, request("/")).await.await.unwrap();
    // The refresh is due: the token is used and refreshed.
    advance(secs(3400)).await;
    source.push_answer(Answer::fail(ErrorKind::InvalidScope));
    send(&mut client, request("/")).await.await.unwrap();
    settle().await;
    cache.publish_metrics();

    let sums = sums(&snapshotter);
    let expected = [
        ("tower_bearer_bytes{}", cache.stats().bytes as f64),
        ("tower_bearer_entries{}", 1.0),
        ("tower_bearer_evictions_total{}", 0.0),
        ("tower_bearer_fetch_seconds{}", 3.0),
        ("tower_bearer_fetches_total{outcome=invalid_scope}", 1.0),
        ("tower_bearer_fetches_total{outcome=ok}", 2.0),
        ("tower_bearer_hits_total{state=fresh}", 5.0),
        ("tower_bearer_hits_total{state=stale}", 1.0),
        ("tower_bearer_misses_total{}", 2.0),
        ("tower_bearer_rejections_total{}", 1.0),
        ("tower_bearer_replays_total{outcome=recovered}", 1.0),
        ("tower_bearer_token_requests_total{}", 4.0),
        ("tower_bearer_wait_seconds{}", 2.0),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(sums, BTreeMap::from(expected));
}

#[tokio::test(start_paused = true)]
async fn metrics_of_two_caches_add_up() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let caches = [(), ()].map(|()| cache_with(&Listener::default(), &Source::new()));
    for cache in &caches {
        for _ in 0..4 {
            cache.get(spec()).await.unwrap();
        }
        cache.publish_metrics();
        cache.publish_metrics();
    }
    let both = sums(&snapshotter);
    assert_eq!(both["tower_bearer_entries{}"], 2.0);
    assert_eq!(both["tower_bearer_hits_total{state=fresh}"], 6.0);
    // Each snapshot starts from zero.
    drop(caches);
    assert_eq!(sums(&snapshotter)["tower_bearer_entries{}"], -2.0);
}

#[tokio::test(start_paused = true)]
async fn token_has_origin_and_reason() {
    let cache = cache_with(&Listener::default(), &Source::new());
    let first = cache.get(spec()).await.unwrap();
    assert_eq!(first.origin(), TokenOrigin::Provider);
    assert_eq!(first.reason(), FetchReason::Missing);
    assert_eq!(first.lifetime(), HOUR);
    cache.reject(&first);
    let second = cache.get(spec()).await.unwrap();
    assert_eq!(second.reason(), FetchReason::Rejected);
    let third = cache.refresh(spec()).await.unwrap();
    assert_eq!(third.reason(), FetchReason::Forced);
    advance(HOUR).await;
    let last = cache.get(spec()).await.unwrap();
    assert_eq!(last.reason(), FetchReason::Expired);
    assert_eq!(last.requested_at(), first.requested_at() + HOUR);
    assert_eq!(cache.entries()[0].origin, Some(TokenOrigin::Provider));
}
