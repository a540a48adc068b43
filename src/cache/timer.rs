//! Timers, where there are any: those that all rooms use.

pub(super) use crate::timer::{after, within};
