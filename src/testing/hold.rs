//! Holds requests until a test releases them.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// Holds the requests that arrive at a server. Held requests have already been counted and recorded. They continue when this is
/// released or dropped, and see the state of the server at that time: a token that was revoked in the meantime is rejected.
///
/// ```
/// use tower_bearer::testing::AuthorizationServer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let server = AuthorizationServer::start().await?;
/// let hold = server.hold();
/// // Request tokens in other tasks here, and wait for the requests with `server.wait_for_requests(n).await`.
/// hold.release();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "requests are held only until this is dropped"]
pub struct Hold {
    _released_on_drop: watch::Sender<()>,
}

impl Hold {
    /// Lets the held requests continue.
    pub fn release(self) {}
}

/// The holds of an endpoint that have not been released.
#[derive(Debug, Default)]
pub(super) struct Holds(Mutex<Vec<watch::Receiver<()>>>);

impl Holds {
    pub(super) fn hold(&self) -> Hold {
        let (released_on_drop, held) = watch::channel(());
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(held);
        Hold {
            _released_on_drop: released_on_drop,
        }
    }

    /// Waits until the current holds are released. A hold created later affects only later requests, so that a release always
    /// lets the held requests continue.
    pub(super) async fn wait_until_released(&self) {
        for mut held in self.active() {
            // Nothing is ever sent. This fails when the hold is dropped.
            while held.changed().await.is_ok() {}
        }
    }

    fn active(&self) -> Vec<watch::Receiver<()>> {
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        holds.retain(|held| held.has_changed().is_ok());
        holds.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn release_works_even_if_another_hold_follows_immediately() {
        let holds = Holds::default();
        let first = holds.hold();
        let mut context = Context::from_waker(Waker::noop());
        let mut early = pin!(holds.wait_until_released());
        assert!(early.as_mut().poll(&mut context).is_pending());
        first.release();
        let second = holds.hold();
        let mut late = pin!(holds.wait_until_released());
        assert!(early.as_mut().poll(&mut context).is_ready());
        assert!(late.as_mut().poll(&mut context).is_pending());
        drop(second);
        assert!(late.as_mut().poll(&mut context).is_ready());
    }
}
