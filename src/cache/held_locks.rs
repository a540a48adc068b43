//! Takes every lock of a cache, to show what passes nevertheless.

use std::cell::Cell;

use super::{shared::Works, slot::Slot, token_cache::TokenCache};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locks {
    All,
    AllButShards,
}

impl TokenCache {
    /// Does something while the locks are held, that of every slot among them. The cache must have an entry.
    pub(crate) fn with_locks_held(&self, locks: Locks, act: impl FnOnce()) {
        let works = self.works();
        let slots = works.map.slots();
        let desks: Vec<_> = slots.iter().map(|slot| Slot::hold_desk(slot)).collect();
        let hold = Works::hold_hold(works);
        let once = Cell::new(Some(act));
        let act = || once.take().into_iter().for_each(|act| act());
        if locks == Locks::AllButShards {
            act();
        } else {
            // A shard is locked for as long as it is swept.
            works.map.sweep_with(act);
        }
        assert!(once.take().is_none(), "the cache had no entry");
        drop((desks, hold));
    }
}
