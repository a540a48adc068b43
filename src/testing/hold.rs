//! Holds requests back until a test lets them go.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// As long as this lives, the server it came from leaves the requests that arrive waiting. They have been counted and recorded
/// by then, and go on as soon as it is released or dropped, in the state of the server at that time: a token that was revoked
/// meanwhile is refused.
///
/// ```
/// use tower_bearer::testing::AuthorizationServer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let server = AuthorizationServer::start().await?;
/// let hold = server.hold();
/// // Ask for tokens in other tasks here, and see them arrive with `server.wait_for_requests(n).await`.
/// hold.release();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "requests are held only as long as this lives"]
pub struct Hold {
    _released_on_drop: watch::Sender<()>,
}

impl Hold {
    /// Lets the requests go.
    pub fn release(self) {}
}

/// The holds of a server that are still in force.
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

    /// Waits for every hold that is in force now. One that comes later concerns later requests only, so that a release always
    /// lets go.
    pub(super) async fn wait_until_released(&self) {
        for mut held in self.active() {
            // Nothing is ever sent: it ends, with an error, when the hold drops.
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
    fn release_lets_go_even_if_another_hold_follows_at_once() {
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
