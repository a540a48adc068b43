//! Where Redis is and who we are there. Read when the store is made; passwords and keys are read for each connection.

use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo, RedisConnectionInfo, RedisResult, TlsCertificates,
};
use url::Url;

use crate::{
    error::TokenError,
    secret::Secret,
    store::{StoreError, StoreErrorKind},
};

/// Where Redis is and who we are there.
#[derive(Clone)]
pub(super) struct Address {
    /// Without user and password.
    server: ConnectionInfo,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) authority: Option<Vec<u8>>,
    pub(super) client: Option<(Vec<u8>, Secret)>,
}

impl Address {
    /// Reads a URL. It may hold a password, so no error shows any of it.
    pub(super) fn read(url: &str) -> Result<Self, TokenError> {
        let fault = |what: &str| {
            TokenError::configuration(format!(
                "the URL of Redis {what}: it looks like redis://host:6379/0, or rediss://user:password@host:6379 with TLS"
            ))
        };
        let mut url =
            Url::parse(url).map_err(|error| fault(&format!("can't be read ({error})")))?;
        if !matches!(
            url.scheme(),
            "redis" | "rediss" | "valkey" | "valkeys" | "redis+unix" | "valkey+unix" | "unix"
        ) {
            return Err(fault("is of another scheme"));
        }
        if url.fragment().is_some() {
            return Err(fault(
                "has a fragment, and certificates are always checked (`with_authority` for one of your own)",
            ));
        }
        let whole = connection_info(url.clone())
            .map_err(|_| fault("names no host and database that can be"))?;
        let settings = whole.redis_settings();
        let (user, password) = (settings.username(), settings.password());
        // The rest is kept without them: redis neither wipes nor hides what it has.
        if url.set_username("").is_err() || url.set_password(None).is_err() {
            url.set_query(None);
        }
        let server = connection_info(url).map_err(|_| fault("can't be read"))?;
        Ok(Self {
            user: user.map(str::to_owned),
            password: password.map(Secret::from),
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

    pub(super) fn has_tls(&self) -> bool {
        matches!(self.server.addr(), ConnectionAddr::TcpTls { .. })
    }

    /// Host and port, or a socket's path: what a log may show.
    pub(super) fn shown(&self) -> String {
        self.server.addr().to_string()
    }

    /// A client with the password and the keys as they are now.
    pub(super) fn client(&self) -> Result<Client, StoreError> {
        let mut settings = self.server.redis_settings().clone();
        if let Some(user) = &self.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password.expose().map_err(unreadable)?.as_str());
        }
        let server = self.server.clone().set_redis_settings(settings);
        if !self.has_tls() {
            return Client::open(server).map_err(|error| self.unusable(&error));
        }
        let client_tls = match &self.client {
            Some((certificate, key)) => Some(ClientTlsConfig {
                client_cert: certificate.clone(),
                client_key: key.expose().map_err(unreadable)?.as_str().into(),
            }),
            None => None,
        };
        let certificates = TlsCertificates {
            client_tls,
            root_cert: self.authority.clone(),
        };
        Client::build_with_tls(server, certificates).map_err(|error| self.unusable(&error))
    }

    fn unusable(&self, error: &redis::RedisError) -> StoreError {
        StoreError::new(
            StoreErrorKind::Configuration,
            format!(
                "redis at {} can't be used as configured ({}): look at the certificates and the key, which must be PEM",
                self.shown(),
                error.category()
            ),
        )
    }
}

/// What a connection is made with: deadlines are ours.
pub(super) fn connection_config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
}

fn connection_info(url: Url) -> RedisResult<ConnectionInfo> {
    url.into_connection_info()
}

fn unreadable(error: TokenError) -> StoreError {
    StoreError::new(
        StoreErrorKind::Configuration,
        "the password or the key for redis can't be read",
    )
    .with_source(error)
}
