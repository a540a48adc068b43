//! Checks several caches over one store: the replicas of a fleet, or successive runs of a program.

#[path = "support/faulty_store.rs"]
mod faulty_store;
mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use faulty_store::FaultyStore;
use support::{
    Answer, Api, HOUR, Source, fault, layer, millis, outcome, request, secs, send, settle, spec,
    tenant,
};
use tokio::{
    task::JoinSet,
    time::{Instant, advance, sleep},
};
use tokio_test::{assert_pending, assert_ready, task};
use tower::Layer;
use tower_bearer::{
    ErrorKind, NewToken, Secret, Token, TokenCache, TokenError, TokenSource,
    cache::CacheBuilder,
    clock::{Clock, Moment},
    source::{SourceId, TokenRequest},
    store::{KeyRing, MemoryStore, StoreErrorKind, TokenStore},
    telemetry::{TokenEvent, TokenEvents},
    token::{FetchReason, TokenOrigin},
};

const KEY: &str = "0nF2ql0S7ivVYJz7IXgbRLHwlGAd0Vg5LGn6i3tGqzE=";
const OTHER_KEY: &str = "QmfdFM4UlZXi2qBJ6gZLCWpq4S1Nd4B0jLl6X0KdQRc=";

/// The cache's limits for a read and a write.
const READ: Duration = millis(250);
const WRITE: Duration = secs(1);
/// How long a process that starts repeats its first read.
const START: Duration = millis(500);
/// After this time a token of an hour is due for refresh, whatever its jitter.
const DUE: Duration = secs(3_361);

fn ring(key: &str) -> KeyRing {
    KeyRing::new(Secret::new(key)).unwrap()
}

fn builder(source: impl TokenSource, store: impl TokenStore) -> CacheBuilder {
    TokenCache::builder(source)
        .with_clock(Clock::tokio())
        .with_store(store, ring(KEY))
        .with_store_namespace("tests")
}

fn replica(source: &Source, store: &FaultyStore) -> TokenCache {
    builder(source.clone(), store.clone()).build()
}

fn replicas(n: usize, source: &Source, store: &FaultyStore) -> Vec<TokenCache> {
    (0..n).map(|_| replica(source, store)).collect()
}

fn pair(source: &Source, store: &FaultyStore) -> [TokenCache; 2] {
    [(); 2].map(|()| replica(source, store))
}

/// Returns two replicas whose common token is due for refresh, and whose source waits for `open` from now on.
async fn pair_due(source: &Source, store: &FaultyStore) -> [TokenCache; 2] {
    let [first, second] = pair(source, store);
    first.get(spec()).await.unwrap();
    second.get(spec()).await.unwrap();
    let _ = source.clone().gated();
    advance(DUE).await;
    [first, second]
}

async fn all_get(replicas: &[TokenCache]) -> Vec<Token> {
    let mut callers = JoinSet::new();
    for cache in replicas {
        let cache = cache.clone();
        callers.spawn(async move { cache.get(spec()).await.unwrap() });
    }
    callers.join_all().await
}

/// Starts a request for a token, which has to wait.
async fn start(
    cache: &TokenCache,
) -> task::Spawn<impl Future<Output = Result<Token, TokenError>> + '_> {
    let mut get = task::spawn(cache.get(spec()));
    assert_pending!(get.poll());
    settle().await;
    get
}

/// Returns the current token, without waiting.
#[track_caller]
fn get_now(cache: &TokenCache) -> Token {
    assert_ready!(task::spawn(cache.get(spec())).poll()).unwrap()
}

#[track_caller]
fn assert_token(token: &Token, text: &str, origin: TokenOrigin) {
    assert_eq!((token.expose(), token.origin()), (text, origin));
}

fn all_have(replicas: &[TokenCache], text: &str) -> bool {
    replicas.iter().all(|cache| {
        cache
            .peek(spec())
            .is_some_and(|token| token.expose() == text)
    })
}

// Starting.

#[tokio::test(start_paused = true)]
async fn hundred_cold_replicas_cost_one_token_request() {
    let (source, store) = (
        Source::new().with_delay(millis(300)),
        FaultyStore::default(),
    );
    let replicas = replicas(100, &source, &store);
    let tokens = all_get(&replicas).await;
    assert_eq!(source.fetches(), 1);
    assert!(tokens.iter().all(|token| token.expose() == "token-1"));
    let fetched = tokens
        .iter()
        .filter(|token| token.origin() == TokenOrigin::Provider);
    assert_eq!(fetched.count(), 1);
    let sum = |of: fn(&tower_bearer::cache::Stats) -> u64| -> u64 {
        replicas.iter().map(|cache| of(&cache.stats())).sum()
    };
    assert_eq!(sum(|stats| stats.fetches), 1);
    assert_eq!(sum(|stats| stats.token_requests), 1);
    assert_eq!(sum(|stats| stats.store_hits), 99);
    assert_eq!(sum(|stats| stats.store_misses), 1);
    assert_eq!(sum(|stats| stats.store_errors + stats.fetch_failures), 0);
}

