//! What the cache does as time goes by, sentence by sentence.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use support::{Answer, HOUR, Source, cache, fault, millis, secs, settle, spec, tenant};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, task};
use tower_bearer::{
    ErrorKind, TokenCache, TokenSpec,
    cache::EntryState,
    clock::{Clock, Moment},
    token::FetchReason,
};

/// Serves a token of this lifetime, and looks at it just before and after each of its times, in milliseconds: fresh
/// until `fresh` at least, stale from `stale` at the latest, served until `end`, and never at it.
async fn walk(source: Source, fresh: u64, stale: u64, end: u64) {
    let cache = cache(&source);
    let first = cache.get(spec()).await.unwrap();
    let source = source.gated();
    let mut at = 0;
    let mut go = async |to: u64| {
        advance(millis(to - at)).await;
        at = to;
    };
    go(fresh - 1).await;
    assert_eq!(
        cache.get(spec()).await.unwrap().generation(),
        first.generation()
    );
    settle().await;
    assert_eq!(source.fetches(), 1, "fetched while fresh");
    assert_eq!(cache.entries()[0].state, EntryState::Fresh);

    go(stale + 1).await;
    assert_eq!(cache.entries()[0].state, EntryState::Stale);
    assert_eq!(
        cache.get(spec()).await.unwrap().generation(),
        first.generation()
    );
    settle().await;
    assert_eq!(source.fetches(), 2, "not fetched while stale");
    assert_eq!(source.requests()[1].reason(), FetchReason::Stale);

    go(end - 1).await;
    // The refresh may have been given up meanwhile; the token is served in any case.
    assert_eq!(
        cache.get(spec()).await.unwrap().generation(),
        first.generation()
    );
    go(end).await;
    assert!(cache.peek(spec()).is_none());
    let mut waits = task::spawn(cache.get(spec()));
    if let std::task::Poll::Ready(outcome) = waits.poll() {
        outcome.unwrap_err();
    }
}

