//! Implements token exchange (RFC 8693).

use std::{slice, sync::Arc};

use zeroize::Zeroizing;

use super::{
    assertion::{Assertion, AssertionRequest, SharedAssertion},
    endpoint::TokenEndpoint,
    exchange::new_token,
};
use crate::{
    error::{ErrorKind, TokenError},
    secret::Exposed,
    source::{SourceId, TokenRequest, TokenSource},
    token::{NewToken, TokenType},
};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// Exchanges the token of a subject for another token.
///
/// The subject is that of the [spec](crate::TokenSpec::with_subject), so that one cache serves all users, or a
/// [fixed one](Self::with_subject), such as the token of a cluster. With an [actor](Self::with_actor), the new token names the
/// party that acts for the subject (delegation); without one, the new token is like one that the subject requested itself
/// (impersonation).
///
/// ```
/// use bytes::Bytes;
/// use tower_bearer::{
///     NewToken, TokenCache, TokenSpec,
///     credentials::{ClientAuth, TokenEndpoint, TokenExchange, assertion},
///     source,
///     token::{Subject, TokenType},
///     transport::Transport,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
/// # let provider = Transport::from_fn(async |request| {
/// #     let form = str::from_utf8(request.body()).unwrap();
/// #     assert!(form.contains("subject_token=alices&") && form.contains("actor_token=mine&"));
/// #     Ok(http::Response::new(Bytes::from(r#"{"access_token":"abc"}"#)))
/// # });
/// // The actor's token comes from another cache, so that it is fetched once for all users.
/// let own = TokenCache::new(source::from_fn(async |_| NewToken::bearer("mine")));
/// let endpoint = TokenEndpoint::new("https://login.example.com/token")
///     .with_client("orders", ClientAuth::basic("hunter2"))
///     .with_transport(provider);
/// let source = TokenExchange::new(endpoint)
///     .with_actor(assertion::from_provider(own, TokenSpec::default()), TokenType::ACCESS_TOKEN);
///
/// let spec = TokenSpec::default().with_audience("stock").with_subject(Subject::new("alices"));
/// let token = TokenCache::new(source).get(&spec).await?;
/// # let _ = token;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct TokenExchange {
    endpoint: TokenEndpoint,
    subject: Option<Party>,
    actor: Option<Party>,
    requested: Option<TokenType>,
    source_id: Option<SourceId>,
}

/// The token of the subject or the actor, and its type.
#[derive(Clone, Debug)]
struct Party {
    token: SharedAssertion,
    token_type: TokenType,
}

impl Party {
    fn new(token: impl Assertion, token_type: TokenType) -> Self {
        let token = Arc::new(token);
        Self { token, token_type }
    }

    async fn read(&self, request: &AssertionRequest) -> Result<(Exposed, &TokenType), TokenError> {
        let token = self.token.make(request).await?.expose()?;
        Ok((token, &self.token_type))
    }
}

impl TokenExchange {
    /// Creates a source that exchanges tokens at this endpoint.
    #[must_use]
    pub fn new(endpoint: TokenEndpoint) -> Self {
        Self {
            endpoint,
            subject: None,
            actor: None,
            requested: None,
            source_id: None,
        }
    }

    /// Sets a fixed subject by its token and the type of that token. A spec with a subject is then an error.
    #[must_use]
    pub fn with_subject(mut self, token: impl Assertion, token_type: TokenType) -> Self {
        self.subject = Some(Party::new(token, token_type));
        self
    }

    /// Sets the actor by its token and the type of that token.
    #[must_use]
    pub fn with_actor(mut self, token: impl Assertion, token_type: TokenType) -> Self {
        self.actor = Some(Party::new(token, token_type));
        self
    }

    /// Requests a token of this type: an access token, or a JWT, since only these can be sent as bearer tokens. The default is
    /// the choice of the provider.
    #[must_use]
    pub fn with_requested_token_type(mut self, token_type: TokenType) -> Self {
        self.requested = Some(token_type);
        self
    }

