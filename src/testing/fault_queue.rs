//! Queues faults for the coming requests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fault::Fault;

/// Yields the faults in the order in which they were queued, then the default fault if one is set.
#[derive(Debug, Default)]
pub(super) struct FaultQueue(Mutex<Faults>);

#[derive(Debug, Default)]
struct Faults {
    queue: VecDeque<(usize, Arc<Fault>)>,
    always: Option<Arc<Fault>>,
}

impl FaultQueue {
    pub(super) fn push(&self, times: usize, fault: Fault) {
        if times > 0 {
            self.lock().queue.push_back((times, Arc::new(fault)));
        }
    }

    pub(super) fn set_default(&self, fault: Fault) {
        self.lock().always = Some(Arc::new(fault));
    }

    pub(super) fn clear(&self) {
        *self.lock() = Faults::default();
    }

    /// Takes the fault of the next request.
    pub(super) fn next(&self) -> Option<Arc<Fault>> {
        let mut orders = self.lock();
        let Some((times, fault)) = orders.queue.front_mut() else {
            return orders.always.clone();
        };
        let fault = fault.clone();
        *times -= 1;
        if *times == 0 {
            orders.queue.pop_front();
        }
        Some(fault)
    }

    fn lock(&self) -> MutexGuard<'_, Faults> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::Reply;
    use super::*;

    #[test]
    fn queued_faults_come_before_the_default_fault() {
        let faults = FaultQueue::default();
        faults.set_default(Fault::status(503));
        faults.push(0, Fault::status(599));
        faults.push(2, Fault::status(500));
        faults.push(1, Fault::status(501));
        let statuses: Vec<_> = (0..5).map(|_| status(&faults)).collect();
        assert_eq!(statuses, [500, 500, 501, 503, 503].map(Some));
        faults.clear();
        assert_eq!(status(&faults), None);
    }

    fn status(faults: &FaultQueue) -> Option<u16> {
        match faults.next()?.reply() {
            Reply::Custom(status, _) => Some(status.as_u16()),
            _ => None,
        }
    }
}
