//! What a client needs beyond the layer.
//!
//! Most need nothing: [`AuthLayer`](crate::AuthLayer) wraps every client that is a Tower service over `http::Request` or
//! `reqwest::Request`.
//!
//! | client | what is here for it |
//! |---|---|
//! | `reqwest::Client`, where single requests name their token | [`ReqwestClient`]: it takes `http::Request`, whose extensions can be read |
//! | `reqwest_middleware::ClientWithMiddleware` | [`AuthLayer`](crate::AuthLayer) is a middleware itself (feature `reqwest-middleware`): below |
//!
//! A `reqwest::Request` has extensions too, but nobody outside of reqwest can read them. So behind a bare `reqwest::Client` a
//! request gets its route's token, always.
#![cfg_attr(
    feature = "reqwest-middleware",
    doc = include_str!("reqwest_middleware.md")
)]

mod reqwest;
#[cfg(feature = "reqwest-middleware")]
mod reqwest_middleware;

pub use self::reqwest::{ReqwestClient, ReqwestError, ReqwestFuture};
