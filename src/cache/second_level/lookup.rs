//! Looks a token up in the store, and fetches it from the provider if it is not there.
//!
//! ```text
//! read ── found ─────────────────────────────────────────────────▶ use it
//!   │
//!   ├─ missing ── lease ── acquired ── read again ── missing ── fetch ── save ── release
//!   │               │
//!   │               └─ taken ── background refresh: keep the current token and look again later
//!   │                         └ otherwise: read and try to acquire the lease until one of both succeeds
//!   │
//!   └─ store down ── background refresh: keep the current token for half of the remaining time
//!                  └ otherwise: fetch without a lease
//! ```
//! The second read finds a token that was saved between the first read and the lease. If the process that holds the lease dies,
//! another process acquires it when it expires. A process that has waited too long fetches without the lease. The store is
//! therefore never the reason why a request has no token, unless the source requires the lease.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::{self, Instant};

use super::{
    record,
    shared_store::{SharedStore, StoreDown},
};
use crate::{
    cache::{
        freshness::{self, Freshness},
        provider::{FetchResult, from_provider},
        shared::{CacheShared, next_generation, random_fraction},
        slot::{FetchGuard, Fetched, Slot},
        stats::count,
    },
    clock::Moment,
    error::{ErrorKind, TokenError},
    source::SourceId,
    store::{HeldLease, Loaded, Record, StoreError, StoreKey, TokenDigest},
    telemetry::{StoreWork, Telemetry, TokenEvent},
    token::{FetchReason, Token, TokenOrigin},
};

/// The time limit of a read, in addition to the store's own.
const READ_LIMIT: Duration = Duration::from_millis(250);
/// The time limit of a write, a lease or a deletion, in addition to the store's own. A file store is as slow as its disk.
const WRITE_LIMIT: Duration = Duration::from_secs(1);
/// How long the first read is repeated while the store times out and has not responded yet.
const START_LIMIT: Duration = Duration::from_millis(500);
/// How long the store may fail before a process that waits for another one's fetch continues without it.
const TOLERATED_OUTAGE: Duration = Duration::from_secs(1);
const LONGEST_LEASE: Duration = Duration::from_secs(15);
/// The pauses between two reads while another process fetches. They double, and each is shortened by up to half.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Returns a token from the store or from the provider, or the error of the fetch.
///
/// Returns `None` if the fetch was abandoned, because another process is fetching the token and no caller waits for it here.
pub(in crate::cache) async fn load_or_fetch(
    cache: &CacheShared,
    shared: &SharedStore,
    fetch: &mut Option<FetchGuard>,
    is_counted: &mut bool,
) -> Option<FetchResult> {
    let mut is_background = fetch.as_ref()?.reason() == FetchReason::Stale;
    loop {
        let guard = fetch.as_ref()?;
        let result = try_once(cache, shared, guard, is_background, is_counted).await;
        if result.is_some() {
            return result;
        }
        let next = next_lookup(guard.slot(), cache.now());
        match fetch.take()?.abandon(next) {
            Ok(()) => return None,
            // A caller has started to wait for this fetch.
            Err(guard) => *fetch = Some(guard),
        }
        is_background = false;
    }
}

/// Returns when to look for the token that another process fetches, while the current one is still usable.
fn next_lookup(slot: &Slot, now: Moment) -> Moment {
    let left = slot
        .token()
        .map(|token| token.times().unusable_at().remaining(now));
    let pause = left.unwrap_or_default() / 8;
    let pause = pause.clamp(Duration::from_millis(50), Duration::from_secs(1));
    now + pause.mul_f64(1.0 - random_fraction() / 2.0)
}

/// Runs the steps of the diagram once. Returns `None` if the current token should be kept.
async fn try_once(
    cache: &CacheShared,
    shared: &SharedStore,
    guard: &FetchGuard,
    is_background: bool,
    is_counted: &mut bool,
) -> Option<FetchResult> {
    if let Some(rejected) = guard.slot().rejected() {
        shared.forget(&rejected);
    }
    let key = match store_key(cache, shared, guard) {
        Ok(key) => key,
        Err(error) => return Some(FetchResult::Failed(error)),
    };
    let mut lookup = StoreLookup {
        cache,
        shared,
        guard,
        key,
        is_background,
        replaced: None,
        is_readable: false,
    };
    let lease = match lookup.run().await {
        Decision::Use(token) => {
            count(&cache.counters.store_hits);
            Telemetry::store_load("hit");
            return Some(FetchResult::Token(token));
        }
        Decision::KeepCurrent => return None,
        Decision::Fail(error) => return Some(FetchResult::Failed(error)),
        Decision::Fetch(lease) => lease,
    };
    if lookup.is_readable {
        count(&cache.counters.store_misses);
        Telemetry::store_load("miss");
    }
    guard.extend(cache.fetch_deadline(cache.now()));
    let result = from_provider(cache, guard, is_counted).await;
    if let FetchResult::Token(fetched) = &result {
        lookup.save(fetched, lease.as_ref()).await;
    }
    lookup.release(lease).await;
    Some(result)
}

