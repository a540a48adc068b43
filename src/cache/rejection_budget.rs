//! Limits how many rejections of a key's tokens cause a fetch.

use std::time::Duration;

use crate::clock::Moment;

/// How many more rejections of a key's tokens take the token out of use.
///
/// An endpoint that always answers 401 must not cost a fetch per request, and a real revocation must always be recovered. Each
/// rejection therefore takes one of five. A replay that is accepted refunds it, and time refunds one every 15 s.
#[derive(Clone, Copy, Debug)]
pub(super) struct RejectionBudget {
    left: u8,
    refilled_at: Moment,
}

impl RejectionBudget {
    pub(super) const FULL: u8 = 5;
    /// Four recoveries a minute, also where no request can be replayed.
    const REFILL: Duration = Duration::from_secs(15);

    /// Takes one. Returns `false` if none is left.
    pub(super) fn take(&mut self, now: Moment) -> bool {
        self.refill(now);
        if self.left == 0 {
            return false;
        }
        if self.left == Self::FULL {
            self.refilled_at = now;
        }
        self.left -= 1;
        true
    }

    pub(super) fn refund(&mut self) {
        self.left = (self.left + 1).min(Self::FULL);
    }

    pub(super) fn left(mut self, now: Moment) -> u8 {
        self.refill(now);
        self.left
    }

    fn refill(&mut self, now: Moment) {
        while self.left < Self::FULL && (self.refilled_at + Self::REFILL).is_past(now) {
            self.refilled_at = self.refilled_at + Self::REFILL;
            self.left += 1;
        }
    }
}

impl Default for RejectionBudget {
    fn default() -> Self {
        Self {
            left: Self::FULL,
            refilled_at: Moment::NEVER,
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

    #[test]
    fn five_rejections_are_allowed_and_one_more_every_15_s() {
        let mut budget = RejectionBudget::default();
        assert!((0..5).all(|_| budget.take(START)));
        assert!(!budget.take(START));
        assert_eq!(budget.left(START), 0);
        let later = START + Duration::from_secs(31);
        assert!(budget.take(later) && budget.take(later) && !budget.take(later));
    }

    #[test]
    fn refunded_rejection_costs_nothing() {
        let mut budget = RejectionBudget::default();
        for _ in 0..100 {
            assert!(budget.take(START));
            budget.refund();
        }
        assert!((0..5).all(|_| budget.take(START)));
    }

    #[test]
    fn clock_that_jumps_far_refills_the_budget() {
        let mut budget = RejectionBudget::default();
        while budget.take(START) {}
        assert_eq!(budget.left(START + Duration::from_secs(1 << 40)), 5);
    }
}
