//! Several caches over one store: replicas of a fleet, or a program's first run and its next.

mod support;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use support::{
    Answer, Api, HOUR, Source, fault, layer, millis, outcome, request, secs, send, settle, spec,
    tenant,
};
use tokio::{
    sync::Notify,
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
    store::{Fence, KeyRing, Lease, MemoryStore, Name, StoreError, StoreErrorKind, TokenStore},
    telemetry::{TokenEvent, TokenEvents},
    token::{FetchReason, TokenOrigin},
};

const KEY: &str = "0nF2ql0S7ivVYJz7IXgbRLHwlGAd0Vg5LGn6i3tGqzE=";
const OTHER_KEY: &str = "QmfdFM4UlZXi2qBJ6gZLCWpq4S1Nd4B0jLl6X0KdQRc=";

/// The cache's own bounds of a store's answers.
const READ: Duration = millis(250);
const WRITE: Duration = secs(1);
/// What a process that starts gives a store that is slow to begin.
const BEGINNING: Duration = millis(500);

fn ring(key: &str) -> KeyRing {
    KeyRing::new(Secret::new(key)).unwrap()
}

fn builder(source: impl TokenSource, store: impl TokenStore) -> CacheBuilder {
    TokenCache::builder(source)
        .with_clock(Clock::tokio())
        .with_store(store, ring(KEY))
        .with_store_namespace("tests")
}

fn replica(source: &Source, store: &Unwell) -> TokenCache {
    builder(source.clone(), store.clone()).build()
}

fn replicas(n: usize, source: &Source, store: &Unwell) -> Vec<TokenCache> {
    (0..n).map(|_| replica(source, store)).collect()
}

async fn all_get(replicas: &[TokenCache]) -> Vec<Token> {
    let mut callers = JoinSet::new();
    for cache in replicas {
        let cache = cache.clone();
        callers.spawn(async move { cache.get(spec()).await.unwrap() });
    }
    callers.join_all().await
}

fn texts(replicas: &[TokenCache]) -> Vec<String> {
    let text = |cache: &TokenCache| {
        cache
            .peek(spec())
            .map_or_else(String::new, |token| token.expose().to_owned())
    };
    replicas.iter().map(text).collect()
}

// Starting.

