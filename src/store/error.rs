//! Defines the error of a store.

use std::{borrow::Cow, error::Error, fmt, sync::Arc};

use aws_lc_rs::error::Unspecified;

/// The error of a call to a store.
///
/// The message names the cause and the remedy. It never contains a secret, such as the password of a URL or a stored value.
///
/// ```
/// use tower_bearer::store::{StoreError, StoreErrorKind};
///
/// let error = StoreError::new(StoreErrorKind::Timeout, "redis did not answer within 50ms");
/// assert_eq!(error.kind(), StoreErrorKind::Timeout);
/// assert_eq!(error.to_string(), "redis did not answer within 50ms");
/// ```
#[derive(Clone, Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: Cow<'static, str>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The kind of a [`StoreError`].
///
/// ```
/// use tower_bearer::store::StoreErrorKind;
///
/// assert_eq!(StoreErrorKind::Unavailable.as_str(), "unavailable");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store can't be reached.
    Unavailable,
    /// The store did not respond in time. The operation may have been executed.
    Timeout,
    /// The store refused the operation: it is out of memory or disk space, read-only, or the user lacks permission.
    Refused,
    /// The store sent an invalid response, or its data is damaged.
    Broken,
    /// The configuration is wrong: a key, a path or a URL.
    Configuration,
}

impl StoreErrorKind {
    /// Returns the name in snake_case, for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Broken => "broken",
            Self::Configuration => "configuration",
        }
    }
}

impl fmt::Display for StoreErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl StoreError {
    /// Creates an error. The message should name the cause and the remedy, and must not contain a secret.
    #[must_use]
    pub fn new(kind: StoreErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    pub(crate) fn configuration(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StoreErrorKind::Configuration, message)
    }

    pub(crate) fn timeout(message: String) -> Self {
        Self::new(StoreErrorKind::Timeout, message)
    }

    /// Creates the error of a failure in the cryptography library, which gives no reason.
    pub(super) fn crypto(error: Unspecified) -> Self {
        Self::new(
            StoreErrorKind::Broken,
            "the cryptography library or the system's random number generator failed",
        )
        .with_source(error)
    }

    /// Adds the underlying error. It is shown in the error chain, so it must not contain a secret.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Returns the kind.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
