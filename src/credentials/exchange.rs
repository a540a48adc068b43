//! Implements a token request, from the spec to the response, for all sources that call a provider.

use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Request, Uri};
use tracing::debug;

use super::{
    assertion::AssertionRequest,
    endpoint::{EndpointUrl, TokenEndpoint},
};
use crate::{
    error::{ErrorKind, TokenError},
    oauth::{
        Answer, ClientAuthParams, Form, Sent, TokenResponse, claims_parameter, token_request,
        token_response,
    },
    source::TokenRequest,
    token::{NewToken, TokenSpec},
    util::fingerprint::Fingerprint,
};

/// OpenID Connect Core §5.5.
const CLAIMS: &str = "claims";

/// A grant and its parameters.
#[derive(Clone, Copy)]
pub(super) struct Grant<'a> {
    grant_type: &'static str,
    /// The parameters of the grant, such as the refresh token. Their values are secrets.
    params: &'a [(&'static str, &'a str)],
    /// Whether the token is issued for the subject of the spec. With any other grant, a spec with a subject is an error: the
    /// token would be cached for a user that it was not issued for.
    with_subject: bool,
}

impl<'a> Grant<'a> {
    /// Creates a grant that does not use the subject of the spec.
    pub(super) const fn new(
        grant_type: &'static str,
        params: &'a [(&'static str, &'a str)],
    ) -> Self {
        Self {
            grant_type,
            params,
            with_subject: false,
        }
    }

    /// Sets that the token is issued for the subject of the spec.
    pub(super) const fn with_subject(mut self) -> Self {
        self.with_subject = true;
        self
    }

    /// Returns an error if the grant sets a parameter of this name.
    fn check_extra(&self, name: &str) -> Result<(), TokenError> {
        if self.params.iter().all(|(taken, _)| *taken != name) {
            return Ok(());
        }
        Err(TokenError::configuration(format!(
            "the grant {} sets the parameter {name} itself: remove it from the extra parameters",
            self.grant_type
        )))
    }
}

/// The authentication of a client for one attempt, and the fingerprint of the credential that it is made of.
struct PreparedAuth {
    /// `None` if the endpoint has no client.
    params: Option<ClientAuthParams>,
    fingerprint: Fingerprint,
}

impl TokenEndpoint {
    /// Sends a token request. If the provider rejects the client's credential, and it was replaced in the meantime, sends the
    /// request once more.
    pub(super) async fn exchange(
        &self,
        request: &TokenRequest,
        grant: Grant<'_>,
    ) -> Result<TokenResponse, TokenError> {
        let uri = self.uri(request.spec()).await?;
        let first = self.prepare_auth(&uri, request.spec()).await?;
        let refused = match self.attempt(request, grant, &uri, &first).await {
            Err(error) if self.blames_credential(&error) => error.with_mark(first.fingerprint),
            outcome => return outcome,
        };
        match self.prepare_auth(&uri, request.spec()).await {
            Ok(second) if second.fingerprint != first.fingerprint => {
                debug!(target: "tower_bearer::credentials", "the client's credential was replaced: repeating the token request");
                let outcome = self.attempt(request, grant, &uri, &second).await;
                outcome.map_err(|error| match self.blames_credential(&error) {
                    true => error.with_mark(second.fingerprint),
                    false => error,
                })
            }
            _ => Err(refused),
        }
    }

    /// Returns the request for an assertion that will be presented at this endpoint.
    pub(super) async fn assertion_request(
        &self,
        spec: &TokenSpec,
    ) -> Result<AssertionRequest, TokenError> {
        let audience = self.uri(spec).await?.to_string();
        Ok(AssertionRequest::new(audience, spec.clone()))
    }

    /// Returns `true` if the client's credential was replaced after this error.
    pub(super) fn credential_changed(&self, since: &TokenError) -> bool {
        let now = match &self.client {
            Some(client) => client.auth.fingerprint(),
            None => Some(Fingerprint::of(b"")),
        };
        let now = now.and_then(|fingerprint| self.with_certificate(fingerprint).ok());
        since
            .mark()
            .is_some_and(|then| now.is_some_and(|now| now != then))
    }

    /// Returns `true` if the error may be caused by the client's credential. A rejected certificate breaks the connection.
    fn blames_credential(&self, error: &TokenError) -> bool {
        match error.kind() {
            ErrorKind::InvalidClient => true,
            ErrorKind::Network => self.is_mtls(),
            _ => false,
        }
    }

