//! The way of a request through either server: it arrives, meets its fault, waits at the gate, and is answered.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::Response;
use tokio::sync::Notify;

use super::fault::{Fault, Payload, Reply};
use super::fault_queue::FaultQueue;
use super::hold::Holds;
use super::response::with_status;
use super::response_body::ResponseBody;
use super::server::Connection;

#[derive(Debug, Default)]
pub(super) struct Endpoint {
    pub(super) faults: FaultQueue,
    pub(super) holds: Holds,
    requests: AtomicU64,
    faulted: AtomicU64,
    arrival: Notify,
}

impl Endpoint {
    /// Counts a request, and gives it its fault before anybody learns of it: a fault that is ordered by a test that saw this
    /// request is for the next one.
    pub(super) fn receive(&self) -> Option<Arc<Fault>> {
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
    pub(super) async fn respond(
        &self,
        fault: Option<&Fault>,
        connection: &Connection,
        normal: impl Future<Output = Response<ResponseBody>>,
    ) -> Response<ResponseBody> {
        self.holds.wait_until_released().await;
        let Some(fault) = fault else {
            return normal.await;
        };
        if !fault.delay_before().is_zero() {
            tokio::time::sleep(fault.delay_before()).await;
        }
        let response = match fault.reply() {
            Reply::Normal => normal.await,
            Reply::Custom(status, Payload::Bytes(bytes)) => {
                with_status(*status, ResponseBody::from(bytes.clone()))
            }
            Reply::Custom(status, Payload::Spaces(count)) => {
                with_status(*status, ResponseBody::spaces(*count))
            }
            Reply::Drop => {
                connection.close();
                pending().await
            }
            Reply::Never => pending().await,
        };
        fault.apply_to(response)
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
