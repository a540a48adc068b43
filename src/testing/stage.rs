//! The way of a request through either server: it arrives, meets its fault, waits at the gate, and is answered.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::Response;
use tokio::sync::Notify;

use super::answer_body::AnswerBody;
use super::fault::{Fault, Payload, Reply};
use super::fault_queue::FaultQueue;
use super::gate::Gate;
use super::json_answer::answer;
use super::server::Connection;

#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) faults: FaultQueue,
    pub(super) gate: Gate,
    requests: AtomicU64,
    faulted: AtomicU64,
    arrival: Notify,
}

impl Stage {
    /// Counts a request, and gives it its fault before anybody learns of it: a fault that is ordered by a test that saw this
    /// request is for the next one.
    pub(super) fn arrive(&self) -> Option<Arc<Fault>> {
        let fault = self.faults.next();
        if fault.is_some() {
            self.faulted.fetch_add(1, Ordering::Relaxed);
        }
        self.requests.fetch_add(1, Ordering::Release);
        self.arrival.notify_waiters();
        fault
    }

    pub(super) async fn wait_for(&self, requests: u64) {
        loop {
            // It is told of every arrival from here on, and so none is missed between the look and the wait.
            let arrival = self.arrival.notified();
            if self.requests() >= requests {
                return;
            }
            arrival.await;
        }
    }

    /// Answers as the fault wants it, or properly. Of a connection that is dropped, and of silence, it never returns.
    pub(super) async fn perform(
        &self,
        fault: Option<&Fault>,
        connection: &Connection,
        proper: impl Future<Output = Response<AnswerBody>>,
    ) -> Response<AnswerBody> {
        self.gate.pass().await;
        let Some(fault) = fault else {
            return proper.await;
        };
        if !fault.delay_before().is_zero() {
            tokio::time::sleep(fault.delay_before()).await;
        }
        let response = match fault.reply() {
            Reply::Proper => proper.await,
            Reply::Made(status, Payload::Bytes(bytes)) => {
                answer(*status, AnswerBody::from(bytes.clone()))
            }
            Reply::Made(status, Payload::Blanks(count)) => {
                answer(*status, AnswerBody::blanks(*count))
            }
            Reply::Drop => {
                connection.close();
                pending().await
            }
            Reply::Never => pending().await,
        };
        fault.dress(response)
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Acquire)
    }

    pub(super) fn faulted(&self) -> u64 {
        self.faulted.load(Ordering::Relaxed)
    }

    pub(super) fn reset(&self) {
        self.requests.store(0, Ordering::Release);
        self.faulted.store(0, Ordering::Relaxed);
    }
}
