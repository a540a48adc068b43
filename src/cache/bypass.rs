//! The way to a token past the map, for a spec that a program keeps.
//!
//! A slot hangs its token on its spec, and on equal ones that are kept, so whoever comes with one of these has it in hand.
//! The map hears of such uses once a turn: nothing is evicted but by what comes in, so until enough has come in, what it was
//! told holds.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{clock::Moment, parts::CacheId, spec::TokenSpec, window::Shown};

/// Of the entries that there can be, this share coming in is a turn of the map.
const TURN_SHARE: usize = 8;

/// What a cache's own tokens are known by, and how far its map has turned. A clone sees the same.
#[derive(Clone)]
pub(crate) struct Bypass {
    cache: CacheId,
    /// How many entries have come into the map so far.
    came_in: Arc<AtomicU64>,
    /// How many of them make a turn, as a power of two.
    turn: u32,
}

impl Bypass {
    /// The bypass of a new cache, of a map that can hold so many entries and counts here what comes in.
    pub(super) fn new(entries: usize, came_in: Arc<AtomicU64>) -> Self {
        Self {
            cache: CacheId::unique(),
            came_in,
            turn: (entries / TURN_SHARE).max(1).ilog2(),
        }
    }

    pub(super) fn cache(&self) -> CacheId {
        self.cache
    }

    /// The token that hangs on this very spec, if it is this cache's and fresh. The map is told of the use if that is due.
    #[inline]
    pub(crate) fn look(&self, spec: &TokenSpec, now: Moment, tell: impl FnOnce()) -> Option<Shown> {
        let shown = spec.shown();
        let token = shown.as_deref()?;
        if !token.is_fresh_in(self.cache, now) {
            return None;
        }
        // They come round after four billion turns, which is one use untold.
        if token.is_to_be_told((self.came_in.load(Ordering::Relaxed) >> self.turn) as u32) {
            tell();
        }
        Some(shown)
    }
}
