//! Takes every lock of a cache, to show what passes nevertheless.

use std::cell::Cell;

use super::token_cache::TokenCache;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locks {
    All,
    AllButShards,
}

impl TokenCache {
    /// Does something while the locks are held, that of every slot among them. The cache must have an entry.
    pub(crate) fn with_locks_held(&self, locks: Locks, act: impl FnOnce()) {
        let shared = self.shared();
        let slots = shared.map.slots();
        let states: Vec<_> = slots.iter().map(|slot| slot.state()).collect();
        let backoff = shared.source_backoff();
        let once = Cell::new(Some(act));
        let act = || once.take().into_iter().for_each(|act| act());
        if locks == Locks::AllButShards {
            act();
        } else {
            // A shard is locked for as long as it is swept.
            shared.map.with_shards_locked(act);
        }
        assert!(once.take().is_none(), "the cache had no entry");
        drop((states, backoff));
    }
}
