//! Implements the Tower middleware: [`AuthLayer`], and the service [`Auth`] that it creates.

mod auth_layer;
mod drain;
mod error;
mod future;
mod handle;
#[cfg(test)]
mod lock_tests;
pub mod replay;
mod request;
#[cfg(feature = "reqwest")]
mod reqwest_messages;
mod response;
mod route;
mod route_table;
mod sent_token;
mod service;
mod try_clone;

pub use crate::verdict::{Recovery, Verdict};
pub use auth_layer::AuthLayer;
pub use error::{Error, WithCauses};
pub use future::ResponseFuture;
pub use request::HttpRequest;
#[cfg(feature = "reqwest")]
pub(crate) use response::AnsweredBy;
pub use response::HttpResponse;
pub use route::Route;
pub use service::Auth;