#[tokio::test(start_paused = true)]
async fn a_hundred_cold_replicas_cost_one_token_request() {
    let source = Source::new().taking(millis(300));
    let store = Unwell::new();
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
async fn a_second_start_takes_the_first_ones_token_with_its_times_and_all() {
    let store = Unwell::new();
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
    // Long after the clocks began, so that a token has an age on both of them.
    let clock = Clock::tokio();
    sleep(HOUR * 9).await;
    let first = builder(source, store.clone()).with_clock(clock.clone());
    let first = first.build().get(spec()).await.unwrap();

    sleep(secs(600)).await;
    let never = tower_bearer::source::from_fn(async |_| Err(fault(ErrorKind::Network)));
    let restarted = builder(never, store.clone()).with_clock(clock).build();
    let second = restarted.get(spec()).await.unwrap();
    assert_eq!(
        (second.expose(), second.origin()),
        ("first", TokenOrigin::Store)
    );
    assert_ne!(second.generation(), first.generation());
    assert_eq!(second.requested_at(), first.requested_at());
    assert_eq!(second.expires_at(), first.expires_at());
    assert_eq!(second.lifetime(), HOUR);
    // Whoever fetched it is the first to see to the next: the others up to a fifth of the lead later.
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

    // And it ends when it ends.
    sleep(secs(2_989)).await;
    assert!(restarted.peek(spec()).is_some());
    sleep(secs(1)).await;
    assert!(restarted.peek(spec()).is_none());
}

/// As a command-line tool does: each run has a runtime, a cache and a store of its own, and ends right after it has its token.
#[cfg(feature = "file")]
#[test]
fn a_program_that_starts_often_keeps_its_token_in_a_file() {
    use tower_bearer::store::FileStore;

    let folder = std::env::temp_dir().join(format!("tower-bearer-fleet-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let source = Source::new();
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let cache = TokenCache::builder(source.clone())
            .with_store(FileStore::new(folder.join("tokens")), ring(KEY))
            .with_store_namespace("tests")
            .build();
        let token = runtime.block_on(cache.get(spec())).unwrap();
        (token.expose().to_owned(), token.origin())
    };
    // A disk that is busy may be too slow for a run, and not for all.
    let runs: Vec<_> = (0..20).map(|_| run()).collect();
    assert_eq!(runs[0].1, TokenOrigin::Provider);
    assert!(runs.iter().any(|(_, origin)| *origin == TokenOrigin::Store));
    let fetched = runs
        .iter()
        .filter(|(_, origin)| *origin == TokenOrigin::Provider);
    assert_eq!(fetched.count(), source.fetches());
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hit_asks_nothing_of_the_store() {
    let (source, store) = (Source::new(), Unwell::new());
    let cache = replica(&source, &store);
    cache.get(spec()).await.unwrap();
    let asked = store.asked();
    for _ in 0..100 {
        cache.get(spec()).await.unwrap();
    }
    assert_eq!(store.asked(), asked);
    // To look twice, to have the right, to save, to give it back.
    assert_eq!(asked, 5);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_waits_for_another_replica_may_give_up_and_nothing_is_lost() {
    let source = Source::new().gated();
    let store = Unwell::new();
    let [leader, other] = [replica(&source, &store), replica(&source, &store)];
    let mut leads = task::spawn(leader.get(spec()));
    assert_pending!(leads.poll());
    settle().await;
    let mut waits = task::spawn(other.get(spec()));
    assert_pending!(waits.poll());
    drop(waits);
    source.open();
    sleep(secs(1)).await;
    // The flight went on without anybody.
    assert_eq!(other.peek(spec()).unwrap().origin(), TokenOrigin::Store);
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_gets_the_lease_looks_again_for_what_came_since_its_first_look() {
    let (source, store) = (Source::new().gated(), Unwell::new());
    let [leader, other] = [replica(&source, &store), replica(&source, &store)];
    let mut leads = task::spawn(leader.get(spec()));
    assert_pending!(leads.poll());
    settle().await;
    store.hold_leases(true);
    let mut follows = task::spawn(other.get(spec()));
    assert_pending!(follows.poll());
    // It has looked and found nothing, and stands before the lease, when the leader is done.
    settle().await;
    source.open();
    leads.await.unwrap();
    store.hold_leases(false);
    assert_eq!(follows.await.unwrap().origin(), TokenOrigin::Store);
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_is_followed_when_its_lease_ends() {
    let source = Source::new().gated();
    let store = Unwell::new();
    let leader = replica(&source, &store);
    let mut leads = task::spawn(leader.get(spec()));
    assert_pending!(leads.poll());
    settle().await;
    assert_eq!(source.fetches(), 1);
    let others = replicas(100, &source, &store);
    let begun = Instant::now();
    let mut waiting = JoinSet::new();
    for cache in &others {
        let cache = cache.clone();
        waiting.spawn(async move { cache.get(spec()).await.unwrap() });
    }
    settle().await;
    // The last handle is gone, and its flight with it; its lease is not.
    drop(leads);
    drop(leader);
    source.open();
    let tokens = waiting.join_all().await;
    assert_eq!(source.fetches(), 2);
    assert!(tokens.iter().all(|token| token.expose() == "token-2"));
    // Two fifths of the fetch timeout, and a look later.
    assert!(begun.elapsed() >= secs(4) && begun.elapsed() < millis(4_600));
}

#[test]
fn a_leader_whose_runtime_is_dropped_is_followed() {
    let source = Source::new().gated();
    let store = Unwell::new();
    let quick = |source: &Source| {
        TokenCache::builder(source.clone())
            .with_fetch_timeout(secs(2))
            .with_store(store.clone(), ring(KEY))
            .with_store_namespace("tests")
            .build()
    };
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    };
    let leader = quick(&source);
    let doomed = runtime();
    doomed.block_on(async {
        let mut leads = task::spawn(leader.get(spec()));
        assert_pending!(leads.poll());
        while source.fetches() == 0 {
            tokio::task::yield_now().await;
        }
    });
    drop(doomed);
    source.open();
    let other = quick(&source);
    let token = runtime().block_on(other.get(spec())).unwrap();
    assert_eq!((token.expose(), source.fetches()), ("token-2", 2));
    // The leader's own callers are not stuck either: they find what the other has fetched.
    let token = runtime().block_on(leader.get(spec())).unwrap();
    assert_eq!((token.expose(), source.fetches()), ("token-2", 2));
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_asks_the_provider_after_half_of_the_fetch_timeout() {
    let (source, store) = (Source::new(), Unwell::new());
    store.lease_nobody();
    let cache = replica(&source, &store);
    let begun = Instant::now();
    let token = cache.get(spec()).await.unwrap();
    assert_eq!(token.origin(), TokenOrigin::Provider);
    assert_eq!(begun.elapsed(), secs(5));
    assert_eq!((source.fetches(), cache.stats().store_errors), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_fails_is_followed_at_once() {
    let source = Source::new().taking(millis(100));
    source.then(Answer::fail(ErrorKind::AccessDenied));
    let store = Unwell::new();
    let [first, second] = [replica(&source, &store), replica(&source, &store)];
    let begun = Instant::now();
    let (one, other) = tokio::join!(first.get(spec()), second.get(spec()));
    assert_eq!(one.unwrap_err().kind(), ErrorKind::AccessDenied);
    assert_eq!(other.unwrap().expose(), "token-2");
    assert!(begun.elapsed() < secs(1), "{:?}", begun.elapsed());
    // Who failed has its own back-off, and then finds the other's.
    sleep(secs(1)).await;
    assert_eq!(first.get(spec()).await.unwrap().expose(), "token-2");
    assert_eq!(source.fetches(), 2);
}

// Refreshing.

#[tokio::test(start_paused = true)]
async fn a_fleet_refreshes_once_and_all_have_the_new_token_in_time() {
    let source = Source::new().taking(millis(300));
    let store = Unwell::new();
    let replicas = replicas(20, &source, &store);
    all_get(&replicas).await;
    for lifetime in 1..=20 {
        // Until all have the next one, or the old one ends.
        let obtained = replicas[0].peek(spec()).unwrap().requested_at();
        for _ in 0..1_790 {
            sleep(secs(2)).await;
            for cache in &replicas {
                let mut get = task::spawn(cache.get(spec()));
                // Nobody waits.
                assert_ready!(get.poll()).unwrap();
            }
            let newest = replicas[0].peek(spec()).unwrap();
            let same = texts(&replicas).iter().all(|text| text == newest.expose());
            if same && newest.requested_at() != obtained {
                break;
            }
        }
        assert_eq!(source.fetches(), 1 + lifetime);
        let newest = format!("token-{}", 1 + lifetime);
        assert!(texts(&replicas).iter().all(|text| *text == newest));
    }
    let stats = replicas[0].stats();
    assert_eq!((stats.store_errors, stats.fetch_failures), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn while_another_refreshes_the_old_token_serves_and_the_new_one_is_looked_for() {
    let (source, store) = (Source::new(), Unwell::new());
    let [first, second] = [replica(&source, &store), replica(&source, &store)];
    first.get(spec()).await.unwrap();
    second.get(spec()).await.unwrap();
    let source = source.gated();
    advance(secs(3_361)).await;
    let mut get = task::spawn(first.get(spec()));
    assert_ready!(get.poll()).unwrap();
    settle().await;
    assert_eq!(source.fetches(), 2);
    for _ in 0..30 {
        let mut get = task::spawn(second.get(spec()));
        assert_eq!(assert_ready!(get.poll()).unwrap().expose(), "token-1");
        sleep(millis(100)).await;
    }
    assert_eq!(source.fetches(), 2);
    // It looked each half of a second to each second, and not at each request.
    let looks = store.reads();
    assert!((3 + 3..=3 + 2 + 7).contains(&looks), "{looks}");
    source.open();
    sleep(secs(1)).await;
    second.get(spec()).await.unwrap();
    settle().await;
    let token = second.peek(spec()).unwrap();
    assert_eq!(
        (token.expose(), token.origin(), token.reason()),
        ("token-2", TokenOrigin::Store, FetchReason::Stale)
    );
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_whose_leader_dies_is_done_by_another_before_the_end() {
    let (source, store) = (Source::new(), Unwell::new());
    let [first, second] = [replica(&source, &store), replica(&source, &store)];
    first.get(spec()).await.unwrap();
    second.get(spec()).await.unwrap();
    let source = source.gated();
    advance(secs(3_361)).await;
    first.get(spec()).await.unwrap();
    settle().await;
    drop(first);
    source.open();
    for _ in 0..6 {
        sleep(secs(1)).await;
        let mut get = task::spawn(second.get(spec()));
        assert_ready!(get.poll()).unwrap();
        settle().await;
    }
    assert_eq!(second.peek(spec()).unwrap().expose(), "token-3");
    assert_eq!(source.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_forced_refresh_takes_nothing_that_was_there_before() {
    let (source, store) = (Source::new(), Unwell::new());
    let [first, second] = [replica(&source, &store), replica(&source, &store)];
    first.get(spec()).await.unwrap();
    assert_eq!(second.refresh(spec()).await.unwrap().expose(), "token-2");
    assert_eq!(first.refresh(spec()).await.unwrap().expose(), "token-3");
    // Two at the same time are one, since what the other has fetched is new.
    let source = source.taking(millis(100));
    let (one, other) = tokio::join!(first.refresh(spec()), second.refresh(spec()));
    assert_eq!(one.unwrap().expose(), other.unwrap().expose());
    assert_eq!(source.fetches(), 4);
}

#[tokio::test(start_paused = true)]
async fn who_joins_a_refresh_that_finds_another_at_it_waits_for_that_one() {
    let (source, store) = (Source::new(), Unwell::new());
    let [first, second] = [replica(&source, &store), replica(&source, &store)];
    first.get(spec()).await.unwrap();
    second.get(spec()).await.unwrap();
    let source = source.gated();
    advance(secs(3_361)).await;
    first.get(spec()).await.unwrap();
    settle().await;
    // A refresh behind the scenes, and before it has come to the store somebody who needs a new token joins it.
    let mut get = task::spawn(second.get(spec()));
    assert_ready!(get.poll()).unwrap();
    let mut forced = task::spawn(second.refresh(spec()));
    assert_pending!(forced.poll());
    settle().await;
    source.open();
    assert_eq!(forced.await.unwrap().expose(), "token-2");
    assert_eq!(source.fetches(), 2);
}

/// A source each use of which ends what the next is made with.
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
async fn of_a_source_that_wants_the_lease_there_are_never_two_fetches_at_a_time() {
    // Longer than others would wait.
    let source = Source::new().taking(secs(9));
    let store = Unwell::new();
    let replicas: Vec<_> = (0..20)
        .map(|_| builder(Rotating(source.clone()), store.clone()).build())
        .collect();
    all_get(&replicas).await;
    assert_eq!((source.fetches(), source.most_at_once()), (1, 1));
    // And when each must have a new one, and the first fails.
    let source = source.taking(secs(4));
    source.then(Answer::fail(ErrorKind::AccessDenied));
    let mut forced = JoinSet::new();
    for cache in &replicas {
        let cache = cache.clone();
        forced.spawn(async move { cache.refresh(spec()).await.is_ok() });
    }
    let refreshed = forced.join_all().await;
    assert_eq!(refreshed.iter().filter(|good| !**good).count(), 1);
    assert_eq!((source.fetches(), source.most_at_once()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_wants_the_lease_is_not_asked_without_it_unless_the_store_fails() {
    let (source, store) = (Source::new(), Unwell::new());
    store.lease_nobody();
    let cache = builder(Rotating(source.clone()), store.clone()).build();
    let begun = Instant::now();
    let error = cache.get(spec()).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(begun.elapsed() >= secs(11) && begun.elapsed() < secs(12));
    assert_eq!(source.fetches(), 0);
    store.refuse_writes(Some(StoreErrorKind::Refused));
    sleep(secs(1)).await;
    cache.get(spec()).await.unwrap();
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_a_minute_costs_the_provider_nothing() {
    let (source, store) = (Source::new(), Unwell::new());
    let replicas = replicas(20, &source, &store);
    all_get(&replicas).await;
    advance(secs(3_300)).await;
    store.refuse_reads(Some(StoreErrorKind::Unavailable));
    store.refuse_writes(Some(StoreErrorKind::Unavailable));
    for second in 0..90 {
        if second == 60 {
            store.refuse_reads(None);
            store.refuse_writes(None);
        }
        all_get(&replicas).await;
        sleep(secs(1)).await;
    }
    assert_eq!(source.fetches(), 2);
    assert!(texts(&replicas).iter().all(|text| text == "token-2"));
}

// Rejection.

#[tokio::test(start_paused = true)]
async fn a_revoked_token_is_sent_once_by_each_replica_and_costs_one_token_request() {
    let source = Source::new().taking(millis(100));
    let store = Unwell::new();
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
    // A replica that starts now does not see it at all.
    let late = replica(&source, &store);
    assert_eq!(late.get(spec()).await.unwrap().expose(), "token-2");
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_token_at_all_replicas_at_once_costs_one_token_request() {
    let source = Source::new().taking(millis(100));
    let store = Unwell::new();
    let replicas = replicas(50, &source, &store);
    let old = all_get(&replicas).await;
    let mut callers = JoinSet::new();
    for cache in &replicas {
        let cache = cache.clone();
        let token = cache.peek(spec()).unwrap();
        callers.spawn(async move {
            assert!(cache.reject(&token));
            cache.get(spec()).await.unwrap().expose().to_owned()
        });
    }
    let new = callers.join_all().await;
    assert_eq!(old[0].expose(), "token-1");
    assert!(new.iter().all(|token| token == "token-2"), "{new:?}");
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_late_rejection_leaves_the_newer_token_in_the_store() {
    let (source, store) = (Source::new(), Unwell::new());
    let [first, second] = [replica(&source, &store), replica(&source, &store)];
    let token = first.get(spec()).await.unwrap();
    second.get(spec()).await.unwrap();
    second.refresh(spec()).await.unwrap();
    assert!(first.reject(&token));
    let next = first.get(spec()).await.unwrap();
    assert_eq!(
        (next.expose(), next.origin()),
        ("token-2", TokenOrigin::Store)
    );
    assert_eq!(store.deleted(), 0);
    let late = replica(&source, &store).get(spec()).await.unwrap();
    assert_eq!((late.expose(), source.fetches()), ("token-2", 2));
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_leaves_the_store_before_the_next_is_there() {
    let (source, store) = (Source::new(), Unwell::new());
    let cache = replica(&source, &store);
    let token = cache.get(spec()).await.unwrap();
    cache.reject(&token);
    source.henceforth(Answer::fail(ErrorKind::AccessDenied));
    cache.get(spec()).await.unwrap_err();
    assert_eq!(store.deleted(), 1);
    source.henceforth(Answer::Token(Some(HOUR)));
    let late = replica(&source, &store).get(spec()).await.unwrap();
    assert_eq!(
        (late.expose(), late.origin()),
        ("token-3", TokenOrigin::Provider)
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_or_removed_is_never_taken_from_the_store_again() {
    let (source, store) = (Source::new(), Unwell::new());
    let cache = replica(&source, &store);
    let token = cache.get(spec()).await.unwrap();
    // The store keeps the revoked token, and gets no other.
    store.refuse_writes(Some(StoreErrorKind::Refused));
    cache.reject(&token);
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-2");
    cache.remove(spec());
    let next = cache.get(spec()).await.unwrap();
    assert_eq!(
        (next.expose(), next.origin()),
        ("token-3", TokenOrigin::Provider)
    );
    store.refuse_writes(None);
    sleep(secs(9)).await;
    // What was removed has never been in the store; what is there is the first one, and goes now.
    cache.remove(spec());
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-4");
    assert_eq!(store.deleted(), 1);
    cache.clear();
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-5");
    assert_eq!(store.deleted(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_gives_the_rejected_token_again_is_believed() {
    let (source, store) = (Source::new().usually(Answer::Text("same")), Unwell::new());
    let [first, second] = [replica(&source, &store), replica(&source, &store)];
    let token = first.get(spec()).await.unwrap();
    second.get(spec()).await.unwrap();
    first.reject(&token);
    assert_eq!(first.get(spec()).await.unwrap().expose(), "same");
    assert_eq!(source.fetches(), 2);
    // It is in the store for whoever needs it.
    let late = replica(&source, &store).get(spec()).await.unwrap();
    assert_eq!((late.origin(), source.fetches()), (TokenOrigin::Store, 2));
}

// Clocks.

/// Tokio's clock, off by so much on the wall.
fn off_by(clock: &Clock, seconds: i64) -> Clock {
    let clock = clock.clone();
    Clock::from_fn(move || {
        let now = clock.now();
        Moment {
            wall: now.wall.saturating_add_signed(seconds * 1_000_000_000),
            // It has been running for long.
            monotonic: now.monotonic + 1_000_000_000_000_000,
        }
    })
}

#[tokio::test(start_paused = true)]
async fn clocks_that_differ_by_minutes_cost_little_and_never_a_request() {
    let source = Source::new().taking(millis(100));
    let store = Unwell::new();
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
            let missed = cache.peek(spec()).is_none();
            misses += usize::from(missed);
            let token = cache.get(spec()).await.unwrap();
            let now = clock.now().system_time();
            assert!(token.expires_at() > now, "expired by its own clock");
            assert!(token.expires_at() <= now + HOUR, "longer than it was given");
        }
    }
    // At the start alone.
    assert_eq!(misses, 3);
    let fetches = source.fetches();
    assert!((20..=24).contains(&fetches), "{fetches}");
}

#[tokio::test(start_paused = true)]
async fn a_token_from_the_future_lives_no_longer_than_it_was_given() {
    let (source, store) = (Source::new(), Unwell::new());
    let start = Clock::tokio();
    let at = |off| builder(source.clone(), store.clone()).with_clock(off_by(&start, off));
    let now = |off| off_by(&start, off).now().system_time();
    at(300).build().get(spec()).await.unwrap();
    let token = at(-300).build().get(spec()).await.unwrap();
    assert_eq!(token.origin(), TokenOrigin::Store);
    assert_eq!(token.requested_at(), now(-300));
    assert_eq!(token.expires_at(), now(-300) + HOUR);
    // And the other way round it is older than it is.
    let token = at(900).build().get(spec()).await.unwrap();
    assert_eq!(token.origin(), TokenOrigin::Store);
    assert_eq!(token.expires_at(), now(900) + secs(3_600 - 600));
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_revives_no_token_through_the_store() {
    let (source, store) = (Source::new().lasting(secs(600)), Unwell::new());
    let back = Arc::new(AtomicU64::new(0));
    let clock = {
        let (back, clock) = (Arc::clone(&back), off_by(&Clock::tokio(), 0));
        Clock::from_fn(move || {
            let mut now = clock.now();
            now.wall -= back.load(SeqCst) * 1_000_000_000;
            now
        })
    };
    let cache = builder(source.clone(), store.clone())
        .with_clock(clock)
        .build();
    cache.get(spec()).await.unwrap();
    // The store is asked to keep it for longer than the token lives, as one on another machine might.
    store.keep_for_ever();
    let cache_of_another = cache.get(spec()).await.unwrap();
    assert_eq!(cache_of_another.expose(), "token-1");
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

/// Many requests for ever new keys, of which none may fail or wait for longer than that.
async fn requests(cache: &TokenCache, number: u64, longest: Duration) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    for _ in 0..number {
        let begun = Instant::now();
        let key = tenant(NEXT.fetch_add(1, SeqCst));
        cache.get(&key).await.unwrap();
        assert!(begun.elapsed() <= longest, "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_in_whatever_way_fails_no_request_and_is_told_once() {
    for kind in KINDS {
        for (reads, writes) in [(true, true), (true, false), (false, true)] {
            let (source, store) = (Source::new(), Unwell::new());
            let told = Told::default();
            let cache = builder(source.clone(), store.clone())
                .with_events(told.clone())
                .build();
            requests(&cache, 10, Duration::ZERO).await;
            assert_eq!(told.take(), [""; 0]);

            store.refuse_reads(reads.then_some(kind));
            store.refuse_writes(writes.then_some(kind));
            for _ in 0..60 {
                requests(&cache, 10, Duration::ZERO).await;
                sleep(secs(1)).await;
            }
            let work = if reads { "reading" } else { "writing" };
            assert_eq!(told.take(), [format!("{work} fails: {kind}")]);
            let errors = cache.stats().store_errors;
            assert!((5..20).contains(&errors), "{errors}");

            store.refuse_reads(None);
            store.refuse_writes(None);
            for _ in 0..9 {
                requests(&cache, 10, Duration::ZERO).await;
                sleep(secs(1)).await;
            }
            assert_eq!(told.take(), [format!("{work} is back")]);
            // It is used again.
            let key = tenant("after");
            cache.get(&key).await.unwrap();
            let other = replica(&source, &store).get(&key).await.unwrap();
            assert_eq!(other.origin(), TokenOrigin::Store);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_from_the_start_is_not_missed() {
    let (source, store) = (Source::new(), Unwell::new());
    store.refuse_reads(Some(StoreErrorKind::Unavailable));
    store.refuse_writes(Some(StoreErrorKind::Unavailable));
    let replicas = replicas(10, &source, &store);
    let begun = Instant::now();
    all_get(&replicas).await;
    // Whoever says no is not slow.
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(source.fetches(), 10);
    requests(&replicas[0], 100, Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_slow_to_begin_is_tried_again_by_a_process_that_starts() {
    let (source, store) = (Source::new(), Unwell::new());
    replica(&source, &store).get(spec()).await.unwrap();
    store.refuse_reads(Some(StoreErrorKind::Timeout));
    let cache = replica(&source, &store);
    let mut get = task::spawn(cache.get(spec()));
    assert_pending!(get.poll());
    sleep(millis(100)).await;
    store.refuse_reads(None);
    assert_eq!(get.await.unwrap().origin(), TokenOrigin::Store);
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_another_replica_outlasts_a_store_that_fails_for_a_moment_and_not_for_long() {
    for (moment, expected) in [
        (millis(300), TokenOrigin::Store),
        (secs(60), TokenOrigin::Provider),
    ] {
        let (source, store) = (Source::new().gated(), Unwell::new());
        let [leader, other] = [replica(&source, &store), replica(&source, &store)];
        let mut leads = task::spawn(leader.get(spec()));
        assert_pending!(leads.poll());
        settle().await;
        let mut waits = task::spawn(other.get(spec()));
        assert_pending!(waits.poll());
        sleep(millis(100)).await;
        store.refuse_reads(Some(StoreErrorKind::Timeout));
        store.refuse_writes(Some(StoreErrorKind::Timeout));
        sleep(moment.min(secs(2))).await;
        assert_eq!(
            source.fetches(),
            if expected == TokenOrigin::Store { 1 } else { 2 }
        );
        store.refuse_reads(None);
        store.refuse_writes(None);
        sleep(millis(500)).await;
        source.open();
        source.open();
        assert_eq!(waits.await.unwrap().origin(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_holds_one_request_once_in_a_while_and_not_for_long() {
    let (source, store) = (Source::new(), Unwell::new());
    let cache = replica(&source, &store);
    store.hang(true, true);
    requests(&cache, 1, BEGINNING).await;
    sleep(millis(20)).await;
    // The next ones don't even notice.
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
async fn a_store_that_hangs_when_it_is_written_to_holds_a_request_once() {
    let (source, store) = (Source::new(), Unwell::new());
    let cache = replica(&source, &store);
    store.hang(false, true);
    requests(&cache, 1, WRITE).await;
    requests(&cache, 100, Duration::ZERO).await;
    // And when it begins in the middle of a flight, with the right to fetch in hand.
    store.hang(false, false);
    sleep(secs(9)).await;
    let gated = source.clone().gated();
    let mut get = task::spawn(cache.get(spec()));
    assert_pending!(get.poll());
    settle().await;
    store.hang(true, true);
    gated.open();
    let begun = Instant::now();
    get.await.unwrap();
    assert_eq!(begun.elapsed(), WRITE);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_slow_but_answers_is_used() {
    let (source, store) = (Source::new(), Unwell::new());
    store.take(millis(200));
    let [first, second] = [replica(&source, &store), replica(&source, &store)];
    first.get(spec()).await.unwrap();
    let begun = Instant::now();
    let token = second.get(spec()).await.unwrap();
    assert_eq!(
        (token.origin(), begun.elapsed()),
        (TokenOrigin::Store, millis(200))
    );
    assert_eq!(second.stats().store_errors, 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_is_one_that_fails() {
    let (source, store) = (Source::new(), Unwell::new());
    store.panic();
    let cache = replica(&source, &store);
    requests(&cache, 1, Duration::ZERO).await;
    requests(&cache, 100, Duration::ZERO).await;
    assert_eq!(source.fetches(), 101);
    let errors = cache.stats().store_errors;
    assert!((1..10).contains(&errors), "{errors}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_leaves_what_is_in_memory_in_service() {
    let (source, store) = (Source::new(), Unwell::new());
    let cache = replica(&source, &store);
    cache.get(spec()).await.unwrap();
    store.hang(true, true);
    // Due: it hopes for the store for half of the time that it has, and then goes without.
    advance(secs(3_300)).await;
    let refreshed = async |second: u64| {
        for _ in 0..second {
            let mut get = task::spawn(cache.get(spec()));
            assert_ready!(get.poll()).unwrap();
            sleep(secs(1)).await;
        }
        cache.peek(spec()).unwrap().expose() == "token-2"
    };
    assert!(!refreshed(110).await);
    assert!(refreshed(40).await);
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_opened_counts_as_nothing_is_told_once_and_replaced() {
    let (source, store) = (Source::new(), Unwell::new());
    replica(&source, &store).get(spec()).await.unwrap();
    for junk in [
        &b""[..],
        b"\x01",
        b"\x02later",
        b"{\"access_token\":\"x\"}",
        &[1; 200],
    ] {
        store.overwrite(junk);
        let told = Told::default();
        let cache = builder(source.clone(), store.clone())
            .with_events(told.clone())
            .build();
        let token = cache.get(spec()).await.unwrap();
        assert_eq!(token.origin(), TokenOrigin::Provider);
        assert_eq!(told.take(), ["unreadable"]);
        let stats = cache.stats();
        // Seen at the first look, and under the lease.
        assert_eq!((stats.store_unreadable, stats.store_errors), (2, 0));
        let other = replica(&source, &store).get(spec()).await.unwrap();
        assert_eq!(
            (other.expose(), other.origin()),
            (token.expose(), TokenOrigin::Store)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_values_of_two_keys_that_were_swapped_are_taken_for_neither() {
    let (source, store) = (Source::new(), Unwell::new());
    let cache = replica(&source, &store);
    cache.get(&tenant("a")).await.unwrap();
    cache.get(&tenant("b")).await.unwrap();
    store.swap_all();
    let other = replica(&source, &store);
    for key in ["a", "b"] {
        let token = other.get(&tenant(key)).await.unwrap();
        assert_eq!(token.origin(), TokenOrigin::Provider);
    }
    assert_eq!(source.fetches(), 4);
}

#[tokio::test(start_paused = true)]
async fn another_key_finds_nothing_and_an_older_one_everything() {
    let (source, store) = (Source::new(), Unwell::new());
    replica(&source, &store).get(spec()).await.unwrap();
    let with = |ring| {
        TokenCache::builder(source.clone())
            .with_clock(Clock::tokio())
            .with_store(store.clone(), ring)
            .with_store_namespace("tests")
            .build()
    };
    let stranger = with(ring(OTHER_KEY)).get(&tenant("x")).await.unwrap();
    assert_eq!(stranger.origin(), TokenOrigin::Provider);
    let both = ring(OTHER_KEY).with_older(Secret::new(KEY)).unwrap();
    let token = with(both).get(spec()).await.unwrap();
    assert_eq!(
        (token.expose(), token.origin()),
        ("token-1", TokenOrigin::Store)
    );
}

#[tokio::test(start_paused = true)]
async fn while_the_provider_is_left_alone_the_store_still_gives_what_it_has() {
    let (source, store) = (Source::new(), Unwell::new());
    replica(&source, &store).get(spec()).await.unwrap();
    source.henceforth(Answer::fail(ErrorKind::Throttled));
    let cache = replica(&source, &store);
    cache.get(&tenant("new")).await.unwrap_err();
    let asked = source.fetches();
    // The whole source is left alone by now.
    let token = cache.get(spec()).await.unwrap();
    assert_eq!(token.origin(), TokenOrigin::Store);
    let error = cache.get(&tenant("newer")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert!(error.retry_after().is_some());
    assert_eq!(source.fetches(), asked);
    // For a key that it has not, it is asked once, and not by each request.
    let reads = store.reads();
    for _ in 0..100 {
        cache.get(&tenant("newer")).await.unwrap_err();
    }
    assert_eq!(store.reads(), reads);
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_has_been_replaced_is_tried_within_a_second() {
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
    source.then(Answer::Fail(refused));
    let changed = Arc::new(AtomicBool::new(false));
    let refused = Refused(source.clone(), Arc::clone(&changed));
    let cache = builder(refused, Unwell::new()).build();
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

// Whose tokens.

#[tokio::test(start_paused = true)]
async fn a_source_without_an_identity_needs_a_namespace() {
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
async fn tokens_are_shared_by_the_same_source_and_namespace_and_by_no_others() {
    let store = Unwell::new();
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
        assert_eq!(
            (token.expose(), token.origin()),
            (&*first, TokenOrigin::Store)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn every_spec_has_its_own_place() {
    let (source, store) = (Source::new(), Unwell::new());
    let specs = [
        spec().clone(),
        spec().clone().with_scopes(["write"]),
        spec().clone().with_tenant("a"),
        spec().clone().with_audience("a"),
        spec().clone().with_resource("https://a.example"),
        spec().clone().with_extra("a", "b"),
    ];
    let cache = replica(&source, &store);
    for spec in &specs {
        cache.get(spec).await.unwrap();
    }
    assert_eq!(source.fetches(), specs.len());
    let other = replica(&source, &store);
    for (i, spec) in specs.iter().enumerate() {
        let token = other.get(spec).await.unwrap();
        assert_eq!(token.expose(), format!("token-{}", i + 1));
    }
    assert_eq!(source.fetches(), specs.len());
}

#[test]
fn a_cache_with_a_store_is_built_outside_a_runtime_and_shows_nothing() {
    let source = Source::new();
    let built = thread::spawn(move || {
        let builder = TokenCache::builder(source)
            .with_store(MemoryStore::new(), ring(KEY))
            .with_store_namespace("tests");
        assert!(!format!("{builder:?}").contains(KEY));
        builder.build()
    });
    assert!(!format!("{:?}", built.join().unwrap()).contains(KEY));
}

// What the tests use.

/// A store in memory that fails to order.
#[derive(Clone)]
struct Unwell(Arc<Orders>);

struct Orders {
    store: MemoryStore,
    fail_reads: Mutex<Option<StoreErrorKind>>,
    fail_writes: Mutex<Option<StoreErrorKind>>,
    hang_reads: AtomicBool,
    hang_writes: AtomicBool,
    lease_nobody: AtomicBool,
    hold_leases: AtomicBool,
    let_go: Notify,
    panic: AtomicBool,
    keep_for_ever: AtomicBool,
    takes: Mutex<Duration>,
    reads: AtomicU64,
    writes: AtomicU64,
    deleted: AtomicU64,
    values: Mutex<HashMap<Name, Bytes>>,
}

impl Unwell {
    fn new() -> Self {
        Self(Arc::new(Orders {
            store: MemoryStore::new(),
            fail_reads: Mutex::default(),
            fail_writes: Mutex::default(),
            hang_reads: AtomicBool::new(false),
            hang_writes: AtomicBool::new(false),
            lease_nobody: AtomicBool::new(false),
            hold_leases: AtomicBool::new(false),
            let_go: Notify::new(),
            panic: AtomicBool::new(false),
            keep_for_ever: AtomicBool::new(false),
            takes: Mutex::default(),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            deleted: AtomicU64::new(0),
            values: Mutex::default(),
        }))
    }

    fn refuse_reads(&self, kind: Option<StoreErrorKind>) {
        *self.0.fail_reads.lock().unwrap() = kind;
    }

    fn refuse_writes(&self, kind: Option<StoreErrorKind>) {
        *self.0.fail_writes.lock().unwrap() = kind;
    }

    fn hang(&self, reads: bool, writes: bool) {
        self.0.hang_reads.store(reads, SeqCst);
        self.0.hang_writes.store(writes, SeqCst);
    }

    fn lease_nobody(&self) {
        self.0.lease_nobody.store(true, SeqCst);
    }

    /// Whoever asks for a lease waits until this is over.
    fn hold_leases(&self, hold: bool) {
        self.0.hold_leases.store(hold, SeqCst);
        self.0.let_go.notify_waiters();
    }

    fn panic(&self) {
        self.0.panic.store(true, SeqCst);
    }

    fn keep_for_ever(&self) {
        self.0.keep_for_ever.store(true, SeqCst);
    }

    /// Each operation takes this long.
    fn take(&self, time: Duration) {
        *self.0.takes.lock().unwrap() = time;
    }

    fn reads(&self) -> u64 {
        self.0.reads.load(SeqCst)
    }

    fn asked(&self) -> u64 {
        self.reads() + self.0.writes.load(SeqCst)
    }

    fn deleted(&self) -> u64 {
        self.0.deleted.load(SeqCst)
    }

    /// Somebody else writes this over all values.
    fn overwrite(&self, junk: &'static [u8]) {
        for value in self.0.values.lock().unwrap().values_mut() {
            *value = Bytes::from_static(junk);
        }
    }

    /// Somebody else gives each name the value of the next.
    fn swap_all(&self) {
        let mut values = self.0.values.lock().unwrap();
        let mut moved: Vec<Bytes> = values.values().cloned().collect();
        moved.rotate_left(1);
        for (value, other) in values.values_mut().zip(moved) {
            *value = other;
        }
    }

    async fn read(&self) -> Result<(), StoreError> {
        self.0.reads.fetch_add(1, SeqCst);
        let kind = *self.0.fail_reads.lock().unwrap();
        self.obey(kind, self.0.hang_reads.load(SeqCst)).await
    }

    async fn write(&self) -> Result<(), StoreError> {
        self.0.writes.fetch_add(1, SeqCst);
        let kind = *self.0.fail_writes.lock().unwrap();
        self.obey(kind, self.0.hang_writes.load(SeqCst)).await
    }

    async fn obey(&self, kind: Option<StoreErrorKind>, hang: bool) -> Result<(), StoreError> {
        assert!(!self.0.panic.load(SeqCst), "ordered");
        if hang {
            std::future::pending::<()>().await;
        }
        let takes = *self.0.takes.lock().unwrap();
        if !takes.is_zero() {
            sleep(takes).await;
        }
        kind.map_or(Ok(()), |kind| Err(StoreError::new(kind, "ordered")))
    }
}

impl TokenStore for Unwell {
    async fn get(&self, name: &Name) -> Result<Option<Bytes>, StoreError> {
        self.read().await?;
        if self.0.keep_for_ever.load(SeqCst) {
            return Ok(self.0.values.lock().unwrap().get(name).cloned());
        }
        // What was overwritten is what is there; whether it still is, the store knows.
        let kept = self.0.store.get(name).await?;
        Ok(kept.and_then(|_| self.0.values.lock().unwrap().get(name).cloned()))
    }

    async fn put(
        &self,
        name: &Name,
        value: Bytes,
        lifetime: Duration,
        fence: Option<Fence>,
    ) -> Result<bool, StoreError> {
        self.write().await?;
        let put = self
            .0
            .store
            .put(name, value.clone(), lifetime, fence)
            .await?;
        if put {
            self.0.values.lock().unwrap().insert(name.clone(), value);
        }
        Ok(put)
    }

    async fn delete_if(&self, name: &Name, value: &Bytes) -> Result<bool, StoreError> {
        self.write().await?;
        let deleted = self.0.store.delete_if(name, value).await?;
        self.0.deleted.fetch_add(deleted.into(), SeqCst);
        Ok(deleted)
    }

    async fn lease(&self, name: &Name, lifetime: Duration) -> Result<Option<Lease>, StoreError> {
        self.write().await?;
        if self.0.hold_leases.load(SeqCst) {
            self.0.let_go.notified().await;
        }
        if self.0.lease_nobody.load(SeqCst) {
            return Ok(None);
        }
        self.0.store.lease(name, lifetime).await
    }

    async fn release(&self, name: &Name, lease: Lease) -> Result<(), StoreError> {
        self.write().await?;
        self.0.store.release(name, lease).await
    }
}

/// What is told of the store that an operator should look into.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl TokenEvents for Told {
    fn on_event(&self, event: &TokenEvent<'_>) {
        let words = match event {
            TokenEvent::StoreFailed {
                work,
                error,
                first: true,
            } => format!("{} fails: {}", work.as_str(), error.kind()),
            TokenEvent::StoreBack { work, .. } => format!("{} is back", work.as_str()),
            TokenEvent::StoreUnreadable { first: true, .. } => "unreadable".to_owned(),
            _ => return,
        };
        self.0.lock().unwrap().push(words);
    }
}
