//! A slot is the cache's entry for one spec: its current token, the fetch in progress, failures and rejections.
//!
//! It is a state machine without I/O, timers or tasks. The current token is read without a lock; everything else changes under
//! one short lock. The first caller that needs a new token gets a [`FetchGuard`] and must start a fetch. A slot has at most one
//! guard at a time. A fetch ends with [`FetchGuard::complete`] or [`FetchGuard::fail`]. If the guard is dropped instead, because
//! the task died, the waiters wake and one of them starts another fetch.
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
