//! One token request, from the spec to the answer: what all sources that ask a token endpoint share.

use std::{
    fmt,
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Request};
use tracing::debug;
use zeroize::Zeroizing;

use crate::{
    error::TokenError,
    secret::Secret,
    source::{Identity, TokenRequest},
    spec::{TokenSpec, fault_in_extra},
    token::NewToken,
    transport::{Transport, require_tls},
    wire::{
        Answer, Client, ClientAuth, Form, Sent, TokenResponse, TokenUrl, token_request,
        token_response,
    },
};

/// Where and as whom to ask.
#[derive(Clone)]
pub(crate) struct TokenEndpoint {
    url: TokenUrl,
    client_id: String,
    secret: Secret,
    auth: ClientAuth,
    extra: Vec<(String, Zeroizing<String>)>,
    transport: Transport,
}

/// What to ask with.
#[derive(Clone, Copy)]
pub(crate) struct Grant<'a> {
    pub(crate) grant_type: &'static str,
    /// The grant's own parameters, such as the refresh token. Their values count as secrets.
    pub(crate) params: &'a [(&'static str, &'a str)],
}

impl TokenEndpoint {
    pub(crate) fn new(transport: Transport, url: &str, client_id: String, secret: Secret) -> Self {
        Self {
            url: TokenUrl::new(url),
            client_id,
            secret,
            auth: ClientAuth::default(),
            extra: Vec::new(),
            transport,
        }
    }

    pub(crate) fn set_auth(&mut self, auth: ClientAuth) {
        self.auth = auth;
    }

    pub(crate) fn set_transport(&mut self, transport: Transport) {
        self.transport = transport;
    }

    pub(crate) fn add_extra(&mut self, name: String, value: String) {
        self.extra.push((name, Zeroizing::new(value)));
    }

    /// Whether this can be asked at all.
    pub(crate) fn check(&self) -> Result<(), TokenError> {
        self.url.check()?;
        require_tls(&self.url.sample()?)?;
        if self.client_id.is_empty() {
            return Err(TokenError::configuration(
                "the client id is empty: give the one that the provider registered",
            ));
        }
        match self.extra.iter().find_map(|(name, _)| fault_in_extra(name)) {
            Some(fault) => Err(TokenError::configuration(fault)),
            None => Ok(()),
        }
    }

    /// Who asks this endpoint for tokens of this grant. The proof of the client is no part of it: it may be replaced.
    pub(crate) fn identity(&self, grant: &str) -> Identity {
        let Some(url) = self.url.text() else {
            return Identity::unnamed();
        };
        let identity = Identity::new(grant)
            .with("token_url", &url)
            .with("client_id", &self.client_id);
        self.extra.iter().fold(identity, |identity, (name, value)| {
            identity.with_digest(name, value)
        })
    }

    /// Makes one attempt: the secret is read, the request built and sent, the answer read.
    pub(crate) async fn exchange(
        &self,
        request: &TokenRequest,
        grant: Grant<'_>,
    ) -> Result<TokenResponse, TokenError> {
        let (request, sent) = self.prepare(request.spec(), grant)?;
        let host = request.uri().host().unwrap_or_default().to_owned();
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
            host,
            grant = grant.grant_type,
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
    ) -> Result<(Request<Bytes>, Sent), TokenError> {
        spec.check()?;
        self.check()?;
        let uri = self.url.uri(spec.tenant())?;
        // Read anew for each attempt: a secret in a file may have been replaced.
        let secret = self.secret.expose()?;
        let client = Client {
            id: &self.client_id,
            secret: secret.as_str(),
        };
        let mut form = Form::new(grant.grant_type);
        let mut headers = HeaderMap::new();
        let mut sent = Sent::by(client);
        for (name, value) in grant.params {
            form.push(name, value);
            sent.add(value);
        }
        form.push_scopes(spec.each_scope());
        // RFC 8707 §2: "Multiple resource parameters MAY be used".
        for resource in spec.each_resource() {
            form.push("resource", resource);
        }
        if let Some(audience) = spec.audience() {
            form.push("audience", audience);
        }
        for (name, value) in spec.each_extra() {
            form.push(name, value);
            sent.add_if_long(value);
        }
        for (name, value) in &self.extra {
            // RFC 6749 §3.2: "Request and response parameters MUST NOT be included more than once." The spec's counts.
            if spec.each_extra().all(|(found, _)| found != name) {
                form.push(name, value);
                sent.add_if_long(value);
            }
        }
        self.auth.apply(client, &mut form, &mut headers)?;
        Ok((token_request(uri, &form, headers), sent))
    }
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("TokenEndpoint");
        if let Ok(uri) = self.url.sample() {
            // No query: what it holds is not known.
            out.field("host", &uri.host().unwrap_or_default())
                .field("path", &uri.path());
        }
        out.field("client_id", &self.client_id)
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
