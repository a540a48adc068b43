//! Checks that the callers of one key share its fetch and the result.

mod support;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use support::{
    Answer, HOUR, Source, builder, cache, fault, millis, pending, secs, settle, spawn_callers,
    spec, tenant,
};
use tokio::{
    task::JoinSet,
    time::{Instant, advance},
};
use tokio_test::{assert_pending, assert_ready, task};
use tower_bearer::{ErrorKind, Token, TokenCache, TokenError};

#[tokio::test(start_paused = true)]
async fn ten_thousand_callers_cost_one_token_request() {
    let source = Source::new().with_delay(millis(100));
    let cache = cache(&source);
    let results = spawn_callers(&cache, 10_000).join_all().await;
    assert_eq!(results.len(), 10_000);
    let generation = |result: Result<Token, TokenError>| result.unwrap().generation();
    let generations: HashSet<_> = results.into_iter().map(generation).collect();
    assert_eq!((generations.len(), source.fetches()), (1, 1));
    let stats = cache.stats();
    assert_eq!(
        (stats.misses, stats.fetches, stats.token_requests),
        (10_000, 1, 1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_callers_on_two_threads_cost_one_request() {
    let source = Source::new().gated();
    let cache = TokenCache::new(source.clone());
    let mut callers = JoinSet::new();
    let begun = Arc::new(AtomicUsize::new(0));
    for _ in 0..10_000 {
        let (cache, begun) = (cache.clone(), Arc::clone(&begun));
        callers.spawn(async move {
            begun.fetch_add(1, SeqCst);
            cache.get(spec()).await.unwrap();
        });
    }
    while begun.load(SeqCst) < 10_000 {
        tokio::task::yield_now().await;
    }
    source.open();
    callers.join_all().await;
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn waiters_share_an_error_that_later_callers_get_at_once() {
    let error = fault(ErrorKind::AccessDenied).with_description("revoked by the user");
    let source = Source::new().gated().with_answer(Answer::Fail(error));
    let cache = cache(&source);
    let callers = spawn_callers(&cache, 100);
    settle().await;
    source.open();
    let results = callers.join_all().await;
    assert_eq!(results.len(), 100);
    for result in results {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AccessDenied);
        assert_eq!(error.retry_after(), None);
    }
    assert_eq!(source.fetches(), 1);

    // The first back-off is between half a second and a second.
    advance(millis(450)).await;
    let mut inside = task::spawn(cache.get(spec()));
    let cached = assert_ready!(inside.poll()).unwrap_err();
    assert_eq!(cached.kind(), ErrorKind::AccessDenied);
    assert_eq!(cached.description(), Some("revoked by the user"));
    let left = cached.retry_after().unwrap();
    assert!(left >= millis(50) && left <= millis(550), "{left:?}");
    assert_eq!(source.fetches(), 1);

    source.set_answer(Answer::Token(Some(HOUR)));
    source.open();
    advance(left - millis(1)).await;
    cache.get(spec()).await.unwrap_err();
    advance(millis(2)).await;
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-2");
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn usable_token_is_served_during_a_background_refresh() {
    // Stale at 75 s (70 s at the earliest), unusable at 90 s.
    let source = Source::new().with_lifetime(secs(100));
    let cache = cache(&source);
    let first = cache.get(spec()).await.unwrap();
    let source = source.gated();
    advance(secs(80)).await;
    for _ in 0..1_000 {
        let mut caller = task::spawn(cache.get(spec()));
        let token = assert_ready!(caller.poll()).unwrap();
        assert_eq!(token.generation(), first.generation());
    }
    settle().await;
    assert_eq!(source.fetches(), 2);
    source.release().await;
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-2");
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn callers_of_an_expired_token_join_its_refresh() {
    let source = Source::new().with_lifetime(secs(100));
    let cache = cache(&source);
    cache.get(spec()).await.unwrap();
    let source = source.gated();
    advance(secs(86)).await;
    cache.get(spec()).await.unwrap();
    settle().await;
    assert_eq!(source.fetches(), 2);
    advance(secs(5)).await;
    let mut callers = [(); 100].map(|()| pending(cache.get(spec())));
    source.release().await;
    for caller in &mut callers {
        assert_eq!(assert_ready!(caller.poll()).unwrap().expose(), "token-2");
    }
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn forced_refreshes_share_a_fetch_while_others_are_served() {
    let source = Source::new();
    let cache = cache(&source);
    cache.get(spec()).await.unwrap();
    let source = source.gated();
    let mut forced = [(); 10].map(|()| pending(cache.refresh(spec())));
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-1");
    settle().await;
    source.release().await;
    for one in &mut forced {
        assert_eq!(assert_ready!(one.poll()).unwrap().expose(), "token-2");
    }
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn at_most_32_keys_are_fetched_at_once() {
    let source = Source::new().with_delay(millis(100));
    let cache = cache(&source);
    let specs: Vec<_> = (0..100).map(tenant).collect();
    let start = Instant::now();
    cache.warm(&specs).await.unwrap();
    assert_eq!((source.fetches(), source.max_concurrent()), (100, 32));
    // Four rounds of at most 32.
    assert_eq!(start.elapsed().as_millis() / 100, 4);
}

#[tokio::test(start_paused = true)]
async fn queued_fetches_get_the_error_that_the_source_backs_off_for() {
    let source = Source::new().gated();
    source.push_answer(Answer::fail(ErrorKind::Throttled));
    let cache = builder(&source).with_max_fetches(1).build();
    let mut callers = JoinSet::new();
    for name in 0..20 {
        let cache = cache.clone();
        callers.spawn(async move { cache.get(&tenant(name)).await.unwrap_err().kind() });
    }
    settle().await;
    source.open();
    assert_eq!(callers.join_all().await, [ErrorKind::Throttled; 20]);
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn fetch_beyond_its_deadline_is_a_timeout_for_every_waiter() {
    let source = Source::new().with_answer(Answer::Never);
    let cache = cache(&source);
    let start = Instant::now();
    let results = spawn_callers(&cache, 50).join_all().await;
    assert_eq!(results.len(), 50);
    for result in results {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout);
    }
    assert_eq!((source.fetches(), source.abandoned()), (1, 1));
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn token_that_is_unusable_on_delivery_is_fetched_again() {
    for forced in [false, true] {
        for case in [
            "rejected",
            "rejected and removed",
            "rejected and cleared",
            "expired",
        ] {
            let source = Source::new().gated();
            let cache = cache(&source);
            let mut waiter = pending(async {
                match forced {
                    false => cache.get(spec()).await,
                    true => cache.refresh(spec()).await,
                }
            });
            source.release().await;
            // The token is cached, and the waiter was not polled since.
            match case {
                "expired" => advance(HOUR).await,
                _ => assert!(cache.reject(&cache.peek(spec()).unwrap())),
            }
            match case {
                "rejected and removed" => assert!(!cache.remove(spec())),
                "rejected and cleared" => cache.clear(),
                _ => {}
            }
            assert_pending!(waiter.poll(), "{case}");
            source.release().await;
            let token = assert_ready!(waiter.poll(), "{case}").unwrap();
            assert_eq!(token.expose(), "token-2", "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn queued_fetch_is_not_taken_for_dead() {
    let source = Source::new().with_delay(secs(9));
    let cache = builder(&source).with_max_fetches(1).build();
    let mut callers = JoinSet::new();
    for name in 0..20 {
        let cache = cache.clone();
        callers.spawn(async move { cache.refresh(&tenant(name)).await.map(drop) });
    }
    let start = Instant::now();
    for outcome in callers.join_all().await {
        outcome.unwrap();
    }
    assert_eq!((start.elapsed().as_secs(), source.fetches()), (180, 20));
}
