//! Checks how the cache behaves as time passes: expiry, refresh, back-off, eviction.

mod support;

use std::{
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use support::{
    Answer, HOUR, Source, builder, cache, fault, lock, millis, pending, secs, settle, spec, tenant,
};
use tokio::time::{Instant, advance};
use tokio_test::{assert_ready, task};
use tower_bearer::{
    ErrorKind, TokenCache, TokenSpec,
    cache::EntryState,
    clock::{Clock, Moment},
    token::FetchReason,
};

/// Serves a token and checks it just before and after each of its times, in milliseconds: it is fresh until `fresh` at
/// least, stale from `stale` at the latest, and served until `end`.
async fn check_times(source: Source, fresh: u64, stale: u64, end: u64) {
    let cache = cache(&source);
    let first = cache.get(spec()).await.unwrap().generation();
    let source = source.gated();
    let start = Instant::now();
    let advance_to = async |at: u64| advance(start + millis(at) - Instant::now()).await;
    let served = async || cache.get(spec()).await.unwrap().generation();

    advance_to(fresh - 1).await;
    assert_eq!(served().await, first);
    settle().await;
    assert_eq!(source.fetches(), 1, "fetched while fresh");
    assert_eq!(cache.entries()[0].state, EntryState::Fresh);

    advance_to(stale + 1).await;
    assert_eq!(cache.entries()[0].state, EntryState::Stale);
    assert_eq!(served().await, first);
    settle().await;
    assert_eq!(source.fetches(), 2, "not fetched while stale");
    assert_eq!(source.requests()[1].reason(), FetchReason::Stale);

    // The refresh may have failed by its deadline; the token is served in any case.
    advance_to(end - 1).await;
    assert_eq!(served().await, first);
    advance_to(end).await;
    assert!(cache.peek(spec()).is_none());
    if let Poll::Ready(result) = task::spawn(cache.get(spec())).poll() {
        result.unwrap_err();
    }
}

#[tokio::test(start_paused = true)]
async fn fresh_is_served_stale_is_refreshed_expired_is_awaited() {
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
        check_times(Source::new().with_lifetime(lifetime), fresh, stale, end).await;
    }
    // Five minutes are assumed if the response has no lifetime.
    let source = Source::new().with_answer(Answer::Token(None));
    check_times(source, 210_000, 225_000, 290_000).await;
    // A refresh interval of the server, up to a fifth of the lead of five minutes earlier.
    let source = Source::new().with_answer(Answer::RefreshIn(HOUR, secs(1_800)));
    check_times(source, 1_740_000, 1_800_000, 3_590_000).await;
}

#[tokio::test(start_paused = true)]
async fn assumed_lifetime_is_configurable() {
    let source = Source::new().with_answer(Answer::Token(None));
    let cache = builder(&source).with_assumed_lifetime(HOUR).build();
    cache.get(spec()).await.unwrap();
    assert_eq!(cache.entries()[0].expires_in, Some(HOUR));
}

#[tokio::test(start_paused = true)]
async fn refresh_point_is_never_after_the_expiry() {
    let source = Source::new().with_answer(Answer::RefreshIn(secs(100), HOUR));
    let cache = cache(&source);
    cache.get(spec()).await.unwrap();
    advance(secs(90)).await;
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-2");
    assert_eq!(source.requests()[1].reason(), FetchReason::Expired);
}

