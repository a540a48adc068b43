//! This module adapts HTTP clients that [`AuthLayer`](crate::AuthLayer) can't wrap directly.
//!
//! Most clients need no adapter: the layer wraps every client that is a Tower service over `http::Request` or `reqwest::Request`.
//!
//! | client | adapter |
//! |---|---|
//! | `reqwest::Client`, with a token per request | [`ReqwestClient`], which takes `http::Request`, whose extensions can be read |
//! | `reqwest_middleware::ClientWithMiddleware` | [`AuthLayer`](crate::AuthLayer) implements its `Middleware` trait (feature `reqwest-middleware`), see below |
//!
//! The extensions of a `reqwest::Request` can only be read inside reqwest. So with a plain `reqwest::Client`, a request always gets
//! the token of its route.
#![cfg_attr(
    feature = "reqwest-middleware",
    doc = include_str!("reqwest_middleware.md")
)]

mod reqwest;
#[cfg(feature = "reqwest-middleware")]
mod reqwest_middleware;

pub use self::reqwest::{ReqwestClient, ReqwestError, ReqwestFuture};