/// Builds the key from the namespace, the source and everything that the token depends on.
fn store_key(
    cache: &CacheShared,
    shared: &SharedStore,
    guard: &FetchGuard,
) -> Result<StoreKey, TokenError> {
    let source_id = cache.source.source_id_of();
    if source_id.is_none() && shared.namespace.is_none() {
        return Err(TokenError::configuration(
            "the token source has no source id, so its tokens can't be told apart from others in the store: \
             give the source an id, or call `with_store_namespace` on the cache builder",
        ));
    }
    let namespace = shared.namespace.as_deref().unwrap_or_default();
    Ok(StoreKey::new(&[
        namespace.as_bytes(),
        source_id.as_ref().map_or(&[][..], SourceId::as_bytes),
        &guard.store_key(),
    ]))
}

/// One lookup in the store.
struct StoreLookup<'a> {
    cache: &'a CacheShared,
    shared: &'a SharedStore,
    guard: &'a FetchGuard,
    key: StoreKey,
    /// Whether the current token is usable and no caller waits for another.
    is_background: bool,
    /// The stored token that a forced refresh replaces. It is not accepted.
    replaced: Option<TokenDigest>,
    /// Whether a read has succeeded.
    is_readable: bool,
}

/// What to do after the lookup.
enum Decision {
    Use(Fetched),
    /// Fetch from the provider, with the lease unless the store is down or the wait was too long.
    Fetch(Option<HeldLease>),
    /// Keep the current token and look again later.
    KeepCurrent,
    Fail(TokenError),
}

