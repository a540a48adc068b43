//! Implements the methods that both servers have in common: faults, holds, recorded requests and counters.

/// Implements these methods for a handle whose `service()` has an endpoint, recorded calls, `counts` and `reset`.
macro_rules! impl_controls {
    ($server:ident, $request:literal, $call:ty, $counts:ty) => {
        impl $server {
            #[doc = concat!("Queues a fault for the next ", $request, " for which no other fault is queued.")]
            pub fn fault(&self, fault: $crate::testing::Fault) {
                self.fault_times(1, fault);
            }

            #[doc = concat!("Queues a fault for the next `times` ", $request, "s for which no other fault is queued.")]
            pub fn fault_times(&self, times: usize, fault: $crate::testing::Fault) {
                self.service().endpoint.faults.push(times, fault);
            }

            #[doc = concat!("Sets the fault of every ", $request, " for which no other fault is queued. Replaces the one set before.")]
            pub fn fault_always(&self, fault: $crate::testing::Fault) {
                self.service().endpoint.faults.set_default(fault);
            }

            /// Removes all faults. Requests that have already met theirs are not affected.
            pub fn clear_faults(&self) {
                self.service().endpoint.faults.clear();
            }

            #[doc = concat!("Holds every ", $request, " that arrives from now on until the returned [`Hold`](super::Hold) is released.")]
            /// The bodies of held requests are still read.
            pub fn hold(&self) -> $crate::testing::Hold {
                self.service().endpoint.holds.hold()
            }

            #[doc = concat!("Waits until at least `requests` ", $request, "s have arrived since the start, or since the last")]
            /// [`reset_counts`](Self::reset_counts).
            pub async fn wait_for_requests(&self, requests: u64) {
                self.service().endpoint.wait_for(requests).await;
            }

            #[doc = concat!("Returns every recorded ", $request, " in order of arrival.")]
            pub fn requests(&self) -> Vec<$call> {
                self.service().calls.calls()
            }

            #[doc = concat!("Sets whether each ", $request, " is recorded for [`requests`](Self::requests). On by default; load tests")]
            /// may turn it off.
            pub fn record(&self, on: bool) {
                self.service().calls.set_enabled(on);
            }

            /// Returns the counters.
            pub fn counts(&self) -> $counts {
                self.service().counts()
            }

            /// Sets the counters to zero and discards the recorded requests. Issued tokens stay valid.
            pub fn reset_counts(&self) {
                self.service().reset();
            }
        }
    };
}

pub(super) use impl_controls;
