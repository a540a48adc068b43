//! This module sends requests to token endpoints, over a client that is separate from the one that uses the tokens.
//!
//! A [`Transport`] uses reqwest, hyper or a custom client. With each of them it sends requests only to `https://` URLs and to
//! loopback, does not follow redirects, and rejects a response body of more than 1 MiB.
//!
//! ```
//! use bytes::Bytes;
//! use tower_bearer::transport::Transport;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let transport = Transport::from_fn(async |_| Ok(http::Response::new(Bytes::from("{}"))));
//!
//! let plain = http::Request::post("http://login.example/token").body(Bytes::new()).unwrap();
//! let error = transport.send(plain).await.unwrap_err();
//! assert!(error.to_string().contains("https"));
//! # }
//! ```

#[cfg(any(feature = "reqwest", feature = "hyper"))]
mod body;
#[cfg(any(feature = "reqwest", feature = "hyper"))]
mod client_pool;
mod custom;
#[cfg(any(feature = "reqwest", feature = "hyper"))]
mod fault;
#[cfg(feature = "hyper")]
mod hyper;
mod length;
#[cfg(any(feature = "reqwest", feature = "hyper"))]
mod options;
#[cfg(feature = "reqwest")]
mod reqwest;
#[cfg(all(test, any(feature = "reqwest", feature = "hyper")))]
pub(crate) mod responder;
#[cfg(all(test, any(feature = "reqwest", feature = "hyper")))]
mod tests;
#[cfg(any(feature = "reqwest", feature = "hyper"))]
mod tls_identity;
mod transport;

pub use custom::TokenTransport;
pub use transport::Transport;
pub(crate) use transport::require_tls;
