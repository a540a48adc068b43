//! Creates a cache and a layer from a configuration file, in any format that serde supports.
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
//! let auth = config.layer(&cache)?;         // add it to your client
//! # let _ = auth;
//!
//! // Errors name the key and the remedy. No value is quoted: it may be a secret in the wrong place.
//! let error = toml::from_str::<Config>("[source]\ntype = 'client_credentials'\nclient_secret = 12345").unwrap_err();
//! assert!(error.message().starts_with("source.client_secret: "));
//! assert!(!error.message().contains("12345"));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # Sections
//! | section | content |
//! |---|---|
//! | `[source]` | the source of the tokens: [`SourceConfig`] |
//! | `[cache]` | the options of the cache: [`CacheConfig`] |
//! | `[[route]]` | a URL that receives tokens: [`RouteConfig`]; any number of them |
//!
//! An unknown key is an error. If a key is missing, the default of the library applies. A secret is text,
//! `{ env = "NAME" }` or `{ file = "path" }`: see [`SecretFrom`]. Durations are written as `"10s"` (see [`ConfigDuration`]),
//! sizes as `"64MiB"` (see [`ConfigSize`]). A relative path is relative to the working directory of the process.
//!
//! A program can add its own sections: see [`Config`]. Programs without a file read the usual environment variables: see
//! [`Config::from_env`].
//!
//! With this module, the operator of a program configures it. With [`TokenCache::builder`](crate::TokenCache::builder) and
//! [`AuthLayer::new`](crate::AuthLayer::new), its author does.

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
