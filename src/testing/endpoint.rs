//! Takes a request through either server: counts it, assigns its fault, waits while it is held, and responds.

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
    /// Counts a request and returns its fault. The fault is assigned before the request becomes visible: a fault that is queued
    /// after waiting for this request applies to the next one.
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
            // Registered before the check, so that no arrival between the check and the wait is missed.
            let arrival = self.arrival.notified();
            if self.requests() >= requests {
                return;
            }
            arrival.await;
        }
    }

    /// Responds as the fault specifies, otherwise normally. Never completes if the fault drops the connection or sends no response.
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