#[tokio::test(start_paused = true)]
async fn fresh_is_served_stale_is_served_and_refreshed_expired_is_waited_for() {
    for (lifetime, fresh, stale, end) in [
        (secs(1), 700, 750, 900),
        (secs(2), 1_400, 1_500, 1_800),
        (secs(20), 14_000, 15_000, 18_000),
        (secs(300), 210_000, 225_000, 290_000),
        (HOUR, 3_240_000, 3_300_000, 3_590_000),
        (HOUR * 24, 86_040_000, 86_100_000, 86_390_000),
        (
            secs(315_360_000),
            315_359_640_000,
            315_359_700_000,
            315_359_990_000,
        ),
    ] {
        walk(Source::new().with_lifetime(lifetime), fresh, stale, end).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_for_is_not_refreshed() {
    let source = Source::new();
    let cache = cache(&source);
    cache.warm(&[tenant("idle"), tenant("used")]).await.unwrap();
    for _ in 0..48 {
        // Due each time, and then over.
        tokio::time::sleep(secs(1_800)).await;
        cache.get(&tenant("used")).await.unwrap();
        settle().await;
    }
    let asked = source.requests();
    let idle = asked.iter().filter(|asked| *asked.spec() == tenant("idle"));
    assert_eq!(idle.count(), 1);
    assert_eq!(asked.len(), 1 + 1 + 24);
    // It is not even known any more.
    cache.get(&tenant("idle")).await.unwrap();
    assert_eq!(
        source.requests().last().unwrap().reason(),
        FetchReason::Missing
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_lifetime_five_minutes_are_assumed() {
    walk(
        Source::new().with_answer(Answer::Token(None)),
        210_000,
        225_000,
        290_000,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_assumed_lifetime_can_be_set() {
    let source = Source::new().with_answer(Answer::Token(None));
    let cache = TokenCache::builder(source.clone())
        .with_clock(Clock::tokio())
        .with_assumed_lifetime(HOUR)
        .build();
    cache.get(spec()).await.unwrap();
    assert_eq!(cache.entries()[0].expires_in, Some(HOUR));
}

#[tokio::test(start_paused = true)]
async fn the_refresh_point_is_the_servers_if_it_gives_one() {
    // Half an hour, up to a fifth of the lead of five minutes earlier.
    let answer = Answer::RefreshIn(HOUR, secs(1_800));
    walk(
        Source::new().with_answer(answer),
        1_740_000,
        1_800_000,
        3_590_000,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refresh_point_beyond_the_lifetime_is_clamped_to_it() {
    let source = Source::new().with_answer(Answer::RefreshIn(secs(100), HOUR));
    let cache = cache(&source);
    cache.get(spec()).await.unwrap();
    advance(secs(90)).await;
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-2");
    assert_eq!(source.requests()[1].reason(), FetchReason::Expired);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_point_of_nothing_does_not_cost_a_fetch_per_request() {
    let source = Source::new().with_answer(Answer::RefreshIn(HOUR, Duration::ZERO));
    let cache = cache(&source);
    for _ in 0..100 {
        cache.get(spec()).await.unwrap();
        settle().await;
        advance(millis(99)).await;
    }
    assert_eq!(source.fetches(), 1);
    advance(secs(1)).await;
    cache.get(spec()).await.unwrap();
    settle().await;
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_jitter_is_fixed_per_token_and_never_more_than_a_fifth_of_the_lead() {
    let source = Source::new();
    let cache = cache(&source);
    let mut all = Vec::new();
    for name in 0..100 {
        let token = cache.get(&tenant(name)).await.unwrap();
        let after = token
            .refresh_at()
            .duration_since(token.requested_at())
            .unwrap();
        assert!(after >= secs(3_240) && after <= secs(3_300), "{after:?}");
        let again = cache.get(&tenant(name)).await.unwrap();
        assert_eq!(again.refresh_at(), token.refresh_at());
        all.push(after);
    }
    all.sort();
    assert!(all[99] - all[0] > secs(30), "a fleet would refresh in step");
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_counts_from_before_the_token_request() {
    let source = Source::new().with_lifetime(secs(20)).with_delay(secs(5));
    let cache = cache(&source);
    let start = Instant::now();
    cache.get(spec()).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 5);
    advance(secs(18) - start.elapsed() - millis(2)).await;
    assert!(cache.peek(spec()).is_some());
    advance(millis(3)).await;
    assert!(cache.peek(spec()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_expired_on_arrival_is_an_error() {
    let source = Source::new().with_lifetime(secs(2)).with_delay(secs(3));
    let cache = cache(&source);
    let error = cache.get(spec()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    let source = Source::new().with_lifetime(Duration::ZERO);
    let error = support::cache(&source).get(spec()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_beyond_all_bounds_never_ends() {
    let source = Source::new().with_lifetime(Duration::MAX);
    let cache = cache(&source);
    cache.get(spec()).await.unwrap();
    advance(secs(1_000_000_000)).await;
    cache.get(spec()).await.unwrap();
    settle().await;
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_never_served() {
    let source = Source::new().with_lifetime(secs(100));
    let cache = cache(&source);
    cache.get(spec()).await.unwrap();
    source.set_answer(Answer::fail(ErrorKind::Unavailable));
    let mut served = 0;
    for second in 1..=600 {
        advance(secs(1)).await;
        match cache.get(spec()).await {
            Ok(_) => served = second,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
        }
    }
    assert_eq!(served, 89);
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_never_displaces_a_usable_token() {
    let source = Source::new().with_lifetime(secs(100));
    let cache = cache(&source);
    let first = cache.get(spec()).await.unwrap();
    source.set_answer(Answer::fail(ErrorKind::AccessDenied));
    advance(secs(75)).await;
    for _ in 0..140 {
        advance(millis(100)).await;
        assert_eq!(
            cache.get(spec()).await.unwrap().generation(),
            first.generation()
        );
        settle().await;
    }
    assert_eq!(
        cache.refresh(spec()).await.unwrap_err().kind(),
        ErrorKind::AccessDenied
    );
    assert_eq!(cache.peek(spec()).unwrap().generation(), first.generation());
    // At 75 s and then after waits of 1, 2, 4 and 8 s, each shortened by up to a half.
    let tries = source.fetches() - 1;
    assert!((4..=5).contains(&tries), "{tries}");
}

#[tokio::test(start_paused = true)]
async fn the_back_off_doubles_from_a_second_to_a_minute() {
    let source = Source::new().with_answer(Answer::fail(ErrorKind::AccessDenied));
    let cache = cache(&source);
    for longest in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
        let before = source.fetches();
        cache.get(spec()).await.unwrap_err();
        assert_eq!(source.fetches(), before + 1);
        advance(millis(longest * 500 - 1)).await;
        assert!(cache.get(spec()).await.unwrap_err().retry_after().is_some());
        assert_eq!(
            source.fetches(),
            before + 1,
            "sooner than half of {longest} s"
        );
        advance(millis(longest * 500 + 2)).await;
    }
    // A success ends it.
    source.push_answer(Answer::Token(Some(secs(10))));
    cache.get(spec()).await.unwrap();
    advance(secs(9)).await;
    cache.get(spec()).await.unwrap_err();
    let left = cache.get(spec()).await.unwrap_err().retry_after().unwrap();
    assert!(left <= secs(1), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_is_honoured() {
    let source = Source::new();
    source.push_answer(Answer::Fail(
        fault(ErrorKind::Throttled).with_retry_after(secs(30)),
    ));
    let cache = cache(&source);
    let error = cache.get(spec()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry_after()),
        (ErrorKind::Throttled, Some(secs(30)))
    );
    advance(millis(29_999)).await;
    cache.get(spec()).await.unwrap_err();
    assert_eq!(source.fetches(), 1);
    // A tenth longer at most.
    advance(millis(3_002)).await;
    cache.get(spec()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_counts_for_an_hour_at_most() {
    for asked in [secs(7_200), secs(u64::MAX), Duration::MAX] {
        let source = Source::new();
        source.push_answer(Answer::Fail(
            fault(ErrorKind::Throttled).with_retry_after(asked),
        ));
        let cache = cache(&source);
        let error = cache.get(spec()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Throttled, "{asked:?}");
        advance(HOUR - millis(1)).await;
        cache.get(spec()).await.unwrap_err();
        assert_eq!(source.fetches(), 1, "{asked:?}");
        advance(millis(2)).await;
        cache.get(spec()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_holds_back_the_key_alone() {
    for kind in [
        ErrorKind::InvalidScope,
        ErrorKind::InvalidGrant,
        ErrorKind::AccessDenied,
    ] {
        let source = Source::new();
        source.push_answer(Answer::fail(kind));
        let cache = cache(&source);
        assert_eq!(cache.get(spec()).await.unwrap_err().kind(), kind);
        cache.get(&tenant("other")).await.unwrap();
        assert_eq!(cache.get(spec()).await.unwrap_err().kind(), kind);
        assert_eq!(source.fetches(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn what_ails_the_provider_holds_back_the_whole_source() {
    let slow = fault(ErrorKind::InvalidScope).with_retry_after(secs(30));
    for (error, requests) in [
        (fault(ErrorKind::Throttled), 1),
        (fault(ErrorKind::InvalidClient), 1),
        (fault(ErrorKind::Timeout), 1),
        (fault(ErrorKind::Network), 3),
        (slow, 1),
    ] {
        let source = Source::new().with_answer(Answer::Fail(error.clone()));
        let cache = cache(&source);
        assert_eq!(cache.get(spec()).await.unwrap_err().kind(), error.kind());
        assert_eq!(source.fetches(), requests);
        let others = cache.get(&tenant("other")).await.unwrap_err();
        assert_eq!(others.kind(), error.kind());
        assert!(others.retry_after().is_some());
        assert_eq!(source.fetches(), requests);
        assert!(
            cache
                .entries()
                .iter()
                .all(|entry| entry.state == EntryState::BackingOff)
        );

        source.set_answer(Answer::Token(Some(HOUR)));
        advance(secs(34)).await;
        cache.get(&tenant("other")).await.unwrap();
        cache.get(spec()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_held_source_still_serves_stale_tokens_and_refreshes_them_afterwards() {
    let source = Source::new().with_lifetime(secs(100));
    let cache = cache(&source);
    let first = cache.get(spec()).await.unwrap();
    advance(secs(76)).await;
    source.push_answer(Answer::Fail(
        fault(ErrorKind::Throttled).with_retry_after(secs(10)),
    ));
    cache.get(&tenant("other")).await.unwrap_err();
    for _ in 0..9 {
        assert_eq!(
            cache.get(spec()).await.unwrap().generation(),
            first.generation()
        );
        settle().await;
        advance(secs(1)).await;
    }
    assert_eq!(source.fetches(), 2);
    advance(millis(2_001)).await;
    cache.get(spec()).await.unwrap();
    settle().await;
    assert_eq!(source.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_another_key_does_not_lift_a_retry_after() {
    let source = Source::new().gated();
    source.push_answer(Answer::Fail(
        fault(ErrorKind::Throttled).with_retry_after(secs(30)),
    ));
    let cache = cache(&source);
    let other = tenant("other");
    let mut throttled = task::spawn(cache.get(spec()));
    assert_pending!(throttled.poll());
    let mut late = task::spawn(cache.get(&other));
    assert_pending!(late.poll());
    settle().await;
    source.open();
    settle().await;
    assert_eq!(
        assert_ready!(throttled.poll()).unwrap_err().kind(),
        ErrorKind::Throttled
    );
    // This one was sent before the provider asked to be left alone.
    source.open();
    settle().await;
    assert_ready!(late.poll()).unwrap();
    source.open();
    let error = cache.get(spec()).await.unwrap_err();
    assert_eq!((error.kind(), source.fetches()), (ErrorKind::Throttled, 2));
    advance(secs(34)).await;
    cache.get(spec()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_another_key_ends_a_back_off_for_a_network_fault() {
    let source = Source::new().gated();
    source.push_answer(Answer::fail(ErrorKind::Timeout));
    let cache = cache(&source);
    let other = tenant("other");
    let mut failing = task::spawn(cache.get(spec()));
    assert_pending!(failing.poll());
    let mut late = task::spawn(cache.get(&other));
    assert_pending!(late.poll());
    settle().await;
    source.open();
    settle().await;
    assert_ready!(failing.poll()).unwrap_err();
    source.open();
    settle().await;
    assert_ready!(late.poll()).unwrap();
    source.open();
    cache.get(spec()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn keys_that_fail_together_make_one_wait_and_not_a_longer_one() {
    let source = Source::new()
        .gated()
        .with_answer(Answer::fail(ErrorKind::Timeout));
    let cache = cache(&source);
    let specs: Vec<_> = (0..20).map(tenant).collect();
    let mut callers: Vec<_> = specs
        .iter()
        .map(|one| task::spawn(cache.get(one)))
        .collect();
    for caller in &mut callers {
        assert_pending!(caller.poll());
        source.open();
    }
    settle().await;
    for caller in &mut callers {
        assert_ready!(caller.poll()).unwrap_err();
    }
    let left = cache.get(spec()).await.unwrap_err().retry_after().unwrap();
    assert!(left <= secs(1), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_refused_without_end_takes_nothing_from_another() {
    let source = Source::new();
    let cache = cache(&source);
    let other = cache.get(&tenant("other")).await.unwrap();
    let mut believed = 0;
    for _ in 0..20 {
        let token = cache.get(spec()).await.unwrap();
        believed += u32::from(cache.reject(&token));
    }
    assert_eq!((believed, source.fetches()), (5, 7));
    assert_eq!(
        (
            cache.stats().rejections,
            cache.stats().rejection_limit_reached
        ),
        (5, 15)
    );
    assert!(cache.reject(&other));
    cache.get(&tenant("other")).await.unwrap();
    assert_eq!(source.fetches(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_5xx_or_a_dropped_connection_is_tried_three_times_within_a_flight() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Network] {
        let source = Source::new().with_answer(Answer::fail(kind));
        let cache = cache(&source);
        let start = Instant::now();
        assert_eq!(cache.get(spec()).await.unwrap_err().kind(), kind);
        // Pauses of 100 and 200 ms; a timer rounds up to a millisecond.
        let took = start.elapsed().as_millis();
        assert!((300..=302).contains(&took), "{took}");
        let attempts: Vec<_> = source
            .requests()
            .iter()
            .map(|asked| asked.attempt())
            .collect();
        assert_eq!(attempts, [1, 2, 3]);
        let stats = cache.stats();
        assert_eq!(
            (stats.fetches, stats.fetch_failures, stats.token_requests),
            (1, 1, 3)
        );
    }
    let source = Source::new();
    source.push_answer(Answer::fail(ErrorKind::Unavailable));
    source.push_answer(Answer::fail(ErrorKind::Network));
    let cache = cache(&source);
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-3");
    assert_eq!(cache.stats().fetch_failures, 0);
}

#[tokio::test(start_paused = true)]
async fn what_no_attempt_would_change_is_tried_once() {
    for kind in [
        ErrorKind::InvalidClient,
        ErrorKind::InvalidScope,
        ErrorKind::Throttled,
        ErrorKind::Timeout,
    ] {
        let source = Source::new().with_answer(Answer::fail(kind));
        cache(&source).get(spec()).await.unwrap_err();
        assert_eq!(source.fetches(), 1, "{kind}");
    }
    let own = fault(ErrorKind::Unavailable).with_retryable(false);
    let source = Source::new().with_answer(Answer::Fail(own));
    cache(&source).get(spec()).await.unwrap_err();
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_of_two_seconds_is_waited_out_and_a_longer_one_ends_the_flight() {
    let source = Source::new();
    source.push_answer(Answer::Fail(
        fault(ErrorKind::Throttled).with_retry_after(secs(2)),
    ));
    let start = Instant::now();
    cache(&source).get(spec()).await.unwrap();
    assert_eq!((start.elapsed().as_secs(), source.fetches()), (2, 2));

    let source = Source::new();
    source.push_answer(Answer::Fail(
        fault(ErrorKind::Unavailable).with_retry_after(millis(2_001)),
    ));
    let start = Instant::now();
    cache(&source).get(spec()).await.unwrap_err();
    assert_eq!((start.elapsed().as_millis(), source.fetches()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn all_attempts_of_a_flight_share_its_deadline() {
    let source = Source::new()
        .with_answer(Answer::fail(ErrorKind::Unavailable))
        .with_delay(secs(4));
    let cache = cache(&source);
    let start = Instant::now();
    let error = cache.get(spec()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!((start.elapsed().as_secs(), source.fetches()), (10, 3));
}

/// A clock that is set by hand, on both its faces.
#[derive(Clone, Default)]
struct Hands {
    monotonic: Arc<AtomicU64>,
    wall: Arc<AtomicU64>,
}

impl Hands {
    fn cache(source: &Source) -> (TokenCache, Self) {
        let hands = Self::default();
        hands
            .wall
            .store(secs(1_700_000_000).as_nanos() as u64, SeqCst);
        let read = hands.clone();
        let clock = Clock::from_fn(move || Moment {
            monotonic: read.monotonic.load(SeqCst),
            wall: read.wall.load(SeqCst),
        });
        (
            TokenCache::builder(source.clone())
                .with_clock(clock)
                .build(),
            hands,
        )
    }

    fn run(&self, time: Duration) {
        self.monotonic.fetch_add(time.as_nanos() as u64, SeqCst);
        self.wall.fetch_add(time.as_nanos() as u64, SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_back_revives_no_token() {
    let source = Source::new().with_lifetime(secs(100));
    let (cache, hands) = Hands::cache(&source);
    cache.get(spec()).await.unwrap();
    hands
        .wall
        .fetch_sub(secs(1_000_000).as_nanos() as u64, SeqCst);
    hands.run(millis(89_999));
    assert_eq!(cache.peek(spec()).unwrap().expose(), "token-1");
    hands.run(millis(1));
    assert!(cache.peek(spec()).is_none());
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-2");
    // And once it is expired, nothing brings it back.
    hands.run(secs(90));
    hands.wall.fetch_sub(secs(1_000).as_nanos() as u64, SeqCst);
    assert!(cache.peek(spec()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_forth_costs_one_fetch() {
    let source = Source::new().with_lifetime(secs(100));
    let (cache, hands) = Hands::cache(&source);
    cache.get(spec()).await.unwrap();
    hands
        .wall
        .fetch_add(secs(1_000_000).as_nanos() as u64, SeqCst);
    assert!(cache.peek(spec()).is_none());
    for _ in 0..10 {
        assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-2");
    }
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_suspended_machine_wakes_up_to_an_expired_token() {
    // While it is suspended, the monotonic clock stands still.
    let source = Source::new();
    let (cache, hands) = Hands::cache(&source);
    cache.get(spec()).await.unwrap();
    hands.run(secs(60));
    hands
        .wall
        .fetch_add(secs(8 * 3_600).as_nanos() as u64, SeqCst);
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-2");
    assert_eq!(source.requests()[1].reason(), FetchReason::Expired);
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_before_the_machine_was_suspended_is_not_served_after() {
    let source = Source::new().gated();
    let (cache, hands) = Hands::cache(&source);
    let mut waiter = task::spawn(cache.get(spec()));
    assert_pending!(waiter.poll());
    settle().await;
    hands
        .wall
        .fetch_add(secs(8 * 3_600).as_nanos() as u64, SeqCst);
    source.open();
    settle().await;
    let error = assert_ready!(waiter.poll()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    hands.run(millis(1_001));
    source.open();
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-2");
}

#[tokio::test(start_paused = true)]
async fn a_back_off_ends_on_the_monotonic_clock_when_the_wall_clock_is_set_back() {
    let source = Source::new();
    source.push_answer(Answer::fail(ErrorKind::AccessDenied));
    let (cache, hands) = Hands::cache(&source);
    cache.get(spec()).await.unwrap_err();
    hands
        .wall
        .fetch_sub(secs(1_000_000).as_nanos() as u64, SeqCst);
    cache.get(spec()).await.unwrap_err();
    hands.run(millis(1_001));
    cache.get(spec()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_stands_still_serves_and_hangs_nobody() {
    let source = Source::new().with_delay(secs(5));
    let (cache, _) = Hands::cache(&source);
    for _ in 0..3 {
        assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-1");
    }
}

#[tokio::test(start_paused = true)]
async fn refresh_fetches_however_good_the_token_is() {
    let source = Source::new();
    let cache = cache(&source);
    let first = cache.get(spec()).await.unwrap();
    let second = cache.refresh(spec()).await.unwrap();
    assert!(second.generation() > first.generation());
    assert_eq!(second.reason(), FetchReason::Forced);
    assert_eq!(
        cache.get(spec()).await.unwrap().generation(),
        second.generation()
    );
    assert_eq!(
        cache.refresh(&tenant("cold")).await.unwrap().expose(),
        "token-3"
    );
}

#[tokio::test(start_paused = true)]
async fn refresh_inside_a_back_off_asks_nobody() {
    let source = Source::new();
    let cache = cache(&source);
    cache.get(spec()).await.unwrap();
    source.set_answer(Answer::fail(ErrorKind::AccessDenied));
    for _ in 0..10 {
        cache.refresh(spec()).await.unwrap_err();
    }
    assert_eq!(source.fetches(), 2);
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-1");
}

#[tokio::test(start_paused = true)]
async fn peek_fetches_nothing_and_counts_nothing() {
    let source = Source::new();
    let cache = cache(&source);
    assert!(cache.peek(spec()).is_none());
    assert_eq!(cache.stats().entries, 0);
    cache.get(spec()).await.unwrap();
    let before = cache.stats();
    advance(secs(3_400)).await;
    assert_eq!(cache.peek(spec()).unwrap().expose(), "token-1");
    settle().await;
    assert_eq!((cache.stats(), source.fetches()), (before, 1));
}

#[tokio::test(start_paused = true)]
async fn remove_and_clear_forget_tokens_and_failures() {
    let source = Source::new();
    source.push_answer(Answer::fail(ErrorKind::AccessDenied));
    let cache = cache(&source);
    cache.get(spec()).await.unwrap_err();
    assert!(!cache.remove(spec()));
    cache.get(spec()).await.unwrap();
    assert!(cache.remove(spec()));
    assert_eq!((cache.stats().entries, cache.stats().bytes), (0, 0));
    cache.get(spec()).await.unwrap();
    source.push_answer(Answer::fail(ErrorKind::Throttled));
    cache.get(&tenant("other")).await.unwrap_err();
    cache.get(&tenant("third")).await.unwrap_err();
    cache.clear();
    assert_eq!((cache.stats().entries, cache.stats().bytes), (0, 0));
    assert!(cache.peek(spec()).is_none());
    cache.get(&tenant("third")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn warm_fetches_what_is_missing_all_at_once() {
    let source = Source::new().with_delay(millis(100));
    let cache = cache(&source);
    cache.get(&tenant(0)).await.unwrap();
    let specs: Vec<_> = (0..5).map(tenant).collect();
    let start = Instant::now();
    cache.warm(&specs).await.unwrap();
    assert!(start.elapsed() < millis(105));
    assert_eq!(source.fetches(), 5);
    cache.warm(&specs).await.unwrap();
    assert_eq!(source.fetches(), 5);
}

#[tokio::test(start_paused = true)]
async fn warm_tries_all_and_tells_the_first_failure() {
    let source = Source::new();
    source.push_answer(Answer::Token(Some(HOUR)));
    source.push_answer(Answer::fail(ErrorKind::InvalidScope));
    source.push_answer(Answer::fail(ErrorKind::AccessDenied));
    let cache = cache(&source);
    let unsound = TokenSpec::scopes(["a b\""]);
    let specs: Vec<_> = (0..4).map(tenant).chain([unsound.clone()]).collect();
    let error = cache.warm(&specs).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidScope);
    assert_eq!(source.fetches(), 4);
    assert!(cache.peek(&tenant(3)).is_some());
    assert_eq!(
        cache.warm([&unsound]).await.unwrap_err().kind(),
        ErrorKind::Configuration
    );
    assert_eq!(
        cache.get(&unsound).await.unwrap_err().kind(),
        ErrorKind::Configuration
    );
    assert_eq!(source.fetches(), 4);
}

#[tokio::test(start_paused = true)]
async fn stats_count_what_happened() {
    let source = Source::new();
    let cache = cache(&source);
    let first = cache.get(spec()).await.unwrap();
    cache.get(spec()).await.unwrap();
    cache.get(spec()).await.unwrap();
    cache.reject(&first);
    source.push_answer(Answer::fail(ErrorKind::Unavailable));
    cache.get(spec()).await.unwrap();
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.hits, stats.misses), (1, 2, 2));
    assert_eq!(
        (stats.fetches, stats.fetch_failures, stats.token_requests),
        (2, 0, 3)
    );
    assert_eq!(
        (
            stats.rejections,
            stats.rejection_limit_reached,
            stats.replays,
            stats.evictions
        ),
        (1, 0, 0, 0)
    );
    assert!(stats.bytes > 0);
}

#[tokio::test(start_paused = true)]
async fn entries_tell_how_each_token_stands_and_hold_none() {
    let source = Source::new().with_lifetime(secs(100));
    let cache = cache(&source);
    let token = cache.get(spec()).await.unwrap();
    source.push_answer(Answer::fail(ErrorKind::InvalidScope));
    cache.get(&tenant("failing")).await.unwrap_err();
    advance(millis(100)).await;
    let entry = |spec: &TokenSpec| {
        let entries = cache.entries();
        entries
            .into_iter()
            .find(|entry| entry.spec == *spec)
            .unwrap()
    };
    let good = entry(spec());
    assert_eq!(
        (good.state, good.generation),
        (EntryState::Fresh, Some(token.generation()))
    );
    assert_eq!(good.expires_in, Some(millis(99_900)));
    assert!(good.last_error.is_none());
    let failing = entry(&tenant("failing"));
    assert_eq!(
        (failing.state, failing.generation),
        (EntryState::BackingOff, None)
    );
    assert_eq!(failing.last_error.unwrap().kind(), ErrorKind::InvalidScope);
    advance(secs(76)).await;
    let stale = entry(spec());
    assert_eq!(
        (stale.state, stale.refresh_in),
        (EntryState::Stale, Some(Duration::ZERO))
    );
    advance(secs(20)).await;
    assert_eq!(entry(spec()).state, EntryState::Expired);
    assert!(!format!("{:?}", cache.entries()).contains("token-"));
}

#[tokio::test(start_paused = true)]
async fn generations_never_repeat_not_even_after_an_eviction() {
    let source = Source::new();
    let cache = TokenCache::builder(source.clone())
        .with_clock(Clock::tokio())
        .with_max_entries(10)
        .build();
    let mut tokens = Vec::new();
    for name in 0..200 {
        tokens.push(cache.get(&tenant(name)).await.unwrap());
    }
    let mut generations: Vec<_> = tokens.iter().map(|token| token.generation()).collect();
    tokens.retain(|token| cache.peek(token.spec()).is_none());
    assert!(tokens.len() >= 190, "{}", tokens.len());
    for old in &tokens {
        let anew = cache.get(old.spec()).await.unwrap();
        generations.push(anew.generation());
        assert!(!cache.reject(old));
        assert_eq!(
            cache.peek(old.spec()).unwrap().generation(),
            anew.generation()
        );
    }
    assert!(generations.is_sorted_by(|a, b| a < b));
}

#[tokio::test(start_paused = true)]
async fn entries_are_bounded() {
    let source = Source::new();
    let cache = TokenCache::builder(source.clone())
        .with_clock(Clock::tokio())
        .with_max_entries(100)
        .build();
    for name in 0..2_000 {
        cache.get(&tenant(name)).await.unwrap();
    }
    let stats = cache.stats();
    assert!(stats.entries <= 100, "{}", stats.entries);
    assert_eq!(stats.entries + stats.evictions, 2_000);
    // It is a cache still.
    assert!(stats.entries >= 50, "{}", stats.entries);
}

#[tokio::test(start_paused = true)]
async fn idle_keys_are_not_refreshed_and_give_their_memory_back() {
    let source = Source::new();
    let cache = cache(&source);
    for name in 0..1_000 {
        cache.get(&tenant(name)).await.unwrap();
    }
    let full = cache.stats();
    advance(2 * HOUR).await;
    settle().await;
    assert_eq!(source.fetches(), 1_000);
    // Whoever comes next sees to it.
    cache.get(&tenant("next")).await.unwrap();
    settle().await;
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.evictions), (1, 1_000));
    assert!(stats.bytes < full.bytes / 100);
}

#[tokio::test(start_paused = true)]
async fn bytes_are_bounded() {
    let long: &'static str = Box::leak("x".repeat(10_000).into_boxed_str());
    let source = Source::new().with_answer(Answer::Text(long));
    let cache = TokenCache::builder(source.clone())
        .with_clock(Clock::tokio())
        .with_max_bytes(1 << 20)
        .build();
    for name in 0..500 {
        cache.get(&tenant(name)).await.unwrap();
    }
    let stats = cache.stats();
    assert!(stats.bytes <= 1 << 20, "{}", stats.bytes);
    assert!(stats.entries >= 20, "{}", stats.entries);
}

#[tokio::test(start_paused = true)]
async fn expired_entries_go_when_the_cache_is_nearly_full() {
    let source = Source::new().with_lifetime(secs(10));
    let cache = TokenCache::builder(source.clone())
        .with_clock(Clock::tokio())
        .with_max_entries(1_000)
        .build();
    for name in 0..800 {
        cache.get(&tenant(name)).await.unwrap();
    }
    advance(secs(11)).await;
    source.set_answer(Answer::Token(Some(HOUR)));
    let expired = || {
        let entries = cache.entries();
        let expired = entries
            .iter()
            .filter(|entry| entry.state == EntryState::Expired);
        (expired.count(), entries.len())
    };
    let mut swept = false;
    for name in 1_000..1_200 {
        cache.get(&tenant(name)).await.unwrap();
        let (expired, all) = expired();
        swept |= expired == 0;
        assert!(all <= 901, "{all}");
    }
    assert!(swept);
}

#[tokio::test(start_paused = true)]
async fn what_expired_goes_before_what_still_serves() {
    let source = Source::new();
    let cache = TokenCache::builder(source.clone())
        .with_clock(Clock::tokio())
        .with_max_entries(1_000)
        .build();
    for name in 0..600 {
        let lifetime = if name % 2 == 0 { HOUR } else { secs(10) };
        source.push_answer(Answer::Token(Some(lifetime)));
        cache.get(&tenant(name)).await.unwrap();
    }
    advance(secs(11)).await;
    for name in 1_000..1_400 {
        cache.get(&tenant(name)).await.unwrap();
    }
    let kept = |name: &usize| cache.peek(&tenant(name)).is_some();
    assert_eq!((0..600).step_by(2).filter(kept).count(), 300);
    assert!(cache.stats().evictions >= 300);
}

#[tokio::test(start_paused = true)]
async fn what_is_used_stays_when_what_is_not_makes_room() {
    let source = Source::new().with_lifetime(HOUR * 24);
    let cache = TokenCache::builder(source.clone())
        .with_clock(Clock::tokio())
        .with_max_entries(200)
        .build();
    for name in 0..5_000 {
        cache.get(&tenant(name)).await.unwrap();
        for used in 0..20 {
            cache.get(&tenant(format!("used-{used}"))).await.unwrap();
        }
    }
    assert_eq!(source.fetches(), 5_020);
    assert!(cache.stats().entries <= 200);
}

#[tokio::test(start_paused = true)]
async fn a_cache_is_bounded_though_nobody_said_so() {
    let source = Source::new();
    let cache = cache(&source);
    for name in 0..12_000 {
        cache.get(&tenant(name)).await.unwrap();
    }
    let stats = cache.stats();
    assert!(stats.entries <= 10_000, "{}", stats.entries);
    assert!(stats.entries >= 8_000, "{}", stats.entries);
}

#[tokio::test(start_paused = true)]
async fn a_flight_is_never_evicted() {
    for max in [2, 10] {
        let source = Source::new().gated();
        let cache = TokenCache::builder(source.clone())
            .with_clock(Clock::tokio())
            .with_max_entries(max)
            .build();
        let specs: Vec<_> = (0..1_000).map(tenant).collect();
        for _ in 0..2 {
            for spec in &specs {
                let mut caller = task::spawn(cache.get(spec));
                assert_pending!(caller.poll());
            }
        }
        assert_eq!(cache.stats().fetches, 1_000, "a second flight for one spec");
        for _ in &specs {
            source.open();
        }
        cache.warm(&specs).await.unwrap();
        // Once they have landed, the bound holds again.
        for name in 1_000..1_100 {
            source.open();
            cache.get(&tenant(name)).await.unwrap();
        }
        assert!(
            cache.stats().entries <= max as u64,
            "{}",
            cache.stats().entries
        );
    }
}
