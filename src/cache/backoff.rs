//! Computes when to try again after a failed fetch.

use std::time::Duration;

use crate::{
    clock::Moment,
    error::{ErrorKind, TokenError},
};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// The time during which no token is requested after a failure, and the error that caused it.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    pub(super) until: Moment,
    failures: u32,
    pub(super) last_error: TokenError,
}

impl Backoff {
    /// Returns the back-off after one more failure. Failures that arrive during one back-off count once.
    ///
    /// `jitter` is between 0 and 1. It shortens our own wait by up to half, and extends a wait that the server asked for by up
    /// to a tenth.
    pub(super) fn after(
        previous: Option<&Self>,
        error: TokenError,
        now: Moment,
        jitter: f64,
    ) -> Self {
        let current = previous.filter(|backoff| !backoff.until.is_past(now));
        let failures = previous.map_or(0, |backoff| backoff.failures);
        let failures = failures.saturating_add(u32::from(current.is_none()));
        let wait = match error.retry_after() {
            Some(asked) => {
                // `Retry-After: 0` followed by another failure must not become a busy loop.
                let asked = asked.clamp(FIRST, LONGEST_RETRY_AFTER);
                (asked + asked.min(LONGEST).mul_f64(jitter / 10.0)).min(LONGEST_RETRY_AFTER)
            }
            None => {
                let doubled = FIRST * 2u32.saturating_pow(failures.min(7) - 1);
                doubled.min(LONGEST).mul_f64(1.0 - jitter / 2.0)
            }
        };
        let until = now + wait;
        Self {
            until: current.map_or(until, |backoff| backoff.until.later_of(until)),
            failures,
            last_error: error,
        }
    }

    /// Returns the remembered error with the remaining wait, or `None` after the back-off.
    pub(super) fn error(&self, now: Moment) -> Option<TokenError> {
        let remaining = self.until.remaining(now);
        (!self.until.is_past(now)).then(|| self.last_error.clone().with_retry_after(remaining))
    }

    /// Returns `true` if a successful fetch clears the back-off. After `Retry-After` it doesn't, because that fetch started
    /// before the server sent it.
    pub(super) fn is_cleared_by_success(&self, now: Moment) -> bool {
        let is_requested = self.last_error.retry_after().is_some()
            || self.last_error.kind() == ErrorKind::Throttled;
        !is_requested || self.until.is_past(now)
    }
}

/// Returns `true` if the failure concerns the whole source, and not only the requested spec.
pub(super) fn concerns_the_source(error: &TokenError) -> bool {
    error.retry_after().is_some()
        || matches!(
            error.kind(),
            ErrorKind::Throttled
                | ErrorKind::InvalidClient
                | ErrorKind::Network
                | ErrorKind::Timeout
        )
}

/// Returns the pause before the next attempt of the same fetch, if there is one. `attempt` counts from 1.
pub(super) fn next_attempt(error: &TokenError, attempt: u32) -> Option<Duration> {
    const ATTEMPTS: u32 = 3;
    const LONGEST_PAUSE: Duration = Duration::from_secs(2);
    let again = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Network)
        || (error.kind() == ErrorKind::Malformed && error.is_retryable())
        || error.retry_after().is_some();
    if attempt >= ATTEMPTS || !again || !error.is_retryable() {
        return None;
    }
    let own = Duration::from_millis(100) * 2u32.pow(attempt - 1);
    match error.retry_after() {
        Some(asked) => (asked <= LONGEST_PAUSE).then_some(asked.max(own)),
        None => Some(own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Moment = Moment {
        monotonic: 5,
        wall: 5,
    };

    fn fault() -> TokenError {
        TokenError::new(ErrorKind::Unavailable, "out of order")
    }

    #[test]
    fn wait_doubles_from_a_second_to_a_minute() {
        let mut backoff: Option<Backoff> = None;
        let mut waits = Vec::new();
        for _ in 0..9 {
            let now = backoff.as_ref().map_or(START, |backoff| backoff.until);
            let next = Backoff::after(backoff.as_ref(), fault(), now, 0.0);
            waits.push(next.until.remaining(now).as_secs());
            backoff = Some(next);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn failures_during_one_back_off_count_once() {
        let first = Backoff::after(None, fault(), START, 0.0);
        let second = Backoff::after(Some(&first), fault(), START, 0.0);
        assert_eq!(second.until.remaining(START), Duration::from_secs(1));
        let longer = fault().with_retry_after(Duration::from_secs(9));
        let third = Backoff::after(Some(&second), longer, START, 0.0);
        let fourth = Backoff::after(Some(&third), fault(), START, 0.0);
        assert_eq!(fourth.until.remaining(START), Duration::from_secs(9));
    }

    #[test]
    fn jitter_never_shortens_the_wait_of_the_server() {
        let own = Backoff::after(None, fault(), START, 1.0);
        assert_eq!(own.until.remaining(START), Duration::from_millis(500));
        let asked = fault().with_retry_after(Duration::from_secs(20));
        let servers = Backoff::after(None, asked, START, 1.0);
        assert_eq!(servers.until.remaining(START), Duration::from_secs(22));
    }

    #[test]
    fn retry_after_is_limited_to_an_hour() {
        let asked = fault().with_retry_after(Duration::from_secs(7200));
        let backoff = Backoff::after(None, asked, START, 0.5);
        assert_eq!(backoff.until.remaining(START), Duration::from_secs(3600));
        for endless in [Duration::from_secs(u64::MAX), Duration::MAX] {
            let backoff = Backoff::after(None, fault().with_retry_after(endless), START, 1.0);
            assert_eq!(backoff.until.remaining(START), Duration::from_secs(3600));
        }
    }

    #[test]
    fn retry_after_of_zero_still_waits() {
        let asked = fault().with_retry_after(Duration::ZERO);
        let backoff = Backoff::after(None, asked.clone(), START, 0.0);
        assert_eq!(backoff.until.remaining(START), Duration::from_secs(1));
        assert_eq!(next_attempt(&asked, 1), Some(Duration::from_millis(100)));
    }

    #[test]
    fn remembered_error_has_the_remaining_wait() {
        let backoff = Backoff::after(None, fault(), START, 0.0);
        let later = START + Duration::from_millis(400);
        let left = backoff.error(later).and_then(|error| error.retry_after());
        assert_eq!(left, Some(Duration::from_millis(600)));
        assert!(backoff.error(START + Duration::from_secs(1)).is_none());
    }

    #[test]
    fn fetch_makes_three_attempts_and_obeys_a_short_retry_after() {
        assert_eq!(next_attempt(&fault(), 1), Some(Duration::from_millis(100)));
        assert_eq!(next_attempt(&fault(), 2), Some(Duration::from_millis(200)));
        assert_eq!(next_attempt(&fault(), 3), None);
        let short = fault().with_retry_after(Duration::from_secs(2));
        assert_eq!(next_attempt(&short, 1), Some(Duration::from_secs(2)));
        let long = fault().with_retry_after(Duration::from_secs(3));
        assert_eq!(next_attempt(&long, 1), None);
        let refusal = TokenError::new(ErrorKind::InvalidScope, "no");
        assert_eq!(next_attempt(&refusal, 1), None);
        let slow = TokenError::new(ErrorKind::Timeout, "slow");
        assert_eq!(next_attempt(&slow, 1), None);
    }
}
