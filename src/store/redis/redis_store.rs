//! The store itself: commands, their deadlines, and what happens when Redis is not there.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use redis::{Cmd, FromRedisValue, RedisError};
use tokio::time::Instant;

use super::{
    config::RedisConfig,
    connections::{Connections, NumberedConnection},
    error::{ends_connection, store_error},
    scripts::{LuaScript, Scripts},
};
use crate::{
    error::TokenError,
    secret::Secret,
    store::{
        Fence, Lease, Name, StoreError, StoreErrorKind, TokenStore, table::FENCE_LIFETIME,
        types::random_holder,
    },
    util::timer,
};

/// A store in Redis, or in what speaks its protocol (Valkey, KeyDB, ElastiCache), which all processes of a fleet share.
///
/// Clones share their connection. Nothing is connected before it is used, so a store can be made anywhere. A connection that
/// breaks is made anew; a call that it broke under is made once more.
///
/// A read takes 50 ms at most, a write 250 ms, connecting included. The cache's circuit breaker decides how often Redis is called
/// during an outage.
///
/// **What stands in Redis** for each name, all in one hash slot and each with an end: `tower-bearer:{NAME}:value`, which is sealed,
/// `tower-bearer:{NAME}:lease` and `tower-bearer:{NAME}:fence`. A user of an ACL needs
/// `~tower-bearer:* +get +set +del +time +evalsha +eval`, in a cluster `+cluster|slots` too. `maxmemory-policy` may be anything: what Redis evicts is a miss.
/// Replication is asynchronous: after a failover two processes may hold the same lease, which costs one fetch more.
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
    inner: Arc<Inner>,
}

/// What clones share.
struct Inner {
    connections: Connections,
    scripts: Scripts,
}

impl Inner {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            connections: Connections::new(),
            scripts: Scripts::new(),
        })
    }
}

impl RedisStore {
    /// A store at this URL: `redis://[user[:password]@]host[:port][/database]`, or `rediss://` with TLS.
    ///
    /// # Errors
    /// It is no such URL. The message shows none of it.
    pub fn new(url: &str) -> Result<Self, TokenError> {
        RedisConfig::read(url).map(Self::at)
    }

    /// A store in a Redis Cluster, of which these are some nodes; the others are found through them. All have the user and the
    /// password of the first.
    ///
    /// ```
    /// use tower_bearer::store::RedisStore;
    ///
    /// let store = RedisStore::cluster(["redis://node-1:7000", "redis://node-2:7000"])?;
    /// # Ok::<_, tower_bearer::TokenError>(())
    /// ```
    ///
    /// # Errors
    /// There is none, or one of them is no such URL as [`new`](Self::new) takes, or names a database. The message shows none of it.
    pub fn cluster<'a>(urls: impl IntoIterator<Item = &'a str>) -> Result<Self, TokenError> {
        RedisConfig::read_cluster(urls).map(Self::at)
    }

    fn at(config: RedisConfig) -> Self {
        Self {
            config,
            prefix: "tower-bearer".into(),
            read_timeout: Duration::from_millis(50),
            write_timeout: Duration::from_millis(250),
            connect_timeout: Duration::from_secs(2),
            inner: Inner::new(),
        }
    }

    /// Who we are there. Without, the URL says so, or the default user it is.
    #[must_use]
    pub fn with_user(mut self, user: impl Into<String>) -> Self {
        self.config.user = Some(user.into());
        self.anew()
    }

    /// The user's password, read anew for each connection.
    #[must_use]
    pub fn with_password(mut self, password: Secret) -> Self {
        self.config.password = Some(password);
        self.anew()
    }

    /// The certificate authority that Redis's certificate is of, in PEM, instead of the system's.
    #[must_use]
    pub fn with_authority(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.config.authority = Some(pem.into());
        self.anew()
    }

    /// A certificate of our own and its private key, both in PEM, where Redis asks for one. The key is read anew for each connection.
    #[must_use]
    pub fn with_client_certificate(mut self, pem: impl Into<Vec<u8>>, key: Secret) -> Self {
        self.config.client = Some((pem.into(), key));
        self.anew()
    }

    /// What every key begins with; `tower-bearer` by default. Processes that share tokens need the same.
    ///
    /// # Errors
    /// It holds a brace: those say which part of a key decides over its slot in a cluster.
    pub fn with_prefix(mut self, prefix: impl Into<Arc<str>>) -> Result<Self, TokenError> {
        self.prefix = prefix.into();
        if self.prefix.contains(['{', '}']) {
            return Err(TokenError::configuration(
                "the prefix of the keys in redis holds a brace: leave braces out",
            ));
        }
        Ok(self)
    }

    /// How long a read may take at most; 50 ms by default. It stands between a miss and the provider.
    #[must_use]
    pub fn with_read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = timeout;
        self
    }

    /// How long a write, a lease or a deletion may take at most; 250 ms by default.
    #[must_use]
    pub fn with_write_timeout(mut self, timeout: Duration) -> Self {
        self.write_timeout = timeout;
        self
    }

    /// How long a connection may take to be made; 2 s by default. No caller waits for it longer than its own call may take.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// A store that goes elsewhere, or as somebody else, has connections of its own.
    fn anew(mut self) -> Self {
        self.inner = Inner::new();
        self
    }

    fn key(&self, name: &Name, what: &str) -> String {
        format!("{}:{{{name}}}:{what}", self.prefix)
    }

    /// Runs a command within a deadline.
    async fn ask<T: FromRedisValue>(
        &self,
        limit: Duration,
        command: &Command<'_>,
    ) -> Result<T, StoreError> {
        let mut sent = None;
        if let Some(outcome) = timer::within(limit, self.run(command, &mut sent)).await {
            return outcome;
        }
        // A connection that was given half the time and said nothing may never say anything again. One that
        // was made just now had no chance yet.
        if let Some((number, at)) = sent
            && at.elapsed() * 2 >= limit
        {
            self.inner.connections.forget(number);
        }
        Err(StoreError::new(
            StoreErrorKind::Timeout,
            format!(
                "redis at {} did not answer within {limit:?}",
                self.config.server_name()
            ),
        ))
    }

    /// Runs a command, and once more if the connection it was sent on had been there before and broke.
    async fn run<T: FromRedisValue>(
        &self,
        command: &Command<'_>,
        sent: &mut Option<(u64, Instant)>,
    ) -> Result<T, StoreError> {
        let mut may_retry = true;
        loop {
            let connections = &self.inner.connections;
            let mut on = connections.get(&self.config, self.connect_timeout).await?;
            *sent = Some((on.number, Instant::now()));
            let error = match command.query(&mut on).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let broke = ends_connection(&error);
            if broke {
                connections.forget(on.number);
            }
            if !(may_retry && broke && on.is_used && error.is_io_error()) {
                return Err(store_error(&self.config.server_name(), &error));
            }
            may_retry = false;
        }
    }
}

