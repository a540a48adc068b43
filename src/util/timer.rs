//! Timers, where there are any.
//!
//! A caller may stand outside Tokio, or in a runtime that was built without timers. Tokio tells the latter by a panic
//! alone, which must not be the caller's.

use std::{panic, time::Duration};

use tokio::{
    runtime::Handle,
    time::{self, Sleep},
};

/// A timer, if there are any here.
pub(crate) fn after(duration: Duration) -> Option<Sleep> {
    Handle::try_current().ok()?;
    panic::catch_unwind(|| time::sleep(duration)).ok()
}

/// What the future yields, unless that takes longer; where there are no timers, it takes what it takes.
pub(crate) async fn within<F: Future>(duration: Duration, future: F) -> Option<F::Output> {
    let Some(timer) = after(duration) else {
        return Some(future.await);
    };
    tokio::select! {
        biased;
        output = future => Some(output),
        () = timer => None,
    }
}
