//! Implements a token request, from the spec to the response, for all sources that call a provider.

use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Request, Uri};
use tracing::debug;

use super::{assertion::AssertionRequest, endpoint::TokenEndpoint};
use crate::{
    error::{ErrorKind, TokenError},
    oauth::{
        EndpointResponse, Form, PreparedClientAuth, Redactor, TokenResponse, claims_parameter,
        token_request, token_response,
    },
    source::TokenRequest,
    token::{NewToken, TokenSpec},
    util::fingerprint::Fingerprint,
};

/// OpenID Connect Core §5.5.
const CLAIMS: &str = "claims";

/// A grant and its parameters, such as the refresh token. The values of the parameters are secrets.
#[derive(Clone, Copy)]
struct Grant<'a> {
    grant_type: &'static str,
    params: &'a [(&'static str, &'a str)],
}

impl TokenEndpoint {
    /// Fetches a token with a grant that does not use the subject of the spec. A spec with a subject is an error: the token would
    /// be cached for a user that it was not issued for.
    pub(super) async fn fetch(
        &self,
        request: &TokenRequest,
        grant_type: &'static str,
        params: &[(&'static str, &str)],
    ) -> Result<NewToken, TokenError> {
        if request.spec().subject().is_some() {
            return Err(TokenError::configuration(format!(
                "the spec has a subject, but the grant {grant_type} is not on behalf of a user: use OnBehalfOf or \
                 TokenExchange, or remove the subject from the spec"
            )));
        }
        new_token(&self.exchange(request, grant_type, params).await?)
    }

    /// Sends a token request. If the provider rejects the client's credential, and it was replaced in the meantime, sends the
    /// request once more.
    pub(super) async fn exchange(
        &self,
        request: &TokenRequest,
        grant_type: &'static str,
        params: &[(&'static str, &str)],
    ) -> Result<TokenResponse, TokenError> {
        let grant = Grant { grant_type, params };
        let uri = self.uri(request.spec()).await?;
        let (auth, fingerprint) = self.prepare_auth(&uri, request.spec()).await?;
        let attempt = self.attempt(request, grant, &uri, auth.as_ref(), fingerprint);
        let outcome = attempt.await;
        if !matches!(&outcome, Err(error) if self.blames_credential(error)) {
            return outcome;
        }
        match self.prepare_auth(&uri, request.spec()).await {
            Ok((auth, current)) if current != fingerprint => {
                debug!(target: "tower_bearer::credentials", "the client's credential was replaced: repeating the token request");
                let attempt = self.attempt(request, grant, &uri, auth.as_ref(), current);
                attempt.await
            }
            _ => outcome,
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
        let then = since.fingerprint();
        now.zip(then).is_some_and(|(now, then)| now != then)
    }

    /// Returns `true` if the error may be caused by the client's credential. A rejected certificate breaks the connection.
    fn blames_credential(&self, error: &TokenError) -> bool {
        match error.kind() {
            ErrorKind::InvalidClient => true,
            ErrorKind::Network => self.is_mtls(),
            _ => false,
        }
    }

    /// Returns the authentication of the client for one attempt, if there is a client, and the fingerprint of the credential that
    /// it is made of.
    async fn prepare_auth(
        &self,
        uri: &Uri,
        spec: &TokenSpec,
    ) -> Result<(Option<PreparedClientAuth>, Fingerprint), TokenError> {
        let (auth, fingerprint) = match &self.client {
            Some(client) => {
                let (auth, fingerprint) = client.auth.prepare(&client.id, uri, spec).await?;
                (Some(auth), fingerprint)
            }
            None => (None, Fingerprint::of(b"")),
        };
        Ok((auth, self.with_certificate(fingerprint)?))
    }

    /// Adds the certificate of the transport to the fingerprint.
    fn with_certificate(&self, fingerprint: Fingerprint) -> Result<Fingerprint, TokenError> {
        let certificate = self.transport()?.identity_fingerprint()?;
        Ok(certificate.map_or(fingerprint, |certificate| fingerprint.and(certificate)))
    }

    /// Sends one request and reads its response. An error that may be caused by the client's credential has its fingerprint.
    async fn attempt(
        &self,
        request: &TokenRequest,
        grant: Grant<'_>,
        uri: &Uri,
        auth: Option<&PreparedClientAuth>,
        fingerprint: Fingerprint,
    ) -> Result<TokenResponse, TokenError> {
        let tenant = request.spec().tenant();
        let (request, sent) = self.build_request(request, grant, uri, auth)?;
        let started = Instant::now();
        let response = self.transport()?.send(request).await;
        let elapsed = started.elapsed();
        let received = response.as_ref().ok();
        let status = received.map(|response| response.status().as_u16());
        let result = response.and_then(|response| {
            let answer = EndpointResponse {
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
        result.map_err(|error| {
            let error = match (&self.discovery, self.url.expand(tenant)) {
                (Some(discovery), Ok(issuer)) => discovery.explain(error, &issuer),
                _ => error,
            };
            match self.blames_credential(&error) {
                true => error.with_fingerprint(fingerprint),
                false => error,
            }
        })
    }

    /// Returns the request, and the secrets to redact from errors of the provider.
    fn build_request(
        &self,
        request: &TokenRequest,
        grant: Grant<'_>,
        uri: &Uri,
        auth: Option<&PreparedClientAuth>,
    ) -> Result<(Request<Bytes>, Redactor), TokenError> {
        let spec = request.spec();
        // RFC 6749 §3.2: "Request and response parameters MUST NOT be included more than once." That of the spec is sent.
        let own = self.extra.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        let own = own.filter(|(name, _)| {
            let audience = (*name == "audience").then(|| spec.audience()).flatten();
            audience.is_none() && spec.iter_extra().all(|(found, _)| found != *name)
        });
        let extra: Vec<_> = spec.iter_extra().chain(own).collect();
        // Claims required by a challenge replace an extra parameter `claims`; the client's capabilities are merged into either.
        let given = extra.iter().find(|(name, _)| *name == CLAIMS);
        let required = request.claims().or(given.map(|(_, claims)| *claims));
        let claims = claims_parameter(&self.capabilities, required);
        let id = self.client.as_ref().map_or("", |client| &client.id);
        let mut form = Form::new(grant.grant_type);
        let mut headers = HeaderMap::new();
        let mut sent = auth.map(|auth| auth.redactor(id)).unwrap_or_default();
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
        for (name, value) in extra {
            if grant.params.iter().any(|(taken, _)| *taken == name) {
                return Err(TokenError::configuration(format!(
                    "the grant {} sets the parameter {name} itself: remove it from the extra parameters",
                    grant.grant_type
                )));
            }
            if name != CLAIMS || claims.is_none() {
                form.push(name, value);
                sent.add_if_long(value);
            }
        }
        if let Some(claims) = &claims {
            form.push(CLAIMS, claims);
        }
        if let Some(auth) = auth {
            auth.apply(id, &mut form, &mut headers)?;
        }
        Ok((token_request(uri.clone(), &form, headers), sent))
    }
}

/// Returns the token of a response, for a cache.
pub(super) fn new_token(response: &TokenResponse) -> Result<NewToken, TokenError> {
    let mut token = NewToken::bearer(&response.access_token)?;
    token.lifetime = response.expires_in;
    token.refresh_in = response.refresh_in;
    if let Some(scope) = &response.scope {
        token = token.with_granted_scopes(scope);
    }
    Ok(token)
}
