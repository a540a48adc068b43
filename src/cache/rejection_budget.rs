//! Limits how many rejections of a key's tokens cause a fetch.

use std::{collections::VecDeque, mem, time::Duration};

use crate::clock::Moment;

/// Counts how many more rejections remove a key's token.
///
/// An endpoint that always answers 401 must not cost a fetch per request, and a real revocation must always be recovered. Each
/// rejection therefore takes one of five. A replay that is accepted refunds it, and time refunds one every 15 s.
#[derive(Default)]
pub(super) struct RejectionBudget {
    spent: u8,
    refilled_at: Moment,
    /// Whether the last rejection exceeded the budget.
    is_limit_reached: bool,
    /// The generations that were paid for and not refunded yet, at most as many as the budget has.
    paid: VecDeque<u64>,
}

impl RejectionBudget {
    pub(super) const FULL: u8 = 5;
    /// Four recoveries a minute, also where no request can be replayed.
    const REFILL: Duration = Duration::from_secs(15);

    /// Spends one rejection on this generation. If none is left, returns whether that is new.
    pub(super) fn spend(&mut self, generation: u64, now: Moment) -> Result<(), bool> {
        self.refill(now);
        if self.spent == Self::FULL {
            return Err(!mem::replace(&mut self.is_limit_reached, true));
        }
        self.is_limit_reached = false;
        if self.spent == 0 {
            self.refilled_at = now;
        }
        self.spent += 1;
        if self.paid.len() >= usize::from(Self::FULL) {
            self.paid.pop_front();
        }
        self.paid.push_back(generation);
        Ok(())
    }

    /// Refunds one rejection of this generation, if one was paid for.
    pub(super) fn refund(&mut self, generation: u64) {
        if let Some(index) = self.paid.iter().position(|paid| *paid == generation) {
            self.paid.remove(index);
            self.spent = self.spent.saturating_sub(1);
        }
    }

    pub(super) fn left(&self, now: Moment) -> u8 {
        let paid = VecDeque::new();
        let mut budget = Self { paid, ..*self };
        budget.refill(now);
        Self::FULL - budget.spent
    }

    fn refill(&mut self, now: Moment) {
        while self.spent > 0 && (self.refilled_at + Self::REFILL).is_past(now) {
            self.refilled_at = self.refilled_at + Self::REFILL;
            self.spent -= 1;
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
        assert!((0..5).all(|generation| budget.spend(generation, START).is_ok()));
        assert_eq!(budget.spend(5, START), Err(true));
        assert_eq!(budget.spend(5, START), Err(false));
        assert_eq!(budget.left(START), 0);
        let later = START + Duration::from_secs(31);
        let spent = [5, 6, 7].map(|generation| budget.spend(generation, later));
        assert_eq!(spent, [Ok(()), Ok(()), Err(true)]);
    }

    #[test]
    fn refunded_rejection_costs_nothing() {
        let mut budget = RejectionBudget::default();
        for generation in 0..100 {
            assert_eq!(budget.spend(generation, START), Ok(()));
            budget.refund(generation);
        }
        assert!((0..5).all(|generation| budget.spend(generation, START).is_ok()));
    }

    #[test]
    fn clock_that_jumps_far_refills_the_budget() {
        let mut budget = RejectionBudget::default();
        while budget.spend(1, START).is_ok() {}
        assert_eq!(budget.left(START + Duration::from_secs(1 << 40)), 5);
    }
}
