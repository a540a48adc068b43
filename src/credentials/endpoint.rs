//! [`TokenEndpoint`]: where and as whom to ask. All sources that ask a provider share it; how it is asked stands in
//! `exchange`.

use std::{fmt, sync::Arc};

use http::Uri;
use zeroize::Zeroizing;

use super::{ClientAuth, discovery::Discovery};
use crate::{
    error::TokenError,
    oauth::Address,
    secret::Secret,
    source::SourceId,
    token::{TokenSpec, fault_in_source_extra},
    transport::{Transport, require_tls},
};

/// Where and as whom to ask for tokens: what every source that asks a provider is made with.
///
/// The provider is given by its [token URL](Self::new), or by its [issuer](Self::discover), whose metadata name the token
/// URL. `{tenant}` in either stands for the [tenant](crate::TokenSpec::with_tenant) of the spec.
///
/// Nothing is checked or built before it is used. [`check`](Self::check) tells at once what every fetch would tell.
///
/// ```
/// use tower_bearer::{Secret, credentials::{ClientAuth, OnBehalfOf, TokenEndpoint}};
///
/// # #[cfg(feature = "reqwest")] {
/// let endpoint = TokenEndpoint::discover("https://login.example.com/{tenant}/v2.0", "orders", "hunter2")
///     .with_client_auth(ClientAuth::post());
/// endpoint.check()?;
/// let source = OnBehalfOf::new(endpoint);
/// # let _ = source; }
/// # Ok::<_, tower_bearer::TokenError>(())
/// ```
#[derive(Clone)]
pub struct TokenEndpoint {
    pub(super) place: Place,
    pub(super) client: Option<String>,
    pub(super) secret: Secret,
    pub(super) auth: ClientAuth,
    pub(super) extra: Vec<(String, Zeroizing<String>)>,
    pub(super) capabilities: Vec<String>,
    mtls_alias: bool,
    pub(super) transport: Transport,
}

#[derive(Clone)]
pub(super) enum Place {
    Known(Address),
    Discovered(Arc<Discovery>),
}

impl TokenEndpoint {
    /// Asks this token endpoint as this client, over reqwest, or over hyper if that alone is switched on.
    #[cfg(any(feature = "reqwest", feature = "hyper"))]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "reqwest", feature = "hyper"))))]
    pub fn new(
        token_url: impl AsRef<str>,
        client_id: impl Into<String>,
        secret: impl Into<Secret>,
    ) -> Self {
        Self::over(Transport::preferred(), token_url, client_id, secret)
    }

    /// Asks this token endpoint as this client, over this transport.
    pub fn over(
        transport: Transport,
        token_url: impl AsRef<str>,
        client_id: impl Into<String>,
        secret: impl Into<Secret>,
    ) -> Self {
        let place = Place::Known(Address::token_url(token_url.as_ref()));
        Self::at(place, transport, Some(client_id.into()), secret.into())
    }

    /// Asks the provider of this issuer as this client, over reqwest, or over hyper if that alone is switched on.
    ///
    /// Where its token endpoint is stands in its metadata (RFC 8414, OpenID Connect Discovery). They are fetched before the
    /// first token, and anew once a day; when that fails, what was known stays. Write the issuer letter by letter as the
    /// provider does: it has to be the one that the metadata name.
    #[cfg(any(feature = "reqwest", feature = "hyper"))]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "reqwest", feature = "hyper"))))]
    pub fn discover(
        issuer: impl AsRef<str>,
        client_id: impl Into<String>,
        secret: impl Into<Secret>,
    ) -> Self {
        Self::discover_over(Transport::preferred(), issuer, client_id, secret)
    }

    /// The same over this transport.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use tower_bearer::{
    ///     TokenSource, TokenSpec,
    ///     credentials::{ClientCredentials, TokenEndpoint},
    ///     source::TokenRequest,
    ///     transport::Transport,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
    /// // A provider that answers by itself.
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
    /// let endpoint = TokenEndpoint::discover_over(provider, "https://login.example.com", "orders", "hunter2");
    /// let source = ClientCredentials::at(endpoint);
    /// source.fetch(&TokenRequest::new(TokenSpec::default())).await?;
    /// # Ok(()) }
    /// ```
    pub fn discover_over(
        transport: Transport,
        issuer: impl AsRef<str>,
        client_id: impl Into<String>,
        secret: impl Into<Secret>,
    ) -> Self {
        let place = Place::Discovered(Arc::new(Discovery::new(issuer.as_ref())));
        Self::at(place, transport, Some(client_id.into()), secret.into())
    }

    fn at(place: Place, transport: Transport, client: Option<String>, secret: Secret) -> Self {
        Self {
            place,
            client,
            secret,
            auth: ClientAuth::default(),
            extra: Vec::new(),
            capabilities: Vec::new(),
            mtls_alias: false,
            transport,
        }
    }

