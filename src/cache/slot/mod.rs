//! A slot is the cache's entry for one spec: its current token, the fetch in progress, failures and rejections.
//!
//! It is a state machine without I/O, timers or tasks. The current token is read without a lock; everything else changes under
//! one short lock. A caller that needs a new token gets a [`FetchGuard`], of which a slot has at most one at a time: the
//! right, and the duty, to fetch. It ends with [`FetchGuard::complete`] or [`FetchGuard::fail`]. If it is dropped instead,
//! because its task died, the waiters wake and one of them starts another fetch.
//!
//! A generation is given to one token only, so rejecting an old token never affects the one that replaced it.

mod fetch_guard;
mod fetch_receiver;
#[cfg(test)]
mod schedule_tests;
#[expect(clippy::module_inception)]
mod slot;
mod state;

pub(super) use fetch_guard::{FetchGuard, Fetched};
pub(super) use fetch_receiver::FetchReceiver;
pub(crate) use fetch_receiver::Outcome;
pub(crate) use slot::Need;
pub(crate) use slot::Slot;
pub(super) use slot::SlotAnswer;
pub(crate) use state::Rejection;