#[tokio::test(start_paused = true)]
async fn restarted_program_loads_its_token_with_times_and_headers() {
    let store = FaultyStore::default();
    let billed = http::HeaderName::from_static("x-billed");
    let source = tower_bearer::source::from_fn(async move |_| {
        Ok(NewToken::bearer("first")?
            .with_lifetime(HOUR)
            .with_refresh_in(secs(1_800))
            .with_granted_scopes("read write")
            .with_header(
                http::HeaderName::from_static("x-billed"),
                http::HeaderValue::from_static("project-7"),
            ))
    });
    // Long after both clocks started, so that the token's age fits on both of them.
    let clock = Clock::tokio();
    sleep(HOUR * 9).await;
    let first = builder(source, store.clone()).with_clock(clock.clone());
    let first = first.build().get(spec()).await.unwrap();

    sleep(secs(600)).await;
    let never = tower_bearer::source::from_fn(async |_| Err(fault(ErrorKind::Network)));
    let restarted = builder(never, store.clone()).with_clock(clock).build();
    let second = restarted.get(spec()).await.unwrap();
    assert_token(&second, "first", TokenOrigin::Store);
    assert_ne!(second.generation(), first.generation());
    assert_eq!(second.requested_at(), first.requested_at());
    assert_eq!(second.expires_at(), first.expires_at());
    assert_eq!(second.lifetime(), HOUR);
    // The process that fetched it refreshes first: the others up to a fifth of the lead later.
    assert!(second.refresh_at() >= first.refresh_at());
    assert!(second.refresh_at() <= first.refresh_at() + secs(400));
    let scopes: Vec<_> = second.granted_scopes().unwrap().collect();
    assert_eq!(scopes, ["read", "write"]);
    let mut headers = http::HeaderMap::new();
    second.apply(&mut headers);
    assert_eq!(headers[&billed], "project-7");
    assert!(headers[&billed].is_sensitive());
    let stats = restarted.stats();
    assert_eq!((stats.token_requests, stats.store_hits), (0, 1));

    sleep(secs(2_989)).await;
    assert!(restarted.peek(spec()).is_some());
    sleep(secs(1)).await;
    assert!(restarted.peek(spec()).is_none());
}

