//! Reads a configuration from environment variables.

use std::{env, ffi::OsString};

use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::{
    error::ConfigError, node::Node, root::Config, route::RouteConfig, secret::SecretFrom,
    source::SourceConfig,
};

impl Config {
    /// Reads the configuration from the usual environment variables. An empty variable counts as not set.
    ///
    /// | variable | value |
    /// |---|---|
    /// | `OAUTH_TOKEN_URL`, or `OAUTH_ISSUER` | the token endpoint, or the issuer whose metadata names it |
    /// | `OAUTH_CLIENT_ID` | the client id |
    /// | `OAUTH_CLIENT_SECRET`, or `OAUTH_CLIENT_SECRET_FILE` | the secret, or a file that is read again for each use |
    /// | `OAUTH_CLIENT_AUTH` | how the client authenticates: a [`ClientAuthName`](super::ClientAuthName); the default is `basic` |
    /// | `OAUTH_PRIVATE_KEY_FILE`, `OAUTH_CERTIFICATE_FILE` | the key and the certificate, if the client authentication requires them |
    /// | `OAUTH_ASSERTION_FILE` | a JWT that was signed elsewhere, if the client authentication requires one |
    /// | `OAUTH_CA_FILE` | additional root certificates for the token endpoint, in PEM |
    /// | `OAUTH_FETCH_TIMEOUT` | the time limit of a fetch, such as `10s` |
    /// | `OAUTH_URL` | the URL of the only route; without it, there are no routes |
    /// | `OAUTH_SCOPES` | its scopes, separated by spaces |
    /// | `OAUTH_RESOURCE`, `OAUTH_AUDIENCE`, `OAUTH_TENANT` | its resource, audience and tenant |
    ///
    /// # Errors
    /// Returns an error if a variable is not valid, or has no effect without another one. The message names the variable.
    ///
    /// ```
    /// use tower_bearer::config::Config;
    ///
    /// let config = Config::from_env()?;
    /// match config.cache() {
    ///     Ok(cache) => println!("client {:?}: {cache:?}", config.source.client_id),
    ///     Err(error) => println!("{error}"),
    /// }
    /// # Ok::<_, tower_bearer::config::ConfigError>(())
    /// ```
    pub fn from_env() -> Result<Self, ConfigError> {
        read(&|name| env::var_os(name))
    }
}

type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

