//! One connection: to a server, or to all that a cluster is of.

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

/// A connection. Clones share it.
#[derive(Clone)]
pub(super) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    /// What is answered to this command.
    pub(super) async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        match self {
            Self::Server(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }
}

/// Makes a connection, with the password and the keys as they are now.
pub(super) async fn connect(
    config: &RedisConfig,
    patience: Duration,
) -> Result<Connection, StoreError> {
    if config.has_tls() {
        provide_crypto();
    }
    let connection = async {
        match config.client(patience)? {
            RedisClient::Server(client) => {
                // Deadlines are ours.
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(None)
                    .set_response_timeout(None);
                let connection = client.get_multiplexed_async_connection_with_config(&config);
                connection.await.map(Connection::Server)
            }
            RedisClient::Cluster(_) if timer::after(Duration::ZERO).is_none() => {
                return Err(StoreError::new(
                    StoreErrorKind::Configuration,
                    "a cluster of redis is asked with timers, and this Tokio runtime has none: build it with enable_all",
                ));
            }
            RedisClient::Cluster(client) => {
                let connection = client.get_async_connection();
                connection.await.map(Connection::Cluster)
            }
        }
        .map_err(|error| store_error(&config.server_name(), &error))
    };
    match timer::within(patience, connection).await {
        Some(made) => made,
        None => Err(StoreError::new(
            StoreErrorKind::Timeout,
            format!(
                "redis at {} was not connected within {patience:?}",
                config.server_name()
            ),
        )),
    }
}

/// redis takes the process's provider of cryptography, and panics where there is none and rustls can't tell which is meant.
fn provide_crypto() {
    use rustls::crypto::{CryptoProvider, aws_lc_rs};
    if CryptoProvider::get_default().is_none() {
        // Somebody else may have been quicker.
        let _ = aws_lc_rs::default_provider().install_default();
    }
}
