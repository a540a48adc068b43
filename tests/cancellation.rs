//! Everybody who takes part in a fetch goes away at the worst moment, and nobody else is the worse for it.

mod support;

use std::{sync::mpsc, thread, time::Duration};

use support::{
    Answer, Api, ORIGIN, Source, cache, layer, millis, outcome, request, secs, send, settle, spec,
    tenant,
};
use tokio::{runtime, sync::oneshot, task::JoinSet, time};
use tokio_test::{assert_pending, assert_ready, task};
use tower::Layer;
use tower_bearer::{AuthLayer, ErrorKind, TokenCache, clock::Clock};

/// Longer than anything here takes: a test that gets there hangs.
const HANGS: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn cancelled_leader_leaves_the_flight_running() {
    let source = Source::new().gated();
    let cache = cache(&source);
    let mut leader = task::spawn(cache.get(spec()));
    assert_pending!(leader.poll());
    let mut follower = task::spawn(cache.get(spec()));
    assert_pending!(follower.poll());
    settle().await;
    drop(leader);
    settle().await;
    source.open();
    settle().await;
    assert_eq!(assert_ready!(follower.poll()).unwrap().expose(), "token-1");
    assert_eq!((source.fetches(), source.abandoned()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn leader_cancelled_before_its_flight_was_polled_leaves_it_to_the_others() {
    let source = Source::new().gated();
    let cache = cache(&source);
    let mut leader = task::spawn(cache.get(spec()));
    assert_pending!(leader.poll());
    drop(leader);
    assert_eq!(source.fetches(), 0);
    source.open();
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-1");
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn cancelled_follower_leaves_the_leader_waiting() {
    let source = Source::new().gated();
    let cache = cache(&source);
    let mut leader = task::spawn(cache.get(spec()));
    assert_pending!(leader.poll());
    let mut follower = task::spawn(cache.get(spec()));
    assert_pending!(follower.poll());
    drop(follower);
    source.open();
    settle().await;
    assert_eq!(assert_ready!(leader.poll()).unwrap().expose(), "token-1");
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn with_all_callers_cancelled_the_token_still_lands() {
    let source = Source::new().gated();
    let cache = cache(&source);
    let mut callers: Vec<_> = (0..10).map(|_| task::spawn(cache.get(spec()))).collect();
    for caller in &mut callers {
        assert_pending!(caller.poll());
    }
    settle().await;
    drop(callers);
    source.open();
    settle().await;
    assert_eq!(cache.peek(spec()).unwrap().expose(), "token-1");
    assert_eq!((source.fetches(), source.abandoned()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn cancelled_forced_refresh_still_lands() {
    let source = Source::new();
    let cache = cache(&source);
    cache.get(spec()).await.unwrap();
    let source = source.gated();
    let mut forced = task::spawn(cache.refresh(spec()));
    assert_pending!(forced.poll());
    settle().await;
    drop(forced);
    source.open();
    settle().await;
    assert_eq!(cache.peek(spec()).unwrap().expose(), "token-2");
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_takes_the_flight_with_it() {
    let source = Source::new().gated();
    let cache = cache(&source);
    let other = cache.clone();
    {
        let mut caller = task::spawn(cache.get(spec()));
        assert_pending!(caller.poll());
    }
    settle().await;
    drop(cache);
    settle().await;
    assert_eq!((source.fetches(), source.abandoned()), (1, 0));
    drop(other);
    settle().await;
    assert_eq!((source.fetches(), source.abandoned()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_takes_the_flights_that_queue_with_it() {
    let source = Source::new().gated();
    let cache = TokenCache::builder(source.clone())
        .with_clock(Clock::tokio())
        .with_max_fetches(1)
        .build();
    let specs: Vec<_> = (0..10).map(tenant).collect();
    {
        let mut callers: Vec<_> = specs
            .iter()
            .map(|one| task::spawn(cache.get(one)))
            .collect();
        for caller in &mut callers {
            assert_pending!(caller.poll());
        }
    }
    settle().await;
    drop(cache);
    settle().await;
    for _ in 0..10 {
        source.open();
    }
    settle().await;
    assert_eq!(
        (source.fetches(), source.abandoned(), source.completed()),
        (1, 1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_and_its_layer_are_handles_and_take_the_flight_with_them() {
    let source = Source::new().gated();
    let api = Api::new();
    let cache = cache(&source);
    let layer = layer(&cache);
    let mut client = layer.layer(api.clone());
    drop((cache, layer));
    let mut response = task::spawn(send(&mut client, request("/")).await);
    assert_pending!(response.poll());
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
async fn a_response_that_is_waited_for_is_a_handle() {
    let source = Source::new().gated();
    let api = Api::new();
    let cache = cache(&source);
    let layer = layer(&cache);
    let mut client = layer.layer(api.clone());
    let mut response = task::spawn(send(&mut client, request("/")).await);
    assert_pending!(response.poll());
    drop((cache, layer, client));
    settle().await;
    assert_eq!((source.fetches(), source.abandoned()), (1, 0));
    source.open();
    settle().await;
    assert!(response.is_woken());
    assert_eq!(
        outcome(&assert_ready!(response.poll()).unwrap()),
        (200, None)
    );
    assert_eq!(api.tokens(), ["token-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_waits_for_its_second_token_is_a_handle() {
    let source = Source::new();
    let api = Api::new();
    let cache = cache(&source);
    cache.get(spec()).await.unwrap();
    let source = source.gated();
    api.revoke("token-1");
    let mut client = layer(&cache).layer(api.clone());
    let mut response = task::spawn(send(&mut client, request("/")).await);
    assert_pending!(response.poll());
    drop((cache, client));
    settle().await;
    source.open();
    settle().await;
    let answer = assert_ready!(response.poll()).unwrap();
    assert_eq!(outcome(&answer), (200, Some("recovered")));
    assert_eq!((source.fetches(), source.abandoned()), (2, 0));
}

#[test]
fn waiters_elsewhere_go_on_when_the_flights_runtime_is_shut_down() {
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
                let mut wait = std::pin::pin!(waiter.get(spec()));
                // It has joined the first runtime's flight when this is sent.
                assert!(futures_poll(wait.as_mut()).await.is_none());
                begun.send(()).unwrap();
                time::timeout(HANGS, wait).await.expect("it hangs").unwrap()
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
async fn a_flight_whose_runtime_drops_it_unpolled_is_followed_by_another() {
    let source = Source::new();
    let cache = cache(&source);
    let other = current_thread();
    {
        let _inside = other.enter();
        let mut caller = task::spawn(cache.get(spec()));
        assert_pending!(caller.poll());
        // Its flight was spawned there, and that runtime has never run.
    }
    let mut waiter = task::spawn(cache.get(spec()));
    assert_pending!(waiter.poll());
    assert_eq!(source.fetches(), 0);
    other.shutdown_background();
    assert!(waiter.is_woken());
    drop(waiter);
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-1");
    assert_eq!(
        (cache.stats().fetches, cache.stats().fetch_failures),
        (2, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_flight_on_a_runtime_that_is_polled_no_more_is_taken_over_once_it_is_overdue() {
    let source = Source::new();
    let cache = cache(&source);
    let stalled = current_thread();
    {
        let _inside = stalled.enter();
        let mut caller = task::spawn(cache.get(spec()));
        assert_pending!(caller.poll());
    }
    let start = time::Instant::now();
    let token = time::timeout(HANGS, cache.get(spec()))
        .await
        .expect("it hangs")
        .unwrap();
    assert_eq!(token.expose(), "token-1");
    // CloneBody the fetch timeout of ten seconds.
    assert_eq!(start.elapsed().as_secs(), 20);
    assert_eq!(source.fetches(), 1);
    stalled.shutdown_background();
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_comes_back_from_the_dead_displaces_nothing() {
    let source = Source::new();
    let cache = cache(&source);
    let stalled = current_thread();
    {
        let _inside = stalled.enter();
        let mut caller = task::spawn(cache.get(spec()));
        assert_pending!(caller.poll());
    }
    let token = cache.get(spec()).await.unwrap();
    thread::spawn(move || stalled.block_on(settle()))
        .join()
        .unwrap();
    assert_eq!(source.fetches(), 2);
    assert_eq!(cache.peek(spec()).unwrap().generation(), token.generation());
}

#[tokio::test(start_paused = true)]
async fn places_held_by_a_runtime_that_is_polled_no_more_do_not_block_other_fetches() {
    let source = Source::new();
    source.push_answer(Answer::Never);
    let cache = TokenCache::builder(source.clone())
        .with_clock(Clock::tokio())
        .with_max_fetches(1)
        .build();
    let stalled = current_thread();
    let inside = cache.clone();
    let stalled = thread::spawn(move || {
        stalled.block_on(async {
            let mut caller = task::spawn(inside.get(spec()));
            assert_pending!(caller.poll());
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
async fn a_source_that_panics_once_costs_its_waiters_nothing() {
    for panic in [Answer::Panic, Answer::PanicAtOnce] {
        let source = Source::new();
        source.push_answer(panic);
        let cache = cache(&source);
        let mut callers = JoinSet::new();
        for _ in 0..100 {
            let cache = cache.clone();
            callers.spawn(async move { cache.get(spec()).await.unwrap().expose().to_owned() });
        }
        let tokens = time::timeout(HANGS, callers.join_all())
            .await
            .expect("it hangs");
        assert!(tokens.iter().all(|token| token == "token-2"));
        assert_eq!(source.fetches(), 2);
        let stats = cache.stats();
        assert_eq!((stats.fetches, stats.fetch_failures), (2, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_always_panics_gives_every_waiter_an_error() {
    for panic in [Answer::Panic, Answer::PanicAtOnce] {
        let source = Source::new().with_answer(panic);
        let cache = cache(&source);
        let mut callers = JoinSet::new();
        for _ in 0..100 {
            let cache = cache.clone();
            callers.spawn(async move { cache.get(spec()).await.unwrap_err().kind() });
        }
        let kinds = time::timeout(HANGS, callers.join_all())
            .await
            .expect("it hangs");
        assert_eq!(kinds, [ErrorKind::Unavailable; 100]);
        assert_eq!(source.fetches(), 3);
        assert_eq!(
            cache.refresh(spec()).await.unwrap_err().kind(),
            ErrorKind::Unavailable
        );
        // Nothing latches.
        source.set_answer(Answer::Text("well again"));
        assert_eq!(cache.get(spec()).await.unwrap().expose(), "well again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_in_the_background_is_asked_again_after_a_moment() {
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
fn a_cache_and_a_layer_are_made_outside_any_runtime() {
    let source = Source::new();
    let cache = TokenCache::new(source.clone());
    let layer = AuthLayer::new(cache.clone())
        .route(ORIGIN, spec().clone())
        .unwrap();
    let api = Api::new();
    let mut client = layer.layer(api);
    let response =
        current_thread().block_on(async { send(&mut client, request("/")).await.await.unwrap() });
    assert_eq!(outcome(&response), (200, None));
    assert_eq!((source.fetches(), cache.stats().entries), (1, 1));
}

#[test]
fn outside_any_runtime_a_missing_token_is_an_error_and_a_cached_one_is_served() {
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

    let mut client = AuthLayer::new(cache.clone())
        .route(ORIGIN, spec().clone())
        .unwrap()
        .layer(Api::new());
    let mut sending = task::spawn(send(&mut client, request("/")));
    let mut response = task::spawn(assert_ready!(sending.poll()));
    let error = assert_ready!(response.poll()).unwrap_err();
    assert_eq!(error.token().unwrap().kind(), ErrorKind::Configuration);
    assert_eq!(source.fetches(), 0);

    // It leaves no trace: inside a runtime there is a token at once.
    current_thread().block_on(cache.get(spec())).unwrap();
    let mut caller = task::spawn(cache.get(spec()));
    assert_eq!(assert_ready!(caller.poll()).unwrap().expose(), "token-1");
}

#[test]
fn a_waiter_outside_any_runtime_gets_the_token_of_a_flight_inside_one() {
    let source = Source::new().gated();
    let cache = TokenCache::new(source.clone());
    let inside = current_thread();
    inside.block_on(async {
        let mut leader = task::spawn(cache.get(spec()));
        assert_pending!(leader.poll());
        settle().await;
    });
    let mut outside = task::spawn(cache.get(spec()));
    assert_pending!(outside.poll());
    source.open();
    inside.block_on(settle());
    assert!(outside.is_woken());
    assert_eq!(assert_ready!(outside.poll()).unwrap().expose(), "token-1");
}

#[tokio::test(start_paused = true)]
async fn a_flight_whose_spec_was_removed_answers_those_who_wait_and_lands_nowhere() {
    for clear in [false, true] {
        let source = Source::new().gated();
        let cache = cache(&source);
        let mut waiter = task::spawn(cache.get(spec()));
        assert_pending!(waiter.poll());
        let mut forced = task::spawn(cache.refresh(spec()));
        assert_pending!(forced.poll());
        settle().await;
        if clear {
            cache.clear();
        } else {
            assert!(!cache.remove(spec()));
        }
        source.open();
        settle().await;
        assert_eq!(assert_ready!(forced.poll()).unwrap().expose(), "token-1");
        assert_eq!(assert_ready!(waiter.poll()).unwrap().expose(), "token-1");
        assert!(cache.peek(spec()).is_none());
        assert_eq!(source.fetches(), 1);
        source.open();
        assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-2");
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_spec_is_fetched_anew_while_its_old_flight_is_still_under_way() {
    let source = Source::new().gated();
    source.push_answer(Answer::Text("old"));
    source.push_answer(Answer::Text("new"));
    let cache = cache(&source);
    let mut old = task::spawn(cache.get(spec()));
    assert_pending!(old.poll());
    settle().await;
    cache.remove(spec());
    let mut new = task::spawn(cache.get(spec()));
    assert_pending!(new.poll());
    settle().await;
    assert_eq!(source.fetches(), 2);
    source.open();
    source.open();
    settle().await;
    assert_ready!(old.poll()).unwrap();
    assert_eq!(assert_ready!(new.poll()).unwrap().expose(), "new");
    assert_eq!(cache.peek(spec()).unwrap().expose(), "new");
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_a_removal_holds_nothing_back() {
    let source = Source::new().gated();
    source.push_answer(Answer::fail(ErrorKind::AccessDenied));
    let cache = cache(&source);
    let mut waiter = task::spawn(cache.get(spec()));
    assert_pending!(waiter.poll());
    settle().await;
    cache.remove(spec());
    source.open();
    settle().await;
    assert_eq!(
        assert_ready!(waiter.poll()).unwrap_err().kind(),
        ErrorKind::AccessDenied
    );
    source.open();
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-2");
}

#[tokio::test]
async fn a_runtime_without_timers_gives_no_panic() {
    let (tell, told) = oneshot::channel();
    thread::spawn(move || {
        let bare = runtime::Builder::new_current_thread().build().unwrap();
        let cache = TokenCache::new(Source::new());
        let _ = tell.send(
            bare.block_on(cache.get(spec()))
                .map(|token| token.expose().to_owned()),
        );
    });
    let error = told
        .await
        .expect("the caller's thread panicked")
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("enable_time"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_that_does_everything_at_once_hangs_nowhere() {
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
        time::timeout(HANGS, crowd.join_all())
            .await
            .expect("it hangs");
        let stats = cache.stats();
        assert!(stats.bytes < 1 << 20, "{stats:?}");
        assert!(stats.fetch_failures <= stats.fetches, "{stats:?}");
        // And it works still.
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

/// What one poll gives.
async fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    let mut future = Some(future);
    std::future::poll_fn(move |cx| {
        let poll = future.take().map(|future| future.poll(cx));
        std::task::Poll::Ready(match poll {
            Some(std::task::Poll::Ready(output)) => Some(output),
            _ => None,
        })
    })
    .await
}

/// Waits for another thread to get there, for a minute at most.
fn spin_until(there: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !there() {
        assert!(start.elapsed() < HANGS, "it never gets there");
        thread::yield_now();
    }
}
