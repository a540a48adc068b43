//! Holds the locks of a cache, so that a test can show that a hit doesn't need them.

use std::cell::Cell;

use super::TokenCache;

impl TokenCache {
    /// Runs `act` while the locks of the source's back-off and of every slot are held, and with `with_shards` also that of a shard
    /// of the map. The cache must have an entry.
    pub(crate) fn with_locks_held(&self, with_shards: bool, act: impl FnOnce()) {
        let shared = self.shared();
        let slots = shared.map.slots();
        let states: Vec<_> = slots.iter().map(|slot| slot.state()).collect();
        let backoff = shared.source_backoff();
        let once = Cell::new(Some(act));
        let act = || once.take().into_iter().for_each(|act| act());
        if with_shards {
            shared.map.with_shards_locked(act);
        } else {
            act();
        }
        assert!(once.take().is_none(), "the cache has no entry");
        drop((states, backoff));
    }
}
