//! Provides an authorization server and a protected API that run inside a test process.
//!
//! [`AuthorizationServer`] issues tokens over a loopback socket, and [`Api`] requires them. Both speak HTTP/1.1 and HTTP/2, with or
//! without TLS, and both misbehave on demand: see [`Fault`]. Unlike a mock, they validate every request: they reject a wrong secret,
//! an expired or revoked token and a missing scope as the RFCs specify. They need no fixed port and no set-up, and stop when their
//! handles are dropped.
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
//!     // Fetch a token.
//!     let form = "grant_type=client_credentials&client_id=client&client_secret=secret&scope=read";
//!     let request = Request::post(server.token_url())
//!         .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
//!         .body(Full::from(form))?;
//!     let response = client.request(request).await?.into_body().collect().await?.to_bytes();
//!     let response: serde_json::Value = serde_json::from_slice(&response)?;
//!     let token = response["access_token"].as_str().unwrap_or_default();
//!     assert!(server.is_valid(token, Some("read")));
//!
//!     // The API accepts it until it is revoked.
//!     let call = || {
//!         Request::get(api.url_of("/orders"))
//!             .header(header::AUTHORIZATION, format!("Bearer {token}"))
//!             .body(Full::default())
//!     };
//!     assert_eq!(client.request(call()?).await?.status(), StatusCode::OK);
//!     server.revoke_all();
//!     assert_eq!(client.request(call()?).await?.status(), StatusCode::UNAUTHORIZED);
//!
//!     // Make one request fail.
//!     api.fault(Fault::status(503).with_header("retry-after", "1"));
//!     assert_eq!(client.request(call()?).await?.status(), StatusCode::SERVICE_UNAVAILABLE);
//!     assert_eq!(api.counts().requests, 3);
//!     Ok(())
//! }
//! ```
//!
//! # Tests without sleeps
//! `hold` and `wait_for_requests`, which both servers have, put events in order: hold the requests, send them, wait until they have
//! arrived, change something, release the hold.
//!
//! Lifetimes and delays are measured by Tokio's clock. Be careful when you pause it: a paused clock advances whenever all tasks are
//! idle, even while they wait for a socket.
//!
//! # Only for tests
//! The servers listen on loopback only. They keep every issued token and every request in memory, without a limit.

// Assigning to `value["key"]` of a JSON object inserts the key and can't panic.
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
