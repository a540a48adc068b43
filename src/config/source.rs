//! Defines [`SourceConfig`], the section `[source]`.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;

use super::{
    client_auth::ClientAuthName,
    error::ConfigError,
    secret::{SecretFrom, read_required},
    units::ConfigDuration,
};
use crate::{
    cache::{CacheBuilder, TokenCache},
    credentials::{ClientCredentials, JwtBearer, Saml2Bearer, TokenEndpoint, TokenExchange},
    token::{TokenType, fault_in_source_extra},
    transport::Transport,
};

/// The section `[source]`: the source of the tokens.
///
/// | key | value |
/// |---|---|
/// | `type` | the type of the source: see [`SourceType`] |
/// | `token_url` | the token endpoint; `{tenant}` in it is replaced by the tenant of a route |
/// | `issuer` | instead of `token_url`: the provider, whose token endpoint is discovered |
/// | `client_id` | the client id |
/// | `client_auth` | how the client authenticates: see [`ClientAuthName`]; the default is `basic` |
/// | `client_secret` | for `basic`, `post` and `secret_jwt` |
/// | `private_key`, `algorithm`, `key_id` | for `private_key_jwt`: PEM or JWK; the algorithm is derived from the key by default |
/// | `assertion` | for `assertion`: a JWT that was signed elsewhere, read again for each use; also the assertion of other sources |
/// | `certificate`, `private_key` | for `mtls`: PEM |
/// | `ca` | additional root certificates for the token endpoint, in PEM |
/// | `extra` | extra parameters of the token request |
/// | `fetch_timeout` | the time limit of a fetch with all its attempts |
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
    /// The type of the source.
    #[serde(rename = "type")]
    pub source_type: SourceType,
    /// The token endpoint.
    pub token_url: Option<String>,
    /// The provider, whose token endpoint is discovered.
    pub issuer: Option<String>,
    /// The client id.
    pub client_id: Option<String>,
    /// How the client authenticates.
    pub client_auth: Option<ClientAuthName>,
    /// The client's secret.
    pub client_secret: Option<SecretFrom>,
    /// The client's key.
    pub private_key: Option<SecretFrom>,
    /// The algorithm of the key.
    pub algorithm: Option<String>,
    /// The id of the key at the provider.
    pub key_id: Option<String>,
    /// A JWT that was signed elsewhere.
    pub assertion: Option<SecretFrom>,
    /// The client's certificate.
    pub certificate: Option<SecretFrom>,
    /// Additional root certificates for the token endpoint.
    pub ca: Option<SecretFrom>,
    /// Extra parameters of the token request.
    #[serde(default)]
    pub extra: BTreeMap<String, SecretFrom>,
    /// The time limit of a fetch.
    pub fetch_timeout: Option<ConfigDuration>,
}

/// The type of a source, by the name of its module in [`credentials`](crate::credentials). Sources that need more than keys (the
/// token of a user, storage for a refresh token) are created in code.
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
    /// `token_exchange`: [`TokenExchange`] of a fixed JWT, with the key `assertion`.
    TokenExchange,
}

impl SourceConfig {
    /// Creates a cache builder for the source.
    pub(super) fn builder(&self, transport: Transport) -> Result<CacheBuilder, ConfigError> {
        self.check_keys()?;
        let builder = self.create_source(self.endpoint(transport)?)?;
        match self.fetch_timeout {
            None => Ok(builder),
            Some(limit) => Ok(builder.with_fetch_timeout(limit.non_zero("fetch_timeout")?)),
        }
    }

    /// Returns `true` if the provider's URL depends on the tenant.
    pub(super) fn requires_tenant(&self) -> bool {
        let mut urls = [&self.token_url, &self.issuer].into_iter().flatten();
        urls.any(|url| url.contains("{tenant}"))
    }

    /// Creates the source.
    fn create_source(&self, endpoint: TokenEndpoint) -> Result<CacheBuilder, ConfigError> {
        let assertion = || read_required("assertion", &self.assertion, "it is missing: add it");
        Ok(match self.source_type {
            SourceType::ClientCredentials => {
                TokenCache::builder(ClientCredentials::from_endpoint(endpoint))
            }
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

    /// Creates the token endpoint with its client.
    fn endpoint(&self, transport: Transport) -> Result<TokenEndpoint, ConfigError> {
        let auth = self.authentication()?;
        let transport = self.with_certificates(transport)?;
        let id = self.client_id.clone().unwrap_or_default();
        let (url_key, endpoint) = match (&self.token_url, &self.issuer) {
            (Some(url), None) => ("token_url", TokenEndpoint::new(url)),
            (None, Some(issuer)) => ("issuer", TokenEndpoint::discover(issuer)),
            (Some(_), Some(_)) => {
                return Err(ConfigError::new(
                    "issuer",
                    "it is set together with token_url: leave one of them out",
                ));
            }
            (None, None) => {
                return Err(ConfigError::new(
                    "token_url",
                    "it is missing: give the provider's token endpoint, or its issuer",
                ));
            }
        };
        let endpoint = endpoint.with_transport(transport);
        // Without a client, only the URL can be wrong.
        endpoint.check().map_err(ConfigError::at(url_key))?;
        let mut endpoint = endpoint.with_client(id, auth);
        let auth_key = *self.client_auth().needs().last().unwrap_or(&url_key);
        endpoint.check().map_err(ConfigError::at(auth_key))?;
        for (name, value) in &self.extra {
            let value = match fault_in_source_extra(name) {
                Some(fault) => Err(ConfigError::new(name, fault)),
                None => value.expose().map_err(ConfigError::at(name)),
            };
            let value = value.map_err(|error| error.within("extra"))?;
            endpoint = endpoint.with_extra(name, value.as_str());
        }
        Ok(endpoint)
    }

    pub(super) fn client_auth(&self) -> ClientAuthName {
        self.client_auth.unwrap_or_default()
    }

    /// Checks the client id, and warns of keys that the client authentication does not use.
    fn check_keys(&self) -> Result<(), ConfigError> {
        if self.client_id.as_deref().unwrap_or_default().is_empty() {
            return Err(ConfigError::new(
                "client_id",
                "it is missing: add the one that the provider registered",
            ));
        }
        let auth = self.client_auth();
        // Every other source presents the assertion itself.
        let presented = self.source_type != SourceType::ClientCredentials;
        if auth == ClientAuthName::Assertion && presented {
            return Err(ConfigError::new(
                "client_auth",
                "the source itself uses the key assertion: choose another client_auth",
            ));
        }
        let name = auth.as_str();
        for (key, given) in [
            ("client_secret", self.client_secret.is_some()),
            ("certificate", self.certificate.is_some()),
            ("private_key", self.private_key.is_some()),
            ("algorithm", self.algorithm.is_some()),
            ("key_id", self.key_id.is_some()),
            ("assertion", self.assertion.is_some() && !presented),
        ] {
            let optional =
                auth == ClientAuthName::PrivateKeyJwt && ["algorithm", "key_id"].contains(&key);
            if given && !optional && !auth.needs().contains(&key) {
                // Not an error, so that the operator can try another client authentication without removing keys.
                let key = format!("source.{key}");
                tracing::warn!(target: "tower_bearer", key, client_auth = name, "the client authentication does not use this key: remove it, or change client_auth");
            }
        }
        Ok(())
    }
}

/// URLs and extra parameters are left out: they may contain secrets.
impl fmt::Debug for SourceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceConfig")
            .field("type", &self.source_type)
            .field("client_id", &self.client_id)
            .field("client_auth", &self.client_auth())
            .finish_non_exhaustive()
    }
}