impl StoreLookup<'_> {
    async fn run(&mut self) -> Decision {
        match self.try_run().await {
            Ok(decision) => decision,
            Err(StoreDown) => self.without_store(),
        }
    }

    async fn try_run(&mut self) -> Result<Decision, StoreDown> {
        if self.guard.reason() != FetchReason::Forced {
            if let Some(token) = self.read().await? {
                return Ok(Decision::Use(token));
            }
        } else if let Loaded::Found(record) = self.load().await? {
            // Only a newer token is accepted later.
            self.replaced = Some(TokenDigest::of(&record.text));
        }
        match self.acquire_lease().await? {
            Some(lease) => Ok(self.read_under_lease(lease).await),
            None if self.is_background => Ok(Decision::KeepCurrent),
            None => self.wait_for_token_or_lease().await,
        }
    }

    /// Reads again under the lease, because another process may have saved a token in the meantime.
    async fn read_under_lease(&mut self, lease: HeldLease) -> Decision {
        let Ok(Some(token)) = self.read().await else {
            return Decision::Fetch(Some(lease));
        };
        self.release(Some(lease)).await;
        Decision::Use(token)
    }

    /// Waits until the process that holds the lease has saved a token, or until the lease is free.
    async fn wait_for_token_or_lease(&mut self) -> Result<Decision, StoreDown> {
        let (_, limit) = self.lease_times();
        let deadline = Instant::now() + limit;
        let mut last_response = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            time::sleep(pause.mul_f64(1.0 - random_fraction() / 2.0).min(left)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let stored = self.read().await;
            if let Ok(Some(token)) = stored {
                return Ok(Decision::Use(token));
            }
            let lease = self.acquire_lease().await;
            if let Ok(Some(lease)) = lease {
                return Ok(self.read_under_lease(lease).await);
            }
            let now = Instant::now();
            if stored.is_ok() && lease.is_ok() {
                last_response = now;
            }
            // Another process is fetching the token, so a short outage of the store is worth waiting for.
            if last_response + TOLERATED_OUTAGE <= now {
                return Err(StoreDown);
            }
            if now >= deadline {
                return Ok(self.wait_timed_out(limit));
            }
        }
    }

    fn wait_timed_out(&self, limit: Duration) -> Decision {
        if !self.cache.source.wants_lease() {
            return Decision::Fetch(None);
        }
        Decision::Fail(TokenError::new(
            ErrorKind::Unavailable,
            format!(
                "other processes held the lease for this token for {limit:?} and stored none, and its source allows only one fetch at a \
                 time: check the logs of the other processes"
            ),
        ))
    }

    /// Decides what to do while the store is down.
    ///
    /// A background refresh waits for the store during the first half of its time, so that a short outage does not make every
    /// process of a fleet fetch.
    fn without_store(&self) -> Decision {
        let has_time = |token: Token| {
            let times = token.times();
            let window = times.unusable_at().remaining(times.refresh_at());
            times.unusable_at().remaining(self.cache.now()) > window / 2
        };
        if self.is_background && self.guard.slot().token().is_some_and(has_time) {
            return Decision::KeepCurrent;
        }
        Decision::Fetch(None)
    }

    /// Reads a token that this process accepts. Deletes it if it has been rejected.
    async fn read(&mut self) -> Result<Option<Fetched>, StoreDown> {
        let Loaded::Found(record) = self.load().await? else {
            return Ok(None);
        };
        let digest = TokenDigest::of(&record.text);
        if self.shared.rejected.contains(&digest) {
            let delete = self.shared.store.forget(&self.key, &digest);
            let _ = self.write(delete).await;
            return Ok(None);
        }
        if self.replaced == Some(digest) {
            return Ok(None);
        }
        Ok(self.accept(&record))
    }

    /// Reads the record.
    async fn load(&mut self) -> Result<Loaded, StoreDown> {
        let deadline = Instant::now() + START_LIMIT;
        let mut limit = READ_LIMIT;
        // The first read of a process may have to wait for a connection. Without repetitions, many processes that start together
        // would all fetch.
        let loaded = loop {
            let load = self.shared.store.load(&self.key);
            let call = self
                .shared
                .call(StoreWork::Reading, limit, load, self.cache);
            let loaded = call.await;
            let may_repeat = !self.is_background
                && self.shared.reads.is_starting(self.cache.now(), START_LIMIT)
                && Instant::now() + FIRST_PAUSE * 2 < deadline;
            if loaded.is_ok() || !may_repeat {
                break loaded?;
            }
            time::sleep(FIRST_PAUSE).await;
            limit = READ_LIMIT.min(deadline.saturating_duration_since(Instant::now()));
        };
        self.is_readable = true;
        match &loaded {
            Loaded::Found(_) => self.shared.unreadable.store(false, Ordering::Relaxed),
            Loaded::Unreadable(why) => self.report_unreadable(why.as_str()),
            Loaded::Missing => {}
        }
        Ok(loaded)
    }

    /// Returns the stored token if it is usable and better than the current one.
    fn accept(&self, record: &Record) -> Option<Fetched> {
        let now = self.cache.now();
        let Some((token, times)) = record::to_token(record, now, random_fraction()) else {
            self.report_unreadable("malformed");
            return None;
        };
        let freshness = freshness::classify(&times, now);
        if freshness == Freshness::Expired {
            return None;
        }
        if let Some(current) = self.guard.slot().token() {
            let is_usable = !current.times().unusable_at().is_past(now);
            // If both are the same token, the times of the current one are kept.
            if token.same_text(&current) || (is_usable && freshness != Freshness::Fresh) {
                return None;
            }
        }
        Some(Fetched {
            token,
            times,
            generation: next_generation(),
            origin: TokenOrigin::Store,
        })
    }

    /// Acquires the lease. Returns `None` if another process holds it.
    async fn acquire_lease(&self) -> Result<Option<HeldLease>, StoreDown> {
        let (lifetime, _) = self.lease_times();
        let lease = self.shared.store.lease(&self.key, lifetime);
        self.write(lease).await
    }

    /// Returns the lifetime of the lease, and how long a process waits for the one that holds it.
    fn lease_times(&self) -> (Duration, Duration) {
        let fetch_timeout = self.cache.settings.fetch_timeout;
        if self.cache.source.wants_lease() {
            // The lease outlives every fetch, so that no two fetches overlap.
            let lifetime = fetch_timeout + Duration::from_secs(1);
            return (lifetime, lifetime + LONGEST_PAUSE);
        }
        let lifetime = (fetch_timeout * 2 / 5).min(LONGEST_LEASE);
        (lifetime, fetch_timeout / 2)
    }

    /// Saves the token for other processes and for the next start of this one.
    async fn save(&self, fetched: &Fetched, lease: Option<&HeldLease>) {
        let digest = TokenDigest::of(fetched.token.expose());
        self.shared.rejected.remove(&digest);
        // If the store can't be read, a write would only take time.
        if !self.is_readable {
            return;
        }
        let record = record::from_token(&fetched.token, &fetched.times);
        let lifetime = fetched.times.expires_at().remaining(self.cache.now());
        let save = self.shared.store.save(&self.key, &record, lifetime, lease);
        let _ = self.write(save).await;
    }

    async fn release(&self, lease: Option<HeldLease>) {
        if let Some(lease) = lease {
            let _ = self.write(self.shared.store.release(lease)).await;
        }
    }

    async fn write<T>(
        &self,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreDown> {
        let call = self
            .shared
            .call(StoreWork::Writing, WRITE_LIMIT, operation, self.cache);
        call.await
    }

    fn report_unreadable(&self, why: &'static str) {
        count(&self.cache.counters.store_unreadable);
        let first = !self.shared.unreadable.swap(true, Ordering::Relaxed);
        let spec = self.guard.slot().spec();
        let unreadable = TokenEvent::StoreUnreadable { spec, why, first };
        self.cache.settings.telemetry.emit(&unreadable);
    }
}
