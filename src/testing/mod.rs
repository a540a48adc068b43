//! A real authorization server and a protected API in your own process, for tests.
//!
//! [`AuthorizationServer`] issues tokens over a loopback socket, and [`Api`] wants them. Both speak HTTP/1.1 and HTTP/2, plain or
//! TLS, and both misbehave on demand: see [`Fault`]. Unlike a mock, they judge every request by what it says: a wrong secret, a
//! token that has expired or was revoked, a scope that is missing are refused as the RFCs have it. And unlike a server beside
//! your tests, they need no port number, no set-up, and go away with their handles.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, StatusCode, header};
//! use http_body_util::{BodyExt, Full};
//! use hyper_util::client::legacy::Client;
//! use hyper_util::rt::TokioExecutor;
//! use tower_bearer::testing::{Api, AuthorizationServer, Fault};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let server = AuthorizationServer::start().await?;
//!     let api = Api::start(&server).await?;
//!     let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
//!
//!     // A token.
//!     let form = "grant_type=client_credentials&client_id=client&client_secret=secret&scope=read";
//!     let request = Request::post(server.token_url())
//!         .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
//!         .body(Full::from(form))?;
//!     let answer = client.request(request).await?.into_body().collect().await?.to_bytes();
//!     let answer: serde_json::Value = serde_json::from_slice(&answer)?;
//!     let token = answer["access_token"].as_str().unwrap_or_default();
//!     assert!(server.is_valid(token, Some("read")));
//!
//!     // The API takes it, until it is revoked.
//!     let call = || {
//!         Request::get(api.url_of("/orders"))
//!             .header(header::AUTHORIZATION, format!("Bearer {token}"))
//!             .body(Full::default())
//!     };
//!     assert_eq!(client.request(call()?).await?.status(), StatusCode::OK);
//!     server.revoke_all();
//!     assert_eq!(client.request(call()?).await?.status(), StatusCode::UNAUTHORIZED);
//!
//!     // One request meets a fault.
//!     api.fault(Fault::status(503).with_header("retry-after", "1"));
//!     assert_eq!(client.request(call()?).await?.status(), StatusCode::SERVICE_UNAVAILABLE);
//!     assert_eq!(api.counts().requests, 3);
//!     Ok(())
//! }
//! ```
//!
//! # Tests that need no sleep
//! [`AuthorizationServer::wait_for_requests`] and [`AuthorizationServer::hold`] (and the same two of [`Api`]) put events in order:
//! hold, send, wait until the requests have arrived, change something, release.
//!
//! Lifetimes and delays go by Tokio's clock. Pause it with care: a paused clock jumps ahead whenever every task waits, be it for
//! a socket.
//!
//! # Not for anything but tests
//! The servers listen on loopback only, keep every token that they issued and every request in memory, and have no limits.

// serde_json's `value["key"] = …` inserts, and can't panic on an object that stands there as a literal.
#![allow(clippy::indexing_slicing)]

mod api;
mod api_call;
mod api_service;
mod assertion;
mod authorization_server;
mod authorization_server_builder;
mod claims;
mod client;
mod client_auth;
mod client_certificate;
mod controls;
mod endpoint;
mod fault;
mod fault_queue;
mod form;
mod grants;
mod hold;
mod issued_tokens;
mod issuer;
mod metadata;
mod oauth_error;
mod protection;
mod public_key;
mod recorder;
mod refresh_tokens;
mod response;
mod response_body;
mod server;
#[cfg(feature = "store")]
mod store_suite;
mod tls;
mod token_call;
mod token_service;

pub use api::{Api, ApiBuilder};
pub use api_call::{ApiCall, ApiCounts};
pub use authorization_server::AuthorizationServer;
pub use authorization_server_builder::AuthorizationServerBuilder;
pub use client_auth::AuthMethod;
pub use client_certificate::ClientCertificate;
pub use fault::Fault;
pub use hold::Hold;
#[cfg(feature = "store")]
#[cfg_attr(docsrs, doc(cfg(feature = "store")))]
pub use store_suite::store_suite;
pub use token_call::{TokenCall, TokenCounts};
