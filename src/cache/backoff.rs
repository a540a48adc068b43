//! When to try again after a failure, and how often to believe a 401. Pure.

use std::time::Duration;

use crate::{
    clock::Moment,
    error::{ErrorKind, TokenError},
};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// A provider left alone for a while, and the error that made us.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    until: Moment,
    failures: u32,
    error: TokenError,
}

impl Hold {
    /// The hold after one more failure. Several that come in during the same hold count once. `jitter` is from 0 to 1:
    /// it shortens a wait of our own choosing by up to a half, and lengthens one that the server asked for by up to a
    /// tenth.
    pub(crate) fn after(
        previous: Option<&Self>,
        error: TokenError,
        now: Moment,
        jitter: f64,
    ) -> Self {
        let during = previous.filter(|hold| !hold.until.is_past(now));
        let failures = match during {
            Some(hold) => hold.failures,
            None => previous.map_or(0, |hold| hold.failures).saturating_add(1),
        };
        let wait = match error.retry_after() {
            Some(asked) => {
                // A provider that asks for no wait and fails again would be asked without end.
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
            until: during.map_or(until, |hold| hold.until.later_of(until)),
            failures,
            error,
        }
    }

    /// The remembered error, with what is left of the wait; none when it is over.
    pub(crate) fn error(&self, now: Moment) -> Option<TokenError> {
        if self.until.is_past(now) {
            return None;
        }
        Some(
            self.error
                .clone()
                .with_retry_after(self.until.remaining(now)),
        )
    }

    /// Whether another request's success ends it early. Not if the server asked for it: that success was asked for before.
    pub(crate) fn yields_to_success(&self, now: Moment) -> bool {
        let asked_for =
            self.error.retry_after().is_some() || self.error.kind() == ErrorKind::Throttled;
        !asked_for || self.until.is_past(now)
    }

    pub(crate) fn until(&self) -> Moment {
        self.until
    }

    pub(crate) fn last_error(&self) -> &TokenError {
        &self.error
    }
}

/// Whether a failure says something about the whole source, and not only about what was asked for.
pub(crate) fn concerns_the_source(error: &TokenError) -> bool {
    error.retry_after().is_some()
        || matches!(
            error.kind(),
            ErrorKind::Throttled
                | ErrorKind::InvalidClient
                | ErrorKind::Network
                | ErrorKind::Timeout
        )
}

/// How long to wait before the same fetch tries again, if it may: `attempt` counts from 1.
pub(crate) fn next_attempt(error: &TokenError, attempt: u32) -> Option<Duration> {
    const ATTEMPTS: u32 = 3;
    const PATIENCE: Duration = Duration::from_secs(2);
    let again = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Network)
        || (error.kind() == ErrorKind::Malformed && error.is_retryable())
        || error.retry_after().is_some();
    if attempt >= ATTEMPTS || !again || !error.is_retryable() {
        return None;
    }
    let own = Duration::from_millis(100) * 2u32.pow(attempt - 1);
    match error.retry_after() {
        Some(asked) => (asked <= PATIENCE).then_some(asked.max(own)),
        None => Some(own),
    }
}

/// How many more rejections of a key's token are believed.
///
/// An endpoint that always answers 401 must not cost a fetch for each request, and a real revocation must always
/// recover: so each rejection takes one of five, what turns out well gives it back, and time gives back one each 15 s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    left: u8,
    since: Moment,
}

impl Budget {
    pub(crate) const FULL: u8 = 5;
    const REFILL: Duration = Duration::from_secs(15);

    pub(crate) fn new() -> Self {
        Self {
            left: Self::FULL,
            since: Moment::NEVER,
        }
    }

    /// Takes one, unless there is none.
    pub(crate) fn take(&mut self, now: Moment) -> bool {
        self.refill(now);
        if self.left == 0 {
            return false;
        }
        if self.left == Self::FULL {
            self.since = now;
        }
        self.left -= 1;
        true
    }

    pub(crate) fn give_back(&mut self) {
        self.left = (self.left + 1).min(Self::FULL);
    }

    pub(crate) fn is_full(&self, now: Moment) -> bool {
        let mut then = *self;
        then.refill(now);
        then.left == Self::FULL
    }

