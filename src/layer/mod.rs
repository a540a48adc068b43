//! The Tower middleware: [`AuthLayer`](crate::AuthLayer) and the service [`Auth`] that it makes.

mod auth_layer;
mod drain;
mod handle;
#[cfg(test)]
mod lock_tests;
pub mod replay;
mod request;
#[cfg(feature = "reqwest")]
mod reqwest_messages;
mod response;
mod route_table;
mod service;
mod try_clone;

pub use crate::{
    error::{Error, WithCauses},
    verdict::{Recovery, Verdict},
};
pub use auth_layer::AuthLayer;
pub use request::HttpRequest;
#[cfg(feature = "reqwest")]
pub(crate) use response::AnsweredBy;
pub use response::HttpResponse;
pub use route_table::Route;
pub(crate) use route_table::{RequestScheme, RequestTarget};
pub use service::{Auth, ResponseFuture};