    /// Sets the identity that the tokens are for, instead of those of the subject's and actor's
    /// [assertions](Assertion::source_id).
    #[must_use]
    pub fn with_source_id(mut self, source_id: SourceId) -> Self {
        self.source_id = Some(source_id);
        self
    }

    /// RFC 8693 §2.2.1: "issued_token_type REQUIRED." Some providers omit it.
    fn check_issued(&self, issued: Option<&str>) -> Result<(), TokenError> {
        let sendable = [TokenType::ACCESS_TOKEN, TokenType::JWT];
        let expected = self
            .requested
            .as_ref()
            .map_or(&sendable[..], slice::from_ref);
        if issued.is_none_or(|issued| expected.iter().any(|one| one.as_str() == issued)) {
            return Ok(());
        }
        Err(TokenError::new(
            ErrorKind::Malformed,
            "the provider issued a token of another type (issued_token_type) than requested: call \
             TokenExchange::with_requested_token_type, or correct the provider's policy",
        ))
    }

    fn check_requested(&self) -> Result<(), TokenError> {
        let not_bearer = [TokenType::REFRESH_TOKEN, TokenType::SAML1, TokenType::SAML2];
        match &self.requested {
            Some(requested) if not_bearer.contains(requested) => {
                let message = format!(
                    "a token of the type {} can't be sent as a bearer token: request an access token",
                    requested.as_str()
                );
                Err(TokenError::configuration(message))
            }
            _ => Ok(()),
        }
    }
}

impl TokenSource for TokenExchange {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        self.check_requested()?;
        let spec = request.spec();
        let assertion_request = self.endpoint.assertion_request(spec).await?;
        let (subject, subject_type) = match (spec.subject(), &self.subject) {
            (Some(subject), None) => {
                let token = Zeroizing::new(subject.expose().to_owned());
                (Exposed::new(token), subject.token_type())
            }
            (None, Some(party)) => party.read(&assertion_request).await?,
            (Some(_), Some(_)) => {
                return Err(TokenError::configuration(
                    "the spec has a subject, and so has the token exchange: remove one of them",
                ));
            }
            (None, None) => {
                return Err(TokenError::configuration(
                    "the token exchange has no subject: call TokenSpec::with_subject for each user, or \
                     TokenExchange::with_subject for a fixed subject",
                ));
            }
        };
        // RFC 8693 §2.1: "subject_token REQUIRED. […] subject_token_type REQUIRED."
        let mut params = vec![
            ("subject_token", subject.as_str()),
            ("subject_token_type", subject_type.as_str()),
        ];
        let actor;
        if let Some(party) = &self.actor {
            actor = party.read(&assertion_request).await?;
            // "actor_token_type […] REQUIRED when the actor_token parameter is present".
            params.push(("actor_token", actor.0.as_str()));
            params.push(("actor_token_type", actor.1.as_str()));
        }
        if let Some(token_type) = &self.requested {
            params.push(("requested_token_type", token_type.as_str()));
        }
        let response = self.endpoint.exchange(request, GRANT_TYPE, &params).await?;
        self.check_issued(response.issued_token_type.as_deref())?;
        new_token(&response)
    }

    fn source_id(&self) -> Option<SourceId> {
        let mut id = self.endpoint.source_id(GRANT_TYPE)?;
        if let Some(token_type) = &self.requested {
            id = id.with("requested_token_type", token_type.as_str());
        }
        if let Some(subject) = &self.source_id {
            return Some(id.with_part("for", subject));
        }
        for (name, party) in [("subject", &self.subject), ("actor", &self.actor)] {
            if let Some(party) = party {
                id = id.with(name, party.token_type.as_str());
                id = id.with_part(name, &party.token.source_id_of()?);
            }
        }
        Some(id)
    }

    fn credential_changed(&self, since: &TokenError) -> bool {
        self.endpoint.credential_changed(since)
    }
}
