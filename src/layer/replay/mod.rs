//! This module defines the policies that decide which requests are replayed after their token was rejected.
//!
//! Each policy is a type, set by a method of [`AuthLayer`](crate::AuthLayer), so that a request pays only for what its policy does.
//!
//! | policy | replays requests with | set by |
//! |---|---|---|
//! | [`CloneBody`] | bodies in memory | default |
//! | [`NoReplay`] | nothing | [`without_replay`](crate::AuthLayer::without_replay) |
//! | [`BufferBody`] | any body, up to a limit | [`with_body_buffer`](crate::AuthLayer::with_body_buffer) |
//! | [`ReplayIf`] | the bodies of another policy, if a function agrees | [`with_replay_when`](crate::AuthLayer::with_replay_when) |

mod body;
mod buffer;
mod chunks;
mod policy;

pub use body::ReplayBody;
pub use buffer::{BufferBody, BufferedBody};
#[cfg(feature = "reqwest-middleware")]
pub(crate) use policy::SealedPolicy;
pub use policy::{CloneBody, NoReplay, ReplayIf, ReplayPolicy};
