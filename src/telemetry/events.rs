//! This module defines the events of a cache and its layers, and the trait of a listener.

use std::time::Duration;

#[cfg(feature = "store")]
use crate::store::StoreError;
use crate::{
    error::TokenError,
    token::{FetchReason, Token, TokenSpec},
    verdict::Recovery,
};

/// A listener for the events of a cache and of the layers that use it.
///
/// It is called on the task in which the event occurs, which may be that of a request. It must return quickly and must not block.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use tower_bearer::{NewToken, TokenCache, TokenSpec, source};
/// use tower_bearer::telemetry::{TokenEvent, TokenEvents};
///
/// static FETCHED: AtomicU32 = AtomicU32::new(0);
///
/// struct Audit;
///
/// impl TokenEvents for Audit {
///     fn on_event(&self, event: &TokenEvent<'_>) {
///         if let TokenEvent::Fetched { token, .. } = event {
///             FETCHED.fetch_add(1, Ordering::Relaxed);
///             println!("generation {} for {:?}", token.generation(), token.spec());
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
/// let source = source::from_fn(async |_| NewToken::bearer("abc"));
/// let cache = TokenCache::builder(source).with_events(Audit).build();
/// cache.get(&TokenSpec::scopes(["read"])).await?;
/// assert_eq!(FETCHED.load(Ordering::Relaxed), 1);
/// # Ok(()) }
/// ```
pub trait TokenEvents: Send + Sync + 'static {
    /// Handles an event.
    fn on_event(&self, event: &TokenEvent<'_>);
}

/// An event of a cache or a layer.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum TokenEvent<'a> {
    /// A token request failed, and is retried after a pause.
    AttemptFailed {
        /// The spec of the token.
        spec: &'a TokenSpec,
        /// The number of the attempt, starting with 1.
        attempt: u32,
        /// The error.
        error: &'a TokenError,
        /// The time until the next attempt.
        pause: Duration,
    },
    /// A token was fetched and stored in the cache.
    Fetched {
        /// The token.
        token: &'a Token,
        /// The duration of the fetch with all its attempts.
        elapsed: Duration,
    },
    /// A fetch failed.
    FetchFailed {
        /// The spec of the token.
        spec: &'a TokenSpec,
        /// The reason of the fetch.
        reason: FetchReason,
        /// The error.
        error: &'a TokenError,
        /// The duration of the fetch with all its attempts.
        elapsed: Duration,
    },
    /// A caller waited for a token, successfully or not.
    Waited {
        /// The spec of the token.
        spec: &'a TokenSpec,
        /// The time it waited.
        elapsed: Duration,
    },
    /// A token is no longer used, because a server rejected it.
    Rejected {
        /// The spec of the token.
        spec: &'a TokenSpec,
        /// The generation of the token.
        generation: u64,
    },
    /// A server rejected a token, but the rejection limit is reached, so the token stays in use.
    RejectionLimitReached {
        /// The spec of the token.
        spec: &'a TokenSpec,
        /// The generation of the token.
        generation: u64,
        /// Whether this is the first such event since the last rejection that took effect.
        first: bool,
    },
    /// The layer handled a response that rejected the token, or that required another one.
    RecoveryFinished {
        /// The spec of the token.
        spec: &'a TokenSpec,
        /// The generation of the token.
        generation: u64,
        /// The result.
        recovery: &'a Recovery,
    },
    /// A token was loaded from the store and stored in the cache.
    Loaded {
        /// The token.
        token: &'a Token,
        /// The duration, including the wait for the fetch of another process.
        elapsed: Duration,
    },
    /// An operation of the store failed. The cache continues without the store for a while.
    #[cfg(feature = "store")]
    #[cfg_attr(docsrs, doc(cfg(feature = "store")))]
    StoreFailed {
        /// The type of the operation.
        work: StoreWork,
        /// The error.
        error: &'a StoreError,
        /// Whether the previous operation of this type succeeded.
        first: bool,
    },
    /// The store works again.
    StoreRecovered {
        /// The type of the operation.
        work: StoreWork,
        /// The duration of the outage.
        after: Duration,
    },
    /// A stored token can't be decrypted. It is ignored, and replaced by the next token that is fetched.
    StoreUnreadable {
        /// The spec of the token.
        spec: &'a TokenSpec,
        /// The cause: `version`, `key`, `damaged` or `malformed`.
        why: &'static str,
        /// Whether the previous stored token could be decrypted.
        first: bool,
    },
}

/// The type of an operation of a store. Each type can fail separately: a store that is out of memory can still be read.
///
/// ```
/// assert_eq!(tower_bearer::telemetry::StoreWork::Reading.as_str(), "reading");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreWork {
    /// Looking up a token.
    Reading,
    /// Storing or deleting a token, or acquiring a lease.
    Writing,
}

impl StoreWork {
    /// Returns the name, for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Writing => "writing",
        }
    }
}
