//! [`TokenEvent`] and the trait that receives it.

use std::time::Duration;

#[cfg(feature = "store")]
use crate::store::StoreError;
use crate::{
    error::TokenError, parts::FetchReason, recovery::Recovery, spec::TokenSpec, token::Token,
};

/// Is told what happens in a cache and in the layers over it.
///
/// It is called from wherever that is, a request's own task among others: be quick, and don't block.
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
    /// Something happened.
    fn on_event(&self, event: &TokenEvent<'_>);
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum TokenEvent<'a> {
    /// An attempt to fetch failed, and another follows after a pause.
    AttemptFailed {
        /// For what.
        spec: &'a TokenSpec,
        /// Which attempt it was, from 1.
        attempt: u32,
        /// Why.
        error: &'a TokenError,
        /// How long until the next.
        pause: Duration,
    },
    /// A token was fetched, and is in service.
    Fetched {
        /// The token.
        token: &'a Token,
        /// How long that took, all attempts together.
        elapsed: Duration,
    },
    /// No token could be fetched.
    FetchFailed {
        /// For what.
        spec: &'a TokenSpec,
        /// What it was wanted for.
        reason: FetchReason,
        /// Why not.
        error: &'a TokenError,
        /// How long that took, all attempts together.
        elapsed: Duration,
    },
    /// Somebody waited for a token, whether it came or not.
    Waited {
        /// For what.
        spec: &'a TokenSpec,
        /// How long.
        elapsed: Duration,
    },
    /// A token was taken out of service, because a server refused it.
    Rejected {
        /// What it was for.
        spec: &'a TokenSpec,
        /// Which one it was.
        generation: u64,
    },
    /// A server refused a token, as happened too often lately: it stays in service.
    RejectionLimitReached {
        /// What it is for.
        spec: &'a TokenSpec,
        /// Which one it is.
        generation: u64,
        /// Whether this is the first of its kind since a refusal was last believed.
        first: bool,
    },
    /// A response refused the token, and this was done about it.
    RecoveryFinished {
        /// What the token was for.
        spec: &'a TokenSpec,
        /// Which one it was.
        generation: u64,
        /// What was done.
        recovery: &'a Recovery,
    },
    /// A token was taken from the store behind the cache, and is in service.
    Loaded {
        /// The token.
        token: &'a Token,
        /// How long that took, the wait for another process's fetch included.
        elapsed: Duration,
    },
    /// The store did not do what it was asked. It is left alone for a while, and the cache does without.
    #[cfg(feature = "store")]
    #[cfg_attr(docsrs, doc(cfg(feature = "store")))]
    StoreFailed {
        /// What it was asked for.
        work: StoreWork,
        /// Why not.
        error: &'a StoreError,
        /// Whether it worked until now.
        first: bool,
    },
    /// The store works again.
    StoreRecovered {
        /// What it was asked for.
        work: StoreWork,
        /// How long it did not.
        after: Duration,
    },
    /// What the store keeps for this can't be opened. It counts as nothing, and is replaced by what is fetched.
    StoreUnreadable {
        /// For what.
        spec: &'a TokenSpec,
        /// `version`, `key`, `damaged` or `malformed`.
        why: &'static str,
        /// Whether the last that was found could be opened.
        first: bool,
    },
}

/// What a store is used for. Each may fail by itself: one that is out of memory can still be read.
///
/// ```
/// assert_eq!(tower_bearer::telemetry::StoreWork::Reading.as_str(), "reading");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreWork {
    /// To look for a token.
    Reading,
    /// To put one there or take one out, or to have the right to fetch it.
    Writing,
}

impl StoreWork {
    /// Its name, for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Writing => "writing",
        }
    }
}
