//! Implements [`RedisStore`]: the commands, their deadlines and retries.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use redis::{Cmd, FromRedisValue};
use tokio::time::Instant;

use super::{
    config::RedisConfig,
    connections::{ConnectionReceiver, Connections},
    error::{ends_connection, store_error},
    scripts::{DELETE_IF_SAME, LEASE, PUT, eval},
};
use crate::{
    error::TokenError,
    secret::Secret,
    store::{
        Fence, Lease, Name, StoreError, TokenStore, table::FENCE_LIFETIME, types::random_holder,
    },
    util::timer,
};

/// A store in Redis or a compatible server (Valkey, KeyDB, ElastiCache), which the processes of a fleet share.
///
/// Clones share their connection. It is established on first use, so a store can be created outside a runtime. A connection that
/// breaks is established again, and a call that fails because of this is repeated once.
///
/// A read takes at most 50 ms and a write 250 ms, including the time to connect. During an outage, the circuit breaker of the
/// cache decides how often Redis is called.
///
/// **Keys.** Each name has three keys in one hash slot, all with an expiry: `tower-bearer:{NAME}:value` (encrypted),
/// `tower-bearer:{NAME}:lease` and `tower-bearer:{NAME}:fence`. With ACLs, the user needs
/// `~tower-bearer:* +get +set +del +time +eval`, and in a cluster also `+cluster|slots`. Any `maxmemory-policy` works: an
/// evicted key causes a miss. Replication is asynchronous: after a failover two processes may hold the same lease, which causes
/// one extra fetch.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::{Secret, store::RedisStore};
///
/// let store = RedisStore::new("rediss://redis.internal:6379/0")?
///     .with_user("orders")
///     .with_password(Secret::new("correct horse"))
///     .with_prefix("orders")?
///     .with_read_timeout(Duration::from_millis(20));
///
/// let error = RedisStore::new("redis//:hunter2@redis.internal").unwrap_err();
/// assert!(!error.to_string().contains("hunter2"));
/// # Ok::<_, tower_bearer::TokenError>(())
/// ```
#[derive(Clone)]
pub struct RedisStore {
    config: RedisConfig,
    prefix: Arc<str>,
    read_timeout: Duration,
    write_timeout: Duration,
    connect_timeout: Duration,
    /// Shared by clones.
    connections: Arc<Connections>,
}

impl RedisStore {
    /// Creates a store at this URL: `redis://[user[:password]@]host[:port][/database]`, or `rediss://` with TLS.
    ///
    /// # Errors
    /// Returns an error if `url` is not such a URL. The message does not contain any part of it.
    pub fn new(url: &str) -> Result<Self, TokenError> {
        RedisConfig::parse(url).map(Self::at)
    }