#[tokio::test(start_paused = true)]
async fn refresh_point_of_zero_costs_a_fetch_per_ten_seconds() {
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
async fn jitter_is_fixed_per_token_and_at_most_a_fifth_of_the_lead() {
    let source = Source::new();
    let cache = cache(&source);
    let mut all = Vec::new();
    for name in 0..100 {
        let token = cache.get(&tenant(name)).await.unwrap();
        let after = token.refresh_at().duration_since(token.requested_at());
        let after = after.unwrap();
        assert!(after >= secs(3_240) && after <= secs(3_300), "{after:?}");
        let again = cache.get(&tenant(name)).await.unwrap();
        assert_eq!(again.refresh_at(), token.refresh_at());
        all.push(after);
    }
    all.sort();
    assert!(all[99] - all[0] > secs(30), "without jitter");
}

#[tokio::test(start_paused = true)]
async fn lifetime_starts_before_the_token_request() {
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
async fn token_that_arrives_expired_is_an_error() {
    for (lifetime, delay) in [(secs(2), secs(3)), (Duration::ZERO, Duration::ZERO)] {
        let source = Source::new().with_lifetime(lifetime).with_delay(delay);
        let error = cache(&source).get(spec()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert_eq!(source.fetches(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn longest_lifetime_never_ends() {
    let source = Source::new().with_lifetime(Duration::MAX);
    let cache = cache(&source);
    cache.get(spec()).await.unwrap();
    advance(secs(1_000_000_000)).await;
    cache.get(spec()).await.unwrap();
    settle().await;
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn failed_refresh_never_displaces_a_usable_token() {
    let source = Source::new().with_lifetime(secs(100));
    let cache = cache(&source);
    cache.get(spec()).await.unwrap();
    source.set_answer(Answer::fail(ErrorKind::AccessDenied));
    advance(secs(75)).await;
    for _ in 0..140 {
        advance(millis(100)).await;
        assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-1");
        settle().await;
    }
    let error = cache.refresh(spec()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AccessDenied);
    assert_eq!(cache.peek(spec()).unwrap().expose(), "token-1");
    // At 75 s and then after back-offs of 1, 2, 4 and 8 s, each shortened by up to a half.
    let tries = source.fetches() - 1;
    assert!((4..=5).contains(&tries), "{tries}");
}

#[tokio::test(start_paused = true)]
async fn back_off_doubles_from_a_second_to_a_minute() {
    let source = Source::new().with_answer(Answer::fail(ErrorKind::AccessDenied));
    let cache = cache(&source);
    for longest in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
        let before = source.fetches();
        cache.get(spec()).await.unwrap_err();
        assert_eq!(source.fetches(), before + 1);
        advance(millis(longest * 500 - 1)).await;
        assert!(cache.get(spec()).await.unwrap_err().retry_after().is_some());
        assert_eq!(source.fetches(), before + 1, "before half of {longest} s");
        advance(millis(longest * 500 + 2)).await;
    }
    // A success ends the back-off.
    source.push_answer(Answer::Token(Some(secs(10))));
    cache.get(spec()).await.unwrap();
    advance(secs(9)).await;
    cache.get(spec()).await.unwrap_err();
    let left = cache.get(spec()).await.unwrap_err().retry_after().unwrap();
    assert!(left <= secs(1), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_for_at_most_an_hour() {
    let hour = HOUR + millis(1);
    for (retry_after, least, most) in [
        // Up to a tenth longer.
        (secs(30), secs(30), secs(33) + millis(1)),
        (secs(7_200), HOUR, hour),
        (secs(u64::MAX), HOUR, hour),
        (Duration::MAX, HOUR, hour),
    ] {
        let source = Source::new();
        let error = fault(ErrorKind::Throttled).with_retry_after(retry_after);
        source.push_answer(Answer::Fail(error));
        let cache = cache(&source);
        let error = cache.get(spec()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Throttled);
        if retry_after < HOUR {
            assert_eq!(error.retry_after(), Some(retry_after));
        }
        advance(least - millis(1)).await;
        cache.get(spec()).await.unwrap_err();
        assert_eq!(source.fetches(), 1, "{retry_after:?}");
        advance(most - least + millis(1)).await;
        cache.get(spec()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn fault_of_the_provider_backs_off_the_whole_source() {
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
        let other = cache.get(&tenant("other")).await.unwrap_err();
        assert_eq!(other.kind(), error.kind());
        assert!(other.retry_after().is_some());
        assert_eq!(source.fetches(), requests);
        let mut states = cache.entries().into_iter().map(|entry| entry.state);
        assert!(states.all(|state| state == EntryState::BackingOff));

        source.set_answer(Answer::Token(Some(HOUR)));
        advance(secs(34)).await;
        cache.get(&tenant("other")).await.unwrap();
        cache.get(spec()).await.unwrap();
    }
    // A fault of the request concerns only its key.
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
async fn success_of_another_key_ends_a_back_off_but_no_retry_after() {
    let throttled = fault(ErrorKind::Throttled).with_retry_after(secs(30));
    for (error, ends) in [(throttled, false), (fault(ErrorKind::Timeout), true)] {
        let kind = error.kind();
        let source = Source::new().gated();
        source.push_answer(Answer::Fail(error));
        let cache = cache(&source);
        let other = tenant("other");
        let mut failing = pending(cache.get(spec()));
        let mut late = pending(cache.get(&other));
        settle().await;
        source.release().await;
        assert_eq!(assert_ready!(failing.poll()).unwrap_err().kind(), kind);
        // This request was sent before the other one failed.
        source.release().await;
        assert_ready!(late.poll()).unwrap();
        source.open();
        if !ends {
            assert_eq!(cache.get(spec()).await.unwrap_err().kind(), kind);
            assert_eq!(source.fetches(), 2);
            advance(secs(34)).await;
        }
        cache.get(spec()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn transient_fault_is_tried_three_times_in_a_fetch() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Network] {
        let source = Source::new().with_answer(Answer::fail(kind));
        let cache = cache(&source);
        let start = Instant::now();
        assert_eq!(cache.get(spec()).await.unwrap_err().kind(), kind);
        // Pauses of 100 and 200 ms. A timer rounds up to a millisecond.
        let took = start.elapsed().as_millis();
        assert!((300..=302).contains(&took), "{took}");
        let requests = source.requests();
        let attempts = requests.iter().map(|request| request.attempt());
        assert!(attempts.eq([1, 2, 3]));
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
    let not_retryable = fault(ErrorKind::Unavailable).with_retryable(false);
    let source = Source::new().with_answer(Answer::Fail(not_retryable));
    support::cache(&source).get(spec()).await.unwrap_err();
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn attempts_of_a_fetch_share_its_deadline() {
    let source = Source::new()
        .with_answer(Answer::fail(ErrorKind::Unavailable))
        .with_delay(secs(4));
    let cache = cache(&source);
    let start = Instant::now();
    let error = cache.get(spec()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!((start.elapsed().as_secs(), source.fetches()), (10, 3));
}

/// A clock whose monotonic and wall time are set by the test.
#[derive(Clone, Default)]
struct ManualClock(Arc<Mutex<Moment>>);

impl ManualClock {
    fn cache(source: &Source) -> (TokenCache, Self) {
        let clock = Self::default();
        clock.move_wall(1_700_000_000);
        let read = clock.clone();
        let reading = Clock::from_fn(move || *lock(&read.0));
        let cache = TokenCache::builder(source.clone()).with_clock(reading);
        (cache.build(), clock)
    }

    fn advance(&self, time: Duration) {
        let mut now = lock(&self.0);
        *now = *now + time;
    }

    fn move_wall(&self, seconds: i64) {
        let mut now = lock(&self.0);
        now.wall = now.wall.wrapping_add_signed(seconds * 1_000_000_000);
    }
}

#[tokio::test(start_paused = true)]
async fn wall_clock_set_back_revives_no_token() {
    let source = Source::new().with_lifetime(secs(100));
    let (cache, clock) = ManualClock::cache(&source);
    cache.get(spec()).await.unwrap();
    clock.move_wall(-1_000_000);
    clock.advance(millis(89_999));
    assert_eq!(cache.peek(spec()).unwrap().expose(), "token-1");
    clock.advance(millis(1));
    assert!(cache.peek(spec()).is_none());
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-2");
    // Once the token has expired, it stays so.
    clock.advance(secs(90));
    clock.move_wall(-1_000);
    assert!(cache.peek(spec()).is_none());
}

#[tokio::test(start_paused = true)]
async fn wall_clock_that_jumps_forward_costs_one_fetch() {
    // It is set forward, or the machine was suspended: then the monotonic clock stands still.
    for lifetime in [secs(100), HOUR] {
        let source = Source::new().with_lifetime(lifetime);
        let (cache, clock) = ManualClock::cache(&source);
        cache.get(spec()).await.unwrap();
        clock.advance(secs(60));
        clock.move_wall(8 * 3_600);
        assert!(cache.peek(spec()).is_none());
        for _ in 0..10 {
            assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-2");
        }
        assert_eq!(source.fetches(), 2);
        assert_eq!(source.requests()[1].reason(), FetchReason::Expired);
    }
}

#[tokio::test(start_paused = true)]
async fn token_requested_before_a_suspension_counts_as_expired() {
    let source = Source::new().gated();
    let (cache, clock) = ManualClock::cache(&source);
    let mut waiter = pending(cache.get(spec()));
    settle().await;
    clock.move_wall(8 * 3_600);
    source.release().await;
    let error = assert_ready!(waiter.poll()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    clock.advance(millis(1_001));
    source.open();
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-2");
}

#[tokio::test(start_paused = true)]
async fn wall_clock_set_back_prolongs_no_back_off() {
    let source = Source::new();
    source.push_answer(Answer::fail(ErrorKind::AccessDenied));
    let (cache, clock) = ManualClock::cache(&source);
    cache.get(spec()).await.unwrap_err();
    clock.move_wall(-1_000_000);
    cache.get(spec()).await.unwrap_err();
    clock.advance(millis(1_001));
    cache.get(spec()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn stopped_clock_serves_tokens() {
    let source = Source::new().with_delay(secs(5));
    let (cache, _) = ManualClock::cache(&source);
    for _ in 0..3 {
        assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-1");
    }
}

#[tokio::test(start_paused = true)]
async fn refresh_fetches_even_if_the_token_is_fresh() {
    let source = Source::new();
    let cache = cache(&source);
    let first = cache.get(spec()).await.unwrap();
    let second = cache.refresh(spec()).await.unwrap();
    assert!(second.generation() > first.generation());
    assert_eq!(second.reason(), FetchReason::Forced);
    assert_eq!(cache.get(spec()).await.unwrap().expose(), "token-2");
    let cold = cache.refresh(&tenant("cold")).await.unwrap();
    assert_eq!(cold.expose(), "token-3");
}

#[tokio::test(start_paused = true)]
async fn peek_fetches_and_counts_nothing() {
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
async fn remove_and_clear_discard_tokens_and_failures() {
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
async fn warm_fetches_missing_tokens_concurrently() {
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
async fn warm_tries_all_specs_and_returns_the_first_error() {
    let source = Source::new();
    source.push_answer(Answer::Token(Some(HOUR)));
    source.push_answer(Answer::fail(ErrorKind::InvalidScope));
    source.push_answer(Answer::fail(ErrorKind::AccessDenied));
    let cache = cache(&source);
    let invalid = TokenSpec::scopes(["a b\""]);
    let specs: Vec<_> = (0..4).map(tenant).chain([invalid.clone()]).collect();
    let error = cache.warm(&specs).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidScope);
    assert_eq!(source.fetches(), 4);
    assert!(cache.peek(&tenant(3)).is_some());
    let error = cache.warm([&invalid]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let error = cache.get(&invalid).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert_eq!(source.fetches(), 4);
}

#[tokio::test(start_paused = true)]
async fn entries_describe_tokens_without_revealing_them() {
    let source = Source::new().with_lifetime(secs(100));
    let cache = cache(&source);
    let token = cache.get(spec()).await.unwrap();
    source.push_answer(Answer::fail(ErrorKind::InvalidScope));
    cache.get(&tenant("failing")).await.unwrap_err();
    advance(millis(100)).await;
    let entry = |spec: &TokenSpec| {
        let mut entries = cache.entries().into_iter();
        entries.find(|entry| entry.spec == *spec).unwrap()
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
async fn generations_never_repeat_even_after_an_eviction() {
    let source = Source::new();
    let cache = builder(&source).with_max_entries(10).build();
    let mut tokens = Vec::new();
    for name in 0..200 {
        tokens.push(cache.get(&tenant(name)).await.unwrap());
    }
    let mut generations: Vec<_> = tokens.iter().map(|token| token.generation()).collect();
    tokens.retain(|token| cache.peek(token.spec()).is_none());
    assert!(tokens.len() >= 190, "{}", tokens.len());
    for old in &tokens {
        let new = cache.get(old.spec()).await.unwrap();
        generations.push(new.generation());
        assert!(!cache.reject(old));
        let current = cache.peek(old.spec()).unwrap();
        assert_eq!(current.generation(), new.generation());
    }
    assert!(generations.is_sorted_by(|a, b| a < b));
}

#[tokio::test(start_paused = true)]
async fn entries_and_bytes_are_bounded() {
    let short = Source::new();
    let long: &'static str = Box::leak("x".repeat(10_000).into_boxed_str());
    let long = Source::new().with_answer(Answer::Text(long));
    let few_entries = builder(&short).with_max_entries(100);
    let few_bytes = builder(&long).with_max_bytes(1 << 20);
    for (builder, keys, entries, max_bytes) in [
        (few_entries, 2_000, 50..=100, u64::MAX),
        // The defaults.
        (builder(&short), 12_000, 8_000..=10_000, u64::MAX),
        (few_bytes, 500, 20..=500, 1 << 20),
    ] {
        let cache = builder.build();
        for name in 0..keys {
            cache.get(&tenant(name)).await.unwrap();
        }
        let stats = cache.stats();
        assert_eq!(stats.entries + stats.evictions, keys);
        assert!(entries.contains(&stats.entries), "{stats:?}");
        assert!(stats.bytes <= max_bytes, "{stats:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn idle_keys_are_not_refreshed_and_free_their_memory() {
    let source = Source::new();
    let cache = cache(&source);
    for name in 0..1_000 {
        cache.get(&tenant(name)).await.unwrap();
    }
    let full = cache.stats();
    advance(2 * HOUR).await;
    settle().await;
    assert_eq!(source.fetches(), 1_000);
    cache.get(&tenant("next")).await.unwrap();
    settle().await;
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.evictions), (1, 1_000));
    assert!(stats.bytes < full.bytes / 100);
    assert_eq!(source.fetches(), 1_001);
    cache.get(&tenant(0)).await.unwrap();
    let last = source.requests().pop().unwrap();
    assert_eq!(last.reason(), FetchReason::Missing);
}

#[tokio::test(start_paused = true)]
async fn expired_entries_are_swept_from_a_nearly_full_cache() {
    let source = Source::new().with_lifetime(secs(10));
    let cache = builder(&source).with_max_entries(1_000).build();
    for name in 0..800 {
        cache.get(&tenant(name)).await.unwrap();
    }
    advance(secs(11)).await;
    source.set_answer(Answer::Token(Some(HOUR)));
    let mut swept = false;
    for name in 1_000..1_200 {
        cache.get(&tenant(name)).await.unwrap();
        let entries = cache.entries();
        assert!(entries.len() <= 901, "{}", entries.len());
        let mut states = entries.into_iter().map(|entry| entry.state);
        swept |= states.all(|state| state != EntryState::Expired);
    }
    assert!(swept);
}

#[tokio::test(start_paused = true)]
async fn expired_entries_are_evicted_before_usable_ones() {
    let source = Source::new();
    let cache = builder(&source).with_max_entries(1_000).build();
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
async fn used_entries_stay_when_unused_ones_are_evicted() {
    let source = Source::new().with_lifetime(HOUR * 24);
    let cache = builder(&source).with_max_entries(200).build();
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
async fn entry_with_a_fetch_is_never_evicted() {
    for max in [2, 10] {
        let source = Source::new().gated();
        let cache = builder(&source).with_max_entries(max).build();
        let specs: Vec<_> = (0..1_000).map(tenant).collect();
        for _ in 0..2 {
            for spec in &specs {
                drop(pending(cache.get(spec)));
            }
        }
        assert_eq!(cache.stats().fetches, 1_000, "a second fetch for one spec");
        for _ in &specs {
            source.open();
        }
        cache.warm(&specs).await.unwrap();
        // After the fetches, the bound holds again.
        for name in 1_000..1_100 {
            source.open();
            cache.get(&tenant(name)).await.unwrap();
        }
        let stats = cache.stats();
        assert!(stats.entries <= max as u64, "{stats:?}");
    }
}
