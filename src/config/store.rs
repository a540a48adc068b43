//! Creates the store of the cache from its keys.

#[cfg(any(feature = "redis", feature = "file"))]
use super::secret::{given, read};
use super::{
    cache::{StoreConfig, StoreType},
    error::ConfigError,
};
use crate::cache::CacheBuilder;
#[cfg(any(feature = "redis", feature = "file"))]
use crate::store::KeyRing;

impl StoreConfig {
    /// Adds the store to a cache builder. It does not connect to the store.
    pub(super) fn apply(&self, builder: CacheBuilder) -> Result<CacheBuilder, ConfigError> {
        self.check_keys()?;
        match self.store_type {
            StoreType::Redis => self.redis(builder),
            StoreType::File => self.file(builder),
        }
    }

    /// Checks that the keys are those of the type of the store.
    fn check_keys(&self) -> Result<(), ConfigError> {
        let name = self.store_type.as_str();
        let (redis, file) = (StoreType::Redis, StoreType::File);
        for (key, given, user, needed) in [
            ("url", self.url.is_some(), redis, true),
            ("prefix", self.prefix.is_some(), redis, false),
            ("path", self.path.is_some(), file, true),
            ("key", self.key.is_some(), self.store_type, true),
        ] {
            if given && user != self.store_type {
                return Err(ConfigError::new(
                    key,
                    format!(
                        "the store {name} does not use it: leave it out, or set type to {}",
                        user.as_str()
                    ),
                ));
            }
            if !given && needed && user == self.store_type {
                return Err(ConfigError::new(
                    key,
                    format!("it is missing, and the store {name} requires it: add it"),
                ));
            }
        }
        Ok(())
    }

    /// Returns the encryption key.
    #[cfg(any(feature = "redis", feature = "file"))]
    fn ring(&self) -> Result<KeyRing, ConfigError> {
        let key = read("key", given(&self.key, "key")?)?;
        KeyRing::new(key).map_err(|error| ConfigError::token("key", error))
    }

    #[cfg(feature = "redis")]
    fn redis(&self, builder: CacheBuilder) -> Result<CacheBuilder, ConfigError> {
        use crate::store::RedisStore;
        let at = |error| ConfigError::token("url", error);
        let url = read("url", given(&self.url, "url")?)?;
        let mut store = RedisStore::new(url.expose().map_err(at)?.as_str()).map_err(at)?;
        if let Some(prefix) = &self.prefix {
            let with_prefix = store.with_prefix(prefix.as_str());
            store = with_prefix.map_err(|error| ConfigError::token("prefix", error))?;
        }
        Ok(builder.with_store(store, self.ring()?))
    }

    #[cfg(not(feature = "redis"))]
    fn redis(&self, _: CacheBuilder) -> Result<CacheBuilder, ConfigError> {
        Err(without("redis"))
    }

    #[cfg(feature = "file")]
    fn file(&self, builder: CacheBuilder) -> Result<CacheBuilder, ConfigError> {
        use crate::store::FileStore;
        let path = self.path.clone().unwrap_or_default();
        Ok(builder.with_store(FileStore::new(path), self.ring()?))
    }

    #[cfg(not(feature = "file"))]
    fn file(&self, _: CacheBuilder) -> Result<CacheBuilder, ConfigError> {
        Err(without("file"))
    }
}

#[cfg(not(all(feature = "redis", feature = "file")))]
fn without(name: &str) -> ConfigError {
    ConfigError::new(
        "type",
        format!(
            "the program was built without the feature {name}: leave the store out, or build with the feature"
        ),
    )
}