    pub(crate) fn is_spent(&self, now: Moment) -> bool {
        let mut then = *self;
        then.refill(now);
        then.left == 0
    }

    fn refill(&mut self, now: Moment) {
        while self.left < Self::FULL && (self.since + Self::REFILL).is_past(now) {
            self.since = self.since + Self::REFILL;
            self.left += 1;
        }
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
    fn the_wait_doubles_from_a_second_to_a_minute() {
        let mut hold: Option<Hold> = None;
        let mut waits = Vec::new();
        for _ in 0..9 {
            let now = hold.as_ref().map_or(START, Hold::until);
            let next = Hold::after(hold.as_ref(), fault(), now, 0.0);
            waits.push(next.until().remaining(now).as_secs());
            hold = Some(next);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn failures_that_come_in_together_count_once() {
        let first = Hold::after(None, fault(), START, 0.0);
        let second = Hold::after(Some(&first), fault(), START, 0.0);
        assert_eq!(second.until().remaining(START), Duration::from_secs(1));
        let longer = fault().with_retry_after(Duration::from_secs(9));
        let third = Hold::after(Some(&second), longer, START, 0.0);
        let fourth = Hold::after(Some(&third), fault(), START, 0.0);
        assert_eq!(fourth.until().remaining(START), Duration::from_secs(9));
    }

    #[test]
    fn jitter_shortens_our_own_wait_and_never_the_servers() {
        let own = Hold::after(None, fault(), START, 1.0);
        assert_eq!(own.until().remaining(START), Duration::from_millis(500));
        let asked = fault().with_retry_after(Duration::from_secs(20));
        let servers = Hold::after(None, asked, START, 1.0);
        assert_eq!(servers.until().remaining(START), Duration::from_secs(22));
    }

    #[test]
    fn a_retry_after_counts_for_an_hour_at_most() {
        let asked = fault().with_retry_after(Duration::from_secs(7200));
        let hold = Hold::after(None, asked, START, 0.5);
        assert_eq!(hold.until().remaining(START), Duration::from_secs(3600));
        for endless in [Duration::from_secs(u64::MAX), Duration::MAX] {
            let hold = Hold::after(None, fault().with_retry_after(endless), START, 1.0);
            assert_eq!(hold.until().remaining(START), Duration::from_secs(3600));
        }
    }

    #[test]
    fn a_retry_after_of_nothing_is_still_a_wait() {
        let asked = fault().with_retry_after(Duration::ZERO);
        let hold = Hold::after(None, asked.clone(), START, 0.0);
        assert_eq!(hold.until().remaining(START), Duration::from_secs(1));
        assert_eq!(next_attempt(&asked, 1), Some(Duration::from_millis(100)));
    }

    #[test]
    fn the_remembered_error_says_what_is_left_and_then_nothing() {
        let hold = Hold::after(None, fault(), START, 0.0);
        let later = START + Duration::from_millis(400);
        let left = hold.error(later).and_then(|error| error.retry_after());
        assert_eq!(left, Some(Duration::from_millis(600)));
        assert!(hold.error(START + Duration::from_secs(1)).is_none());
    }

    #[test]
    fn a_fetch_tries_three_times_and_waits_out_a_short_retry_after() {
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

    #[test]
    fn five_rejections_are_believed_and_one_more_each_15_seconds() {
        let mut budget = Budget::new();
        assert!((0..5).all(|_| budget.take(START)));
        assert!(!budget.take(START));
        assert!(budget.is_spent(START));
        let later = START + Duration::from_secs(31);
        assert!(budget.take(later) && budget.take(later) && !budget.take(later));
    }

    #[test]
    fn what_turned_out_well_costs_nothing() {
        let mut budget = Budget::new();
        for _ in 0..100 {
            assert!(budget.take(START));
            budget.give_back();
        }
        assert!((0..5).all(|_| budget.take(START)));
    }

    #[test]
    fn a_clock_that_jumps_far_refills_at_once() {
        let mut budget = Budget::new();
        while budget.take(START) {}
        assert!(!budget.is_spent(START + Duration::from_secs(1 << 40)));
    }
}