    /// The same without a client id and its proof, for providers that go by the grant alone: those of service accounts, and
    /// those that exchange the tokens of a cluster or a cloud.
    ///
    /// ```
    /// use tower_bearer::credentials::TokenEndpoint;
    ///
    /// # #[cfg(feature = "reqwest")] {
    /// let endpoint = TokenEndpoint::new("https://sts.example.com/token", "", "").without_client();
    /// assert!(endpoint.check().is_ok());
    /// # }
    /// ```
    #[must_use]
    pub fn without_client(mut self) -> Self {
        self.client = None;
        self
    }

    /// How the client proves itself: [`ClientAuth::basic`] unless set.
    #[must_use]
    pub fn with_client_auth(mut self, auth: ClientAuth) -> Self {
        self.auth = auth;
        self
    }

    /// A further parameter of each token request. One of the same name in a spec takes its place.
    #[must_use]
    pub fn with_extra(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extra.push((name.into(), Zeroizing::new(value.into())));
        self
    }

    /// Tells the provider what the client can handle; `cp1` says that it handles claims challenges (continuous access
    /// evaluation), which the layer does. Microsoft's providers then give out tokens that live longer and can be revoked at once.
    #[must_use]
    pub fn with_client_capability(mut self, capability: impl Into<String>) -> Self {
        self.capabilities.push(capability.into());
        self
    }

    /// Asks over this transport.
    #[must_use]
    pub fn with_transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Says that the transport shows a client certificate, beside another proof of the client; with
    /// [`ClientAuth::mtls`] it goes without saying. Then a discovered provider is asked at the address that it has
    /// for such clients (`mtls_endpoint_aliases`, RFC 8705 §5), if it has one.
    ///
    /// ```
    /// use tower_bearer::{credentials::{ClientAuth, TokenEndpoint}, transport::Transport};
    ///
    /// # fn with_a_certificate() -> Transport { Transport::from_fn(async |_| unreachable!()) }
    /// let endpoint = TokenEndpoint::discover_over(with_a_certificate(), "https://login.example.com", "orders", "")
    ///     .with_client_auth(ClientAuth::none())
    ///     .with_mtls_alias();
    /// # let _ = endpoint;
    /// ```
    #[must_use]
    pub fn with_mtls_alias(mut self) -> Self {
        self.mtls_alias = true;
        self
    }

    /// Whether this can be asked at all, as far as that can be told without asking the provider.
    ///
    /// # Errors
    /// The address is no web address, has a password or a fragment in it, or is plain `http://` to another machine; the
    /// client id is empty; a further parameter is one that the request sets by itself.
    pub fn check(&self) -> Result<(), TokenError> {
        let address = self.address();
        address.check()?;
        require_tls(&address.sample()?)?;
        if self.client.as_deref() == Some("") {
            return Err(TokenError::configuration(
                "the client id is empty: give the one that the provider registered, or say \
                 TokenEndpoint::without_client",
            ));
        }
        if self.client.is_some() {
            self.auth.check(&self.secret)?;
        }
        if self.auth.is_mtls() && self.transport.lacks_identity() {
            return Err(TokenError::configuration(
                "mutual TLS needs a certificate: give the transport one by with_client_identity_pem or \
                 with_client_identity_files",
            ));
        }
        let mut names = self.extra.iter().map(|(name, _)| name);
        match names.find_map(|name| fault_in_source_extra(name)) {
            Some(fault) => Err(TokenError::configuration(fault)),
            None => Ok(()),
        }
    }

    /// Who asks this endpoint for tokens of this grant. The proof of the client is no part of it: it may be replaced.
    pub(crate) fn identity(&self, grant: &str) -> SourceId {
        let Some(url) = self.address().text() else {
            return SourceId::unnamed();
        };
        let place = match &self.place {
            Place::Known(_) => "token_url",
            Place::Discovered(_) => "issuer",
        };
        let mut identity = SourceId::new(grant).with(place, url);
        if let Some(id) = &self.client {
            identity = identity.with("client_id", id);
        }
        self.extra.iter().fold(identity, |identity, (name, value)| {
            identity.with_digest(name, value)
        })
    }

    fn address(&self) -> &Address {
        match &self.place {
            Place::Known(address) => address,
            Place::Discovered(discovery) => discovery.issuer(),
        }
    }

    /// Where this spec's token is asked for. It may have to be discovered first.
    pub(crate) async fn uri(&self, spec: &TokenSpec) -> Result<Uri, TokenError> {
        spec.check()?;
        self.check()?;
        match &self.place {
            Place::Known(address) => address.uri(spec.tenant()),
            Place::Discovered(discovery) => {
                let metadata = discovery.metadata(&self.transport, spec.tenant()).await?;
                let alias = metadata.mtls_token_endpoint.as_ref();
                let uri = alias.filter(|_| self.mtls_alias || self.auth.is_mtls());
                Ok(uri.unwrap_or(&metadata.token_endpoint).clone())
            }
        }
    }
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("TokenEndpoint");
        if let Ok(uri) = self.address().sample() {
            // No query: what it holds is not known.
            out.field("host", &uri.host().unwrap_or_default())
                .field("path", &uri.path());
        }
        out.field("client_id", &self.client)
            .field("secret", &self.secret)
            .field("auth", &self.auth);
        for (name, _) in &self.extra {
            out.field(name, &format_args!("redacted"));
        }
        out.field("transport", &self.transport).finish()
    }
}
