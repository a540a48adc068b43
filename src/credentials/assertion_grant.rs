//! Implements the grants that present an assertion (RFC 7521 §4.1), which differ only in their name and encoding.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{
    assertion::{Assertion, SharedAssertion},
    endpoint::TokenEndpoint,
};
use crate::{
    error::TokenError,
    source::{SourceId, TokenRequest},
    token::NewToken,
};

#[derive(Clone, Debug)]
pub(super) struct AssertionGrant {
    grant_type: &'static str,
    pub(super) endpoint: TokenEndpoint,
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
            assertion: Arc::new(assertion),
            source_id: None,
        }
    }

    pub(super) fn with_source_id(mut self, source_id: SourceId) -> Self {
        self.source_id = Some(source_id);
        self
    }

    /// Requests an assertion, and exchanges it for a token. The grant determines how the assertion is encoded.
    pub(super) async fn fetch(
        &self,
        request: &TokenRequest,
        encode: fn(&str) -> String,
    ) -> Result<NewToken, TokenError> {
        let endpoint = &self.endpoint;
        let for_endpoint = endpoint.assertion_request(request.spec()).await?;
        let assertion = self.assertion.make(&for_endpoint).await?.expose()?;
        let encoded = Zeroizing::new(encode(assertion.as_str()));
        let params = [("assertion", encoded.as_str())];
        endpoint.fetch(request, self.grant_type, &params).await
    }

    pub(super) fn source_id(&self) -> Option<SourceId> {
        let endpoint = self.endpoint.source_id(self.grant_type)?;
        let own = self.source_id.clone();
        let subject = own.or_else(|| self.assertion.source_id_of())?;
        Some(endpoint.with_part("for", &subject))
    }
}
