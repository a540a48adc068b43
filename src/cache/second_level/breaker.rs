//! Implements the circuit breaker that guards the calls to a store. Pure: the caller passes the time.
//!
//! After a failure, calls are skipped for a pause, so that an outage delays one fetch and not all of them. After the pause one
//! call is let through as a probe. If it succeeds, the breaker closes; if it fails, the next pause is twice as long.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::clock::Moment;

/// The first pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The first pause if no call has succeeded yet: the connection may still be being established.
const FIRST_PAUSE_AT_START: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// When the next probe may start if the current one never ends, because its task was dropped. Calls have shorter limits.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The circuit breaker for one kind of call.
#[derive(Default)]
pub(super) struct CircuitBreaker(Mutex<State>);

#[derive(Default)]
struct State {
    open: Option<Open>,
    /// Whether any call has succeeded yet.
    has_worked: bool,
}

/// The state during an outage.
struct Open {
    since: Moment,
    /// Whether the outage began with a timeout.
    is_timeout: bool,
    next_probe: Moment,
    failures: u32,
    /// When the current probe began. The call that begins the outage counts as the first one.
    probe: Option<Moment>,
}

impl CircuitBreaker {
    /// Returns `true` if the store may be called now.
    ///
    /// During an outage the permitted call is the probe. Its outcome must be reported with [`succeeded`](Self::succeeded) or
    /// [`failed`](Self::failed).
    pub(super) fn allows_call(&self, now: Moment) -> bool {
        match &mut self.state().open {
            None => true,
            Some(open) if open.next_probe.is_past(now) => {
                open.next_probe = now + PROBE_TIMEOUT;
                open.probe = Some(now);
                true
            }
            Some(_) => false,
        }
    }

    /// Closes the breaker after a successful call. Returns how long the outage lasted, if there was one.
    pub(super) fn succeeded(&self, now: Moment) -> Option<Duration> {
        let mut state = self.state();
        state.has_worked = true;
        let open = state.open.take()?;
        Some(now.remaining(open.since))
    }

    /// Opens the breaker after a failed call that began at `start`. Returns `true` if this begins an outage.
    ///
    /// `jitter` is between 0 and 1 and shortens the pause by up to half.
    pub(super) fn failed(&self, start: Moment, is_timeout: bool, now: Moment, jitter: f64) -> bool {
        let mut state = self.state();
        let first = if state.has_worked {
            FIRST_PAUSE
        } else {
            FIRST_PAUSE_AT_START
        };
        let open = state.open.get_or_insert(Open {
            since: start,
            is_timeout,
            next_probe: now,
            failures: 0,
            probe: Some(start),
        });
        // Only the probe counts: other calls began before the outage was known.
        if open.probe != Some(start) {
            return false;
        }
        open.probe = None;
        open.failures = open.failures.saturating_add(1);
        let pause = first * 2u32.saturating_pow(open.failures.min(9) - 1);
        open.next_probe = now + pause.min(LONGEST_PAUSE).mul_f64(1.0 - jitter / 2.0);
        open.failures == 1
    }

    /// Returns `true` if no call has succeeded yet, and calls have been timing out for less than `limit`.
    pub(super) fn is_starting(&self, now: Moment, limit: Duration) -> bool {
        let state = self.state();
        let is_slow = |open: &Open| open.is_timeout && now.remaining(open.since) < limit;
        !state.has_worked && state.open.as_ref().is_none_or(is_slow)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Moment = Moment {
        monotonic: 5,
        wall: 5,
    };

    fn later(millis: u64) -> Moment {
        START + Duration::from_millis(millis)
    }

    #[test]
    fn closed_breaker_allows_every_call() {
        let breaker = CircuitBreaker::default();
        assert!(breaker.allows_call(START) && breaker.allows_call(START));
        assert_eq!(breaker.succeeded(START), None);
    }

    /// Returns a breaker for a store that has worked before.
    fn working() -> CircuitBreaker {
        let breaker = CircuitBreaker::default();
        breaker.succeeded(START);
        breaker
    }

    #[test]
    fn store_that_never_worked_is_probed_early() {
        let breaker = CircuitBreaker::default();
        let limit = Duration::from_millis(250);
        assert!(breaker.is_starting(START, limit));
        assert!(breaker.failed(START, true, START, 0.0));
        assert!(!breaker.allows_call(later(49)) && breaker.allows_call(later(50)));
        assert!(breaker.is_starting(later(249), limit));
        assert!(!breaker.is_starting(later(250), limit));
        assert!(!working().is_starting(START, limit));
        let refusing = CircuitBreaker::default();
        refusing.failed(START, false, START, 0.0);
        assert!(!refusing.is_starting(START, limit));
    }

    #[test]
    fn first_failure_opens_and_one_probe_runs_at_a_time() {
        let breaker = working();
        assert!(breaker.failed(START, false, START, 0.0));
        // A call that was in flight fails too: no new outage, and no longer pause.
        assert!(!breaker.failed(later(10), false, later(10), 0.0));
        assert!(!breaker.allows_call(later(249)));
        assert!(breaker.allows_call(later(250)) && !breaker.allows_call(later(250)));
        // A call from before the outage does not count as the probe.
        assert!(!breaker.failed(later(10), false, later(255), 0.0));
        assert!(!breaker.allows_call(later(1_000)));
        assert!(!breaker.failed(later(250), false, later(260), 0.0));
        assert!(!breaker.allows_call(later(759)));
        assert!(breaker.allows_call(later(760)));
        assert_eq!(
            breaker.succeeded(later(770)),
            Some(Duration::from_millis(770))
        );
        assert!(breaker.allows_call(later(770)) && breaker.allows_call(later(770)));
        assert!(breaker.failed(later(780), false, later(780), 0.0));
    }

    #[test]
    fn abandoned_probe_is_replaced_by_another() {
        let breaker = working();
        breaker.failed(START, false, START, 1.0);
        assert!(breaker.allows_call(later(125)));
        assert!(!breaker.allows_call(later(2_124)));
        assert!(breaker.allows_call(later(2_125)));
    }

    #[test]
    fn pause_doubles_up_to_eight_seconds() {
        let breaker = working();
        let mut now = START;
        let mut waits = Vec::new();
        for _ in 0..8 {
            breaker.failed(now, false, now, 0.0);
            let wait = (1..20_000)
                .find(|wait| breaker.allows_call(now + Duration::from_millis(*wait)))
                .unwrap();
            waits.push(wait);
            now = now + Duration::from_millis(wait);
        }
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
    }
}
