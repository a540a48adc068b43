//! When not to ask a store: for a while after it failed. Pure: the time is given.
//!
//! A cache asks its store at each miss, and a store that is out of order must cost a miss nothing. So after a failure nobody
//! asks for a while; then one does, and the others go by until that one has an answer. The while doubles with each failure.

use std::time::Duration;

use tokio::time::Instant;

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Whether a store is asked.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    failures: u32,
    last: Option<Instant>,
    shut_until: Option<Instant>,
}

impl Circuit {
    /// Whether to ask now. Who is let through after a failure has `patience` until the next may try.
    pub(super) fn may_ask(&mut self, now: Instant, patience: Duration) -> bool {
        match self.shut_until {
            Some(until) if now < until => false,
            Some(_) => {
                self.shut_until = Some(now + patience);
                true
            }
            None => true,
        }
    }

    /// It answered.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// What was asked at that time failed. Failures of what was under way together count once.
    pub(super) fn failed(&mut self, asked: Instant, now: Instant) {
        if self.last.is_some_and(|last| asked < last) {
            return;
        }
        let pause = SHORTEST
            .saturating_mul(2_u32.saturating_pow(self.failures))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.last = Some(now);
        self.shut_until = Some(now + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(50);

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_one_in_a_while_asks_and_the_while_doubles_to_five_seconds() {
        let mut circuit = Circuit::default();
        let mut now = Instant::now();
        for pause in [100, 200, 400, 800, 1600, 3200, 5000, 5000].map(Duration::from_millis) {
            assert!(circuit.may_ask(now, PATIENCE));
            circuit.failed(now, now);
            assert!(!circuit.may_ask(now + pause - Duration::from_millis(1), PATIENCE));
            now += pause;
        }
        assert!(circuit.may_ask(now, PATIENCE));
        assert!(!circuit.may_ask(now, PATIENCE));
        circuit.succeeded();
        assert!(circuit.may_ask(now, PATIENCE) && circuit.may_ask(now, PATIENCE));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_asks_and_is_never_heard_of_again_keeps_nobody_out() {
        let mut circuit = Circuit::default();
        let start = Instant::now();
        circuit.failed(start, start);
        let later = start + Duration::from_secs(1);
        assert!(circuit.may_ask(later, PATIENCE));
        assert!(!circuit.may_ask(later, PATIENCE));
        assert!(circuit.may_ask(later + PATIENCE, PATIENCE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_that_fail_together_count_once() {
        let mut circuit = Circuit::default();
        let asked = Instant::now();
        for i in 0..100 {
            circuit.failed(asked, asked + PATIENCE + Duration::from_micros(i));
        }
        assert!(circuit.may_ask(asked + PATIENCE + SHORTEST, PATIENCE));
    }
}
