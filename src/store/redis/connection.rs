//! Establishes a connection to a server or to a cluster, and sends commands over it.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Cmd, ConnectionInfo, FromRedisValue, RedisError, RedisResult,
    aio::MultiplexedConnection, cluster::ClusterClientBuilder, cluster_async::ClusterConnection,
};

use super::{config::RedisConfig, error::store_error};
use crate::{store::StoreError, util::timer};

/// How often a command is sent again when its slot has moved to another node of the cluster.
const MAX_REDIRECTS: u32 = 4;

/// A connection, shared by its clones.
#[derive(Clone)]
pub(super) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    /// Establishes a connection. Reads the password and the keys again.
    pub(super) async fn establish(
        config: &RedisConfig,
        limit: Duration,
    ) -> Result<Self, StoreError> {
        let connection = timer::within(limit, Self::try_establish(config, limit)).await;
        connection.unwrap_or_else(|| {
            Err(StoreError::timeout(format!(
                "could not connect to redis at {} within {limit:?}",
                config.server_name()
            )))
        })
    }

    async fn try_establish(config: &RedisConfig, limit: Duration) -> Result<Self, StoreError> {
        let settings = config.settings()?;
        let with_settings =
            |node: &ConnectionInfo| node.clone().set_redis_settings(settings.clone());
        let certificates = config.certificates()?;
        let unusable = |error: RedisError| {
            StoreError::configuration(format!(
                "redis at {} can't be used as configured ({}): check the certificates and the key, which must be PEM",
                config.server_name(),
                error.category()
            ))
        };
        let connection = match &config.cluster {
            Some(_) if timer::after(Duration::ZERO).is_none() => {
                return Err(StoreError::configuration(
                    "a redis cluster needs timers, and this Tokio runtime has none: build it with enable_all",
                ));
            }
            Some(nodes) => {
                let mut builder = ClusterClientBuilder::new(nodes.iter().map(with_settings))
                    .retries(MAX_REDIRECTS)
                    .connection_timeout(limit)
                    .response_timeout(limit)
                    .overall_response_timeout(None);
                if let Some(certificates) = certificates {
                    builder = builder.certs(certificates);
                }
                let client = builder.build().map_err(unusable)?;
                client.get_async_connection().await.map(Self::Cluster)
            }
            None => {
                let server = with_settings(&config.server);
                let client = match certificates {
                    Some(certificates) => redis::Client::build_with_tls(server, certificates),
                    None => redis::Client::open(server),
                };
                // The store has its own deadlines.
                let without_timeouts = AsyncConnectionConfig::new()
                    .set_connection_timeout(None)
                    .set_response_timeout(None);
                let client = client.map_err(unusable)?;
                let connection =
                    client.get_multiplexed_async_connection_with_config(&without_timeouts);
                connection.await.map(Self::Server)
            }
        };
        connection.map_err(|error| store_error(&config.server_name(), &error))
    }

    /// Sends a command and returns the response.
    pub(super) async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        match self {
            Self::Server(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }
}
