//! Reads the configuration: the library's sections, and `[proxy]`.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use serde::Deserialize;
use tower_bearer::{
    AuthLayer, TokenCache,
    config::{Config, ConfigDuration, ConfigError, ConfigSize, RouteConfig},
};

use crate::upstreams::{Upstream, Upstreams};

/// The validated settings.
pub(crate) struct Settings {
    pub(crate) cache: TokenCache,
    pub(crate) layer: AuthLayer,
    pub(crate) routes: Vec<RouteConfig>,
    pub(crate) upstreams: Upstreams,
    pub(crate) listen: SocketAddr,
    pub(crate) replay_limit: usize,
    pub(crate) grace: Duration,
}

/// The sections that belong to the proxy.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
struct ProxyConfig {
    #[serde(default)]
    proxy: Section,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
struct Section {
    listen: Option<String>,
    #[serde(default)]
    allow_remote: bool,
    replay_limit: Option<ConfigSize>,
    grace: Option<ConfigDuration>,
    #[serde(default)]
    upstream: Vec<UpstreamSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
struct UpstreamSection {
    prefix: String,
    url: String,
}

impl Settings {
    /// Reads the settings in this file. An error message contains no value, because it may be a secret.
    pub(crate) fn load(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path)
            .map_err(|error| format!("can't be read: {error}: pass the path of a TOML file"))?;
        let table: toml::Table = toml::from_str(&text).map_err(|error| syntax(&text, &error))?;
        let config = Config::deserialize(table).map_err(|error| error.message().to_owned())?;
        Self::new(config).map_err(|error| error.to_string())
    }

    fn new(config: Config<ProxyConfig>) -> Result<Self, ConfigError> {
        let cache = config.cache()?;
        let layer = config.layer(&cache)?;
        let section = &config.own.proxy;
        let in_proxy = |error: ConfigError| error.within("proxy");
        let replay_limit = section
            .replay_limit
            .map_or(64 << 10, |ConfigSize(bytes)| bytes);
        Ok(Self {
            cache,
            layer,
            upstreams: section.upstreams().map_err(in_proxy)?,
            listen: section.listen().map_err(in_proxy)?,
            replay_limit: usize::try_from(replay_limit).unwrap_or(usize::MAX),
            grace: section
                .grace
                .map_or(Duration::from_secs(30), |ConfigDuration(grace)| grace),
            routes: config.routes,
        })
    }
}

impl Section {
    fn listen(&self) -> Result<SocketAddr, ConfigError> {
        let text = self.listen.as_deref().unwrap_or("127.0.0.1:0");
        let address = match text.strip_prefix("localhost:") {
            Some(port) => port
                .parse()
                .map(|port| (IpAddr::from(Ipv4Addr::LOCALHOST), port).into())
                .ok(),
            None => text.parse::<SocketAddr>().ok(),
        };
        let address = address.ok_or_else(|| {
            ConfigError::new(
                "listen",
                "not an address with a port: write it as 127.0.0.1:8080",
            )
        })?;
        if !address.ip().to_canonical().is_loopback() && !self.allow_remote {
            return Err(ConfigError::new(
                "listen",
                "other machines could use your tokens: listen on 127.0.0.1, or set allow_remote = true",
            ));
        }
        Ok(address)
    }

    fn upstreams(&self) -> Result<Upstreams, ConfigError> {
        let mut upstreams = Upstreams::default();
        for (index, section) in self.upstream.iter().enumerate() {
            let at = |error: ConfigError| error.within_entry(index).within("upstream");
            let upstream = Upstream::new(&section.prefix, &section.url).map_err(at)?;
            upstreams.add(upstream).map_err(at)?;
        }
        Ok(upstreams)
    }
}

/// Describes a syntax error by its position, without the line itself.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let place = before.map_or(String::new(), |before| {
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("line {line}, column {column}: ")
    });
    format!("{place}not valid TOML: {}", error.message())
}
