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
//!     let scopes: Vec<_> = request.spec().each_scope().collect();
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
//! | `hyper_util::client::legacy::Client` | `http::Request<B>` | wrap it |
//! | tonic's generated clients over a `Channel` | `http::Request<tonic::body::Body>` | wrap the channel, and name [`default_origin`](AuthLayer::default_origin) |
//! | any other Tower service | `http::Request<B>`, any `B` | wrap it |
//!
//! # Which requests can be sent twice
//! Those whose bodies are in memory: `()`, `Empty`, `Full`, `Bytes`, strings and vectors, and reqwest's bodies that are no
//! streams. For others, tonic's among them, a 401 takes the token out of service and reaches the caller, with
//! [`Recovery::NotReplayable`].
//!
//! # Features
//! | feature | default | what it adds |
//! |---|---|---|
//! | `reqwest` | yes | `reqwest::Request` through the layer; token endpoints over reqwest |
//! | `hyper` | no | token endpoints over hyper-util and rustls |
//! | `jwt` | no | assertions signed with a key or a secret: [`SigningKey`](credentials::SigningKey) |
//! | `metrics` | no | counters and histograms through the `metrics` facade: see [`telemetry`] |
//! | `password` | no | the password grant, which a program should use only where there is no other way |
//! | `testing` | no | an authorization server and a protected API on loopback sockets, for your tests |
//!
//! Without any, the layer and the cache work with a [`source`] of your own, or with those of [`credentials`] over a
//! [`Transport`](transport::Transport) of your own.
//!
//! # What an operator sees
//! [`TokenCache::stats`] and [`TokenCache::entries`] at any time, events of the target `tower_bearer` in the log, metrics, and
//! a hook of one's own: see [`telemetry`]. No token and no secret is in any of them.
//!
//! [The design](docs::design) gives the reasons.

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

mod cache;
pub mod clock;
pub mod credentials;
pub mod docs;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod hand;
mod identity;
#[cfg(feature = "jwt")]
mod jws;
mod layer;
mod loopback;
mod mark;
mod message;
#[cfg(any(
    feature = "jwt",
    feature = "reqwest",
    feature = "hyper",
    feature = "testing"
))]
mod pem;
mod recovery;
pub mod replay;
mod routes;
mod secret;
mod service;
pub mod source;
mod spec;
mod subject;
pub mod telemetry;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;
mod timer;
mod token;
pub mod transport;
mod verdict;
mod wire;

pub use cache::{CacheBuilder, Entry, State, Stats, TokenCache};
pub use error::{Error, ErrorKind, TokenError, WithCauses};
pub use layer::AuthLayer;
pub use recovery::Recovery;
pub use routes::Route;
pub use secret::Secret;
pub use service::{Auth, ResponseFuture};
pub use source::{TokenProvider, TokenSource};
pub use spec::TokenSpec;
pub use subject::{Subject, TokenType};
pub use token::{NewToken, Origin, Reason, Token};
pub use verdict::Verdict;

/// The README's examples are tests.
#[cfg(all(doctest, feature = "testing", feature = "reqwest"))]
#[doc = include_str!("../README.md")]
struct Readme;
