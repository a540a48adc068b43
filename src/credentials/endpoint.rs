//! One token request, from the spec to the answer: what all sources that ask a token endpoint share.

use std::{
    fmt,
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Uri};
use tracing::debug;
use zeroize::Zeroizing;

use super::ClientAuth;
use crate::{
    error::{ErrorKind, TokenError},
    mark::Mark,
    secret::Secret,
    source::TokenRequest,
    spec::{TokenSpec, fault_in_extra},
    token::NewToken,
    transport::{Transport, require_tls},
    wire::{Answer, Form, Proof, Sent, TokenResponse, TokenUrl, token_request, token_response},
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
        self.auth.check(&self.secret)?;
        if self.auth.is_mtls() && self.transport.lacks_identity() {
            return Err(TokenError::configuration(
                "mutual TLS needs a certificate: give the transport one by with_client_identity_pem or \
                 with_client_identity_files",
            ));
        }
        match self.extra.iter().find_map(|(name, _)| fault_in_extra(name)) {
            Some(fault) => Err(TokenError::configuration(fault)),
            None => Ok(()),
        }
    }

    /// Asks with what the client has for a proof now; and once more if that is refused, and has been replaced meanwhile.
    pub(crate) async fn exchange(
        &self,
        request: &TokenRequest,
        grant: Grant<'_>,
    ) -> Result<TokenResponse, TokenError> {
        let spec = request.spec();
        spec.check()?;
        self.check()?;
        let uri = self.url.uri(spec.tenant())?;
        let first = self.prove(&uri).await?;
        let refused = match self.attempt(spec, grant, &uri, &first.proof).await {
            Err(error) if self.blames_the_proof(&error) => error.with_mark(first.mark),
            outcome => return outcome,
        };
        match self.prove(&uri).await {
            Ok(second) if second.mark != first.mark => {
                debug!(target: "tower_bearer::credentials", "the client's credential was replaced meanwhile");
                let outcome = self.attempt(spec, grant, &uri, &second.proof).await;
                outcome.map_err(|error| match self.blames_the_proof(&error) {
                    true => error.with_mark(second.mark),
                    false => error,
                })
            }
            _ => Err(refused),
        }
    }

    /// Whether the client has another proof now than the one that this error is about.
    pub(crate) fn credential_changed(&self, since: &TokenError) -> bool {
        let now = self.auth.mark(&self.secret);
        let now = now.and_then(|mark| self.with_certificate(mark).ok());
        since
            .mark()
            .is_some_and(|then| now.is_some_and(|now| now != then))
    }

    /// A certificate that is refused breaks the connection.
    fn blames_the_proof(&self, error: &TokenError) -> bool {
        match error.kind() {
            ErrorKind::InvalidClient => true,
            ErrorKind::Network => self.auth.is_mtls(),
            _ => false,
        }
    }

    async fn prove(&self, uri: &Uri) -> Result<Proven, TokenError> {
        let (proof, mark) = self.auth.prove(&self.client_id, &self.secret, uri).await?;
        let mark = self.with_certificate(mark)?;
        Ok(Proven { proof, mark })
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
        proof: &Proof,
    ) -> Result<TokenResponse, TokenError> {
        let (request, sent) = self.prepare(spec, grant, uri, proof)?;
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
        uri: &Uri,
        proof: &Proof,
    ) -> Result<(Request<Bytes>, Sent), TokenError> {
        let mut form = Form::new(grant.grant_type);
        let mut headers = HeaderMap::new();
        let mut sent = proof.sent(&self.client_id);
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
        proof.apply(&self.client_id, &mut form, &mut headers)?;
        Ok((token_request(uri.clone(), &form, headers), sent))
    }
}

/// What the client shows, and the mark of what that was made with.
struct Proven {
    proof: Proof,
    mark: Mark,
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
