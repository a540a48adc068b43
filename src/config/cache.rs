//! Defines [`CacheConfig`], the section `[cache]`.

use std::path::PathBuf;

use serde::Deserialize;

use super::{
    error::ConfigError,
    secret::SecretFrom,
    units::{ConfigDuration, ConfigSize},
};
use crate::cache::CacheBuilder;

/// The section `[cache]`, with the options of the cache. Each key has the default of [`CacheBuilder`].
///
/// | key | value |
/// |---|---|
/// | `max_entries` | the maximum number of entries |
/// | `max_bytes` | the approximate maximum size |
/// | `assumed_lifetime` | the lifetime of tokens whose provider does not send one |
/// | `store` | a second level that outlives the process: see [`StoreConfig`] |
///
/// ```
/// use tower_bearer::config::{CacheConfig, ConfigSize};
///
/// let cache: CacheConfig = toml::from_str("max_bytes = '64MiB'")?;
/// assert_eq!(cache.max_bytes, Some(ConfigSize(64 << 20)));
/// # Ok::<_, toml::de::Error>(())
/// ```
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
#[non_exhaustive]
pub struct CacheConfig {
    /// The maximum number of entries.
    pub max_entries: Option<usize>,
    /// The approximate maximum size.
    pub max_bytes: Option<ConfigSize>,
    /// The lifetime of tokens whose provider does not send one.
    pub assumed_lifetime: Option<ConfigDuration>,
    /// The second level behind the cache.
    pub store: Option<StoreConfig>,
}

/// The key `store` of `[cache]`: a store in which tokens outlive the process.
///
/// | key | value |
/// |---|---|
/// | `type` | `redis` or `file` |
/// | `url`, `prefix` | for `redis`: the server, and the prefix of its keys |
/// | `path` | for `file`: the file |
/// | `key` | the encryption key: 32 bytes in base64 |
///
/// ```
/// use tower_bearer::config::{StoreConfig, StoreType};
///
/// let store: StoreConfig = toml::from_str("type = 'file'\npath = 'tokens.bin'\nkey = { file = 'store.key' }")?;
/// assert_eq!(store.store_type, StoreType::File);
/// # Ok::<_, toml::de::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
#[non_exhaustive]
pub struct StoreConfig {
    /// The type of the store.
    #[serde(rename = "type")]
    pub store_type: StoreType,
    /// The URL of the server, which may contain a password.
    pub url: Option<SecretFrom>,
    /// The prefix of the keys on the server.
    pub prefix: Option<String>,
    /// The file.
    pub path: Option<PathBuf>,
    /// The encryption key.
    pub key: Option<SecretFrom>,
}

/// The type of a store.
///
/// ```
/// use tower_bearer::config::StoreType;
///
/// assert_eq!(StoreType::Redis.as_str(), "redis");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", expecting = "the name of a store")]
#[non_exhaustive]
pub enum StoreType {
    /// `redis`: a server that is shared by all processes of a fleet.
    Redis,
    /// `file`: a file, for programs that start often.
    File,
}

impl StoreType {
    /// Returns the name in a configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::File => "file",
        }
    }
}

impl CacheConfig {
    /// Sets the options on a builder.
    pub(super) fn apply(&self, mut builder: CacheBuilder) -> Result<CacheBuilder, ConfigError> {
        if let Some(entries) = self.max_entries {
            builder = builder.with_max_entries(entries);
        }
        if let Some(ConfigSize(bytes)) = self.max_bytes {
            builder = builder.with_max_bytes(bytes);
        }
        if let Some(lifetime) = self.assumed_lifetime {
            builder = builder.with_assumed_lifetime(lifetime.non_zero("assumed_lifetime")?);
        }
        match &self.store {
            None => Ok(builder),
            Some(store) => store.apply(builder).map_err(|error| error.within("store")),
        }
    }
}
