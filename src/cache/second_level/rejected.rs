//! Remembers, by digest, the tokens that this process no longer accepts from the store.
//!
//! A token that a server rejected, or that a user removed from the cache, may still be in the store, and a process that does
//! not know of the rejection may save it again.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::store::TokenDigest;

/// The number of tokens remembered. Older ones have usually expired.
const CAPACITY: usize = 1_024;

#[derive(Default)]
pub(super) struct RejectedTokens(Mutex<VecDeque<TokenDigest>>);

impl RejectedTokens {
    /// Adds a token; drops the oldest one if the list is full.
    pub(super) fn add(&self, digest: TokenDigest) {
        let mut all = self.all();
        if all.contains(&digest) {
            return;
        }
        if all.len() == CAPACITY {
            all.pop_front();
        }
        all.push_back(digest);
    }

    /// Removes a token, because the provider has returned it again.
    pub(super) fn remove(&self, digest: &TokenDigest) {
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
    fn newest_tokens_are_remembered_until_removed() {
        let rejected = RejectedTokens::default();
        let digest = |i: usize| TokenDigest::of(&i.to_string());
        for i in 0..=CAPACITY {
            rejected.add(digest(i));
            rejected.add(digest(i));
        }
        assert!(!rejected.contains(&digest(0)));
        assert!(rejected.contains(&digest(1)) && rejected.contains(&digest(CAPACITY)));
        rejected.remove(&digest(1));
        assert!(!rejected.contains(&digest(1)) && rejected.contains(&digest(2)));
    }
}