/// What Redis is asked.
enum Command<'a> {
    Plain(Cmd),
    Script(&'a LuaScript, &'a [String], &'a [&'a [u8]]),
}

impl Command<'_> {
    async fn query<T: FromRedisValue>(&self, on: &mut NumberedConnection) -> Result<T, RedisError> {
        match self {
            Self::Plain(command) => on.connection.query(command).await,
            Self::Script(script, keys, arguments) => {
                let first = script.by_digest(keys, arguments);
                let error = match on.connection.query(&first).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                };
                match script.by_text(&error, keys, arguments) {
                    Some(again) => on.connection.query(&again).await,
                    None => Err(error),
                }
            }
        }
    }
}

impl TokenStore for RedisStore {
    async fn get(&self, name: &Name) -> Result<Option<Bytes>, StoreError> {
        let mut get = redis::cmd("GET");
        get.arg(self.key(name, "value"));
        self.ask(self.read_timeout, &Command::Plain(get)).await
    }

    async fn put(
        &self,
        name: &Name,
        value: Bytes,
        lifetime: Duration,
        fence: Option<Fence>,
    ) -> Result<bool, StoreError> {
        let lifetime = millis(lifetime);
        let Some(fence) = fence else {
            let mut set = redis::cmd("SET");
            set.arg(self.key(name, "value"))
                .arg(&*value)
                .arg("PX")
                .arg(lifetime);
            let () = self.ask(self.write_timeout, &Command::Plain(set)).await?;
            return Ok(true);
        };
        let keys = [self.key(name, "value"), self.key(name, "fence")];
        let (fence, lifetime) = (fence.get().to_string(), lifetime.to_string());
        let arguments = [fence.as_bytes(), &value, lifetime.as_bytes()];
        let put = Command::Script(&self.inner.scripts.put, &keys, &arguments);
        self.ask(self.write_timeout, &put).await
    }

    async fn delete_if(&self, name: &Name, value: &Bytes) -> Result<bool, StoreError> {
        let keys = [self.key(name, "value")];
        let arguments = [&**value];
        let delete = Command::Script(&self.inner.scripts.delete_if, &keys, &arguments);
        self.ask(self.write_timeout, &delete).await
    }

    async fn lease(&self, name: &Name, lifetime: Duration) -> Result<Option<Lease>, StoreError> {
        let keys = [self.key(name, "lease"), self.key(name, "fence")];
        let holder = random_holder()?;
        let remembered = millis(lifetime.saturating_add(FENCE_LIFETIME)).to_string();
        let lifetime = millis(lifetime).to_string();
        let arguments = [
            holder.as_bytes(),
            lifetime.as_bytes(),
            remembered.as_bytes(),
        ];
        let lease = Command::Script(&self.inner.scripts.lease, &keys, &arguments);
        let fence: Option<u64> = self.ask(self.write_timeout, &lease).await?;
        Ok(fence.map(|fence| Lease::new(Fence::new(fence), holder)))
    }

    async fn release(&self, name: &Name, lease: Lease) -> Result<(), StoreError> {
        let keys = [self.key(name, "lease")];
        let arguments = [lease.holder().as_bytes()];
        let release = Command::Script(&self.inner.scripts.release, &keys, &arguments);
        let _was_ours: bool = self.ask(self.write_timeout, &release).await?;
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

/// For `PX`: at least one, and at most what Redis can add to the time.
fn millis(duration: Duration) -> u64 {
    const CENTURY: u64 = 100 * 365 * 24 * 3600 * 1000;
    u64::try_from(duration.as_millis())
        .unwrap_or(CENTURY)
        .clamp(1, CENTURY)
}
