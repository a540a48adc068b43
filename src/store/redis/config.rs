//! Parses the URL of Redis, and provides the settings of a connection.
//!
//! Passwords and keys are read again for each connection.

use redis::{
    ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo,
    TlsCertificates,
};
use url::Url;

use crate::{error::TokenError, secret::Secret, store::StoreError};

/// The location of Redis and the credentials.
#[derive(Clone)]
pub(super) struct RedisConfig {
    /// The server, without user and password, because the redis crate neither wipes nor hides them.
    pub(super) server: ConnectionInfo,
    /// The known nodes of the cluster, if it is one.
    pub(super) cluster: Option<Vec<ConnectionInfo>>,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) authority: Option<Vec<u8>>,
    pub(super) client: Option<(Vec<u8>, Secret)>,
}

impl RedisConfig {
    /// Parses a URL. It may contain a password, so no part of it is shown in an error.
    pub(super) fn parse(url: &str) -> Result<Self, TokenError> {
        let fault = |what: &str| {
            TokenError::configuration(format!(
                "the URL of Redis {what}: it must have the form redis://host:6379/0, or rediss://user:password@host:6379 with TLS"
            ))
        };
        let url =
            Url::parse(url).map_err(|error| fault(&format!("is not a valid URL ({error})")))?;
        if url.fragment().is_some() {
            return Err(fault(
                "has a fragment, but certificates are always verified (`with_authority` adds a custom authority)",
            ));
        }
        let server = url
            .into_connection_info()
            .map_err(|_| fault("has an unsupported scheme, or an invalid host or database"))?;
        let settings = server.redis_settings().clone();
        Ok(Self {
            user: settings.username().map(str::to_owned),
            password: settings.password().map(Secret::from),
            cluster: None,
            server: server.set_redis_settings(
                RedisConnectionInfo::default()
                    .set_db(settings.db())
                    .set_protocol(settings.protocol())
                    .set_skip_set_lib_name(),
            ),
            authority: None,
            client: None,
        })
    }

    /// Parses the URLs of some nodes of a cluster. User and password are taken from the first.
    pub(super) fn parse_cluster<'a>(
        urls: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, TokenError> {
        let nodes = urls.into_iter().map(Self::parse);
        let nodes: Vec<Self> = nodes.collect::<Result<_, _>>()?;
        let Some(mut first) = nodes.first().cloned() else {
            return Err(TokenError::configuration(
                "the Redis cluster has no nodes: pass the URL of at least one",
            ));
        };
        let nodes = nodes.into_iter().map(|node| node.server);
        let nodes: Vec<_> = nodes.collect();
        if nodes.iter().any(|node| node.redis_settings().db() != 0) {
            return Err(TokenError::configuration(
                "a URL of the Redis cluster selects a database: a cluster only has database 0",
            ));
        }
        first.cluster = Some(nodes);
        Ok(first)
    }

    /// Returns host and port, or the path of a socket. It contains no secret.
    pub(super) fn server_name(&self) -> String {
        self.server.addr().to_string()
    }

    /// Returns the settings with user and password. Reads the password.
    pub(super) fn settings(&self) -> Result<RedisConnectionInfo, StoreError> {
        let mut settings = self.server.redis_settings().clone();
        if let Some(user) = &self.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password.expose().map_err(unreadable)?.as_str());
        }
        Ok(settings)
    }

    /// Returns the certificates if TLS is used. Reads the private key.
    pub(super) fn certificates(&self) -> Result<Option<TlsCertificates>, StoreError> {
        if !matches!(self.server.addr(), ConnectionAddr::TcpTls { .. }) {
            return Ok(None);
        }
        // The redis crate panics if the process has no crypto provider. An installed one is not replaced.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client_tls = match &self.client {
            Some((certificate, key)) => Some(ClientTlsConfig {
                client_cert: certificate.clone(),
                client_key: key.expose().map_err(unreadable)?.as_str().into(),
            }),
            None => None,
        };
        Ok(Some(TlsCertificates {
            client_tls,
            root_cert: self.authority.clone(),
        }))
    }
}

fn unreadable(error: TokenError) -> StoreError {
    StoreError::configuration("the password or the private key for redis can't be read")
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_is_separated_from_any_form_of_url() {
        for url in [
            "redis://user:p%40ss@host:1234/5",
            "rediss://user:p%40ss@host/5?protocol=resp3",
            "redis+unix:///run/redis.sock?db=5&user=user&pass=p%40ss",
        ] {
            let config = RedisConfig::parse(url).unwrap();
            assert_eq!(config.user.as_deref(), Some("user"), "{url}");
            let password = config.password.unwrap().expose().unwrap();
            assert_eq!(password.as_str(), "p@ss", "{url}");
            assert_eq!(config.server.redis_settings().db(), 5, "{url}");
            assert_eq!(config.server.redis_settings().password(), None, "{url}");
        }
    }

    #[test]
    fn server_name_is_the_location_without_credentials() {
        let shown = |url| RedisConfig::parse(url).unwrap().server_name();
        assert_eq!(shown("redis://user:hunter2@host:1234/5"), "host:1234");
        assert_eq!(shown("rediss://:hunter2@host"), "host:6379");
        assert_eq!(
            shown("unix:///run/redis.sock?pass=hunter2"),
            "/run/redis.sock"
        );
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_causes_no_panic(text in ".*", rest in "[a-z:/@?#%0-9.\\[\\]=&-]*") {
            for url in [text, format!("redis://{rest}"), format!("unix:{rest}"), format!("rediss://u:p@h{rest}")] {
                if let Ok(config) = RedisConfig::parse(&url) {
                    proptest::prop_assert!(!config.server_name().is_empty());
                }
            }
        }
    }
}
