//! Defines [`TokenEndpoint`], which all sources that call a provider are made with. The module `exchange` sends its requests.

use std::{fmt, sync::Arc};

use http::Uri;
use zeroize::Zeroizing;

use super::{ClientAuth, discovery::Discovery};
use crate::{
    error::TokenError,
    oauth::EndpointUrl,
    source::SourceId,
    token::{TokenSpec, fault_in_source_extra},
    transport::{Transport, require_tls},
};

/// The token endpoint of a provider, and the client that requests tokens there.
///
/// The endpoint is given by its [token URL](Self::new), or discovered from the metadata of an [issuer](Self::discover).
/// `{tenant}` in either is replaced by the [tenant](crate::TokenSpec::with_tenant) of the spec.
///
/// Constructors never fail. [`check`](Self::check) returns the configuration errors that every fetch would return.
///
/// ```
/// use tower_bearer::{Secret, credentials::{ClientAuth, OnBehalfOf, TokenEndpoint}};
///
/// # #[cfg(feature = "reqwest")] {
/// let endpoint = TokenEndpoint::discover("https://login.example.com/{tenant}/v2.0")
///     .with_client("orders", ClientAuth::post("hunter2"));
/// endpoint.check()?;
/// let source = OnBehalfOf::new(endpoint);
/// # let _ = source; }
/// # Ok::<_, tower_bearer::TokenError>(())
/// ```
#[derive(Clone)]
pub struct TokenEndpoint {
    /// The token URL, or the issuer.
    pub(super) url: EndpointUrl,
    /// Discovers the token URL of an issuer.
    pub(super) discovery: Option<Arc<Discovery>>,
    pub(super) client: Option<RegisteredClient>,
    pub(super) extra: Vec<(String, Zeroizing<String>)>,
    pub(super) capabilities: Vec<String>,
    mtls_alias: bool,
    transport: Option<Transport>,
}

/// A client as the provider knows it.
#[derive(Clone, Debug)]
pub(super) struct RegisteredClient {
    pub(super) id: String,
    pub(super) auth: ClientAuth,
}

impl TokenEndpoint {
    /// Creates an endpoint with this token URL.
    ///
    /// Requests are sent with reqwest, or with hyper if only the feature `hyper` is enabled. With neither feature, a
    /// [transport](Self::with_transport) is required.
    ///
    /// Until a [client](Self::with_client) is set, requests carry no client identification. Providers of service accounts,
    /// and those that exchange the token of a cluster or a cloud, require none.
    ///
    /// ```
    /// use tower_bearer::credentials::TokenEndpoint;
    ///
    /// # #[cfg(feature = "reqwest")] {
    /// let endpoint = TokenEndpoint::new("https://sts.example.com/token");
    /// assert!(endpoint.check().is_ok());
    /// # }
    /// ```
    pub fn new(token_url: impl AsRef<str>) -> Self {
        Self::at(EndpointUrl::token_url(token_url.as_ref()), None)
    }

    /// Creates an endpoint whose token URL is discovered from the metadata of this issuer (RFC 8414, OpenID Connect
    /// Discovery).
    ///
    /// The metadata is fetched before the first token and refreshed once a day. If a refresh fails, the known metadata stays in
    /// use. The issuer is compared exactly with the one in the metadata, so write it as the provider does.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use tower_bearer::{
    ///     TokenSource, TokenSpec,
    ///     credentials::{ClientAuth, ClientCredentials, TokenEndpoint},
    ///     source::TokenRequest,
    ///     transport::Transport,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
    /// // A provider without a network.
    /// let provider = Transport::from_fn(async |request| {
    ///     let answer = match request.uri().path() {
    ///         "/.well-known/oauth-authorization-server" => {
    ///             r#"{"issuer":"https://login.example.com","token_endpoint":"https://login.example.com/t"}"#
    ///         }
    ///         "/t" => r#"{"access_token":"abc","expires_in":3600}"#,
    ///         other => panic!("{other}"),
    ///     };
    ///     Ok(http::Response::new(Bytes::from(answer)))
    /// });
    /// let endpoint = TokenEndpoint::discover("https://login.example.com")
    ///     .with_client("orders", ClientAuth::basic("hunter2"))
    ///     .with_transport(provider);
    /// let source = ClientCredentials::from_endpoint(endpoint);
    /// source.fetch(&TokenRequest::new(TokenSpec::default())).await?;
    /// # Ok(()) }
    /// ```
    pub fn discover(issuer: impl AsRef<str>) -> Self {
        let discovery = Arc::new(Discovery::new());
        Self::at(EndpointUrl::issuer(issuer.as_ref()), Some(discovery))
    }

    fn at(url: EndpointUrl, discovery: Option<Arc<Discovery>>) -> Self {
        Self {
            url,
            discovery,
            client: None,
            extra: Vec::new(),
            capabilities: Vec::new(),
            mtls_alias: false,
            #[cfg(any(feature = "reqwest", feature = "hyper"))]
            transport: Some(Transport::preferred()),
            #[cfg(not(any(feature = "reqwest", feature = "hyper")))]
            transport: None,
        }
    }

    /// Sets the client that requests tokens: its id at the provider, and how it authenticates.
    #[must_use]
    pub fn with_client(mut self, id: impl Into<String>, auth: ClientAuth) -> Self {
        let id = id.into();
        self.client = Some(RegisteredClient { id, auth });
        self
    }