/// Runs like a command-line tool: each run has a separate runtime, cache and store, and ends once it has its token.
#[cfg(feature = "file")]
#[test]
fn program_that_starts_often_keeps_its_token_in_a_file() {
    use tower_bearer::store::FileStore;

    let folder = std::env::temp_dir().join(format!("tower-bearer-fleet-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let source = Source::new();
    let run = || {
        let store = FileStore::new(folder.join("tokens"));
        let cache = builder(source.clone(), store).with_clock(Clock::system());
        let token = runtime().block_on(cache.build().get(spec())).unwrap();
        (token.expose().to_owned(), token.origin())
    };
    // A busy disk may be too slow for one run, but not for all.
    let runs: Vec<_> = (0..20).map(|_| run()).collect();
    assert_eq!(runs[0].1, TokenOrigin::Provider);
    assert!(runs.iter().any(|(_, origin)| *origin == TokenOrigin::Store));
    let fetched = runs
        .iter()
        .filter(|(_, origin)| *origin == TokenOrigin::Provider);
    assert_eq!(fetched.count(), source.fetches());
    std::fs::remove_dir_all(&folder).unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn hit_does_not_call_the_store() {
    let (source, store) = (Source::new(), FaultyStore::default());
    let cache = replica(&source, &store);
    cache.get(spec()).await.unwrap();
    let calls = store.calls();
    for _ in 0..100 {
        cache.get(spec()).await.unwrap();
    }
    assert_eq!(store.calls(), calls);
    // Two reads, the lease, the write and the release.
    assert_eq!(calls, 5);
}

#[tokio::test(start_paused = true)]
async fn cancelled_caller_leaves_the_wait_for_another_replica_running() {
    let (source, store) = (Source::new().gated(), FaultyStore::default());
    let [leader, other] = pair(&source, &store);
    let _leads = start(&leader).await;
    let mut waits = task::spawn(other.get(spec()));
    assert_pending!(waits.poll());
    drop(waits);
    source.open();
    sleep(secs(1)).await;
    assert_eq!(other.peek(spec()).unwrap().origin(), TokenOrigin::Store);
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn lease_holder_reads_what_was_saved_since_its_first_read() {
    let (source, store) = (Source::new().gated(), FaultyStore::default());
    let [leader, other] = pair(&source, &store);
    let leads = start(&leader).await;
    store.block_leases(true);
    // It has found nothing, and requests the lease when the leader is done.
    let follows = start(&other).await;
    source.open();
    leads.await.unwrap();
    store.block_leases(false);
    assert_eq!(follows.await.unwrap().origin(), TokenOrigin::Store);
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn replica_takes_over_when_the_lease_of_a_dead_leader_ends() {
    let (source, store) = (Source::new().gated(), FaultyStore::default());
    let leader = replica(&source, &store);
    let leads = start(&leader).await;
    assert_eq!(source.fetches(), 1);
    let others = replicas(100, &source, &store);
    let begun = Instant::now();
    let waiting = tokio::spawn(async move { all_get(&others).await });
    settle().await;
    // The last handle is dropped, and the fetch with it. The lease stays.
    drop(leads);
    drop(leader);
    source.open();
    let tokens = waiting.await.unwrap();
    assert_eq!(source.fetches(), 2);
    assert!(tokens.iter().all(|token| token.expose() == "token-2"));
    // Two fifths of the fetch timeout, and one pause between two reads.
    assert!(begun.elapsed() >= secs(4) && begun.elapsed() < millis(4_600));
}

#[test]
fn replica_takes_over_when_the_runtime_of_the_leader_is_dropped() {
    let (source, store) = (Source::new().gated(), FaultyStore::default());
    let [leader, other] = [(); 2].map(|()| {
        let cache = builder(source.clone(), store.clone()).with_clock(Clock::system());
        cache.with_fetch_timeout(secs(2)).build()
    });
    let dropped = runtime();
    dropped.block_on(async {
        let mut leads = task::spawn(leader.get(spec()));
        assert_pending!(leads.poll());
        while source.fetches() == 0 {
            tokio::task::yield_now().await;
        }
    });
    drop(dropped);
    source.open();
    // The leader's callers find what the other replica has fetched.
    for cache in [&other, &leader] {
        let token = runtime().block_on(cache.get(spec())).unwrap();
        assert_eq!((token.expose(), source.fetches()), ("token-2", 2));
    }
}

#[tokio::test(start_paused = true)]
async fn waiter_fetches_without_lease_after_half_the_fetch_timeout() {
    let (source, store) = (Source::new(), FaultyStore::default());
    store.refuse_leases();
    let cache = replica(&source, &store);
    let begun = Instant::now();
    let token = cache.get(spec()).await.unwrap();
    assert_eq!(token.origin(), TokenOrigin::Provider);
    assert_eq!(begun.elapsed(), secs(5));
    assert_eq!((source.fetches(), cache.stats().store_errors), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn replica_takes_over_at_once_when_the_leader_fails() {
    let (source, store) = (
        Source::new().with_delay(millis(100)),
        FaultyStore::default(),
    );
    source.push_answer(Answer::fail(ErrorKind::AccessDenied));
    let [first, second] = pair(&source, &store);
    let begun = Instant::now();
    let (one, other) = tokio::join!(first.get(spec()), second.get(spec()));
    assert_eq!(one.unwrap_err().kind(), ErrorKind::AccessDenied);
    assert_eq!(other.unwrap().expose(), "token-2");
    assert!(begun.elapsed() < secs(1), "{:?}", begun.elapsed());
    // The one that failed backs off, and then finds the token of the other.
    sleep(secs(1)).await;
    assert_eq!(first.get(spec()).await.unwrap().expose(), "token-2");
    assert_eq!(source.fetches(), 2);
}

// Refreshing.

#[tokio::test(start_paused = true)]
async fn fleet_refreshes_once_and_all_have_the_new_token_in_time() {
    let (source, store) = (
        Source::new().with_delay(millis(300)),
        FaultyStore::default(),
    );
    let replicas = replicas(20, &source, &store);
    all_get(&replicas).await;
    for lifetime in 1..=20 {
        // Until all have the next token, or the old one expires.
        let obtained = replicas[0].peek(spec()).unwrap().requested_at();
        for _ in 0..1_790 {
            sleep(secs(2)).await;
            for cache in &replicas {
                get_now(cache);
            }
            let newest = replicas[0].peek(spec()).unwrap();
            if newest.requested_at() != obtained && all_have(&replicas, newest.expose()) {
                break;
            }
        }
        assert_eq!(source.fetches(), 1 + lifetime);
        assert!(all_have(&replicas, &format!("token-{}", 1 + lifetime)));
    }
    let stats = replicas[0].stats();
    assert_eq!((stats.store_errors, stats.fetch_failures), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn old_token_is_used_while_another_replica_refreshes() {
    let (source, store) = (Source::new(), FaultyStore::default());
    let [first, second] = pair_due(&source, &store).await;
    get_now(&first);
    settle().await;
    assert_eq!(source.fetches(), 2);
    for _ in 0..30 {
        assert_eq!(get_now(&second).expose(), "token-1");
        sleep(millis(100)).await;
    }
    assert_eq!(source.fetches(), 2);
    // It reads every half to whole second, and not at each request.
    let reads = store.reads();
    assert!((3 + 3..=3 + 2 + 7).contains(&reads), "{reads}");
    source.open();
    sleep(secs(1)).await;
    second.get(spec()).await.unwrap();
    settle().await;
    let token = second.peek(spec()).unwrap();
    assert_token(&token, "token-2", TokenOrigin::Store);
    assert_eq!(token.reason(), FetchReason::Stale);
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn replica_takes_over_the_refresh_of_a_dead_leader() {
    let (source, store) = (Source::new(), FaultyStore::default());
    let [first, second] = pair_due(&source, &store).await;
    first.get(spec()).await.unwrap();
    settle().await;
    drop(first);
    source.open();
    for _ in 0..6 {
        sleep(secs(1)).await;
        get_now(&second);
        settle().await;
    }
    assert_eq!(second.peek(spec()).unwrap().expose(), "token-3");
    assert_eq!(source.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn forced_refresh_accepts_only_newer_tokens() {
    let (source, store) = (Source::new(), FaultyStore::default());
    let [first, second] = pair(&source, &store);
    first.get(spec()).await.unwrap();
    assert_eq!(second.refresh(spec()).await.unwrap().expose(), "token-2");
    assert_eq!(first.refresh(spec()).await.unwrap().expose(), "token-3");
    // Two at the same time share one fetch, whose token is newer for both.
    let source = source.with_delay(millis(100));
    let (one, other) = tokio::join!(first.refresh(spec()), second.refresh(spec()));
    assert_eq!(one.unwrap().expose(), other.unwrap().expose());
    assert_eq!(source.fetches(), 4);
}

#[tokio::test(start_paused = true)]
async fn caller_that_joins_a_background_refresh_waits_for_the_leader() {
    let (source, store) = (Source::new(), FaultyStore::default());
    let [first, second] = pair_due(&source, &store).await;
    first.get(spec()).await.unwrap();
    settle().await;
    // Before the background refresh has read the store, a caller that needs a new token joins it.
    get_now(&second);
    let mut forced = task::spawn(second.refresh(spec()));
    assert_pending!(forced.poll());
    settle().await;
    source.open();
    assert_eq!(forced.await.unwrap().expose(), "token-2");
    assert_eq!(source.fetches(), 2);
}

/// A source that allows only one fetch at a time.
struct Rotating(Source);

impl TokenSource for Rotating {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        self.0.fetch(request).await
    }

    fn wants_lease(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn source_that_requires_the_lease_never_fetches_twice_at_a_time() {
    // Longer than other sources would wait.
    let (source, store) = (Source::new().with_delay(secs(9)), FaultyStore::default());
    let replicas: Vec<_> = (0..20)
        .map(|_| builder(Rotating(source.clone()), store.clone()).build())
        .collect();
    all_get(&replicas).await;
    assert_eq!((source.fetches(), source.max_concurrent()), (1, 1));
    // The same holds when each replica requires a new token, and the first fetch fails.
    let source = source.with_delay(secs(4));
    source.push_answer(Answer::fail(ErrorKind::AccessDenied));
    let mut forced = JoinSet::new();
    for cache in &replicas {
        let cache = cache.clone();
        forced.spawn(async move { cache.refresh(spec()).await.is_ok() });
    }
    let refreshed = forced.join_all().await;
    assert_eq!(refreshed.iter().filter(|good| !**good).count(), 1);
    assert_eq!((source.fetches(), source.max_concurrent()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn required_lease_is_only_skipped_while_the_store_is_down() {
    let (source, store) = (Source::new(), FaultyStore::default());
    store.refuse_leases();
    let cache = builder(Rotating(source.clone()), store.clone()).build();
    let begun = Instant::now();
    let error = cache.get(spec()).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(begun.elapsed() >= secs(11) && begun.elapsed() < secs(12));
    assert_eq!(source.fetches(), 0);
    store.fail(None, Some(StoreErrorKind::Refused));
    sleep(secs(1)).await;
    cache.get(spec()).await.unwrap();
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn outage_of_a_minute_causes_no_extra_token_request() {
    let (source, store) = (Source::new(), FaultyStore::default());
    let replicas = replicas(20, &source, &store);
    all_get(&replicas).await;
    advance(secs(3_300)).await;
    store.fail_all(Some(StoreErrorKind::Unavailable));
    for second in 0..90 {
        if second == 60 {
            store.fail_all(None);
        }
        all_get(&replicas).await;
        sleep(secs(1)).await;
    }
    assert_eq!(source.fetches(), 2);
    assert!(all_have(&replicas, "token-2"));
}

// Rejection.

#[tokio::test(start_paused = true)]
async fn each_replica_sends_a_revoked_token_once_and_one_fetches() {
    let (source, store) = (
        Source::new().with_delay(millis(100)),
        FaultyStore::default(),
    );
    let replicas = replicas(20, &source, &store);
    all_get(&replicas).await;
    let api = Api::new();
    api.revoke("token-1");
    for cache in &replicas {
        let mut client = layer(cache).layer(api.clone());
        let response = send(&mut client, request("/")).await.await.unwrap();
        assert_eq!(outcome(&response), (200, Some("recovered")));
    }
    let sent = api.tokens();
    let revoked = sent.iter().filter(|token| *token == "token-1").count();
    assert_eq!((revoked, sent.len()), (20, 40));
    assert_eq!(source.fetches(), 2);
    // A replica that starts now does not load it at all.
    let late = replica(&source, &store);
    assert_eq!(late.get(spec()).await.unwrap().expose(), "token-2");
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn rejection_by_all_replicas_at_once_costs_one_token_request() {
    let (source, store) = (
        Source::new().with_delay(millis(100)),
        FaultyStore::default(),
    );
    let replicas = replicas(50, &source, &store);
    let old = all_get(&replicas).await;
    assert_eq!(old[0].expose(), "token-1");
    for cache in &replicas {
        assert!(cache.reject(&cache.peek(spec()).unwrap()));
    }
    let new = all_get(&replicas).await;
    assert!(
        new.iter().all(|token| token.expose() == "token-2"),
        "{new:?}"
    );
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn late_rejection_leaves_the_newer_token_in_the_store() {
    let (source, store) = (Source::new(), FaultyStore::default());
    let [first, second] = pair(&source, &store);
    let token = first.get(spec()).await.unwrap();
    second.get(spec()).await.unwrap();
    second.refresh(spec()).await.unwrap();
    assert!(first.reject(&token));
    let next = first.get(spec()).await.unwrap();
    assert_token(&next, "token-2", TokenOrigin::Store);
    assert_eq!(store.deleted(), 0);
    let late = replica(&source, &store).get(spec()).await.unwrap();
    assert_eq!((late.expose(), source.fetches()), ("token-2", 2));
}

#[tokio::test(start_paused = true)]
async fn rejected_token_is_deleted_before_the_next_is_fetched() {
    let (source, store) = (Source::new(), FaultyStore::default());
    let cache = replica(&source, &store);
    let token = cache.get(spec()).await.unwrap();
    cache.reject(&token);
    source.set_answer(Answer::fail(ErrorKind::AccessDenied));
    cache.get(spec()).await.unwrap_err();
    assert_eq!(store.deleted(), 1);
    source.set_answer(Answer::Token(Some(HOUR)));
    let late = replica(&source, &store).get(spec()).await.unwrap();
    assert_token(&late, "token-3", TokenOrigin::Provider);
}

#[tokio::test(start_paused = true)]
async fn rejected_or_removed_token_is_never_loaded_again() {
    let (source, store) = (Source::new(), FaultyStore::default());
    let cache = replica(&source, &store);
    let token = cache.get(spec()).await.unwrap();
    // The store keeps the revoked token, and accepts no other.
    store.fail(None, Some(StoreErrorKind::Refused));
    cache.reject(&token);
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-2");
    cache.remove(spec());
    let next = cache.get(spec()).await.unwrap();
    assert_token(&next, "token-3", TokenOrigin::Provider);
    store.fail_all(None);
    sleep(secs(9)).await;
    // The removed token was never stored. The first one still is, and is deleted now.
    cache.remove(spec());
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-4");
    assert_eq!(store.deleted(), 1);
    cache.clear();
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-5");
    assert_eq!(store.deleted(), 2);
}

#[tokio::test(start_paused = true)]
async fn rejected_token_is_accepted_if_the_source_returns_it_again() {
    let (source, store) = (
        Source::new().with_answer(Answer::Text("same")),
        FaultyStore::default(),
    );
    let [first, second] = pair(&source, &store);
    let token = first.get(spec()).await.unwrap();
    second.get(spec()).await.unwrap();
    first.reject(&token);
    assert_eq!(first.get(spec()).await.unwrap().expose(), "same");
    assert_eq!(source.fetches(), 2);
    let late = replica(&source, &store).get(spec()).await.unwrap();
    assert_eq!((late.origin(), source.fetches()), (TokenOrigin::Store, 2));
}

// Clocks.

/// Returns the clock with its wall time moved by `seconds`.
fn off_by(clock: &Clock, seconds: i64) -> Clock {
    let clock = clock.clone();
    Clock::from_fn(move || {
        let now = clock.now();
        Moment {
            wall: now.wall.saturating_add_signed(seconds * 1_000_000_000),
            // The machine has been running for a long time.
            monotonic: now.monotonic + 1_000_000_000_000_000,
        }
    })
}

#[tokio::test(start_paused = true)]
async fn clocks_that_differ_by_minutes_cause_no_extra_miss() {
    let (source, store) = (
        Source::new().with_delay(millis(100)),
        FaultyStore::default(),
    );
    let start = Clock::tokio();
    let replicas = [-300, 0, 300].map(|off| {
        let clock = off_by(&start, off);
        let cache = builder(source.clone(), store.clone()).with_clock(clock.clone());
        (cache.build(), clock)
    });
    let until = Instant::now() + HOUR * 20;
    let mut misses = 0;
    while Instant::now() < until {
        sleep(secs(5)).await;
        for (cache, clock) in &replicas {
            misses += usize::from(cache.peek(spec()).is_none());
            let token = cache.get(spec()).await.unwrap();
            let now = clock.now().system_time();
            assert!(token.expires_at() > now, "expired by its own clock");
            assert!(token.expires_at() <= now + HOUR, "longer than its lifetime");
        }
    }
    // Only at the start.
    assert_eq!(misses, 3);
    let fetches = source.fetches();
    assert!((20..=24).contains(&fetches), "{fetches}");
}

#[tokio::test(start_paused = true)]
async fn token_from_the_future_keeps_its_lifetime() {
    let (source, store) = (Source::new(), FaultyStore::default());
    let start = Clock::tokio();
    let at = |off| builder(source.clone(), store.clone()).with_clock(off_by(&start, off));
    let now = |off| off_by(&start, off).now().system_time();
    at(300).build().get(spec()).await.unwrap();
    let token = at(-300).build().get(spec()).await.unwrap();
    assert_eq!(token.origin(), TokenOrigin::Store);
    assert_eq!(token.requested_at(), now(-300));
    assert_eq!(token.expires_at(), now(-300) + HOUR);
    // By a clock that is ahead it is older than it is.
    let token = at(900).build().get(spec()).await.unwrap();
    assert_eq!(token.origin(), TokenOrigin::Store);
    assert_eq!(token.expires_at(), now(900) + secs(3_600 - 600));
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn clock_set_back_makes_no_stored_token_valid_again() {
    let (source, store) = (
        Source::new().with_lifetime(secs(600)),
        FaultyStore::default(),
    );
    let back = Arc::new(AtomicU64::new(0));
    let clock = {
        let (back, clock) = (Arc::clone(&back), off_by(&Clock::tokio(), 0));
        Clock::from_fn(move || {
            let mut now = clock.now();
            now.wall -= back.load(SeqCst) * 1_000_000_000;
            now
        })
    };
    let cache = builder(source.clone(), store.clone()).with_clock(clock);
    let cache = cache.build();
    // The store keeps values for longer than tokens live, as one on another machine might.
    store.keep_forever();
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-1");
    cache.refresh(spec()).await.unwrap();
    sleep(secs(599)).await;
    back.store(500, SeqCst);
    let next = cache.get(spec()).await.unwrap();
    assert_eq!((next.expose(), source.fetches()), ("token-3", 3));
}

// Outages.

const KINDS: [StoreErrorKind; 5] = [
    StoreErrorKind::Unavailable,
    StoreErrorKind::Timeout,
    StoreErrorKind::Refused,
    StoreErrorKind::Broken,
    StoreErrorKind::Configuration,
];

/// Sends requests for new keys, none of which may fail or wait for longer than `limit`.
async fn requests(cache: &TokenCache, number: u64, limit: Duration) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    for _ in 0..number {
        let begun = Instant::now();
        let key = tenant(NEXT.fetch_add(1, SeqCst));
        cache.get(&key).await.unwrap();
        assert!(begun.elapsed() <= limit, "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn failing_store_fails_no_request_and_is_reported_once() {
    for kind in KINDS {
        for (reads, writes) in [(true, true), (true, false), (false, true)] {
            let (source, store) = (Source::new(), FaultyStore::default());
            let events = StoreEvents::default();
            let cache = builder(source.clone(), store.clone())
                .with_events(events.clone())
                .build();
            requests(&cache, 10, Duration::ZERO).await;
            assert_eq!(events.take(), [""; 0]);

            store.fail(reads.then_some(kind), writes.then_some(kind));
            for _ in 0..60 {
                requests(&cache, 10, Duration::ZERO).await;
                sleep(secs(1)).await;
            }
            let work = if reads { "reading" } else { "writing" };
            assert_eq!(events.take(), [format!("{work} fails: {kind}")]);
            let errors = cache.stats().store_errors;
            assert!((5..20).contains(&errors), "{errors}");

            store.fail_all(None);
            for _ in 0..9 {
                requests(&cache, 10, Duration::ZERO).await;
                sleep(secs(1)).await;
            }
            assert_eq!(events.take(), [format!("{work} is back")]);
            // The store is used again.
            let key = tenant("after");
            cache.get(&key).await.unwrap();
            let other = replica(&source, &store).get(&key).await.unwrap();
            assert_eq!(other.origin(), TokenOrigin::Store);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn store_that_fails_from_the_start_delays_no_request() {
    let (source, store) = (Source::new(), FaultyStore::default());
    store.fail_all(Some(StoreErrorKind::Unavailable));
    let replicas = replicas(10, &source, &store);
    let begun = Instant::now();
    all_get(&replicas).await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(source.fetches(), 10);
    requests(&replicas[0], 100, Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn first_read_is_repeated_while_the_store_times_out() {
    let (source, store) = (Source::new(), FaultyStore::default());
    replica(&source, &store).get(spec()).await.unwrap();
    store.fail(Some(StoreErrorKind::Timeout), None);
    let cache = replica(&source, &store);
    let get = start(&cache).await;
    sleep(millis(100)).await;
    store.fail_all(None);
    assert_eq!(get.await.unwrap().origin(), TokenOrigin::Store);
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn waiter_tolerates_a_short_outage_but_not_a_long_one() {
    for (outage, origin, fetches) in [
        (millis(300), TokenOrigin::Store, 1),
        (secs(2), TokenOrigin::Provider, 2),
    ] {
        let (source, store) = (Source::new().gated(), FaultyStore::default());
        let [leader, other] = pair(&source, &store);
        let _leads = start(&leader).await;
        let mut waits = task::spawn(other.get(spec()));
        assert_pending!(waits.poll());
        sleep(millis(100)).await;
        store.fail_all(Some(StoreErrorKind::Timeout));
        sleep(outage).await;
        assert_eq!(source.fetches(), fetches);
        store.fail_all(None);
        sleep(millis(500)).await;
        source.open();
        source.open();
        assert_eq!(waits.await.unwrap().origin(), origin);
    }
}

#[tokio::test(start_paused = true)]
async fn hanging_store_delays_only_the_probes() {
    let (source, store) = (Source::new(), FaultyStore::default());
    let cache = replica(&source, &store);
    store.hang(true, true);
    requests(&cache, 1, START).await;
    sleep(millis(20)).await;
    requests(&cache, 100, Duration::ZERO).await;
    for _ in 0..60 {
        requests(&cache, 10, READ).await;
        sleep(secs(1)).await;
    }
    let errors = cache.stats().store_errors;
    assert!((5..20).contains(&errors), "{errors}");
    store.hang(false, false);
    sleep(secs(8)).await;
    requests(&cache, 1, Duration::ZERO).await;
    assert_eq!(cache.stats().store_errors, errors);
}

#[tokio::test(start_paused = true)]
async fn one_probe_runs_at_a_time_and_other_requests_do_not_wait() {
    let (source, store) = (Source::new(), FaultyStore::default());
    let cache = replica(&source, &store);
    requests(&cache, 1, Duration::ZERO).await;
    store.hang(true, true);
    requests(&cache, 1, READ).await;
    // The longest first pause is over: the next request is the probe.
    sleep(READ).await;
    let calls = store.calls();
    let mut probe = task::spawn(cache.get(spec()));
    assert_pending!(probe.poll());
    settle().await;
    requests(&cache, 100, Duration::ZERO).await;
    assert_eq!(store.calls(), calls + 1);
    let begun = Instant::now();
    probe.await.unwrap();
    assert_eq!(begun.elapsed(), READ);
}

#[tokio::test(start_paused = true)]
async fn store_that_hangs_on_writes_delays_one_request() {
    let (source, store) = (Source::new(), FaultyStore::default());
    let cache = replica(&source, &store);
    store.hang(false, true);
    requests(&cache, 1, WRITE).await;
    requests(&cache, 100, Duration::ZERO).await;
    // The same holds if it begins to hang during a fetch, while the lease is held.
    store.hang(false, false);
    sleep(secs(9)).await;
    let gated = source.clone().gated();
    let get = start(&cache).await;
    store.hang(true, true);
    gated.open();
    let begun = Instant::now();
    get.await.unwrap();
    assert_eq!(begun.elapsed(), WRITE);
}

#[tokio::test(start_paused = true)]
async fn slow_store_is_used() {
    let (source, store) = (Source::new(), FaultyStore::default());
    store.delay(millis(200));
    let [first, second] = pair(&source, &store);
    first.get(spec()).await.unwrap();
    let begun = Instant::now();
    let token = second.get(spec()).await.unwrap();
    assert_eq!(token.origin(), TokenOrigin::Store);
    assert_eq!(begun.elapsed(), millis(200));
    assert_eq!(second.stats().store_errors, 0);
}

#[tokio::test(start_paused = true)]
async fn panic_of_the_store_counts_as_a_failure() {
    let (source, store) = (Source::new(), FaultyStore::default());
    store.panic();
    let cache = replica(&source, &store);
    requests(&cache, 101, Duration::ZERO).await;
    assert_eq!(source.fetches(), 101);
    let errors = cache.stats().store_errors;
    assert!((1..10).contains(&errors), "{errors}");
}

#[tokio::test(start_paused = true)]
async fn refresh_waits_for_the_store_for_half_of_its_time() {
    let (source, store) = (Source::new(), FaultyStore::default());
    let cache = replica(&source, &store);
    cache.get(spec()).await.unwrap();
    store.hang(true, true);
    advance(secs(3_300)).await;
    for (seconds, text) in [(110, "token-1"), (40, "token-2")] {
        for _ in 0..seconds {
            get_now(&cache);
            sleep(secs(1)).await;
        }
        assert_eq!(cache.peek(spec()).unwrap().expose(), text);
    }
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn unreadable_value_is_a_miss_reported_once_and_replaced() {
    let (source, store) = (Source::new(), FaultyStore::default());
    replica(&source, &store).get(spec()).await.unwrap();
    for junk in [
        &b""[..],
        b"\x01",
        b"\x02later",
        b"{\"access_token\":\"x\"}",
        &[1; 200],
    ] {
        store.overwrite(junk);
        let events = StoreEvents::default();
        let cache = builder(source.clone(), store.clone())
            .with_events(events.clone())
            .build();
        let token = cache.get(spec()).await.unwrap();
        assert_eq!(token.origin(), TokenOrigin::Provider);
        assert_eq!(events.take(), ["unreadable"]);
        let stats = cache.stats();
        // Found by the first read and by the one under the lease.
        assert_eq!((stats.store_unreadable, stats.store_errors), (2, 0));
        let other = replica(&source, &store).get(spec()).await.unwrap();
        assert_token(&other, token.expose(), TokenOrigin::Store);
    }
}

#[tokio::test(start_paused = true)]
async fn another_key_finds_nothing_and_an_older_key_finds_all() {
    let (source, store) = (Source::new(), FaultyStore::default());
    replica(&source, &store).get(spec()).await.unwrap();
    let with = |ring| {
        builder(source.clone(), MemoryStore::new())
            .with_store(store.clone(), ring)
            .build()
    };
    let stranger = with(ring(OTHER_KEY)).get(&tenant("x")).await.unwrap();
    assert_eq!(stranger.origin(), TokenOrigin::Provider);
    let both = ring(OTHER_KEY).with_older(Secret::new(KEY)).unwrap();
    let token = with(both).get(spec()).await.unwrap();
    assert_token(&token, "token-1", TokenOrigin::Store);
}

#[tokio::test(start_paused = true)]
async fn store_is_read_while_the_provider_is_backing_off() {
    let (source, store) = (Source::new(), FaultyStore::default());
    replica(&source, &store).get(spec()).await.unwrap();
    source.set_answer(Answer::fail(ErrorKind::Throttled));
    let cache = replica(&source, &store);
    cache.get(&tenant("new")).await.unwrap_err();
    let fetches = source.fetches();
    // The whole source is backing off now.
    let token = cache.get(spec()).await.unwrap();
    assert_eq!(token.origin(), TokenOrigin::Store);
    let error = cache.get(&tenant("newer")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert!(error.retry_after().is_some());
    assert_eq!(source.fetches(), fetches);
    // For a key without a stored token it is read once, and not by each request.
    let reads = store.reads();
    for _ in 0..100 {
        cache.get(&tenant("newer")).await.unwrap_err();
    }
    assert_eq!(store.reads(), reads);
}

#[tokio::test(start_paused = true)]
async fn replaced_credential_is_used_within_a_second() {
    struct Refused(Source, Arc<AtomicBool>);
    impl TokenSource for Refused {
        async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
            self.0.fetch(request).await
        }
        fn credential_changed(&self, _: &TokenError) -> bool {
            self.1.load(SeqCst)
        }
    }
    let source = Source::new();
    let refused = fault(ErrorKind::InvalidClient).with_retry_after(HOUR);
    source.push_answer(Answer::Fail(refused));
    let changed = Arc::new(AtomicBool::new(false));
    let refused = Refused(source.clone(), Arc::clone(&changed));
    let cache = builder(refused, FaultyStore::default()).build();
    for key in 0..5 {
        cache.get(&tenant(key)).await.unwrap_err();
    }
    assert_eq!(source.fetches(), 1);
    changed.store(true, SeqCst);
    sleep(secs(1)).await;
    for key in 1..5 {
        cache.get(&tenant(key)).await.unwrap();
    }
}

// Keys.

#[tokio::test(start_paused = true)]
async fn source_without_a_source_id_needs_a_namespace() {
    let source = Source::new();
    let cache = TokenCache::builder(source.clone())
        .with_store(MemoryStore::new(), ring(KEY))
        .build();
    let error = cache.get(spec()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let message = error.to_string();
    assert!(message.contains("with_store_namespace"), "{message}");
    assert_eq!(source.fetches(), 0);
}

#[tokio::test(start_paused = true)]
async fn only_the_same_source_and_namespace_share_tokens() {
    let store = FaultyStore::default();
    let cache = |client: Option<&str>, namespace: Option<&str>| {
        let text = format!("{client:?}-{namespace:?}").replace(['"', '(', ')'], "-");
        let source = tower_bearer::source::from_fn(move |_| {
            let token = NewToken::bearer(&text);
            async move { Ok(token?.with_lifetime(HOUR)) }
        });
        let source = match client {
            Some(client) => source.with_source_id(SourceId::new("vault").with("client", client)),
            None => source,
        };
        let builder = TokenCache::builder(source)
            .with_clock(Clock::tokio())
            .with_store(store.clone(), ring(KEY));
        match namespace {
            Some(namespace) => builder.with_store_namespace(namespace).build(),
            None => builder.build(),
        }
    };
    let all = [
        (Some("a"), None),
        (Some("b"), None),
        (Some("a"), Some("x")),
        (Some("a"), Some("y")),
        (None, Some("x")),
        (None, Some("y")),
    ];
    let mut first = Vec::new();
    for (client, namespace) in all {
        let token = cache(client, namespace).get(spec()).await.unwrap();
        assert_eq!(token.origin(), TokenOrigin::Provider);
        first.push(token.expose().to_owned());
    }
    for ((client, namespace), first) in all.into_iter().zip(first) {
        let token = cache(client, namespace).get(spec()).await.unwrap();
        assert_token(&token, &first, TokenOrigin::Store);
    }
}

#[tokio::test(start_paused = true)]
async fn each_spec_has_a_separate_stored_token() {
    let (source, store) = (Source::new(), FaultyStore::default());
    let specs = [
        spec().clone(),
        spec().clone().with_scopes(["write"]),
        spec().clone().with_tenant("a"),
        spec().clone().with_audience("a"),
        spec().clone().with_resource("https://a.example"),
        spec().clone().with_extra("a", "b"),
    ];
    let [cache, other] = pair(&source, &store);
    for spec in &specs {
        cache.get(spec).await.unwrap();
    }
    assert_eq!(source.fetches(), specs.len());
    for (i, spec) in specs.iter().enumerate() {
        let token = other.get(spec).await.unwrap();
        assert_token(&token, &format!("token-{}", i + 1), TokenOrigin::Store);
    }
    assert_eq!(source.fetches(), specs.len());
}

#[test]
fn cache_with_a_store_is_built_outside_a_runtime() {
    let built = thread::spawn(|| {
        let builder = builder(Source::new(), MemoryStore::new());
        assert!(!format!("{builder:?}").contains(KEY));
        builder.build()
    });
    assert!(!format!("{:?}", built.join().unwrap()).contains(KEY));
}

/// The events of the store that an operator should look into.
#[derive(Clone, Default)]
struct StoreEvents(Arc<Mutex<Vec<String>>>);

impl StoreEvents {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl TokenEvents for StoreEvents {
    fn on_event(&self, event: &TokenEvent<'_>) {
        let text = match event {
            TokenEvent::StoreFailed {
                work,
                error,
                first: true,
            } => format!("{} fails: {}", work.as_str(), error.kind()),
            TokenEvent::StoreRecovered { work, .. } => format!("{} is back", work.as_str()),
            TokenEvent::StoreUnreadable { first: true, .. } => "unreadable".to_owned(),
            _ => return,
        };
        self.0.lock().unwrap().push(text);
    }
}
