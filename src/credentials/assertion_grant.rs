//! Implements the grants that present an assertion (RFC 7521 §4.1), which differ only in their name and encoding.

use std::fmt;

use super::{
    assertion::{Assertion, SharedAssertion},
    endpoint::TokenEndpoint,
    exchange::{Grant, new_token},
};
use crate::{
    error::TokenError,
    secret::Exposed,
    source::{SourceId, TokenRequest},
    token::NewToken,
};

#[derive(Clone)]
pub(super) struct AssertionGrant {
    grant_type: &'static str,
    endpoint: TokenEndpoint,
    assertion: SharedAssertion,
    source_id: Option<SourceId>,
}

impl AssertionGrant {
    pub(super) fn new(
        grant_type: &'static str,
        endpoint: TokenEndpoint,
        assertion: impl Assertion,
    ) -> Self {
        Self {
            grant_type,
            endpoint,
            assertion: SharedAssertion::new(assertion),
            source_id: None,
        }
    }

    pub(super) fn with_source_id(mut self, source_id: SourceId) -> Self {
        self.source_id = Some(source_id);
        self
    }

    /// Requests the assertion for one token request.
    pub(super) async fn assertion(&self, request: &TokenRequest) -> Result<Exposed, TokenError> {
        let request = self.endpoint.assertion_request(request.spec()).await?;
        self.assertion.make(&request).await?.expose()
    }

    /// Exchanges the encoded assertion for a token.
    pub(super) async fn exchange(
        &self,
        request: &TokenRequest,
        assertion: &str,
    ) -> Result<NewToken, TokenError> {
        let params = [("assertion", assertion)];
        let grant = Grant::new(self.grant_type, &params);
        new_token(&self.endpoint.exchange(request, grant).await?)
    }

    pub(super) fn source_id(&self) -> Option<SourceId> {
        let endpoint = self.endpoint.source_id(self.grant_type)?;
        let own = self.source_id.clone();
        let subject = own.or_else(|| self.assertion.source_id())?;
        Some(endpoint.with_part("for", &subject))
    }

    pub(super) fn credential_changed(&self, since: &TokenError) -> bool {
        self.endpoint.credential_changed(since)
    }
}

impl fmt::Debug for AssertionGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)
    }
}
