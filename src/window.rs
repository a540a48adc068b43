//! Where a cache shows the token in service to whoever comes with this very spec.
//!
//! A spec that a program keeps finds its token here: without the cache's map, and without a lock. Only a slot puts a token in,
//! and takes it out again when it leaves service, so a window holds no token for longer than the cache does. Where two caches
//! are asked with one spec, the last token shown stands here; the other cache answers from its map.

use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};

use crate::parts::TokenParts;

/// What stands in a window now.
pub(crate) type Shown = Guard<Option<Arc<TokenParts>>>;

/// A spec's window. It is a trait, so that a spec looks like the key it is: nothing that it is compared by ever changes.
pub(crate) trait Window: Send + Sync {
    fn shown(&self) -> Shown;

    fn show(&self, token: Arc<TokenParts>);

    /// Takes exactly this token out; if another stands there by now, it stays.
    fn take_out(&self, token: &Arc<TokenParts>);
}

/// A window with nothing in it yet.
pub(crate) fn empty() -> impl Window {
    ArcSwapOption::<TokenParts>::empty()
}

impl Window for ArcSwapOption<TokenParts> {
    fn shown(&self) -> Shown {
        self.load()
    }

    fn show(&self, token: Arc<TokenParts>) {
        self.store(Some(token));
    }

    fn take_out(&self, token: &Arc<TokenParts>) {
        self.compare_and_swap(Arc::as_ptr(token), None);
    }
}
