//! Establishes a connection to a server or to a cluster, and sends commands over it.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Cmd, FromRedisValue, RedisResult, aio::MultiplexedConnection,
    cluster_async::ClusterConnection,
};

use super::{
    config::{RedisClient, RedisConfig},
    error::store_error,
};
use crate::{
    store::{StoreError, StoreErrorKind},
    util::timer,
};

/// A connection, shared by its clones.
#[derive(Clone)]
pub(super) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    /// Sends a command and returns the response.
    pub(super) async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        match self {
            Self::Server(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }
}

/// Establishes a connection. Reads the password and the keys again.
pub(super) async fn connect(
    config: &RedisConfig,
    limit: Duration,
) -> Result<Connection, StoreError> {
    if config.has_tls() {
        install_crypto_provider();
    }
    let connection = async {
        match config.client(limit)? {
            RedisClient::Server(client) => {
                // The store has its own deadlines.
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(None)
                    .set_response_timeout(None);
                let connection = client.get_multiplexed_async_connection_with_config(&config);
                connection.await.map(Connection::Server)
            }
            RedisClient::Cluster(_) if timer::after(Duration::ZERO).is_none() => {
                return Err(StoreError::new(
                    StoreErrorKind::Configuration,
                    "a redis cluster needs timers, and this Tokio runtime has none: build it with enable_all",
                ));
            }
            RedisClient::Cluster(client) => {
                let connection = client.get_async_connection();
                connection.await.map(Connection::Cluster)
            }
        }
        .map_err(|error| store_error(&config.server_name(), &error))
    };
    match timer::within(limit, connection).await {
        Some(made) => made,
        None => Err(StoreError::new(
            StoreErrorKind::Timeout,
            format!(
                "could not connect to redis at {} within {limit:?}",
                config.server_name()
            ),
        )),
    }
}

/// Installs a crypto provider. The redis crate uses the one of the process, and panics if rustls can't determine it.
fn install_crypto_provider() {
    use rustls::crypto::{CryptoProvider, aws_lc_rs};
    if CryptoProvider::get_default().is_none() {
        // Another thread may have installed one in the meantime.
        let _ = aws_lc_rs::default_provider().install_default();
    }
}