    async fn prepare_auth(&self, uri: &Uri, spec: &TokenSpec) -> Result<PreparedAuth, TokenError> {
        let Some(client) = &self.client else {
            let fingerprint = self.with_certificate(Fingerprint::of(b""))?;
            let params = None;
            return Ok(PreparedAuth {
                params,
                fingerprint,
            });
        };
        let (params, fingerprint) = client.auth.prepare(&client.id, uri, spec).await?;
        let fingerprint = self.with_certificate(fingerprint)?;
        let params = Some(params);
        Ok(PreparedAuth {
            params,
            fingerprint,
        })
    }

    /// Adds the certificate of the transport to the fingerprint.
    fn with_certificate(&self, fingerprint: Fingerprint) -> Result<Fingerprint, TokenError> {
        let certificate = self.transport()?.identity_mark()?;
        Ok(certificate.map_or(fingerprint, |certificate| fingerprint.and(certificate)))
    }

    /// Sends one request and reads its response.
    async fn attempt(
        &self,
        request: &TokenRequest,
        grant: Grant<'_>,
        uri: &Uri,
        prepared: &PreparedAuth,
    ) -> Result<TokenResponse, TokenError> {
        let tenant = request.spec().tenant();
        let (request, sent) = self.build_request(request, grant, uri, prepared)?;
        let started = Instant::now();
        let response = self.transport()?.send(request).await;
        let elapsed = started.elapsed();
        let status = response
            .as_ref()
            .ok()
            .map(|response| response.status().as_u16());
        let result = response.and_then(|response| {
            let answer = Answer {
                status: response.status(),
                headers: response.headers(),
                body: response.body(),
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
        match (&self.url, result) {
            (EndpointUrl::Discovered(discovery), Err(error)) => {
                Err(discovery.explain(error, tenant))
            }
            (_, result) => result,
        }
    }

    /// Returns the request, and the secrets to redact from errors of the provider.
    fn build_request(
        &self,
        request: &TokenRequest,
        grant: Grant<'_>,
        uri: &Uri,
        prepared: &PreparedAuth,
    ) -> Result<(Request<Bytes>, Sent), TokenError> {
        let spec = request.spec();
        if spec.subject().is_some() && !grant.with_subject {
            return Err(TokenError::configuration(format!(
                "the spec has a subject, but the grant {} is not on behalf of a user: use OnBehalfOf or TokenExchange, or \
                 remove the subject from the spec",
                grant.grant_type
            )));
        }
        // Claims required by a challenge replace an extra parameter `claims`; the client's capabilities are merged into either.
        let own = self.extra.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        let own = spec
            .iter_extra()
            .chain(own)
            .find(|(name, _)| *name == CLAIMS);
        let required = request.claims().or(own.map(|(_, claims)| claims));
        let claims = claims_parameter(&self.capabilities, required);
        let is_free = |name: &str| claims.is_none() || name != CLAIMS;
        let id = self.client.as_ref().map_or("", |client| &client.id);
        let params = prepared.params.as_ref();
        let mut form = Form::new(grant.grant_type);
        let mut headers = HeaderMap::new();
        let mut sent = params.map(|params| params.sent(id)).unwrap_or_default();
        for (name, value) in grant.params {
            form.push(name, value);
            sent.add(value);
        }
        form.push_scopes(spec.iter_scopes());
        // RFC 8707 §2: "Multiple resource parameters MAY be used". Microsoft's v1 endpoints require exactly one, without scopes.
        for resource in spec.iter_resources() {
            form.push("resource", resource);
        }
        if let Some(audience) = spec.audience() {
            form.push("audience", audience);
        }
        for (name, value) in spec.iter_extra().filter(|(name, _)| is_free(name)) {
            grant.check_extra(name)?;
            form.push(name, value);
            sent.add_if_long(value);
        }
        for (name, value) in self.extra.iter().filter(|(name, _)| is_free(name)) {
            grant.check_extra(name)?;
            // RFC 6749 §3.2: "Request and response parameters MUST NOT be included more than once." That of the spec is sent.
            let own_audience = name == "audience" && spec.audience().is_some();
            if !own_audience && spec.iter_extra().all(|(found, _)| found != name) {
                form.push(name, value);
                sent.add_if_long(value);
            }
        }
        if let Some(claims) = &claims {
            form.push(CLAIMS, claims);
        }
        if let Some(params) = params {
            params.apply(id, &mut form, &mut headers)?;
        }
        Ok((token_request(uri.clone(), &form, headers), sent))
    }
}

/// Returns the token of a response, for a cache.
pub(super) fn new_token(response: &TokenResponse) -> Result<NewToken, TokenError> {
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
