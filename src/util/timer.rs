//! This module creates timers where Tokio's timers are available.
//!
//! They are not available outside a runtime, and in a runtime that was built without timers. Tokio reports the latter only by a
//! panic, which is caught here. The module `transport::client_pool` describes, under "Runtimes", what the crate expects of runtimes.

use std::{panic, time::Duration};

use tokio::{
    runtime::Handle,
    time::{self, Sleep},
};

/// Returns a timer, or `None` where timers are not available.
pub(crate) fn after(duration: Duration) -> Option<Sleep> {
    Handle::try_current().ok()?;
    panic::catch_unwind(|| time::sleep(duration)).ok()
}

/// Returns the output of the future, or `None` if it takes longer than `duration`. Without timers there is no limit.
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