    /// Adds an extra parameter to each token request. A parameter of the same name in a spec replaces it.
    #[must_use]
    pub fn with_extra(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extra.push((name.into(), Zeroizing::new(value.into())));
        self
    }

    /// Declares a client capability to the provider. `cp1` declares support for claims challenges (continuous access
    /// evaluation), which the layer implements. Microsoft's providers then issue tokens that live longer and can be revoked
    /// immediately.
    #[must_use]
    pub fn with_client_capability(mut self, capability: impl Into<String>) -> Self {
        self.capabilities.push(capability.into());
        self
    }

    /// Sends requests with this transport.
    #[must_use]
    pub fn with_transport(mut self, transport: Transport) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Uses the token URL that a discovered provider has for clients with a certificate (`mtls_endpoint_aliases`,
    /// RFC 8705 §5), if there is one. [`ClientAuth::mtls`] implies it; other clients need it for certificate-bound tokens.
    ///
    /// ```
    /// use tower_bearer::{credentials::{ClientAuth, TokenEndpoint}, transport::Transport};
    ///
    /// # fn transport_with_certificate() -> Transport { Transport::from_fn(async |_| unreachable!()) }
    /// let endpoint = TokenEndpoint::discover("https://login.example.com")
    ///     .with_client("orders", ClientAuth::none())
    ///     .with_transport(transport_with_certificate())
    ///     .with_mtls_alias();
    /// # let _ = endpoint;
    /// ```
    #[must_use]
    pub fn with_mtls_alias(mut self) -> Self {
        self.mtls_alias = true;
        self
    }

    /// Checks the configuration without calling the provider.
    ///
    /// # Errors
    /// Returns an error if the URL is not a valid web URL, contains a password or a fragment, or is plain `http://` to
    /// another machine; if the client id is empty, or the client can't authenticate; if there is no transport; or if an extra
    /// parameter is one that the request sets itself.
    pub fn check(&self) -> Result<(), TokenError> {
        require_tls(&self.url.sample()?)?;
        let transport = self.transport()?;
        if let Some(client) = &self.client {
            if client.id.is_empty() {
                return Err(TokenError::configuration(
                    "the client id is empty: use the one that the provider registered, or remove \
                     TokenEndpoint::with_client",
                ));
            }
            client.auth.check()?;
        }
        if self.is_mtls() && transport.lacks_identity() {
            return Err(TokenError::configuration(
                "ClientAuth::mtls needs a certificate: set it with Transport::with_client_identity_pem or \
                 with_client_identity_files",
            ));
        }
        let mut extra = self.extra.iter();
        let fault = extra.find_map(|(name, _)| fault_in_source_extra(name));
        fault.map_or(Ok(()), |fault| Err(TokenError::configuration(fault)))
    }

    /// Returns the identity of a source that uses this endpoint with this grant. Client authentication is not part of it,
    /// because a secret may be replaced.
    pub(super) fn source_id(&self, grant: &str) -> Option<SourceId> {
        let name = match self.discovery {
            Some(_) => "issuer",
            None => "token_url",
        };
        let mut id = SourceId::new(grant).with(name, self.url.text()?);
        if let Some(client) = &self.client {
            id = id.with("client_id", &client.id);
        }
        let extra = self.extra.iter();
        Some(extra.fold(id, |id, (name, value)| id.with_digest(name, value)))
    }

    /// Returns `true` if the client authenticates with the certificate of the transport.
    pub(super) fn is_mtls(&self) -> bool {
        let client = self.client.as_ref();
        client.is_some_and(|client| client.auth.is_mtls())
    }

    pub(super) fn transport(&self) -> Result<&Transport, TokenError> {
        self.transport.as_ref().ok_or_else(|| {
            TokenError::configuration(
                "the token endpoint has no transport: call TokenEndpoint::with_transport, or enable the feature \
                 reqwest or hyper",
            )
        })
    }

    /// Returns the token URL for this spec, and discovers it first if necessary.
    pub(super) async fn uri(&self, spec: &TokenSpec) -> Result<Uri, TokenError> {
        spec.check()?;
        self.check()?;
        let Some(discovery) = &self.discovery else {
            return self.url.uri(spec.tenant());
        };
        let issuer = self.url.expand(spec.tenant())?;
        let metadata = discovery.metadata(self.transport()?, &issuer).await?;
        let alias = metadata.mtls_token_endpoint.as_ref();
        let uri = alias.filter(|_| self.mtls_alias || self.is_mtls());
        Ok(uri.unwrap_or(&metadata.token_endpoint).clone())
    }
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = self.url.sample().unwrap_or_default();
        let names: Vec<_> = self.extra.iter().map(|(name, _)| name).collect();
        f.debug_struct("TokenEndpoint")
            // The query is left out: it may hold a secret.
            .field("host", &uri.host().unwrap_or_default())
            .field("path", &uri.path())
            .field("client", &self.client)
            .field("extra", &names)
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn missing_transport_is_an_error_with_the_remedies() {
        let endpoint = TokenEndpoint {
            transport: None,
            ..TokenEndpoint::new("https://login.example/token")
        };
        let error = endpoint.check().unwrap_err();
        assert!(error.to_string().contains("with_transport"), "{error}");
        let first_use = endpoint.uri(&TokenSpec::default()).await.unwrap_err();
        assert_eq!(first_use.to_string(), error.to_string());
    }
}
