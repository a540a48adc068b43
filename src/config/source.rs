//! [`SourceConfig`]: where tokens come from.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;

use super::{
    client_auth::ClientAuthName, error::ConfigError, secret::SecretFrom, units::ConfigDuration,
};
use crate::{
    cache::{CacheBuilder, TokenCache},
    credentials::{
        ClientAuth, ClientCredentials, JwtBearer, Saml2Bearer, TokenEndpoint, TokenExchange,
    },
    secret::Secret,
    token::{TokenType, fault_in_source_extra},
    transport::Transport,
};

/// The section `[source]`: where tokens come from.
///
/// | key | what it holds |
/// |---|---|
/// | `type` | which source: see [`SourceType`] |
/// | `token_url` | the token endpoint; `{tenant}` in it stands for a route's tenant |
/// | `issuer` | instead: the provider, whose token endpoint is discovered |
/// | `client_id` | as whom to ask |
/// | `client_auth` | how to prove that: see [`ClientAuthName`]; `basic` unless set |
/// | `client_secret` | for `basic`, `post` and `secret_jwt` |
/// | `private_key`, `algorithm`, `key_id` | for `private_key_jwt`: PEM or JWK; the algorithm is guessed from the key |
/// | `assertion` | for `assertion`: a JWT from elsewhere, read anew each time; or what the source itself presents |
/// | `certificate`, `private_key` | for `mtls`: PEM |
/// | `ca` | further trust for the token endpoint: certificates in PEM |
/// | `extra` | further parameters of the token request |
/// | `fetch_timeout` | how long a fetch may take, all its attempts together |
///
/// ```
/// use tower_bearer::config::{Config, SourceType};
///
/// let config: Config = toml::from_str(r#"
///     [source]
///     type = "client_credentials"
///     token_url = "https://login.example.com/token"
///     client_id = "orders"
///     client_secret = "hunter2"
///     extra = { audience_hint = "stock" }
/// "#)?;
/// assert_eq!(config.source.source_type, SourceType::ClientCredentials);
/// assert!(!format!("{config:?}").contains("hunter2"));
/// # Ok::<_, toml::de::Error>(())
/// ```
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
#[non_exhaustive]
pub struct SourceConfig {
    /// Which source.
    #[serde(rename = "type")]
    pub source_type: SourceType,
    /// The token endpoint.
    pub token_url: Option<String>,
    /// The provider, whose token endpoint is discovered.
    pub issuer: Option<String>,
    /// As whom to ask.
    pub client_id: Option<String>,
    /// How to prove that.
    pub client_auth: Option<ClientAuthName>,
    /// The client's secret.
    pub client_secret: Option<SecretFrom>,
    /// The client's key.
    pub private_key: Option<SecretFrom>,
    /// What the key signs with.
    pub algorithm: Option<String>,
    /// By which name the provider knows the key.
    pub key_id: Option<String>,
    /// A JWT from elsewhere.
    pub assertion: Option<SecretFrom>,
    /// The client's certificate.
    pub certificate: Option<SecretFrom>,
    /// Further trust for the token endpoint.
    pub ca: Option<SecretFrom>,
    /// Further parameters of the token request.
    #[serde(default)]
    pub extra: BTreeMap<String, SecretFrom>,
    /// How long a fetch may take.
    pub fetch_timeout: Option<ConfigDuration>,
}

/// Which source, by the name of its file under [`credentials`](crate::credentials). Those that need what no configuration holds (a
/// user's token, a place for a refresh token) are made in code.
///
/// ```
/// use tower_bearer::config::SourceType;
///
/// assert_eq!(SourceType::default(), SourceType::ClientCredentials);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", expecting = "the name of a source")]
#[non_exhaustive]
pub enum SourceType {
    /// `client_credentials`: [`ClientCredentials`].
    #[default]
    ClientCredentials,
    /// `jwt_bearer`: [`JwtBearer`], with the key `assertion`.
    JwtBearer,
    /// `saml2_bearer`: [`Saml2Bearer`], with the key `assertion`.
    #[serde(rename = "saml2_bearer")]
    Saml2Bearer,
    /// `token_exchange`: [`TokenExchange`] of one JWT, which is the key `assertion`.
    TokenExchange,
}

impl SourceConfig {
    /// A cache over the source, with its own options set.
    pub(super) fn builder(&self, transport: Transport) -> Result<CacheBuilder, ConfigError> {
        self.check_keys()?;
        let builder = self.over(self.endpoint(transport)?)?;
        match self.fetch_timeout {
            None => Ok(builder),
            Some(ConfigDuration(limit)) if limit.is_zero() => Err(ConfigError::new(
                "fetch_timeout",
                "it is zero, and no fetch takes no time: make it longer, or leave it out",
            )),
            Some(ConfigDuration(limit)) => Ok(builder.with_fetch_timeout(limit)),
        }
    }

    /// Whether the provider's address differs from tenant to tenant.
    pub(super) fn wants_tenant(&self) -> bool {
        let addresses = [&self.token_url, &self.issuer];
        let mut addresses = addresses.into_iter().flatten();
        addresses.any(|address| address.contains("{tenant}"))
    }

    /// The source itself.
    fn over(&self, endpoint: TokenEndpoint) -> Result<CacheBuilder, ConfigError> {
        let assertion = || {
            let missing = || {
                ConfigError::new(
                    "assertion",
                    "it is missing, and the source presents it: add it",
                )
            };
            read("assertion", self.assertion.as_ref().ok_or_else(missing)?)
        };
        Ok(match self.source_type {
            SourceType::ClientCredentials => TokenCache::builder(ClientCredentials::at(endpoint)),
            SourceType::JwtBearer => TokenCache::builder(JwtBearer::new(endpoint, assertion()?)),
            SourceType::Saml2Bearer => {
                TokenCache::builder(Saml2Bearer::new(endpoint, assertion()?))
            }
            SourceType::TokenExchange => {
                let exchange = TokenExchange::new(endpoint);
                TokenCache::builder(exchange.with_subject(assertion()?, TokenType::JWT))
            }
        })
    }

