//! The tokens that this process does not take from a store any more, by their digests.
//!
//! What a server refused, and what somebody had the cache forget, may still be in the store; and it may come back there,
//! from whoever has not learnt of it yet.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::store::TokenDigest;

/// Whoever remembers more remembers tokens that have long expired.
const MOST: usize = 1_024;

#[derive(Default)]
pub(super) struct RejectedTokens(Mutex<VecDeque<TokenDigest>>);

impl RejectedTokens {
    /// Not this one any more.
    pub(super) fn add(&self, digest: TokenDigest) {
        let mut all = self.all();
        if all.contains(&digest) {
            return;
        }
        if all.len() == MOST {
            all.pop_front();
        }
        all.push_back(digest);
    }

    /// The provider itself gave it again.
    pub(super) fn forgive(&self, digest: &TokenDigest) {
        self.all().retain(|known| known != digest);
    }

    pub(super) fn contains(&self, digest: &TokenDigest) -> bool {
        self.all().contains(digest)
    }

    fn all(&self) -> MutexGuard<'_, VecDeque<TokenDigest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_thousand_are_remembered_until_they_are_forgiven() {
        let refused = RejectedTokens::default();
        let digest = |i: usize| TokenDigest::of(&i.to_string());
        for i in 0..=MOST {
            refused.add(digest(i));
            refused.add(digest(i));
        }
        assert!(!refused.contains(&digest(0)));
        assert!(refused.contains(&digest(1)) && refused.contains(&digest(MOST)));
        refused.forgive(&digest(1));
        assert!(!refused.contains(&digest(1)) && refused.contains(&digest(2)));
    }
}
