//! A cache and a layer from a configuration file, by serde: TOML, JSON, YAML, whatever a program reads.
//!
//! ```
//! use tower_bearer::config::Config;
//!
//! let config: Config = toml::from_str(r#"
//!     [source]
//!     type = "client_credentials"
//!     token_url = "https://login.example.com/token"
//!     client_id = "orders"
//!     client_secret = "hunter2"             # or { env = "ORDERS_SECRET" }, or { file = "/run/secrets/orders" }
//!
//!     [[route]]
//!     url = "https://stock.example.com/v2"
//!     scopes = ["stock.read"]
//! "#)?;
//! let cache = config.cache()?;
//! let auth = config.layer(&cache)?;         // wrap your client in it
//! # let _ = auth;
//!
//! // What can't work is told by its key, with a remedy. No value is echoed: it may be a secret in the wrong place.
//! let error = toml::from_str::<Config>("[source]\ntype = 'client_credentials'\nclient_secret = 12345").unwrap_err();
//! assert!(error.message().starts_with("source.client_secret: "));
//! assert!(!error.message().contains("12345"));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # The keys
//! | key | what it holds |
//! |---|---|
//! | `[source]` | where tokens come from: [`SourceConfig`] |
//! | `[cache]` | how they are kept: [`CacheConfig`] |
//! | `[[route]]` | where they go: [`RouteConfig`], any number of them |
//!
//! A key that nobody knows is an error; a key that is missing means the library's default. A secret is text,
//! `{ env = "NAME" }` or `{ file = "path" }`: see [`SecretFrom`]. Durations are `"10s"` (see [`ConfigDuration`]), sizes `"64MiB"` (see
//! [`ConfigSize`]). A relative path is relative to the directory that the process runs in.
//!
//! A program with sections of its own reads them beside these: see [`Config`]. One without a file reads the usual
//! environment variables: see [`Config::from_env`].
//!
//! It differs from [`TokenCache::builder`](crate::TokenCache::builder) and [`AuthLayer::new`](crate::AuthLayer::new) in that
//! whoever runs the program decides, and not whoever wrote it.
//!
//! | file | what it holds |
//! |---|---|
//! | `root` | [`Config`]: all sections, and what is made of them |
//! | `source`, `cache`, `route` | one section each |
//! | `client_auth` | the names of the client authentications, and which keys each needs |
//! | `client` | what a client proves itself with, made of those keys |
//! | `secret` | text, environment variable or file |
//! | `store` | the second level, made of the keys of `[cache]` |
//! | `units` | durations and sizes |
//! | `env` | a configuration from environment variables |
//! | `node` | what was read, before anything is made of it: so that no format's error can echo a value |
//! | `error` | the key, the fault and the remedy |

mod cache;
mod client;
mod client_auth;
mod env;
mod error;
mod node;
mod root;
mod route;
mod secret;
mod source;
mod store;
mod units;

pub use cache::{CacheConfig, StoreConfig, StoreType};
pub use client_auth::ClientAuthName;
pub use error::ConfigError;
pub use root::{Config, NoExtra};
pub use route::RouteConfig;
pub use secret::SecretFrom;
pub use source::{SourceConfig, SourceType};
pub use units::{ConfigDuration, ConfigSize};
