//! What a store is asked: within a bound, not while it is down, and without a panic of its own.

use std::{
    future,
    panic::{self, AssertUnwindSafe},
    pin::pin,
    task::Poll,
    time::Duration,
};

use tokio::time;

use super::{
    core::{Works, chance},
    outage::Outage,
    stats::count,
};
use crate::{
    store::{StoreError, StoreErrorKind},
    telemetry::{StoreWork, TokenEvent},
};

pub(super) struct Asked<'a> {
    outage: &'a Outage,
    work: StoreWork,
    bound: Duration,
}

impl<'a> Asked<'a> {
    pub(super) fn new(outage: &'a Outage, work: StoreWork, bound: Duration) -> Self {
        Self {
            outage,
            work,
            bound,
        }
    }

    /// What it did; nothing if it failed, was not done in time, or is down. The operator is told what he should know.
    pub(super) async fn run<T>(
        self,
        operation: impl Future<Output = Result<T, StoreError>>,
        works: &Works,
    ) -> Option<T> {
        let asked = works.now();
        if !self.outage.may_ask(asked) {
            return None;
        }
        let bound = self.bound.min(works.settings.fetch_timeout);
        let outcome = time::timeout(bound, unless_it_panics(operation)).await;
        let outcome = outcome.unwrap_or_else(|_| {
            Err(StoreError::new(
                StoreErrorKind::Timeout,
                format!("the store did not answer within {bound:?}: it hangs, or is too slow to be of use"),
            ))
        });
        let telemetry = &works.settings.telemetry;
        let now = works.now();
        match outcome {
            Ok(done) => {
                if let Some(after) = self.outage.worked(now) {
                    telemetry.emit(&TokenEvent::StoreRecovered {
                        work: self.work,
                        after,
                    });
                }
                Some(done)
            }
            Err(error) => {
                count(&works.counters.store_errors);
                let slow = error.kind() == StoreErrorKind::Timeout;
                let first = self.outage.failed(asked, slow, now, chance());
                telemetry.emit(&TokenEvent::StoreFailed {
                    work: self.work,
                    error: &error,
                    first,
                });
                None
            }
        }
    }
}

/// What the operation comes to; a store that panics is one that fails.
async fn unless_it_panics<T>(
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let mut operation = pin!(operation);
    future::poll_fn(|cx| {
        let poll = AssertUnwindSafe(|| operation.as_mut().poll(cx));
        panic::catch_unwind(poll).unwrap_or_else(|_| {
            Poll::Ready(Err(StoreError::new(
                StoreErrorKind::Broken,
                "the store panicked: what it said went to the panic hook",
            )))
        })
    })
    .await
}
