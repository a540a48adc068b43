//! Which connections may be kept: those whose runtime goes on by itself.
//!
//! A connection is driven by a task of the runtime that opened it. A runtime of one thread stands still between two
//! calls of `block_on`, and whoever was handed its kept connection in another runtime would wait without end. So there
//! are two clients: one that keeps connections, for runtimes of many threads, and one that keeps none. What a runtime
//! that has shut down leaves behind is closed, which a client notices.

use std::sync::OnceLock;

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::error::TokenError;

/// A client for each flavor of runtime, built when it is needed first.
pub(super) struct PerFlavor<C> {
    keeping: OnceLock<Result<C, TokenError>>,
    keeping_none: OnceLock<Result<C, TokenError>>,
}

impl<C: Clone> PerFlavor<C> {
    pub(super) const fn new() -> Self {
        Self {
            keeping: OnceLock::new(),
            keeping_none: OnceLock::new(),
        }
    }

    /// The client for the present runtime. `build` is told how many idle connections it may keep for each host.
    pub(super) fn get_or_build(
        &self,
        build: impl FnOnce(usize) -> Result<C, TokenError>,
    ) -> Result<C, TokenError> {
        let (client, max_idle) = self.present();
        client.get_or_init(|| build(max_idle)).clone()
    }

    /// The client for the present runtime, if it was needed before and could be built.
    pub(super) fn built(&self) -> Option<C> {
        let (client, _) = self.present();
        client.get()?.clone().ok()
    }

    fn present(&self) -> (&OnceLock<Result<C, TokenError>>, usize) {
        match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => (&self.keeping, usize::MAX),
            _ => (&self.keeping_none, 0),
        }
    }
}
