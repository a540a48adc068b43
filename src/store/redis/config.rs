//! Parses the URL of Redis, and makes the clients that connect to it.
//!
//! Passwords and keys are read again for each connection.

use std::time::Duration;

use redis::{
    ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo,
    RedisResult, TlsCertificates,
    cluster::{ClusterClient, ClusterClientBuilder},
};
use url::Url;

use crate::{
    error::TokenError,
    secret::Secret,
    store::{StoreError, StoreErrorKind},
};

/// The location of Redis and the credentials.
#[derive(Clone)]
pub(super) struct RedisConfig {
    /// The server, without user and password.
    server: ConnectionInfo,
    /// The known nodes of the cluster, if it is one.
    cluster: Option<Vec<ConnectionInfo>>,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) authority: Option<Vec<u8>>,
    pub(super) client: Option<(Vec<u8>, Secret)>,
}

/// A client that makes connections.
pub(super) enum RedisClient {
    Server(Box<redis::Client>),
    Cluster(Box<ClusterClient>),
}

/// How often a command is sent again when its slot has moved to another node of the cluster.
const MAX_REDIRECTS: u32 = 4;

impl RedisConfig {
    /// Parses a URL. It may contain a password, so no part of it is shown in an error.
    pub(super) fn parse(url: &str) -> Result<Self, TokenError> {
        let fault = |what: &str| {
            TokenError::configuration(format!(
                "the URL of Redis {what}: it must have the form redis://host:6379/0, or rediss://user:password@host:6379 with TLS"
            ))
        };
        let mut url =
            Url::parse(url).map_err(|error| fault(&format!("is not a valid URL ({error})")))?;
        if !matches!(
            url.scheme(),
            "redis" | "rediss" | "valkey" | "valkeys" | "redis+unix" | "valkey+unix" | "unix"
        ) {
            return Err(fault("has an unsupported scheme"));
        }
        if url.fragment().is_some() {
            return Err(fault(
                "has a fragment, but certificates are always verified (`with_authority` adds a custom authority)",
            ));
        }
        let whole =
            connection_info(url.clone()).map_err(|_| fault("has an invalid host or database"))?;
        let settings = whole.redis_settings();
        let (user, password) = (settings.username(), settings.password());
        // The redis crate neither wipes nor hides its settings, so they are stored without the credentials.
        if url.set_username("").is_err() || url.set_password(None).is_err() {
            url.set_query(None);
        }
        let server = connection_info(url).map_err(|_| fault("is not valid"))?;
        Ok(Self {
            user: user.map(str::to_owned),
            password: password.map(Secret::from),
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
        if nodes
            .iter()
            .any(|node| node.server.redis_settings().db() != 0)
        {
            return Err(TokenError::configuration(
                "a URL of the Redis cluster selects a database: a cluster only has database 0",
            ));
        }
        first.cluster = Some(nodes.into_iter().map(|node| node.server).collect());
        Ok(first)
    }

    pub(super) fn has_tls(&self) -> bool {
        matches!(self.server.addr(), ConnectionAddr::TcpTls { .. })
    }

    /// Returns host and port, or the path of a socket. It contains no secret.
    pub(super) fn server_name(&self) -> String {
        self.server.addr().to_string()
    }

    /// Makes a client. Reads the password and the keys.
    pub(super) fn client(&self, limit: Duration) -> Result<RedisClient, StoreError> {
        let password = match &self.password {
            Some(password) => Some(password.expose().map_err(unreadable)?),
            None => None,
        };
        let password = password.as_ref().map(|password| password.as_str());
        let certificates = self.has_tls().then(|| self.certificates()).transpose()?;
        let client = match &self.cluster {
            Some(nodes) => {
                let mut builder = ClusterClientBuilder::new(nodes.clone())
                    .retries(MAX_REDIRECTS)
                    .connection_timeout(limit)
                    .response_timeout(limit)
                    .overall_response_timeout(None)
                    .use_protocol(self.server.redis_settings().protocol());
                if let Some(user) = &self.user {
                    builder = builder.username(user);
                }
                if let Some(password) = password {
                    builder = builder.password(password);
                }
                if let Some(certificates) = certificates {
                    builder = builder.certs(certificates);
                }
                builder.build().map(Box::new).map(RedisClient::Cluster)
            }
            None => {
                let mut settings = self.server.redis_settings().clone();
                if let Some(user) = &self.user {
                    settings = settings.set_username(user);
                }
                if let Some(password) = password {
                    settings = settings.set_password(password);
                }
                let server = self.server.clone().set_redis_settings(settings);
                let client = match certificates {
                    Some(certificates) => redis::Client::build_with_tls(server, certificates),
                    None => redis::Client::open(server),
                };
                client.map(Box::new).map(RedisClient::Server)
            }
        };
        client.map_err(|error| self.unusable(&error))
    }

    fn certificates(&self) -> Result<TlsCertificates, StoreError> {
        let client_tls = match &self.client {
            Some((certificate, key)) => Some(ClientTlsConfig {
                client_cert: certificate.clone(),
                client_key: key.expose().map_err(unreadable)?.as_str().into(),
            }),
            None => None,
        };
        Ok(TlsCertificates {
            client_tls,
            root_cert: self.authority.clone(),
        })
    }

    fn unusable(&self, error: &redis::RedisError) -> StoreError {
        StoreError::new(
            StoreErrorKind::Configuration,
            format!(
                "redis at {} can't be used as configured ({}): check the certificates and the key, which must be PEM",
                self.server_name(),
                error.category()
            ),
        )
    }
}

fn connection_info(url: Url) -> RedisResult<ConnectionInfo> {
    url.into_connection_info()
}

fn unreadable(error: TokenError) -> StoreError {
    StoreError::new(
        StoreErrorKind::Configuration,
        "the password or the private key for redis can't be read",
    )
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
