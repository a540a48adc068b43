//! One token request, from the spec to the answer: what all sources that ask a provider share.

use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Request, Uri};
use tracing::debug;

use super::endpoint::{Place, TokenEndpoint};
use crate::{
    error::{ErrorKind, TokenError},
    oauth::{
        EndpointResponse, Form, PreparedClientAuth, Redactor, TokenResponse, claims_parameter,
        token_request, token_response,
    },
    source::TokenRequest,
    token::NewToken,
    util::fingerprint::Fingerprint,
};

/// OpenID Connect Core §5.5.
const CLAIMS: &str = "claims";

/// What to ask with.
#[derive(Clone, Copy)]
pub(crate) struct Grant<'a> {
    pub(crate) grant_type: &'static str,
    /// The grant's own parameters, such as the refresh token. Their values count as secrets.
    pub(crate) params: &'a [(&'static str, &'a str)],
    /// Whether the spec's subject has its part in it. Whatever has not would give one user's name to a token that is not
    /// theirs.
    pub(crate) with_subject: bool,
}

impl<'a> Grant<'a> {
    /// A grant in which no user has a part.
    pub(crate) const fn new(
        grant_type: &'static str,
        params: &'a [(&'static str, &'a str)],
    ) -> Self {
        Self {
            grant_type,
            params,
            with_subject: false,
        }
    }

    /// The same on behalf of the spec's subject.
    pub(crate) const fn with_subject(mut self) -> Self {
        self.with_subject = true;
        self
    }
}

impl Grant<'_> {
    /// Whether a further parameter of this name is free.
    fn leaves(&self, name: &str) -> Result<(), TokenError> {
        if self.params.iter().all(|(taken, _)| *taken != name) {
            return Ok(());
        }
        Err(TokenError::configuration(format!(
            "the parameter {name} is set by the grant {}: leave it out of the further parameters",
            self.grant_type
        )))
    }
}

/// What the client shows, and the mark of what that was made with.
struct Proven {
    /// None: the provider goes by the grant alone.
    proof: Option<PreparedClientAuth>,
    mark: Fingerprint,
}

impl TokenEndpoint {
    /// Asks with what the client has for a proof now; and once more if that is refused, and has been replaced meanwhile.
    pub(crate) async fn exchange(
        &self,
        request: &TokenRequest,
        grant: Grant<'_>,
    ) -> Result<TokenResponse, TokenError> {
        let uri = self.uri(request.spec()).await?;
        let first = self.prove(&uri).await?;
        let refused = match self.attempt(request, grant, &uri, &first).await {
            Err(error) if self.blames_the_proof(&error) => error.with_fingerprint(first.mark),
            outcome => return outcome,
        };
        match self.prove(&uri).await {
            Ok(second) if second.mark != first.mark => {
                debug!(target: "tower_bearer::credentials", "the client's credential was replaced meanwhile");
                let outcome = self.attempt(request, grant, &uri, &second).await;
                outcome.map_err(|error| match self.blames_the_proof(&error) {
                    true => error.with_fingerprint(second.mark),
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
            .fingerprint()
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
        let Some(id) = &self.client else {
            let mark = self.with_certificate(Fingerprint::of(b""))?;
            return Ok(Proven { proof: None, mark });
        };
        let (proof, mark) = self.auth.prove(id, &self.secret, uri).await?;
        let mark = self.with_certificate(mark)?;
        let proof = Some(proof);
        Ok(Proven { proof, mark })
    }

    fn with_certificate(&self, mark: Fingerprint) -> Result<Fingerprint, TokenError> {
        let certificate = self.transport.identity_fingerprint()?;
        Ok(certificate.map_or(mark, |certificate| mark.and(certificate)))
    }

    /// One request, and its answer.
    async fn attempt(
        &self,
        request: &TokenRequest,
        grant: Grant<'_>,
        uri: &Uri,
        proven: &Proven,
    ) -> Result<TokenResponse, TokenError> {
        let tenant = request.spec().tenant();
        let (request, sent) = self.prepare(request, grant, uri, proven)?;
        let started = Instant::now();
        let answer = self.transport.send(request).await;
        let elapsed = started.elapsed();
        let status = answer.as_ref().ok().map(|answer| answer.status().as_u16());
        let result = answer.and_then(|answer| {
            let answer = EndpointResponse {
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
        match (&self.place, result) {
            (Place::Discovered(discovery), Err(error)) => Err(discovery.commented(error, tenant)),
            (_, result) => result,
        }
    }

    /// The request, and what must not come back in an error.
    fn prepare(
        &self,
        request: &TokenRequest,
        grant: Grant<'_>,
        uri: &Uri,
        proven: &Proven,
    ) -> Result<(Request<Bytes>, Redactor), TokenError> {
        let spec = request.spec();
        if spec.subject().is_some() && !grant.with_subject {
            return Err(TokenError::configuration(format!(
                "the spec has a subject, and the grant {} is on nobody's behalf: take OnBehalfOf or TokenExchange, or \
                 leave the subject out of the spec",
                grant.grant_type
            )));
        }
        // A further parameter of that name gives way to what a server wants, and goes with what the client can handle.
        let own = self.extra.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        let own = spec
            .iter_extra()
            .chain(own)
            .find(|(name, _)| *name == CLAIMS);
        let wanted = request.claims().or(own.map(|(_, claims)| claims));
        let claims = claims_parameter(&self.capabilities, wanted);
        let is_free = |name: &str| claims.is_none() || name != CLAIMS;
        let id = self.client.as_deref().unwrap_or_default();
        let proof = proven.proof.as_ref();
        let mut form = Form::new(grant.grant_type);
        let mut headers = HeaderMap::new();
        let mut sent = proof.map(|proof| proof.redactor(id)).unwrap_or_default();
        for (name, value) in grant.params {
            form.push(name, value);
            sent.add(value);
        }
        form.push_scopes(spec.iter_scopes());
        // RFC 8707 §2: "Multiple resource parameters MAY be used". A single one without scopes is what Microsoft's older
        // endpoints want.
        for resource in spec.iter_resources() {
            form.push("resource", resource);
        }
        if let Some(audience) = spec.audience() {
            form.push("audience", audience);
        }
        for (name, value) in spec.iter_extra().filter(|(name, _)| is_free(name)) {
            grant.leaves(name)?;
            form.push(name, value);
            sent.add_if_long(value);
        }
        for (name, value) in self.extra.iter().filter(|(name, _)| is_free(name)) {
            grant.leaves(name)?;
            // RFC 6749 §3.2: "Request and response parameters MUST NOT be included more than once." The spec's counts.
            let own_audience = name == "audience" && spec.audience().is_some();
            if !own_audience && spec.iter_extra().all(|(found, _)| found != name) {
                form.push(name, value);
                sent.add_if_long(value);
            }
        }
        if let Some(claims) = &claims {
            form.push(CLAIMS, claims);
        }
        if let Some(proof) = proof {
            proof.apply(id, &mut form, &mut headers)?;
        }
        Ok((token_request(uri.clone(), &form, headers), sent))
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
