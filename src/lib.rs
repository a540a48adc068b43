//! A [Tower](https://docs.rs/tower) layer that gives every request the bearer token its resource needs, and recovers
//! from a 401 without the caller noticing.
//!
//! [`AuthLayer`] wraps any HTTP client that is a Tower service: reqwest, hyper, tonic. It fetches the token for a
//! request's resource and scopes from a shared [`TokenCache`], sets `Authorization: Bearer`, and when the server answers
//! 401 it takes exactly that token out of service, gets another, and sends the request once more.
//!
//! ```
//! use tower::{Service, ServiceBuilder, ServiceExt};
//! use tower_bearer::{AuthLayer, NewToken, TokenCache, TokenSpec, source};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Where tokens come from: `credentials::ClientCredentials` for most, or a source of your own.
//! let cache = TokenCache::new(source::from_fn(async |request| {
//!     let scopes: Vec<_> = request.spec().iter_scopes().collect();
//!     NewToken::bearer(&format!("token-for-{}", scopes.join("-")))
//! }));
//! // Where they go. What no route names gets none.
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
//! 1. **Which token?** A caller's own `Authorization` header is left alone. Else the [`TokenSpec`] in the request's
//!    extensions decides, else the [`Route`] of its origin and path. What no route names goes out untouched.
//! 2. **Get it.** A fresh token is at hand: no lock, no allocation. A stale one is used, and refreshed behind the scenes. For an
//!    expired or rejected one, all callers wait for one and the same fetch, which goes on when they give up.
//! 3. **Send.** If the token is at hand, the client is used as it was made ready. Otherwise it is given back, and made
//!    ready anew when the token is there: no request holds a permit of the client's while its token is fetched.
//! 4. **Judge the answer**, if it comes from the origin that got the token: see [`Verdict`].
//! 5. **Recover, at most once.** The first answer is kept, and with it its connection, until there is another token; if there
//!    is none, that answer is the caller's. The response's extensions say what was done: see [`Recovery`].
//!
//! # Which clients
//! | client | requests | how |
//! |---|---|---|
//! | `reqwest::Client` | `reqwest::Request` | feature `reqwest`; wrap the client itself |
//! | `reqwest::Client`, a token for each request | `http::Request<B>`, any `B` that reqwest takes | feature `reqwest`; wrap a [`clients::ReqwestClient`](crate::clients) |
//! | `reqwest_middleware::ClientWithMiddleware` | its own builder's | feature `reqwest-middleware`; [`with(auth)`](crate::clients) |
//! | `hyper_util::client::legacy::Client` | `http::Request<B>` | wrap it |
//! | tonic's generated clients over a `Channel` | `http::Request<tonic::body::Body>` | wrap the channel, and name [`with_default_origin`](AuthLayer::with_default_origin) |
//! | a library that takes a Tower layer, as kube and octocrab do | its own | give it the layer; if its requests name a path alone, with [`with_default_origin`](AuthLayer::with_default_origin) |
//! | any other Tower service | `http::Request<B>`, any `B` | wrap it |
//!
//! # Which requests can be sent twice
//! Those whose bodies are in memory: `()`, `Empty`, `Full`, `Bytes`, strings and vectors, and reqwest's bodies that are no
//! streams. For all others there is [`AuthLayer::with_body_buffer`], which keeps what is sent of a body, up to a limit; tonic's need
//! it. Without it, a 401 takes the token out of service and reaches the caller, with [`Recovery::NotReplayable`].
//! [`AuthLayer::with_replay_when`] leaves the decision to you, request by request.
//!
//! # What a server may want
//! Not every 401 says that the token is over, and some 403s say what would do:
//!
//! | the answer | what is done |
//! |---|---|
//! | 401, with `invalid_token` or without a word | another token is fetched, and the request sent again |
//! | 401 with claims (continuous access evaluation) | the same; the claims go into this token request and all later ones for that token |
//! | 401 or 403 with `insufficient_scope` | the same, with these scopes too, if the route [allows](Route::with_allowed_scopes) them; other requests go on with the token that is there |
//! | gRPC's `UNAUTHENTICATED` in the headers | as 401 |
//! | a step-up (RFC 9470), a DPoP nonce, another scheme's challenge | it is the caller's; [`Recovery::Unsatisfiable`] says what was wanted |
//!
//! What the provider refuses to give is wanted no more, and no address that a challenge names is ever asked for anything.
//! [`AuthLayer::with_classifier`] puts a judgement of your own before this one.
//!
//! # Features
//! | feature | default | what it adds |
//! |---|---|---|
//! | `reqwest` | yes | `reqwest::Request` through the layer; token endpoints over reqwest |
//! | `hyper` | no | token endpoints over hyper-util and rustls |
//! | `reqwest-middleware` | no | [`AuthLayer`] as a middleware: see [`clients`] |
//! | `jwt` | no | assertions signed with a key or a secret: [`SigningKey`](credentials::SigningKey) |
//! | `store` | no | a second level behind the cache, of your own making, and the seal on what it keeps: see [`store`] |
//! | `redis` | no | a store that all processes of a fleet share |
//! | `file` | no | a store in one file, for programs that start often |
//! | `metrics` | no | counters and histograms through the `metrics` facade: see [`telemetry`] |
//! | `config` | no | a cache and a layer from a configuration, by serde: see [`config`] |
//! | `password` | no | the password grant, which a program should use only where there is no other way |
//! | `testing` | no | an authorization server and a protected API on loopback sockets, for your tests |
//!
//! Without any, the layer and the cache work with a [`source`] of your own, or with those of [`credentials`] over a
//! [`Transport`](transport::Transport) of your own.
//!
//! # More than one process
//! With the feature `store`, [a store behind the cache](CacheBuilder#method.with_store) outlives the process and is shared by a fleet:
//! one of its processes fetches, the others take what it got, and a restart fetches nothing.
//!
//! # What an operator sees
//! [`TokenCache::stats`] and [`TokenCache::entries`] at any time, events of the target `tower_bearer` in the log, metrics, and
//! a hook of one's own: see [`telemetry`]. No token and no secret is in any of them.
//!
//! # Where to read on
//! [The cookbook](docs::cookbook) has a page for each task. [The design](docs::design) gives the reasons, [the threat model](docs::threat_model) says what stands in whose way, and [the
//! comparison](docs::comparison) what others do.

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

/// The README's examples are tests.
#[cfg(all(doctest, feature = "testing", feature = "reqwest"))]
#[doc = include_str!("../README.md")]
struct Readme;
