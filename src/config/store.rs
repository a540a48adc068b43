//! Creates the store of the cache from its keys.

#[cfg(any(feature = "redis", feature = "file"))]
use super::secret::read_required;
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
        self.check_unused()?;
        match self.store_type {
            #[cfg(feature = "redis")]
            StoreType::Redis => self.redis(builder),
            #[cfg(feature = "file")]
            StoreType::File => self.file(builder),
            #[cfg(not(all(feature = "redis", feature = "file")))]
            _ => {
                drop(builder);
                let name = self.store_type.as_str();
                let message = format!(
                    "the program was built without the feature {name}: leave the store out, or build with the feature"
                );
                Err(ConfigError::new("type", message))
            }
        }
    }

    /// Returns an error if a key of another type of store is set.
    fn check_unused(&self) -> Result<(), ConfigError> {
        for (key, given, user) in [
            ("url", self.url.is_some(), StoreType::Redis),
            ("prefix", self.prefix.is_some(), StoreType::Redis),
            ("path", self.path.is_some(), StoreType::File),
        ] {
            if given && user != self.store_type {
                let (name, user) = (self.store_type.as_str(), user.as_str());
                let message = format!(
                    "the store {name} does not use it: leave it out, or set type to {user}"
                );
                return Err(ConfigError::new(key, message));
            }
        }
        Ok(())
    }

    /// Returns the message for a missing key.
    #[cfg(any(feature = "redis", feature = "file"))]
    fn missing(&self) -> String {
        let name = self.store_type.as_str();
        format!("it is missing, and the store {name} requires it: add it")
    }

    /// Returns the encryption key.
    #[cfg(any(feature = "redis", feature = "file"))]
    fn ring(&self) -> Result<KeyRing, ConfigError> {
        let key = read_required("key", &self.key, &self.missing())?;
        KeyRing::new(key).map_err(ConfigError::at("key"))
    }

    #[cfg(feature = "redis")]
    fn redis(&self, builder: CacheBuilder) -> Result<CacheBuilder, ConfigError> {
        use crate::store::RedisStore;
        let url = read_required("url", &self.url, &self.missing())?;
        let store = url.expose().and_then(|url| RedisStore::new(url.as_str()));
        let mut store = store.map_err(ConfigError::at("url"))?;
        if let Some(prefix) = &self.prefix {
            let with_prefix = store.with_prefix(prefix.as_str());
            store = with_prefix.map_err(ConfigError::at("prefix"))?;
        }
        Ok(builder.with_store(store, self.ring()?))
    }

    #[cfg(feature = "file")]
    fn file(&self, builder: CacheBuilder) -> Result<CacheBuilder, ConfigError> {
        use crate::store::FileStore;
        let path = self.path.clone();
        let path = path.ok_or_else(|| ConfigError::new("path", self.missing()))?;
        Ok(builder.with_store(FileStore::new(path), self.ring()?))
    }
}