    /// Creates a store in a Redis Cluster with the URLs of some nodes, through which the others are discovered. The user and the
    /// password of the first URL apply to all nodes.
    ///
    /// ```
    /// use tower_bearer::store::RedisStore;
    ///
    /// let store = RedisStore::cluster(["redis://node-1:7000", "redis://node-2:7000"])?;
    /// # Ok::<_, tower_bearer::TokenError>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if there is no URL, or if one of them is not valid for [`new`](Self::new) or selects a database. The message
    /// does not contain any part of them.
    pub fn cluster<'a>(urls: impl IntoIterator<Item = &'a str>) -> Result<Self, TokenError> {
        RedisConfig::parse_cluster(urls).map(Self::at)
    }

    fn at(config: RedisConfig) -> Self {
        Self {
            config,
            prefix: "tower-bearer".into(),
            read_timeout: Duration::from_millis(50),
            write_timeout: Duration::from_millis(250),
            connect_timeout: Duration::from_secs(2),
            connections: Arc::default(),
        }
    }

    /// Sets the user. Default: the user in the URL, otherwise the default user of Redis.
    #[must_use]
    pub fn with_user(mut self, user: impl Into<String>) -> Self {
        self.config.user = Some(user.into());
        self.with_new_connections()
    }

    /// Sets the password, which is read again for each connection. Default: the password in the URL.
    #[must_use]
    pub fn with_password(mut self, password: Secret) -> Self {
        self.config.password = Some(password);
        self.with_new_connections()
    }

    /// Sets the certificate authority of the server in PEM. Default: the authorities of the system.
    #[must_use]
    pub fn with_authority(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.config.authority = Some(pem.into());
        self.with_new_connections()
    }

    /// Sets the client certificate and its private key in PEM. The key is read again for each connection. Default: none.
    #[must_use]
    pub fn with_client_certificate(mut self, pem: impl Into<Vec<u8>>, key: Secret) -> Self {
        self.config.client = Some((pem.into(), key));
        self.with_new_connections()
    }

    /// Sets the prefix of every key. Processes that share tokens need the same prefix. Default: `tower-bearer`.
    ///
    /// # Errors
    /// Returns an error if the prefix contains a brace, since braces determine the hash slot of a key in a cluster.
    pub fn with_prefix(mut self, prefix: impl Into<Arc<str>>) -> Result<Self, TokenError> {
        self.prefix = prefix.into();
        if self.prefix.contains(['{', '}']) {
            return Err(TokenError::configuration(
                "the prefix of the keys in redis must not contain a brace",
            ));
        }
        Ok(self)
    }

    /// Sets the time limit of a read, which delays the fetch after a miss. Default: 50 ms.
    #[must_use]
    pub fn with_read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = timeout;
        self
    }

    /// Sets the time limit of a write, a lease or a deletion. Default: 250 ms.
    #[must_use]
    pub fn with_write_timeout(mut self, timeout: Duration) -> Self {
        self.write_timeout = timeout;
        self
    }

    /// Sets the time limit for establishing a connection. A call never waits longer than its own limit. Default: 2 s.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Separates the connections from those of the store that this one was cloned from.
    fn with_new_connections(mut self) -> Self {
        self.connections = Arc::default();
        self
    }

    fn key(&self, name: &Name, what: &str) -> String {
        format!("{}:{{{name}}}:{what}", self.prefix)
    }

    /// Runs a command within a deadline.
    async fn run<T: FromRedisValue>(
        &self,
        limit: Duration,
        command: &Cmd,
    ) -> Result<T, StoreError> {
        let mut sent = None;
        if let Some(outcome) = timer::within(limit, self.try_run(command, &mut sent)).await {
            return outcome;
        }
        // A connection without a response for half of the limit may be dead. A new one may only have had too little time.
        if let Some((connection, at)) = sent
            && at.elapsed() * 2 >= limit
        {
            self.connections.forget(&connection);
        }
        let server = self.config.server_name();
        Err(StoreError::timeout(format!(
            "redis at {server} did not respond within {limit:?}"
        )))
    }

    /// Runs a command. Repeats it once if the connection broke.
    async fn try_run<T: FromRedisValue>(
        &self,
        command: &Cmd,
        sent: &mut Option<(ConnectionReceiver, Instant)>,
    ) -> Result<T, StoreError> {
        let mut may_retry = true;
        loop {
            let connection = self.connections.get(&self.config, self.connect_timeout);
            let (mut connection, receiver) = connection.await?;
            *sent = Some((receiver.clone(), Instant::now()));
            let error = match connection.query(command).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            if ends_connection(&error) {
                self.connections.forget(&receiver);
            }
            if !may_retry || !error.is_io_error() {
                return Err(store_error(&self.config.server_name(), &error));
            }
            may_retry = false;
        }
    }
}

impl TokenStore for RedisStore {
    async fn get(&self, name: &Name) -> Result<Option<Bytes>, StoreError> {
        let mut get = redis::cmd("GET");
        get.arg(self.key(name, "value"));
        self.run(self.read_timeout, &get).await
    }

    async fn put(
        &self,
        name: &Name,
        value: Bytes,
        lifetime: Duration,
        fence: Option<Fence>,
    ) -> Result<bool, StoreError> {
        let mut put = eval(PUT, &[self.key(name, "value"), self.key(name, "fence")]);
        // Without a fence, the value is always stored, as with the highest one.
        put.arg(fence.map_or(u64::MAX, Fence::get))
            .arg(&*value)
            .arg(millis(lifetime));
        self.run(self.write_timeout, &put).await
    }

    async fn delete_if(&self, name: &Name, value: &Bytes) -> Result<bool, StoreError> {
        let mut delete = eval(DELETE_IF_SAME, &[self.key(name, "value")]);
        self.run(self.write_timeout, delete.arg(&**value)).await
    }

    async fn lease(&self, name: &Name, lifetime: Duration) -> Result<Option<Lease>, StoreError> {
        let holder = random_holder()?;
        let mut lease = eval(LEASE, &[self.key(name, "lease"), self.key(name, "fence")]);
        lease
            .arg(&holder)
            .arg(millis(lifetime))
            .arg(millis(lifetime.saturating_add(FENCE_LIFETIME)));
        let fence: Option<u64> = self.run(self.write_timeout, &lease).await?;
        Ok(fence.map(|fence| Lease::new(Fence::new(fence), holder)))
    }

    async fn release(&self, name: &Name, lease: Lease) -> Result<(), StoreError> {
        let mut release = eval(DELETE_IF_SAME, &[self.key(name, "lease")]);
        release.arg(lease.holder());
        let _is_released: bool = self.run(self.write_timeout, &release).await?;
        Ok(())
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("server", &self.config.server_name())
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Returns the argument of `PX`: at least one, and at most a number that Redis can add to the time.
fn millis(duration: Duration) -> u64 {
    const CENTURY: u64 = 100 * 365 * 24 * 3600 * 1000;
    u64::try_from(duration.as_millis())
        .unwrap_or(CENTURY)
        .clamp(1, CENTURY)
}
