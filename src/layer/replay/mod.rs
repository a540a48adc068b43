//! Which requests are sent again after a refusal, and what is kept of them until then.
//!
//! A layer has one of these policies, chosen by [`AuthLayer`](crate::AuthLayer)'s methods, and told apart at compile time:
//! what a policy doesn't do costs nothing.
//!
//! | policy | what is sent again | by |
//! |---|---|---|
//! | [`CloneBody`] | bodies in memory | the default |
//! | [`NoReplay`] | nothing | [`without_replay`](crate::AuthLayer::without_replay) |
//! | [`BufferBody`] | any body, up to a limit | [`with_body_buffer`](crate::AuthLayer::with_body_buffer) |
//! | [`ReplayIf`] | what another policy would send, if you agree | [`with_replay_when`](crate::AuthLayer::with_replay_when) |

mod body;
mod buffer;
mod chunks;
mod policy;

pub use body::ReplayBody;
pub use buffer::BufferBody;
pub use policy::{CloneBody, NoReplay, ReplayIf, ReplayPolicy};
