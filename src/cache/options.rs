//! How a cache is set up, and every default.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    clock::Clock,
    source::{SharedSource, TokenSource},
    telemetry::{Telemetry, TokenEvents},
};

/// A [`TokenCache`](crate::TokenCache) under construction.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::{NewToken, TokenCache, source};
///
/// let source = source::from_fn(async |_| NewToken::bearer("abc"));
/// let cache = TokenCache::builder(source)
///     .with_max_entries(100)
///     .with_fetch_timeout(Duration::from_secs(3))
///     .build();
/// # let _ = cache;
/// ```
#[must_use = "nothing is cached before `build`"]
pub struct CacheBuilder {
    pub(super) source: SharedSource,
    pub(super) settings: Settings,
}

/// What a cache keeps of its options.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) max_entries: usize,
    pub(super) max_bytes: u64,
    pub(super) max_flights: usize,
    pub(super) fetch_timeout: Duration,
    pub(super) assumed_lifetime: Duration,
    pub(super) idle_time: Duration,
    pub(super) clock: Clock,
    pub(super) telemetry: Telemetry,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_entries: 10_000,
            max_bytes: 64 << 20,
            max_flights: 32,
            fetch_timeout: Duration::from_secs(10),
            assumed_lifetime: Duration::from_secs(5 * 60),
            idle_time: Duration::from_secs(60),
            clock: Clock::system(),
            telemetry: Telemetry::default(),
        }
    }
}

impl CacheBuilder {
    pub(super) fn new(source: impl TokenSource) -> Self {
        Self {
            source: Arc::new(source),
            settings: Settings::default(),
        }
    }

    /// How many specs it knows at most, apart from those in use. Default: 10,000.
    pub fn with_max_entries(mut self, entries: usize) -> Self {
        self.settings.max_entries = entries;
        self
    }

    /// How many bytes it holds at most, about. Default: 64 MiB.
    pub fn with_max_bytes(mut self, bytes: u64) -> Self {
        self.settings.max_bytes = bytes;
        self
    }

    /// How many fetches run at once at most. Default: 32.
    pub fn with_max_flights(mut self, flights: usize) -> Self {
        self.settings.max_flights = flights.max(1);
        self
    }

    /// How long a fetch may take, all its attempts together: a millisecond at least. Default: 10 seconds.
    pub fn with_fetch_timeout(mut self, timeout: Duration) -> Self {
        self.settings.fetch_timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// How long a token lives whose provider does not say. Default: 5 minutes.
    pub fn with_assumed_lifetime(mut self, lifetime: Duration) -> Self {
        self.settings.assumed_lifetime = lifetime;
        self
    }

    /// How long after its end a token that nobody asks for keeps its memory, at least. Default: 1 minute.
    pub fn with_idle_time(mut self, time: Duration) -> Self {
        self.settings.idle_time = time;
        self
    }

    /// Where it reads the time. Default: [`Clock::system`].
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.settings.clock = clock;
        self
    }

    /// Who is told what happens. Default: nobody but the log.
    pub fn with_events(mut self, events: impl TokenEvents) -> Self {
        self.settings.telemetry = Telemetry::with_hook(events);
        self
    }
}

impl fmt::Debug for CacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
