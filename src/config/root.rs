//! Defines [`Config`], the whole configuration, and creates the cache and the layer from it.

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};

use super::{
    cache::CacheConfig,
    error::ConfigError,
    node::{Node, Table},
    route::RouteConfig,
    source::SourceConfig,
};
use crate::{cache::TokenCache, layer::AuthLayer, transport::Transport};

/// A configuration: the source of the tokens, the cache, the routes, and the sections of the program.
///
/// `Own` is a struct of the program, with a field for each additional section:
///
/// ```
/// use serde::Deserialize;
/// use tower_bearer::config::{Config, ConfigDuration};
///
/// #[derive(Debug, Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Mine {
///     worker: Worker,
/// }
///
/// #[derive(Debug, Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Worker {
///     pause: ConfigDuration,
/// }
///
/// let text = r#"
///     [worker]
///     pause = "5m"
///
///     [source]
///     type = "client_credentials"
///     token_url = "https://login.example.com/token"
///     client_id = "orders"
///     client_secret = "hunter2"
/// "#;
/// let config: Config<Mine> = toml::from_str(text)?;
/// assert_eq!(config.own.worker.pause.0.as_secs(), 300);
/// let cache = config.cache()?;
/// # let _ = cache;
///
/// // Their errors are reported in the same way.
/// let error = toml::from_str::<Config<Mine>>(&text.replace("5m", "5 minutes")).unwrap_err();
/// assert!(error.message().starts_with("worker.pause: "));
/// let error = toml::from_str::<Config<Mine>>(&text.replace("worker", "wroker")).unwrap_err();
/// assert!(error.message().contains("`source`, `cache`, `route` or `worker`"));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Config<Own = NoExtra> {
    /// The section `[source]`.
    pub source: SourceConfig,
    /// The section `[cache]`.
    pub cache: CacheConfig,
    /// The entries `[[route]]`.
    pub routes: Vec<RouteConfig>,
    /// The sections of the program.
    pub own: Own,
}

/// No additional sections.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoExtra {}

impl<Own> Config<Own> {
    /// Creates the cache. It does not call the provider.
    ///
    /// # Errors
    /// Returns an error if the source or the cache is misconfigured.
    #[cfg(any(feature = "reqwest", feature = "hyper"))]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "reqwest", feature = "hyper"))))]
    pub fn cache(&self) -> Result<TokenCache, ConfigError> {
        self.cache_with_transport(Transport::preferred())
    }

    /// Creates the cache, with a source that sends token requests with this transport.
    ///
    /// # Errors
    /// Returns an error in the same cases as [`cache`](Self::cache).
    ///
    /// ```
    /// use bytes::Bytes;
    /// use tower_bearer::{config::Config, transport::Transport};
    ///
    /// # let config: Config = toml::from_str("
    /// #     [source]
    /// #     type = 'client_credentials'
    /// #     token_url = 'https://login.example.com/token'
    /// #     client_id = 'orders'
    /// #     client_auth = 'none'
    /// # ")?;
    /// let transport = Transport::from_fn(async |_| Ok(http::Response::new(Bytes::from(r#"{"access_token":"abc"}"#))));
    /// let cache = config.cache_with_transport(transport)?;
    /// # let _ = cache;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn cache_with_transport(&self, transport: Transport) -> Result<TokenCache, ConfigError> {
        let builder = self.source.builder(transport);
        let builder = builder.map_err(|error| error.within("source"))?;
        let builder = self.cache.apply(builder);
        Ok(builder.map_err(|error| error.within("cache"))?.build())
    }

    /// Creates the layer with its routes, on this cache.
    ///
    /// # Errors
    /// Returns an error if a route is misconfigured.
    pub fn layer(&self, cache: &TokenCache) -> Result<AuthLayer, ConfigError> {
        let mut layer = AuthLayer::new(cache.clone());
        for (index, config) in self.routes.iter().enumerate() {
            let at = |error: ConfigError| error.within_entry(index).within("route");
            let route = config.route().map_err(at)?;
            if self.source.requires_tenant() && config.tenant.is_none() {
                let error = ConfigError::new(
                    "tenant",
                    "it is missing, and the provider's URL contains {tenant}: add it",
                );
                return Err(at(error));
            }
            let with_route = layer.with_route(route).map_err(ConfigError::at("url"));
            layer = with_route.map_err(at)?;
        }
        Ok(layer)
    }
}

impl<'de, Own: DeserializeOwned> Deserialize<'de> for Config<Own> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let node = Node::deserialize(deserializer)?;
        Self::read(node).map_err(D::Error::custom)
    }
}

impl<Own: DeserializeOwned> Config<Own> {
    fn read(node: Node) -> Result<Self, ConfigError> {
        let Node::Table(mut table) = node else {
            return Err(ConfigError::custom(
                "expected a table: write the configuration as sections",
            ));
        };
        let known = ["source", "cache", "route"];
        let source = section(&mut table, "source")?
            .ok_or_else(|| ConfigError::new("source", "it is missing: add the section [source]"))?;
        Ok(Self {
            source,
            cache: section(&mut table, "cache")?.unwrap_or_default(),
            routes: section(&mut table, "route")?.unwrap_or_default(),
            own: Own::deserialize(Node::Table(table)).map_err(|error| error.also_known(&known))?,
        })
    }
}

/// Removes a section from the table, if it exists.
fn section<T: DeserializeOwned>(
    table: &mut Table,
    key: &'static str,
) -> Result<Option<T>, ConfigError> {
    let Some(index) = table.iter().position(|(name, _)| name == key) else {
        return Ok(None);
    };
    let (_, node) = table.remove(index);
    let section = T::deserialize(node);
    section.map(Some).map_err(|error| error.within(key))
}
