//! Which slots of a cache wait for an acceptance: none, nearly always, which is quick to see.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// How many slots wait; a clone counts the same ones.
#[derive(Clone, Default)]
pub(crate) struct Owed(Arc<AtomicU32>);

/// One that waits, for as long as this is there.
pub(super) struct Debt {
    refused: u64,
    all: Owed,
}

impl Owed {
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// The refusal of this generation waits for an acceptance.
    pub(super) fn one(&self, refused: u64) -> Debt {
        self.0.fetch_add(1, Ordering::Relaxed);
        Debt {
            refused,
            all: self.clone(),
        }
    }
}

impl Debt {
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        self.all.0.fetch_sub(1, Ordering::Relaxed);
    }
}
