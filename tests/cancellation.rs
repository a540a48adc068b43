//! Cancels, stops and breaks each participant of a fetch, and checks that the others get their answers.

mod support;

use std::{future::poll_fn, pin::pin, sync::mpsc, task::Poll, thread, time::Duration};

use support::{
    Answer, Api, Source, builder, cache, layer, millis, outcome, pending, request, secs, send,
    settle, spawn_callers, spec, tenant,
};
use tokio::{runtime, sync::oneshot, task::JoinSet, time};
use tokio_test::{assert_ready, task};
use tower::Layer;
use tower_bearer::{ErrorKind, TokenCache};

/// Longer than any test takes: a test that waits this long hangs.
const HANGS: Duration = secs(60);

#[tokio::test(start_paused = true)]
async fn cancelled_leader_leaves_the_fetch_running() {
    let source = Source::new().gated();
    let cache = cache(&source);
    let leader = pending(cache.get(spec()));
    let mut follower = pending(cache.get(spec()));
    settle().await;
    drop(leader);
    settle().await;
    source.release().await;
    assert_eq!(assert_ready!(follower.poll()).unwrap().expose(), "token-1");
    assert_eq!((source.fetches(), source.abandoned()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn fetch_fills_the_cache_after_all_callers_are_cancelled() {
    let source = Source::new().gated();
    let cache = cache(&source);
    let callers = [(); 10].map(|()| pending(cache.get(spec())));
    settle().await;
    drop(callers);
    source.release().await;
    assert_eq!(cache.peek(spec()).unwrap().expose(), "token-1");
    let forced = pending(cache.refresh(spec()));
    settle().await;
    drop(forced);
    source.release().await;
    assert_eq!(cache.peek(spec()).unwrap().expose(), "token-2");
    assert_eq!((source.fetches(), source.abandoned()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_ends_queued_fetches() {
    let source = Source::new().gated();
    let cache = builder(&source).with_max_fetches(1).build();
    let specs: Vec<_> = (0..10).map(tenant).collect();
    for spec in &specs {
        drop(pending(cache.get(spec)));
    }
    settle().await;
    drop(cache);
    for _ in &specs {
        source.release().await;
    }
    assert_eq!((source.fetches(), source.abandoned()), (1, 1));
    assert_eq!(source.completed(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_service_ends_its_fetch() {
    let source = Source::new().gated();
    let api = Api::new();
    let cache = cache(&source);
    let layer = layer(&cache);
    let mut client = layer.layer(api.clone());
    drop((cache, layer));
    let response = pending(send(&mut client, request("/")).await);
    settle().await;
    drop(response);
    settle().await;
    assert_eq!((source.fetches(), source.abandoned()), (1, 0));
    drop(client);
    settle().await;
    assert_eq!((source.fetches(), source.abandoned()), (1, 1));
    assert_eq!(api.sends(), 0);
}

#[tokio::test(start_paused = true)]
async fn response_future_keeps_its_fetch_alive() {
    let source = Source::new().gated();
    let api = Api::new();
    let cache = cache(&source);
    let layer = layer(&cache);
    let mut client = layer.layer(api.clone());
    let mut response = pending(send(&mut client, request("/")).await);
    drop((cache, layer, client));
    settle().await;
    assert_eq!((source.fetches(), source.abandoned()), (1, 0));
    source.release().await;
    assert!(response.is_woken());
    let response = assert_ready!(response.poll()).unwrap();
    assert_eq!(outcome(&response), (200, None));
    assert_eq!(api.tokens(), ["token-1"]);
}

#[tokio::test(start_paused = true)]
async fn response_future_keeps_the_fetch_for_its_replay_alive() {
    let source = Source::new();
    let api = Api::new();
    let cache = cache(&source);
    cache.get(spec()).await.unwrap();
    let source = source.gated();
    api.revoke("token-1");
    let mut client = layer(&cache).layer(api.clone());
    let mut response = pending(send(&mut client, request("/")).await);
    drop((cache, client));
    settle().await;
    source.release().await;
    let answer = assert_ready!(response.poll()).unwrap();
    assert_eq!(outcome(&answer), (200, Some("recovered")));
    assert_eq!((source.fetches(), source.abandoned()), (2, 0));
}

#[test]
fn waiter_survives_the_shutdown_of_the_fetching_runtime() {
    for in_background in [true, false] {
        let source = Source::new();
        source.push_answer(Answer::Never);
        let cache = TokenCache::new(source.clone());
        let first = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let leader = cache.clone();
        drop(first.spawn(async move { leader.get(spec()).await }));
        spin_until(|| source.fetches() == 1);

        let (begun, has_begun) = mpsc::channel();
        let waiter = cache.clone();
        let second = thread::spawn(move || {
            current_thread().block_on(async {
                let mut wait = pin!(waiter.get(spec()));
                let first = poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx))).await;
                assert!(first.is_pending());
                // It waits for the first runtime's fetch now.
                begun.send(()).unwrap();
                in_time(wait).await.unwrap()
            })
        });
        has_begun.recv().unwrap();
        if in_background {
            first.shutdown_background();
        } else {
            first.shutdown_timeout(secs(5));
        }
        assert_eq!(second.join().unwrap().expose(), "token-2");
        assert_eq!((source.fetches(), source.abandoned()), (2, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn fetch_dropped_before_its_first_poll_is_started_again() {
    let source = Source::new();
    let cache = cache(&source);
    let other = current_thread();
    {
        let _inside = other.enter();
        // The fetch is a task of that runtime, which never runs.
        drop(pending(cache.get(spec())));
    }
    let waiter = pending(cache.get(spec()));
    assert_eq!(source.fetches(), 0);
    other.shutdown_background();
    assert!(waiter.is_woken());
    drop(waiter);
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-1");
    let stats = cache.stats();
    assert_eq!((stats.fetches, stats.fetch_failures), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn overdue_fetch_of_a_stalled_runtime_is_replaced() {
    let source = Source::new();
    let cache = cache(&source);
    let stalled = current_thread();
    {
        let _inside = stalled.enter();
        drop(pending(cache.get(spec())));
    }
    let start = time::Instant::now();
    let token = in_time(cache.get(spec())).await.unwrap();
    assert_eq!(token.expose(), "token-1");
    // Twice the fetch timeout of ten seconds.
    assert_eq!(start.elapsed().as_secs(), 20);
    assert_eq!(source.fetches(), 1);
    // The result of the late fetch is not cached.
    thread::spawn(move || stalled.block_on(settle()))
        .join()
        .unwrap();
    assert_eq!(source.fetches(), 2);
    assert_eq!(cache.peek(spec()).unwrap().generation(), token.generation());
}

#[tokio::test(start_paused = true)]
async fn permit_held_by_a_stalled_runtime_expires() {
    let source = Source::new();
    source.push_answer(Answer::Never);
    let cache = builder(&source).with_max_fetches(1).build();
    let stalled = current_thread();
    let inside = cache.clone();
    let stalled = thread::spawn(move || {
        stalled.block_on(async {
            let _caller = pending(inside.get(spec()));
            settle().await;
        });
        stalled
    })
    .join()
    .unwrap();
    assert_eq!(source.fetches(), 1);
    let token = time::timeout(secs(600), cache.get(&tenant("other")))
        .await
        .expect("it hangs");
    assert_eq!(token.unwrap().expose(), "token-2");
    stalled.shutdown_background();
}

#[tokio::test(start_paused = true)]
async fn waiters_get_a_token_after_one_panic_of_the_source() {
    for panic in [Answer::Panic, Answer::PanicAtOnce] {
        let source = Source::new();
        source.push_answer(panic);
        let cache = cache(&source);
        for result in in_time(spawn_callers(&cache, 100).join_all()).await {
            assert_eq!(result.unwrap().expose(), "token-2");
        }
        assert_eq!(source.fetches(), 2);
        let stats = cache.stats();
        assert_eq!((stats.fetches, stats.fetch_failures), (2, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn every_waiter_gets_an_error_if_the_source_always_panics() {
    for panic in [Answer::Panic, Answer::PanicAtOnce] {
        let source = Source::new().with_answer(panic);
        let cache = cache(&source);
        for result in in_time(spawn_callers(&cache, 100).join_all()).await {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        assert_eq!(source.fetches(), 3);
        let error = cache.refresh(spec()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        source.set_answer(Answer::Text("recovered"));
        assert_eq!(cache.get(spec()).await.unwrap().expose(), "recovered");
    }
}

#[tokio::test(start_paused = true)]
async fn background_refresh_pauses_for_a_second_after_a_panic() {
    let source = Source::new().with_lifetime(secs(100));
    let cache = cache(&source);
    cache.get(spec()).await.unwrap();
    source.set_answer(Answer::Panic);
    time::advance(secs(80)).await;
    for _ in 0..100 {
        cache.get(spec()).await.unwrap();
        settle().await;
    }
    assert_eq!(source.fetches(), 2);
    time::advance(millis(1_001)).await;
    cache.get(spec()).await.unwrap();
    settle().await;
    assert_eq!(source.fetches(), 3);
}

#[test]
fn cache_and_layer_are_built_outside_a_runtime() {
    let source = Source::new();
    let cache = TokenCache::new(source.clone());
    let mut client = layer(&cache).layer(Api::new());
    let response =
        current_thread().block_on(async { send(&mut client, request("/")).await.await.unwrap() });
    assert_eq!(outcome(&response), (200, None));
    assert_eq!((source.fetches(), cache.stats().entries), (1, 1));
}

#[test]
fn only_a_cached_token_is_served_outside_a_runtime() {
    let source = Source::new();
    let cache = TokenCache::new(source.clone());
    let mut caller = task::spawn(cache.get(spec()));
    let error = assert_ready!(caller.poll()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("no Tokio runtime"), "{error}");
    let mut forced = task::spawn(cache.refresh(spec()));
    assert!(assert_ready!(forced.poll()).is_err());
    let mut warm = task::spawn(cache.warm([spec()]));
    assert!(assert_ready!(warm.poll()).is_err());

    let mut client = layer(&cache).layer(Api::new());
    let mut sending = task::spawn(send(&mut client, request("/")));
    let mut response = task::spawn(assert_ready!(sending.poll()));
    let error = assert_ready!(response.poll()).unwrap_err();
    assert_eq!(error.token().unwrap().kind(), ErrorKind::Configuration);
    assert_eq!(source.fetches(), 0);

    // The error causes no back-off.
    current_thread().block_on(cache.get(spec())).unwrap();
    let mut caller = task::spawn(cache.get(spec()));
    assert_eq!(assert_ready!(caller.poll()).unwrap().expose(), "token-1");
}

#[test]
fn waiter_outside_a_runtime_gets_the_token_of_another() {
    let source = Source::new().gated();
    let cache = TokenCache::new(source.clone());
    let inside = current_thread();
    inside.block_on(async {
        let _leader = pending(cache.get(spec()));
        settle().await;
    });
    let mut outside = pending(cache.get(spec()));
    source.open();
    inside.block_on(settle());
    assert!(outside.is_woken());
    assert_eq!(assert_ready!(outside.poll()).unwrap().expose(), "token-1");
}

#[tokio::test(start_paused = true)]
async fn fetch_of_a_removed_entry_answers_its_waiters_only() {
    for clear in [false, true] {
        let source = Source::new().gated();
        let cache = cache(&source);
        let mut waiter = pending(cache.get(spec()));
        let mut forced = pending(cache.refresh(spec()));
        settle().await;
        if clear {
            cache.clear();
        } else {
            assert!(!cache.remove(spec()));
        }
        source.release().await;
        assert_eq!(assert_ready!(forced.poll()).unwrap().expose(), "token-1");
        assert_eq!(assert_ready!(waiter.poll()).unwrap().expose(), "token-1");
        assert!(cache.peek(spec()).is_none());
        assert_eq!(source.fetches(), 1);
        source.open();
        assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-2");
    }
}

#[tokio::test]
async fn runtime_without_timers_is_an_error() {
    let (tell, told) = oneshot::channel();
    thread::spawn(move || {
        let bare = runtime::Builder::new_current_thread().build().unwrap();
        let cache = TokenCache::new(Source::new());
        let _ = tell.send(bare.block_on(cache.get(spec())));
    });
    let error = told.await.expect("the thread panicked").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("enable_time"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_random_calls_never_hang() {
    for round in 0..20 {
        let source = Source::new().with_lifetime(millis(40));
        for _ in 0..50 {
            source.push_answer(Answer::Panic);
            source.push_answer(Answer::Token(Some(millis(20))));
            source.push_answer(Answer::PanicAtOnce);
            source.push_answer(Answer::Token(Some(secs(1))));
        }
        let cache = TokenCache::builder(source.clone())
            .with_max_entries(4)
            .with_max_fetches(2)
            .build();
        let mut crowd = JoinSet::new();
        for member in 0..32_u64 {
            let cache = cache.clone();
            crowd.spawn(async move {
                let mut random = member + round * 1_000 + 1;
                for _ in 0..200 {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    let spec = tenant(random >> 33 & 7);
                    match random >> 40 & 15 {
                        0 => drop(cache.refresh(&spec).await),
                        1 => drop(cache.remove(&spec)),
                        2 => drop(cache.peek(&spec).map(|token| cache.reject(&token))),
                        3 => cache.clear(),
                        4 => drop(time::timeout(Duration::ZERO, cache.get(&spec)).await),
                        5 => drop(cache.entries()),
                        _ => drop(cache.get(&spec).await),
                    }
                }
            });
        }
        in_time(crowd.join_all()).await;
        let stats = cache.stats();
        assert!(stats.bytes < 1 << 20, "{stats:?}");
        assert!(stats.fetch_failures <= stats.fetches, "{stats:?}");
        // It still works.
        cache.clear();
        while cache.get(spec()).await.is_err() {}
    }
}

fn current_thread() -> runtime::Runtime {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

async fn in_time<F: Future>(future: F) -> F::Output {
    time::timeout(HANGS, future).await.expect("it hangs")
}

/// Waits for another thread until the condition holds, for at most a minute.
fn spin_until(condition: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < HANGS, "it hangs");
        thread::yield_now();
    }
}
