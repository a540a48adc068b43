//! Whoever wants the same token shares one fetch, and what comes of it.

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use support::{Answer, HOUR, Source, cache, fault, millis, secs, settle, spec, tenant};
use tokio::{
    task::JoinSet,
    time::{Instant, advance, timeout},
};
use tokio_test::{assert_pending, assert_ready, task};
use tower_bearer::{ErrorKind, TokenCache, TokenError, clock::Clock};

#[tokio::test(start_paused = true)]
async fn ten_thousand_cold_callers_cost_one_token_request() {
    let source = Source::new().with_delay(millis(100));
    let cache = cache(&source);
    let mut callers = JoinSet::new();
    for _ in 0..10_000 {
        let cache = cache.clone();
        callers.spawn(async move { cache.get(spec()).await.unwrap().generation() });
    }
    let generations = callers.join_all().await;
    assert_eq!(generations.len(), 10_000);
    assert!(generations.iter().all(|one| *one == generations[0]));
    assert_eq!(source.fetches(), 1);
    let stats = cache.stats();
    assert_eq!(
        (stats.misses, stats.fetches, stats.token_requests),
        (10_000, 1, 1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_cold_callers_on_two_threads_cost_one_token_request() {
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
async fn callers_that_time_out_leave_the_fetch_running_for_the_next() {
    let source = Source::new().with_delay(millis(100));
    let cache = cache(&source);
    let mut callers = JoinSet::new();
    for _ in 0..5 {
        let cache = cache.clone();
        callers.spawn(async move { timeout(millis(40), cache.get(spec())).await.is_err() });
    }
    assert_eq!(callers.join_all().await, [true; 5]);
    assert_eq!((source.fetches(), source.completed()), (1, 0));
    advance(millis(61)).await;
    settle().await;
    assert_eq!((source.fetches(), source.completed()), (1, 1));
    let mut next = task::spawn(cache.get(spec()));
    assert_eq!(assert_ready!(next.poll()).unwrap().expose(), "token-1");
    assert_eq!((source.fetches(), source.abandoned()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_share_the_error_and_those_who_come_later_get_it_at_once() {
    let source = Source::new()
        .gated()
        .with_answer(Answer::fail(ErrorKind::AccessDenied));
    let cache = cache(&source);
    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let cache = cache.clone();
        callers.spawn(async move { cache.get(spec()).await.unwrap_err() });
    }
    settle().await;
    source.open();
    let errors = callers.join_all().await;
    assert_eq!(errors.len(), 100);
    assert!(
        errors
            .iter()
            .all(|error| error.kind() == ErrorKind::AccessDenied)
    );
    assert_eq!(source.fetches(), 1);

    // The first wait is between half a second and a second.
    advance(millis(450)).await;
    let mut inside = task::spawn(cache.get(spec()));
    let remembered = assert_ready!(inside.poll()).unwrap_err();
    assert_eq!(remembered.kind(), ErrorKind::AccessDenied);
    let left = remembered.retry_after().unwrap();
    assert!(left >= millis(50) && left <= millis(550), "{left:?}");
    assert_eq!(source.fetches(), 1);

    advance(millis(551)).await;
    source.set_answer(Answer::Token(Some(HOUR)));
    source.open();
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-2");
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_back_off_ends_with_the_wait_that_its_error_names() {
    let source = Source::new();
    source.push_answer(Answer::fail(ErrorKind::AccessDenied));
    let cache = cache(&source);
    cache.get(spec()).await.unwrap_err();
    let left = cache.get(spec()).await.unwrap_err().retry_after().unwrap();
    advance(left - millis(1)).await;
    cache.get(spec()).await.unwrap_err();
    assert_eq!(source.fetches(), 1);
    advance(millis(2)).await;
    cache.get(spec()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_background_refresh_while_the_token_serves() {
    // Stale at 75 s (70 s at the earliest), at its end at 90 s.
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
    source.open();
    settle().await;
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-2");
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn past_the_tokens_end_all_wait_for_the_refresh_that_is_under_way() {
    let source = Source::new().with_lifetime(secs(100));
    let cache = cache(&source);
    cache.get(spec()).await.unwrap();
    let source = source.gated();
    advance(secs(86)).await;
    cache.get(spec()).await.unwrap();
    settle().await;
    assert_eq!(source.fetches(), 2);
    advance(secs(5)).await;
    let mut callers: Vec<_> = (0..100).map(|_| task::spawn(cache.get(spec()))).collect();
    for caller in &mut callers {
        assert_pending!(caller.poll());
    }
    source.open();
    settle().await;
    for caller in &mut callers {
        assert_eq!(assert_ready!(caller.poll()).unwrap().expose(), "token-2");
    }
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_forces_a_refresh_shares_it_and_everybody_else_is_served_meanwhile() {
    let source = Source::new();
    let cache = cache(&source);
    cache.get(spec()).await.unwrap();
    let source = source.gated();
    let mut forced: Vec<_> = (0..10)
        .map(|_| task::spawn(cache.refresh(spec())))
        .collect();
    for one in &mut forced {
        assert_pending!(one.poll());
    }
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-1");
    settle().await;
    source.open();
    settle().await;
    for one in &mut forced {
        assert_eq!(assert_ready!(one.poll()).unwrap().expose(), "token-2");
    }
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn keys_fetch_side_by_side_up_to_the_cap() {
    let source = Source::new().with_delay(millis(100));
    let cache = TokenCache::builder(source.clone())
        .with_clock(Clock::tokio())
        .build();
    let specs: Vec<_> = (0..100).map(tenant).collect();
    let start = Instant::now();
    cache.warm(&specs).await.unwrap();
    assert_eq!((source.fetches(), source.max_concurrent()), (100, 32));
    // Four rounds of at most 32.
    assert_eq!(start.elapsed().as_millis() / 100, 4);
}

#[tokio::test(start_paused = true)]
async fn those_who_queue_for_a_place_get_the_error_that_holds_the_source_back() {
    let source = Source::new().gated();
    source.push_answer(Answer::fail(ErrorKind::Throttled));
    let cache = TokenCache::builder(source.clone())
        .with_clock(Clock::tokio())
        .with_max_fetches(1)
        .build();
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
async fn a_fetch_that_takes_too_long_ends_as_a_timeout_for_all_who_wait() {
    let source = Source::new().with_answer(Answer::Never);
    let cache = cache(&source);
    let mut callers = JoinSet::new();
    let start = Instant::now();
    for _ in 0..50 {
        let cache = cache.clone();
        callers.spawn(async move { cache.get(spec()).await.unwrap_err().kind() });
    }
    assert_eq!(callers.join_all().await, [ErrorKind::Timeout; 50]);
    assert_eq!((source.fetches(), source.abandoned()), (1, 1));
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_rejected_while_it_landed_goes_to_nobody() {
    let source = Source::new().gated();
    let cache = cache(&source);
    let mut waiter = task::spawn(cache.get(spec()));
    assert_pending!(waiter.poll());
    source.open();
    settle().await;
    // It has landed, and the waiter has not looked yet.
    let landed = cache.peek(spec()).unwrap();
    assert!(cache.reject(&landed));
    assert_pending!(waiter.poll());
    source.open();
    settle().await;
    assert_eq!(assert_ready!(waiter.poll()).unwrap().expose(), "token-2");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_rejected_and_forgotten_while_it_landed_goes_to_nobody() {
    for clear in [false, true] {
        let source = Source::new().gated();
        let cache = cache(&source);
        let mut waiter = task::spawn(cache.get(spec()));
        assert_pending!(waiter.poll());
        source.open();
        settle().await;
        assert!(cache.reject(&cache.peek(spec()).unwrap()));
        if clear {
            cache.clear();
        } else {
            cache.remove(spec());
        }
        assert_pending!(waiter.poll());
        source.open();
        settle().await;
        assert_eq!(assert_ready!(waiter.poll()).unwrap().expose(), "token-2");
    }
}

#[tokio::test(start_paused = true)]
async fn a_forced_refresh_gives_nothing_that_was_rejected_or_expired_while_it_landed() {
    for expire in [false, true] {
        let source = Source::new().gated();
        let cache = cache(&source);
        let mut forced = task::spawn(cache.refresh(spec()));
        assert_pending!(forced.poll());
        source.open();
        settle().await;
        if expire {
            advance(HOUR).await;
        } else {
            assert!(cache.reject(&cache.peek(spec()).unwrap()));
        }
        assert_pending!(forced.poll());
        source.open();
        settle().await;
        assert_eq!(assert_ready!(forced.poll()).unwrap().expose(), "token-2");
    }
}

#[tokio::test(start_paused = true)]
async fn a_forced_refresh_that_queues_for_a_place_is_not_given_up_for_dead() {
    let source = Source::new().with_delay(secs(9));
    let cache = TokenCache::builder(source.clone())
        .with_clock(Clock::tokio())
        .with_max_fetches(1)
        .build();
    let mut crowd = JoinSet::new();
    for name in 0..20 {
        let cache = cache.clone();
        crowd.spawn(async move { cache.refresh(&tenant(name)).await.map(drop) });
    }
    let start = Instant::now();
    for outcome in crowd.join_all().await {
        outcome.unwrap();
    }
    assert_eq!((start.elapsed().as_secs(), source.fetches()), (180, 20));
}

#[tokio::test(start_paused = true)]
async fn a_remembered_error_does_not_keep_the_first_callers_from_its_cause() {
    let error: TokenError = fault(ErrorKind::InvalidGrant).with_description("revoked by the user");
    let source = Source::new().with_answer(Answer::Fail(error));
    let cache = cache(&source);
    let first = cache.get(spec()).await.unwrap_err();
    let second = cache.get(spec()).await.unwrap_err();
    assert_eq!(first.retry_after(), None);
    assert_eq!(second.description(), Some("revoked by the user"));
}
