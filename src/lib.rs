//! A [Tower](https://docs.rs/tower) layer that sets the bearer token on the requests of an HTTP client, and recovers
//! from a 401.
//!
//! [`AuthLayer`] wraps any HTTP client that is a Tower service, such as reqwest, hyper or tonic. It gets the token for a
//! request's resource and scopes from a shared [`TokenCache`] and sets `Authorization: Bearer`. When the server answers
//! 401, it rejects exactly the token that was sent, gets another one and sends the request again.
//!
//! ```
//! use tower::{Service, ServiceBuilder, ServiceExt};
//! use tower_bearer::{AuthLayer, NewToken, TokenCache, TokenSpec, source};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Where tokens come from: often `credentials::ClientCredentials`; here a custom source.
//! let cache = TokenCache::new(source::from_fn(async |request| {
//!     let scopes: Vec<_> = request.spec().iter_scopes().collect();
//!     NewToken::bearer(&format!("token-for-{}", scopes.join("-")))
//! }));
//! // Where tokens go. Requests that match no route get none.
//! let auth = AuthLayer::new(cache)
//!     .route("https://stock.internal/v2", TokenSpec::scopes(["stock.read"]))?
//!     .route("https://orders.internal", TokenSpec::scopes(["orders"]))?;
//! # let http_client = tower::service_fn(async |request: http::Request<String>| {
//! #     let token = request.headers()["authorization"].clone();
//! #     Ok::<_, std::io::Error>(http::Response::new(token))
//! # });
//! let mut client = ServiceBuilder::new().layer(auth).service(http_client);
//!
//! let request = http::Request::get("https://stock.internal/v2/items").body(String::new())?;
//! let response = client.ready().await?.call(request).await?;
//! # assert_eq!(response.body(), "Bearer token-for-stock.read");
//! # Ok(()) }
//! ```
//!
//! # What happens to a request
//! 1. **Resolve the spec.** An `Authorization` header that the caller set is kept. Otherwise the [`TokenSpec`] in the
//!    request's extensions is used, otherwise the one of the [`Route`] that matches its origin and path. A request that
//!    matches no route is sent unchanged.
//! 2. **Get the token.** A fresh token is returned without a lock or an allocation. A stale one is used, and refreshed
//!    in the background. If it has expired or was rejected, all callers wait for one fetch, which continues if they
//!    give up.
//! 3. **Send.** If the token was available, the ready service is used at once. Otherwise it was given back, and is
//!    polled ready again once there is a token, so that no request reserves the client's capacity while a token is
//!    fetched.
//! 4. **Classify the response**, if it comes from the origin that got the token: see [`Verdict`](layer::Verdict).
//! 5. **Recover, at most once.** The first response is kept until another token is available, and returned if none can
//!    be obtained. The response's extensions say what was done: see [`Recovery`](layer::Recovery).
//!
//! # Supported clients
//! | client | requests | how |
//! |---|---|---|
//! | `reqwest::Client` | `reqwest::Request` | feature `reqwest`; wrap the client |
//! | `reqwest::Client`, with a token for each request | `http::Request<B>`, any `B` that reqwest takes | feature `reqwest`; wrap a [`clients::ReqwestClient`](crate::clients) |
//! | `reqwest_middleware::ClientWithMiddleware` | those of its builder | feature `reqwest-middleware`; [`with(auth)`](crate::clients) |
//! | `hyper_util::client::legacy::Client` | `http::Request<B>` | wrap it |
//! | tonic's generated clients over a `Channel` | `http::Request<tonic::body::Body>` | wrap the channel, and name its origin by [`with_default_origin`](AuthLayer::with_default_origin) |
//! | a library that takes a Tower layer, such as kube and octocrab | those of the library | pass it the layer, with [`with_default_origin`](AuthLayer::with_default_origin) if its requests have only a path |
//! | any other Tower service | `http::Request<B>`, any `B` | wrap it |
//!
//! # Which requests can be sent again
//! Those whose bodies are in memory: `()`, `Empty`, `Full`, `Bytes`, strings, vectors, and reqwest's bodies that are
//! not streams. For other bodies, tonic's included, there is [`AuthLayer::with_body_buffer`], which keeps a copy of
//! what is sent, up to a limit. Without it, a 401 rejects the token and is returned to the caller with
//! [`Recovery::NotReplayable`](layer::Recovery::NotReplayable). [`AuthLayer::with_replay_when`] decides for each
//! request.
//!
//! # What a server may require
//!
//! | response | action |
//! |---|---|
//! | 401 with `invalid_token`, or without an error code | rejects the token, fetches another and sends the request again |
//! | 401 with claims (continuous access evaluation) | rejects the token, sends the claims with this token request and the later ones, and sends the request again |
//! | 401 or 403 with `insufficient_scope` | if the route [allows](Route::with_allowed_scopes) these scopes, fetches a token with them and sends the request again |
//! | gRPC's `UNAUTHENTICATED` in the headers | as for a 401 |
//! | a step-up (RFC 9470), a DPoP nonce, another scheme's challenge | returns the response; [`Recovery::Unsatisfiable`](layer::Recovery::Unsatisfiable) says what is required |
//!
//! Claims or scopes that the provider rejects are not requested again. URLs in challenges are never contacted.
//! [`AuthLayer::with_classifier`] replaces this classification for some or all responses.
//!
//! # Features
//! | feature | default | what it adds |
//! |---|---|---|
//! | `reqwest` | yes | `reqwest::Request` through the layer; token endpoints over reqwest |
//! | `hyper` | no | token endpoints over hyper-util and rustls |
//! | `reqwest-middleware` | no | [`AuthLayer`] as a middleware: see [`clients`] |
//! | `jwt` | no | client assertions that are signed with a key or a secret: [`SigningKey`](credentials::SigningKey) |
//! | `store` | no | a second level behind the cache with encrypted values, and the trait for custom stores: see [`store`] |
//! | `redis` | no | a store that several processes share |
//! | `file` | no | a store in a file, for programs that start often |
//! | `metrics` | no | counters and histograms through the `metrics` facade: see [`telemetry`] |
//! | `config` | no | a cache and a layer from a configuration, by serde: see [`config`] |
//! | `password` | no | the password grant, for providers that support no other one |
//! | `testing` | no | an authorization server and a protected API on loopback sockets, for tests |
//!
//! Without any feature, the layer and the cache work with a custom [`source`], or with the [`credentials`] over a
//! custom [`Transport`](transport::Transport).
//!
//! # Several processes
//! With the feature `store`, [a store behind the cache](cache::CacheBuilder#method.with_store) outlives the process and
//! is shared by several: one of them fetches a token, the others read it, and a restart needs no token request.
//!
//! # Telemetry
//! [`TokenCache::stats`] and [`TokenCache::entries`], log events with the target `tower_bearer`, metrics, and a hook for
//! events: see [`telemetry`]. None of them contains a token or a secret.
//!
//! # More documentation
//! [The cookbook](docs::cookbook) has a page for each task. [The design](docs::design) gives reasons, [the threat
//! model](docs::threat_model) lists attacks and defences, and [the comparison](docs::comparison) describes other
//! libraries.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod cache;
#[cfg(feature = "reqwest")]
#[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
pub mod clients;
pub mod clock;
#[cfg(feature = "config")]
#[cfg_attr(docsrs, doc(cfg(feature = "config")))]
pub mod config;
pub mod credentials;
pub mod docs;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
#[cfg(feature = "jwt")]
mod jwt;
pub mod layer;
mod oauth;
mod secret;
pub mod source;
#[cfg(feature = "store")]
#[cfg_attr(docsrs, doc(cfg(feature = "store")))]
pub mod store;
pub mod telemetry;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;
pub mod token;
pub mod transport;
mod util;
mod verdict;

pub use cache::TokenCache;
pub use error::{ErrorKind, TokenError};
pub use layer::{AuthLayer, Route};
pub use secret::Secret;
pub use source::TokenSource;
pub use token::{NewToken, Token, TokenSpec};

/// Compiles and runs the examples of the README.
#[cfg(all(doctest, feature = "testing", feature = "reqwest"))]
#[doc = include_str!("../README.md")]
struct Readme;
