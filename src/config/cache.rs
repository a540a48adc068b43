//! [`CacheConfig`]: how tokens are kept.

use std::{fmt, path::PathBuf};

use serde::Deserialize;

use super::{
    error::ConfigError,
    secret::SecretFrom,
    units::{ConfigDuration, ConfigSize},
};
use crate::cache::CacheBuilder;

/// The section `[cache]`: how tokens are kept. Each key has the default of [`CacheBuilder`].
///
/// | key | what it holds |
/// |---|---|
/// | `max_entries` | how many specs it knows at most |
/// | `max_bytes` | how many bytes it holds at most, about |
/// | `assumed_lifetime` | how long a token lives whose provider does not say |
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
    /// How many specs it knows at most.
    pub max_entries: Option<usize>,
    /// How many bytes it holds at most.
    pub max_bytes: Option<ConfigSize>,
    /// How long a token lives whose provider does not say.
    pub assumed_lifetime: Option<ConfigDuration>,
    /// A second level behind it.
    pub store: Option<StoreConfig>,
}

/// The key `store` of `[cache]`: where tokens outlive the process.
///
/// | key | what it holds |
/// |---|---|
/// | `type` | `redis` or `file` |
/// | `url`, `prefix` | for `redis`: the server, and what its keys begin with |
/// | `path` | for `file`: the file |
/// | `key` | what names and tokens are sealed with: 32 bytes in base64 |
///
/// ```
/// use tower_bearer::config::{StoreConfig, StoreType};
///
/// let store: StoreConfig = toml::from_str("type = 'file'\npath = 'tokens.bin'\nkey = { file = 'store.key' }")?;
/// assert_eq!(store.store_type, StoreType::File);
/// # Ok::<_, toml::de::Error>(())
/// ```
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
#[non_exhaustive]
pub struct StoreConfig {
    /// Which store.
    #[serde(rename = "type")]
    pub store_type: StoreType,
    /// The address of the server. It may hold a password.
    pub url: Option<SecretFrom>,
    /// What the server's keys begin with.
    pub prefix: Option<String>,
    /// The file.
    pub path: Option<PathBuf>,
    /// What names and tokens are sealed with.
    pub key: Option<SecretFrom>,
}

/// Which store.
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
    /// `redis`: a server that all processes of a fleet share.
    Redis,
    /// `file`: one file, for programs that start often.
    File,
}

impl StoreType {
    /// The name in a configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::File => "file",
        }
    }
}

impl CacheConfig {
    pub(super) fn apply(&self, mut builder: CacheBuilder) -> Result<CacheBuilder, ConfigError> {
        if let Some(entries) = self.max_entries {
            builder = builder.with_max_entries(entries);
        }
        if let Some(ConfigSize(bytes)) = self.max_bytes {
            builder = builder.with_max_bytes(bytes);
        }
        if let Some(ConfigDuration(lifetime)) = self.assumed_lifetime {
            if lifetime.is_zero() {
                return Err(ConfigError::new(
                    "assumed_lifetime",
                    "it is zero, and no token could be sent: make it longer, or leave it out",
                ));
            }
            builder = builder.with_assumed_lifetime(lifetime);
        }
        match &self.store {
            None => Ok(builder),
            Some(store) => store.apply(builder).map_err(|error| error.within("store")),
        }
    }
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig")
            .field("type", &self.store_type)
            .field("prefix", &self.prefix)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