fn read(lookup: Lookup<'_>) -> Result<Config, ConfigError> {
    let text = |name: &str| variable::<String>(lookup, name);
    let file = |name: &str| Ok(text(name)?.map(|path| SecretFrom::File(path.into())));
    let mut source = SourceConfig {
        token_url: text("OAUTH_TOKEN_URL")?,
        issuer: text("OAUTH_ISSUER")?,
        client_id: text("OAUTH_CLIENT_ID")?,
        client_secret: file("OAUTH_CLIENT_SECRET_FILE")?,
        private_key: file("OAUTH_PRIVATE_KEY_FILE")?,
        certificate: file("OAUTH_CERTIFICATE_FILE")?,
        assertion: file("OAUTH_ASSERTION_FILE")?,
        ca: file("OAUTH_CA_FILE")?,
        client_auth: variable(lookup, "OAUTH_CLIENT_AUTH")?,
        fetch_timeout: variable(lookup, "OAUTH_FETCH_TIMEOUT")?,
        ..SourceConfig::default()
    };
    if let Some(secret) = variable(lookup, "OAUTH_CLIENT_SECRET")? {
        if source.client_secret.is_some() {
            return Err(ConfigError::new(
                "OAUTH_CLIENT_SECRET",
                "it is set together with OAUTH_CLIENT_SECRET_FILE: unset one of them",
            ));
        }
        source.client_secret = Some(secret);
    }
    let scopes = text("OAUTH_SCOPES")?.unwrap_or_default();
    let scopes = scopes.split_ascii_whitespace();
    let route = RouteConfig {
        url: text("OAUTH_URL")?.unwrap_or_default(),
        scopes: scopes.map(str::to_owned).collect(),
        resource: text("OAUTH_RESOURCE")?.into_iter().collect(),
        audience: text("OAUTH_AUDIENCE")?,
        tenant: text("OAUTH_TENANT")?,
        ..RouteConfig::default()
    };
    let mut config = Config {
        source,
        ..Config::default()
    };
    let given = [
        ("OAUTH_SCOPES", !route.scopes.is_empty()),
        ("OAUTH_RESOURCE", !route.resource.is_empty()),
        ("OAUTH_AUDIENCE", route.audience.is_some()),
        ("OAUTH_TENANT", route.tenant.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        _ if !route.url.is_empty() => config.routes.push(route),
        Some((name, _)) => {
            return Err(ConfigError::new(
                *name,
                "it has no effect without OAUTH_URL: set OAUTH_URL, or unset it",
            ));
        }
        None => {}
    }
    Ok(config)
}

/// Reads a variable as the key that it sets.
fn variable<T: DeserializeOwned>(lookup: Lookup<'_>, name: &str) -> Result<Option<T>, ConfigError> {
    let Some(value) = lookup(name).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let text = value.into_string();
    let text = text.map_err(|_| ConfigError::new(name, "it is not valid UTF-8: set it again"))?;
    let value = T::deserialize(Node::Text(Zeroizing::new(text)));
    value.map(Some).map_err(|error| error.within(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClientAuthName;

    fn read_from(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        read(&|name| {
            let (_, value) = pairs.iter().find(|(known, _)| *known == name)?;
            Some((*value).into())
        })
    }

    #[test]
    fn each_variable_sets_its_key() {
        let config = read_from(&[
            ("OAUTH_TOKEN_URL", "https://login.example/{tenant}/token"),
            ("OAUTH_ISSUER", ""),
            ("OAUTH_CLIENT_ID", "orders"),
            ("OAUTH_CLIENT_SECRET", "hunter2"),
            ("OAUTH_CLIENT_AUTH", "post"),
            ("OAUTH_FETCH_TIMEOUT", "3s"),
            ("OAUTH_URL", "https://api.example"),
            ("OAUTH_SCOPES", "read  write"),
            ("OAUTH_RESOURCE", "https://api.example"),
            ("OAUTH_AUDIENCE", "stock"),
            ("OAUTH_TENANT", "acme"),
        ])
        .unwrap();
        assert_eq!(config.source.client_id.as_deref(), Some("orders"));
        assert_eq!(config.source.issuer, None);
        assert_eq!(config.source.client_auth, Some(ClientAuthName::Post));
        let [route] = &*config.routes else {
            panic!("{config:?}")
        };
        assert_eq!(route.scopes, ["read", "write"]);
        assert_eq!(route.spec().tenant(), Some("acme"));
        assert_eq!(route.spec().audience(), Some("stock"));
        let cache = config.cache_with_transport(crate::transport::Transport::from_fn(async |_| {
            panic!("no request is sent")
        }));
        assert!(config.layer(&cache.unwrap()).is_ok());
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn errors_name_the_variable_and_not_its_value() {
        for (pairs, name) in [
            (&[("OAUTH_SCOPES", "x-hunter2")][..], "OAUTH_SCOPES"),
            (&[("OAUTH_CLIENT_AUTH", "x-hunter2")], "OAUTH_CLIENT_AUTH"),
            (
                &[("OAUTH_FETCH_TIMEOUT", "x-hunter2")],
                "OAUTH_FETCH_TIMEOUT",
            ),
            (
                &[
                    ("OAUTH_CLIENT_SECRET", "x-hunter2"),
                    ("OAUTH_CLIENT_SECRET_FILE", "x"),
                ],
                "OAUTH_CLIENT_SECRET",
            ),
        ] {
            let error = read_from(pairs).unwrap_err();
            assert_eq!(error.key(), name);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
