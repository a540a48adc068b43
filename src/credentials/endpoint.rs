//! [`TokenEndpoint`]: one token request, from the spec to the answer. All sources that ask a provider share it.

use std::{
    fmt,
    sync::Arc,
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Uri};
use tracing::debug;
use zeroize::Zeroizing;

use super::{ClientAuth, discovery::Discovery, grant::Grant};
use crate::{
    error::{ErrorKind, TokenError},
    mark::Mark,
    secret::Secret,
    source::{Identity, TokenRequest},
    spec::{TokenSpec, fault_in_extra},
    token::NewToken,
    transport::{Transport, require_tls},
    wire::{Address, Answer, Proof, Sent, TokenResponse, token_request, token_response},
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
    place: Place,
    client: Option<String>,
    secret: Secret,
    auth: ClientAuth,
    extra: Vec<(String, Zeroizing<String>)>,
    transport: Transport,
}

#[derive(Clone)]
enum Place {
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

    /// Asks over this transport.
    #[must_use]
    pub fn with_transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Whether this can be asked at all, as far as that can be told without asking the provider.
    ///
    /// # Errors
    /// The address is no web address, has a password or a fragment in it, or is plain `http://` to another machine; the
    /// client id is empty; the client lacks what it proves itself with; a further parameter is one that the request sets by
    /// itself.
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
            if self.auth.is_mtls() && self.transport.lacks_identity() {
                return Err(TokenError::configuration(
                    "mutual TLS needs a certificate: give the transport one by with_client_identity_pem or \
                     with_client_identity_files",
                ));
            }
        }
        match self.extra.iter().find_map(|(name, _)| fault_in_extra(name)) {
            Some(fault) => Err(TokenError::configuration(fault)),
            None => Ok(()),
        }
    }

    /// Who asks this endpoint for tokens of this grant. The proof of the client is no part of it: it may be replaced.
    pub(crate) fn identity(&self, grant: &str) -> Identity {
        let Some(url) = self.address().text() else {
            return Identity::unnamed();
        };
        let place = match &self.place {
            Place::Known(_) => "token_url",
            Place::Discovered(_) => "issuer",
        };
        let mut identity = Identity::new(grant).with(place, url);
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
                // RFC 8705 §5: "a client intending to do mutual TLS […] MUST use the alias URL of the endpoint within the
                // mtls_endpoint_aliases, when present".
                let uri = alias.filter(|_| self.client.is_some() && self.auth.is_mtls());
                Ok(uri.unwrap_or(&metadata.token_endpoint).clone())
            }
        }
    }

    /// Asks with what the client has for a proof now; and once more if that is refused, and has been replaced meanwhile.
    pub(super) async fn exchange(
        &self,
        request: &TokenRequest,
        grant: Grant<'_>,
    ) -> Result<TokenResponse, TokenError> {
        let spec = request.spec();
        grant.check(spec)?;
        let uri = self.uri(spec).await?;
        let outcome = self.exchange_at(&uri, spec, grant).await;
        match &self.place {
            Place::Known(_) => outcome,
            Place::Discovered(discovery) => {
                outcome.map_err(|error| discovery.commented(error, spec.tenant()))
            }
        }
    }

    async fn exchange_at(
        &self,
        uri: &Uri,
        spec: &TokenSpec,
        grant: Grant<'_>,
    ) -> Result<TokenResponse, TokenError> {
        let first = self.prove(uri).await?;
        let refused = match self.attempt(spec, grant, uri, &first).await {
            Err(error) if self.blames_the_proof(&error) => error.with_mark(first.mark),
            outcome => return outcome,
        };
        match self.prove(uri).await {
            Ok(second) if second.mark != first.mark => {
                debug!(target: "tower_bearer::credentials", "the client's credential was replaced meanwhile");
                let outcome = self.attempt(spec, grant, uri, &second).await;
                outcome.map_err(|error| match self.blames_the_proof(&error) {
                    true => error.with_mark(second.mark),
                    false => error,
                })
            }
            _ => Err(refused),
        }
    }

    /// Whether the client has another proof now than the one that this error is about.
    pub(super) fn credential_changed(&self, since: &TokenError) -> bool {
        let now = self.auth.mark(&self.secret);
        let now = now.and_then(|mark| self.with_certificate(mark).ok());
        since
            .mark()
            .is_some_and(|then| now.is_some_and(|now| now != then))
    }

    /// A certificate that is refused breaks the connection.
    fn blames_the_proof(&self, error: &TokenError) -> bool {
        match error.kind() {
            _ if self.client.is_none() => false,
            ErrorKind::InvalidClient => true,
            ErrorKind::Network => self.auth.is_mtls(),
            _ => false,
        }
    }

    async fn prove(&self, uri: &Uri) -> Result<Proven<'_>, TokenError> {
        let Some(id) = &self.client else {
            return Ok(Proven {
                client: None,
                mark: Mark::of(&[]),
            });
        };
        let (proof, mark) = self.auth.prove(id, &self.secret, uri).await?;
        let mark = self.with_certificate(mark)?;
        Ok(Proven {
            client: Some((id, proof)),
            mark,
        })
    }

    fn with_certificate(&self, mark: Mark) -> Result<Mark, TokenError> {
        let certificate = self.transport.identity_mark()?;
        Ok(certificate.map_or(mark, |certificate| mark.and(certificate)))
    }

    /// One request, and its answer.
    async fn attempt(
        &self,
        spec: &TokenSpec,
        grant: Grant<'_>,
        uri: &Uri,
        proven: &Proven<'_>,
    ) -> Result<TokenResponse, TokenError> {
        let (request, sent) = self.prepare(spec, grant, uri, proven)?;
        let started = Instant::now();
        let answer = self.transport.send(request).await;
        let elapsed = started.elapsed();
        let status = answer.as_ref().ok().map(|answer| answer.status().as_u16());
        let result = answer.and_then(|answer| {
            let answer = Answer {
                status: answer.status(),
                headers: answer.headers(),
                body: answer.body(),
                now: SystemTime::now(),
            };
            token_response(&answer, &sent)
        });
        debug!(
            target: "tower_bearer::credentials",
            host = uri.host().unwrap_or_default(),
            grant = grant.name(),
            status,
            elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            error = result.as_ref().err().map(|error| error.kind().as_str()),
            "token request",
        );
        result
    }

    /// The request, and what must not come back in an error.
    fn prepare(
        &self,
        spec: &TokenSpec,
        grant: Grant<'_>,
        uri: &Uri,
        proven: &Proven<'_>,
    ) -> Result<(Request<Bytes>, Sent), TokenError> {
        let client = proven.client.as_ref();
        let mut sent = client.map(|(id, proof)| proof.sent(id)).unwrap_or_default();
        let mut headers = HeaderMap::new();
        let extra = self.extra.iter();
        let extra = extra.map(|(name, value)| (name.as_str(), value.as_str()));
        let mut form = grant.form(spec, extra, &mut sent)?;
        if let Some((id, proof)) = client {
            proof.apply(id, &mut form, &mut headers)?;
        }
        Ok((token_request(uri.clone(), &form, headers), sent))
    }
}

/// Who asks and what they show, and the mark of what that was made with.
struct Proven<'a> {
    client: Option<(&'a str, Proof)>,
    mark: Mark,
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

/// The token of an answer, for a cache.
pub(crate) fn new_token(response: &TokenResponse) -> Result<NewToken, TokenError> {
    let mut token = NewToken::bearer(&response.access_token)?;
    if let Some(lifetime) = response.expires_in {
        token = token.with_lifetime(lifetime);
    }
    if let Some(refresh_in) = response.refresh_in {
        token = token.with_refresh_in(refresh_in);
    }
    if let Some(scope) = &response.scope {
        token = token.with_granted_scopes(scope);
    }
    Ok(token)
}
