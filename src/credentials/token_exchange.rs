//! Token exchange (RFC 8693): one token for another, on behalf of its subject, and perhaps by an actor.

use std::fmt;

use super::{
    assertion::{Assertion, AssertionRequest, Shared},
    endpoint::TokenEndpoint,
    exchange::{Grant, new_token},
};
use crate::{
    error::{ErrorKind, TokenError},
    source::{SourceId, TokenRequest, TokenSource},
    token::{NewToken, TokenType},
};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// Tokens in exchange for somebody's token.
///
/// The subject is the [spec's](crate::TokenSpec::with_subject), so that one cache serves all users; or it is
/// [the source's own](Self::with_subject), such as the token of a cluster that a cloud exchanges. With an
/// [actor](Self::with_actor) the new token says who acts for the subject (delegation), without one it is as if the
/// subject itself had asked (impersonation).
///
/// ```
/// use bytes::Bytes;
/// use tower_bearer::{
///     NewToken, token::{Subject, TokenType}, TokenCache, TokenSpec,
///     credentials::{TokenEndpoint, TokenExchange, assertion}, source, transport::Transport,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
/// # let provider = Transport::from_fn(async |request| {
/// #     let form = str::from_utf8(request.body()).unwrap();
/// #     assert!(form.contains("subject_token=alices&") && form.contains("actor_token=mine&"));
/// #     Ok(http::Response::new(Bytes::from(r#"{"access_token":"abc"}"#)))
/// # });
/// // Whoever acts has a token too: from a cache of its own, so that it is fetched once for all users.
/// let own = TokenCache::new(source::from_fn(async |_| NewToken::bearer("mine")));
/// let endpoint = TokenEndpoint::over(provider, "https://login.example.com/token", "orders", "hunter2");
/// let source = TokenExchange::new(endpoint)
///     .with_actor(assertion::from_provider(own, TokenSpec::default()), TokenType::ACCESS_TOKEN);
///
/// let spec = TokenSpec::default().with_audience("stock").with_subject(Subject::new("alices"));
/// let token = TokenCache::new(source).get(&spec).await?;
/// # let _ = token;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TokenExchange {
    endpoint: TokenEndpoint,
    subject: Option<Party>,
    actor: Option<Party>,
    requested: Option<TokenType>,
    identity: Option<SourceId>,
}

/// Somebody's token, and of which kind it is.
#[derive(Clone)]
struct Party {
    token: Shared,
    kind: TokenType,
}

impl TokenExchange {
    /// Exchanges the subjects of specs at this endpoint.
    #[must_use]
    pub fn new(endpoint: TokenEndpoint) -> Self {
        Self {
            endpoint,
            subject: None,
            actor: None,
            requested: None,
            identity: None,
        }
    }

    /// Exchanges this token, of this kind, for specs that have no subject; and a spec that has one is an error.
    #[must_use]
    pub fn with_subject(mut self, token: impl Assertion, kind: TokenType) -> Self {
        self.subject = Some(Party {
            token: Shared::new(token),
            kind,
        });
        self
    }

    /// Names who acts for the subject, by this token of this kind.
    #[must_use]
    pub fn with_actor(mut self, token: impl Assertion, kind: TokenType) -> Self {
        self.actor = Some(Party {
            token: Shared::new(token),
            kind,
        });
        self
    }

    /// Asks for a token of this kind; unless it is said, the provider chooses. Only what can be sent as a bearer token is of
    /// use: an access token, or a JWT.
    #[must_use]
    pub fn with_requested_token_type(mut self, kind: TokenType) -> Self {
        self.requested = Some(kind);
        self
    }

    /// Says who the tokens are for, in place of what the subject's and actor's assertions say of themselves.
    #[must_use]
    pub fn with_source_id(mut self, identity: SourceId) -> Self {
        self.identity = Some(identity);
        self
    }

