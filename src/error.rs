//! This module defines the error of a token that could not be obtained. Its kinds are sorted by who has to act.
//!
//! [`TokenError`] is opaque and cheap to clone: all callers that wait for the same token get the same error.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use crate::util::fingerprint::Fingerprint;

/// The error of a token that could not be obtained.
///
/// The message names the cause and the remedy, and never contains a secret.
///
/// ```
/// use tower_bearer::{ErrorKind, TokenError};
///
/// let error = TokenError::new(ErrorKind::Configuration, "no client id: set ORDERS_CLIENT_ID");
/// assert_eq!(error.kind(), ErrorKind::Configuration);
/// assert!(!error.is_retryable());
/// assert_eq!(error.to_string(), "no client id: set ORDERS_CLIENT_ID");
/// ```
#[derive(Clone)]
pub struct TokenError(Arc<Repr>);

#[derive(Clone)]
struct Repr {
    kind: ErrorKind,
    message: Cow<'static, str>,
    description: Option<Box<str>>,
    retryable: bool,
    retry_after: Option<Duration>,
    claims: Option<Box<str>>,
    fingerprint: Option<Fingerprint>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The party at fault, and the type of the fault.
///
/// ```
/// use tower_bearer::ErrorKind;
///
/// assert_eq!(ErrorKind::InvalidClient.as_str(), "invalid_client");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration of this program: a setting, a route or a spec that can't work.
    Configuration,
    /// The provider doesn't know the client, or client authentication failed.
    InvalidClient,
    /// The client is not allowed to use this grant.
    UnauthorizedClient,
    /// The provider rejects the grant: it was revoked, has expired, or belongs to another client.
    InvalidGrant,
    /// The provider rejects the scopes.
    InvalidScope,
    /// The provider rejects the resource or audience (RFC 8707, RFC 8693).
    InvalidTarget,
    /// The provider or the user denied access.
    AccessDenied,
    /// The provider rejects the request for another reason.
    Refused,
    /// A user must sign in, consent, or complete another authentication step.
    InteractionRequired,
    /// The provider throttles requests.
    Throttled,
    /// The provider is unavailable.
    Unavailable,
    /// The provider's response is malformed.
    Malformed,
    /// The provider did not respond in time.
    Timeout,
    /// The provider could not be reached.
    Network,
}

impl ErrorKind {
    /// Returns the name of the kind in snake_case, for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::InvalidClient => "invalid_client",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::AccessDenied => "access_denied",
            Self::Refused => "refused",
            Self::InteractionRequired => "interaction_required",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Malformed => "malformed",
            Self::Timeout => "timeout",
            Self::Network => "network",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TokenError {
    /// Creates an error. The message should name the cause and the remedy. It must not contain a secret.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Repr {
            kind,
            message: message.into(),
            description: None,
            retryable: matches!(
                kind,
                ErrorKind::Throttled
                    | ErrorKind::Unavailable
                    | ErrorKind::Timeout
                    | ErrorKind::Network
            ),
            retry_after: None,
            claims: None,
            fingerprint: None,
            source: None,
        }))
    }

    /// Creates an error of the kind [`Configuration`](ErrorKind::Configuration).
    pub(crate) fn configuration(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Configuration, message)
    }

    /// Adds the provider's description. It must not contain a secret.
    #[must_use]
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.repr().description = Some(description.into().into_boxed_str());
        self
    }

    /// Sets how long to wait before the next request, as the provider requires.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.repr().retry_after = Some(after);
        self
    }

    /// Overrides whether the same request may be sent again, which the kind determines by default.
    #[must_use]
    pub fn with_retryable(mut self, retryable: bool) -> Self {
        self.repr().retryable = retryable;
        self
    }

    /// Sets the claims that the provider requires, as JSON.
    #[must_use]
    pub fn with_claims(mut self, claims: impl Into<String>) -> Self {
        self.repr().claims = Some(claims.into().into_boxed_str());
        self
    }

    /// Sets the cause. It is part of the error chain, so it must not contain a secret.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.repr().source = Some(Arc::from(source.into()));
        self
    }

    /// Returns the party at fault, and the type of the fault.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns `true` if the same request may succeed later without a change.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// Returns how long to wait before the next request, if known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Returns the claims that the provider requires, as JSON.
    #[must_use]
    pub fn claims(&self) -> Option<&str> {
        self.0.claims.as_deref()
    }

    /// Returns the provider's description, truncated and without control characters.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.0.description.as_deref()
    }

    /// Sets the fingerprint of the credential that client authentication used.
    pub(crate) fn with_fingerprint(mut self, fingerprint: Fingerprint) -> Self {
        self.repr().fingerprint = Some(fingerprint);
        self
    }

    /// Returns the fingerprint of the credential that client authentication used.
    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        self.0.fingerprint
    }

    fn repr(&mut self) -> &mut Repr {
        Arc::make_mut(&mut self.0)
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(description) = &self.0.description {
            write!(f, " ({description})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenError")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("description", &self.0.description)
            .field("retry_after", &self.0.retry_after)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for TokenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
