//! Whether a store is worth asking.
//!
//! After a failure it is left alone for a while, so that an outage costs one wait and not one for each fetch. Then a single
//! fetch tries it, while the others go on without; if that goes well, all use it again.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::clock::Moment;

const FIRST: Duration = Duration::from_millis(250);
/// The same before it has ever worked: a connection may only have to be made.
const FIRST_OF_ALL: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(8);
/// Who tries has an answer by then, good or bad: the store's operations are bounded by less.
const TRIAL: Duration = Duration::from_secs(2);

/// One side of a store, reading or writing, as it was last seen.
#[derive(Default)]
pub(super) struct CircuitBreaker(Mutex<State>);

#[derive(Default)]
struct State {
    down: Option<Down>,
    /// It has worked at some time.
    proven: bool,
}

struct Down {
    since: Moment,
    /// What failed first took too long.
    slow: bool,
    until: Moment,
    failures: u32,
    /// Somebody tries it.
    trial: bool,
}

impl CircuitBreaker {
    /// Whether to ask it now. One that says yes to while it is down is the trial: it must be told how that went.
    pub(super) fn may_ask(&self, now: Moment) -> bool {
        match &mut self.state().down {
            None => true,
            Some(down) if down.until.is_past(now) => {
                down.until = now + TRIAL;
                down.trial = true;
                true
            }
            Some(_) => false,
        }
    }

    /// It did as it was asked. If it was down until now: for how long.
    pub(super) fn worked(&self, now: Moment) -> Option<Duration> {
        let mut state = self.state();
        state.proven = true;
        let down = state.down.take()?;
        Some(now.remaining(down.since))
    }

    /// What it was asked then has failed, or was only not done in time; says whether that is news. `jitter` is from 0 to 1, and
    /// shortens the wait by up to a half.
    pub(super) fn failed(&self, asked: Moment, slow: bool, now: Moment, jitter: f64) -> bool {
        let mut state = self.state();
        let (since, slow, failures) = match &state.down {
            // What was asked before the failure that is known says nothing new.
            Some(down) if !down.trial => return false,
            Some(down) => (down.since, down.slow, down.failures.saturating_add(1)),
            None => (asked, slow, 1),
        };
        let first = if state.proven { FIRST } else { FIRST_OF_ALL };
        let wait = first * 2u32.saturating_pow(failures.min(9) - 1);
        let wait = wait.min(LONGEST).mul_f64(1.0 - jitter / 2.0);
        state.down = Some(Down {
            since,
            slow,
            until: now + wait,
            failures,
            trial: false,
        });
        failures == 1
    }

    /// Whether it has never worked, and is slow for no longer than this: a connection may have to be made.
    pub(super) fn is_beginning(&self, now: Moment, patience: Duration) -> bool {
        let state = self.state();
        let slow = |down: &Down| down.slow && now.remaining(down.since) < patience;
        !state.proven && state.down.as_ref().is_none_or(slow)
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
    fn what_works_may_always_be_asked_and_is_no_news() {
        let outage = CircuitBreaker::default();
        assert!(outage.may_ask(START) && outage.may_ask(START));
        assert_eq!(outage.worked(START), None);
    }

    /// One that has worked before.
    fn proven() -> CircuitBreaker {
        let outage = CircuitBreaker::default();
        outage.worked(START);
        outage
    }

    #[test]
    fn what_has_never_worked_is_tried_again_soon_and_may_be_waited_for() {
        let outage = CircuitBreaker::default();
        let patience = Duration::from_millis(250);
        assert!(outage.is_beginning(START, patience));
        assert!(outage.failed(START, true, START, 0.0));
        assert!(!outage.may_ask(later(49)) && outage.may_ask(later(50)));
        assert!(outage.is_beginning(later(249), patience));
        assert!(!outage.is_beginning(later(250), patience));
        assert!(!proven().is_beginning(START, patience));
        let refusing = CircuitBreaker::default();
        refusing.failed(START, false, START, 0.0);
        assert!(!refusing.is_beginning(START, patience));
    }

    #[test]
    fn a_failure_is_news_once_and_then_one_at_a_time_tries() {
        let outage = proven();
        assert!(outage.failed(START, false, START, 0.0));
        // Those that were under way fail too, which is no news and no longer a wait.
        assert!(!outage.failed(later(10), false, later(10), 0.0));
        assert!(!outage.may_ask(later(249)));
        assert!(outage.may_ask(later(250)) && !outage.may_ask(later(250)));
        assert!(!outage.failed(later(260), false, later(260), 0.0));
        assert!(!outage.may_ask(later(759)));
        assert!(outage.may_ask(later(760)));
        assert_eq!(outage.worked(later(770)), Some(Duration::from_millis(770)));
        assert!(outage.may_ask(later(770)) && outage.may_ask(later(770)));
        assert!(outage.failed(later(780), false, later(780), 0.0));
    }

    #[test]
    fn a_trial_that_nobody_ends_gives_way_to_another() {
        let outage = proven();
        outage.failed(START, false, START, 1.0);
        assert!(outage.may_ask(later(125)));
        assert!(!outage.may_ask(later(2_124)));
        assert!(outage.may_ask(later(2_125)));
    }

    #[test]
    fn the_wait_doubles_up_to_eight_seconds() {
        let outage = proven();
        let mut now = START;
        let mut waits = Vec::new();
        for _ in 0..8 {
            outage.failed(now, false, now, 0.0);
            let wait = (1..20_000)
                .find(|wait| outage.may_ask(now + Duration::from_millis(*wait)))
                .unwrap();
            waits.push(wait);
            now = now + Duration::from_millis(wait);
        }
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
    }
}