    /// RFC 8693 §2.2.1: "issued_token_type REQUIRED." Some leave it out, and then the token_type tells.
    fn check_issued(&self, issued: Option<&str>) -> Result<(), TokenError> {
        let Some(issued) = issued else {
            return Ok(());
        };
        let requested = self.requested.as_ref().map(TokenType::as_str);
        let sendable = [TokenType::ACCESS_TOKEN, TokenType::JWT];
        let fine = requested.map_or_else(
            || sendable.iter().any(|kind| kind.as_str() == issued),
            |requested| requested == issued,
        );
        if fine {
            return Ok(());
        }
        Err(TokenError::new(
            ErrorKind::Malformed,
            "the provider issued a token of another kind (issued_token_type) than was asked for, and it is not sent: say \
             TokenExchange::with_requested_token_type, or have the provider's policy mended",
        ))
    }

    fn check_requested(&self) -> Result<(), TokenError> {
        let useless = [TokenType::REFRESH_TOKEN, TokenType::SAML1, TokenType::SAML2];
        match &self.requested {
            Some(kind) if useless.contains(kind) => Err(TokenError::configuration(format!(
                "a token of the type {} can't be sent as a bearer token: request an access token",
                kind.as_str()
            ))),
            _ => Ok(()),
        }
    }
}

impl TokenSource for TokenExchange {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        self.check_requested()?;
        let spec = request.spec();
        let audience = self.endpoint.uri(spec).await?.to_string();
        let wanted = AssertionRequest::new(audience, spec.clone());
        let (own, kind) = match (spec.subject(), &self.subject) {
            (Some(subject), None) => (None, subject.token_type()),
            (None, Some(party)) => {
                let token = party.token.make(&wanted).await?.expose()?;
                (Some(token), &party.kind)
            }
            (Some(_), Some(_)) => {
                return Err(TokenError::configuration(
                    "the spec has a subject, and the token exchange has its own: leave one of them out",
                ));
            }
            (None, None) => {
                return Err(TokenError::configuration(
                    "the token exchange has no subject: add TokenSpec::with_subject for each user, or \
                     TokenExchange::with_subject for one and the same",
                ));
            }
        };
        let carried = spec.subject().map(|subject| subject.expose());
        let subject = own.as_ref().map(|token| token.as_str()).or(carried);
        // RFC 8693 §2.1: "subject_token REQUIRED. […] subject_token_type REQUIRED."
        let mut params = vec![
            ("subject_token", subject.unwrap_or_default()),
            ("subject_token_type", kind.as_str()),
        ];
        let actor = match &self.actor {
            Some(party) => Some((party.token.make(&wanted).await?.expose()?, &party.kind)),
            None => None,
        };
        if let Some((token, kind)) = &actor {
            // "actor_token_type […] REQUIRED when the actor_token parameter is present".
            params.push(("actor_token", token.as_str()));
            params.push(("actor_token_type", kind.as_str()));
        }
        if let Some(kind) = &self.requested {
            params.push(("requested_token_type", kind.as_str()));
        }
        let grant = Grant::new(GRANT_TYPE, &params).with_subject();
        let response = self.endpoint.exchange(request, grant).await?;
        self.check_issued(response.issued_token_type.as_deref())?;
        new_token(&response)
    }

    fn source_id(&self) -> SourceId {
        let mut identity = self.endpoint.identity(GRANT_TYPE);
        if let Some(kind) = &self.requested {
            identity = identity.with("requested_token_type", kind.as_str());
        }
        if let Some(whose) = &self.identity {
            return identity.with_part("for", whose);
        }
        for (name, party) in [("subject", &self.subject), ("actor", &self.actor)] {
            if let Some(party) = party {
                identity = identity
                    .with(name, party.kind.as_str())
                    .with_part(name, &party.token.source_id());
            }
        }
        identity
    }

    fn credential_changed(&self, since: &TokenError) -> bool {
        self.endpoint.credential_changed(since)
    }
}

impl fmt::Debug for TokenExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = |party: &Option<Party>| party.as_ref().map(|party| party.kind.clone());
        f.debug_struct("TokenExchange")
            .field("endpoint", &self.endpoint)
            .field("subject", &kind(&self.subject))
            .field("actor", &kind(&self.actor))
            .field("requested", &self.requested)
            .finish_non_exhaustive()
    }
}
