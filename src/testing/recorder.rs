//! Records the requests of a server in order of arrival.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(super) struct Recorder<C> {
    on: AtomicBool,
    record: Mutex<Record<C>>,
}

/// The position of a call in the record, used to complete the call later.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    epoch: u64,
    index: usize,
}

#[derive(Debug)]
struct Record<C> {
    epoch: u64,
    calls: Vec<C>,
}

impl<C> Recorder<C> {
    pub(super) fn new() -> Self {
        Self {
            on: AtomicBool::new(true),
            record: Mutex::new(Record {
                epoch: 0,
                calls: Vec::new(),
            }),
        }
    }

    pub(super) fn set_enabled(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// Records a call. `call` runs only if recording is on.
    pub(super) fn add(&self, call: impl FnOnce() -> C) -> Option<Entry> {
        if !self.on.load(Ordering::Relaxed) {
            return None;
        }
        let call = call();
        let mut record = self.lock();
        record.calls.push(call);
        Some(Entry {
            epoch: record.epoch,
            index: record.calls.len() - 1,
        })
    }

    pub(super) fn update(&self, entry: Option<Entry>, update: impl FnOnce(&mut C)) {
        let Some(entry) = entry else { return };
        let mut record = self.lock();
        if record.epoch != entry.epoch {
            return;
        }
        if let Some(call) = record.calls.get_mut(entry.index) {
            update(call);
        }
    }

    pub(super) fn clear(&self) {
        let mut record = self.lock();
        record.epoch += 1;
        record.calls.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Record<C>> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Clone> Recorder<C> {
    pub(super) fn calls(&self) -> Vec<C> {
        self.lock().calls.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_update_of_a_discarded_call_changes_no_other() {
        let recorder = Recorder::new();
        let old = recorder.add(|| 1);
        recorder.clear();
        let new = recorder.add(|| 2);
        recorder.update(old, |call| *call = 10);
        recorder.update(new, |call| *call = 20);
        assert_eq!(recorder.calls(), [20]);
    }

    #[test]
    fn nothing_is_recorded_while_off() {
        let recorder = Recorder::new();
        recorder.set_enabled(false);
        assert!(recorder.add(|| 1).is_none());
        assert!(recorder.calls().is_empty());
    }
}