    /// Where and as whom to ask.
    fn endpoint(&self, transport: Transport) -> Result<TokenEndpoint, ConfigError> {
        let (auth, transport) = self.prove(self.trusting(transport)?)?;
        let id = self.client_id.clone().unwrap_or_default();
        let wanted = self.client_auth().needs().contains(&"client_secret");
        let secret = match &self.client_secret {
            Some(secret) if wanted => read("client_secret", secret)?,
            _ => Secret::none(),
        };
        let (place, endpoint) = match (&self.token_url, &self.issuer) {
            (Some(url), None) => ("token_url", TokenEndpoint::over(transport, url, id, secret)),
            (None, Some(issuer)) => (
                "issuer",
                TokenEndpoint::discover_over(transport, issuer, id, secret),
            ),
            (Some(_), Some(_)) => {
                return Err(ConfigError::new(
                    "issuer",
                    "it is given together with token_url, and only one of them can be asked: leave one of them out",
                ));
            }
            (None, None) => {
                return Err(ConfigError::new(
                    "token_url",
                    "it is missing: give the provider's token endpoint, or its issuer",
                ));
            }
        };
        // What is left to be wrong now is the address, and then the proof.
        let at_place = |error| ConfigError::token(place, error);
        let bare = endpoint.clone().with_client_auth(ClientAuth::none());
        bare.check().map_err(at_place)?;
        let mut endpoint = endpoint.with_client_auth(auth);
        let proof = *self.client_auth().needs().last().unwrap_or(&place);
        endpoint
            .check()
            .map_err(|error| ConfigError::token(proof, error))?;
        for (name, value) in &self.extra {
            let within = |error: ConfigError| error.within("extra");
            if let Some(fault) = fault_in_source_extra(name) {
                return Err(within(ConfigError::new(name, fault)));
            }
            let secret = read(name, value).map_err(within)?;
            let value = secret.expose();
            let value = value.map_err(|error| within(ConfigError::token(name, error)))?;
            endpoint = endpoint.with_extra(name, value.as_str());
        }
        Ok(endpoint)
    }

    pub(super) fn client_auth(&self) -> ClientAuthName {
        self.client_auth.unwrap_or_default()
    }

    /// Whether the keys that the source and the client authentication need are there.
    fn check_keys(&self) -> Result<(), ConfigError> {
        if self.client_id.as_deref().unwrap_or_default().is_empty() {
            return Err(ConfigError::new(
                "client_id",
                "it is missing: give the one that the provider registered",
            ));
        }
        let auth = self.client_auth();
        if auth == ClientAuthName::Assertion && self.source_type.presents_assertion() {
            return Err(ConfigError::new(
                "client_auth",
                "the source presents the assertion itself, and there is only one: choose another client_auth",
            ));
        }
        let name = auth.as_str();
        for (key, given) in self.proofs() {
            if key == "assertion" && self.source_type.presents_assertion() {
                continue;
            }
            let needed = auth.needs().contains(&key);
            if needed && !given {
                return Err(ConfigError::new(
                    key,
                    format!(
                        "it is missing, and client_auth = \"{name}\" needs it: add it, or set client_auth"
                    ),
                ));
            }
            if given && !needed && !auth.takes().contains(&key) {
                // No reason not to start: whoever tries another client authentication may leave the keys of the last.
                let key = format!("source.{key}");
                tracing::warn!(target: "tower_bearer", key, client_auth = name, "the client authentication makes no use of a key");
            }
        }
        Ok(())
    }

    /// The keys that some client authentication uses, and whether each is given.
    fn proofs(&self) -> [(&'static str, bool); 6] {
        [
            ("client_secret", self.client_secret.is_some()),
            ("certificate", self.certificate.is_some()),
            ("private_key", self.private_key.is_some()),
            ("algorithm", self.algorithm.is_some()),
            ("key_id", self.key_id.is_some()),
            ("assertion", self.assertion.is_some()),
        ]
    }

    #[cfg(any(feature = "reqwest", feature = "hyper"))]
    fn trusting(&self, transport: Transport) -> Result<Transport, ConfigError> {
        let Some(ca) = &self.ca else {
            return Ok(transport);
        };
        let at = |error| ConfigError::token("ca", error);
        let pem = ca.read().and_then(|pem| pem.expose()).map_err(at)?;
        transport
            .with_root_certificate_pem(pem.as_str().as_bytes())
            .map_err(at)
    }

    #[cfg(not(any(feature = "reqwest", feature = "hyper")))]
    fn trusting(&self, transport: Transport) -> Result<Transport, ConfigError> {
        match &self.ca {
            None => Ok(transport),
            Some(_) => Err(ConfigError::new(
                "ca",
                "the token endpoint is asked by a client of the program's own: give the certificate to that client",
            )),
        }
    }
}

impl SourceType {
    /// Whether the key `assertion` is what the source asks with, and not the client's proof.
    const fn presents_assertion(self) -> bool {
        !matches!(self, Self::ClientCredentials)
    }
}

pub(super) fn read(key: &str, secret: &SecretFrom) -> Result<Secret, ConfigError> {
    secret
        .read()
        .map_err(|error| ConfigError::token(key, error))
}

/// An address may hold a password, and a further parameter may be a secret.
impl fmt::Debug for SourceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceConfig")
            .field("type", &self.source_type)
            .field("client_id", &self.client_id)
            .field("client_auth", &self.client_auth())
            .finish_non_exhaustive()
    }
}
