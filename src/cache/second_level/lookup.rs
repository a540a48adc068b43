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

use super::{record, shared_store::SharedStore};
use crate::{
    cache::{
        freshness::{self, Freshness},
        provider::{Brought, from_provider},
        shared::{Works, chance, next_generation},
        slot::{Fetched, Slot, Takeoff},
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
    works: &Works,
    shared: &SharedStore,
    fetch: &mut Option<Takeoff>,
    is_counted: &mut bool,
) -> Option<Brought> {
    let mut is_background = fetch.as_ref()?.reason() == FetchReason::Stale;
    loop {
        let takeoff = fetch.as_ref()?;
        let brought = try_once(works, shared, takeoff, is_background, is_counted).await;
        if brought.is_some() {
            return brought;
        }
        let next = next_lookup(takeoff.slot(), works.now());
        match fetch.take()?.step_back(next) {
            Ok(()) => return None,
            // A caller has started to wait for this fetch.
            Err(takeoff) => *fetch = Some(takeoff),
        }
        is_background = false;
    }
}

/// Returns when to look for the token that another process fetches, while the current one is still usable.
fn next_lookup(slot: &Slot, now: Moment) -> Moment {
    let left = slot.token().map(|token| token.times().end().remaining(now));
    let pause = left.unwrap_or_default() / 8;
    let pause = pause.clamp(Duration::from_millis(50), Duration::from_secs(1));
    now + pause.mul_f64(1.0 - chance() / 2.0)
}

/// Runs the steps of the diagram once. Returns `None` if the current token should be kept.
async fn try_once(
    works: &Works,
    shared: &SharedStore,
    takeoff: &Takeoff,
    is_background: bool,
    is_counted: &mut bool,
) -> Option<Brought> {
    if let Some(rejected) = takeoff.slot().rejected() {
        shared.forget(&rejected);
    }
    let key = match store_key(works, shared, takeoff) {
        Ok(key) => key,
        Err(error) => return Some(Brought::Failure(error)),
    };
    let mut lookup = Lookup {
        works,
        shared,
        slot: takeoff.slot(),
        key,
        reason: takeoff.reason(),
        is_background,
        times: LeaseTimes::new(works),
        replaced: None,
        is_readable: false,
    };
    let lease = match lookup.run().await {
        Decision::Use(token) => {
            count(&works.counters.store_hits);
            Telemetry::store_load("hit");
            return Some(Brought::Token(token));
        }
        Decision::KeepCurrent => return None,
        Decision::Fail(error) => return Some(Brought::Failure(error)),
        Decision::Fetch(lease) => lease,
    };
    if lookup.is_readable {
        count(&works.counters.store_misses);
        Telemetry::store_load("miss");
    }
    takeoff.delayed(works.overdue(works.now()));
    let brought = from_provider(works, takeoff, is_counted).await;
    if let Brought::Token(fetched) = &brought {
        lookup.save(fetched, lease.as_ref()).await;
    }
    lookup.release(lease).await;
    Some(brought)
}

/// Builds the key from the namespace, the source and everything that the token depends on.
fn store_key(
    works: &Works,
    shared: &SharedStore,
    takeoff: &Takeoff,
) -> Result<StoreKey, TokenError> {
    let source_id = works.source.source_id_of();
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
        &takeoff.store_key(),
    ]))
}

/// The lifetime of the lease, and how long a process waits for the one that holds it.
struct LeaseTimes {
    lifetime: Duration,
    wait: Duration,
}

impl LeaseTimes {
    fn new(works: &Works) -> Self {
        let fetch_timeout = works.settings.fetch_timeout;
        if works.source.wants_lease() {
            // The lease outlives every fetch, so that no two fetches overlap.
            let lifetime = fetch_timeout + Duration::from_secs(1);
            let wait = lifetime + LONGEST_PAUSE;
            return Self { lifetime, wait };
        }
        Self {
            lifetime: (fetch_timeout * 2 / 5).min(LONGEST_LEASE),
            wait: fetch_timeout / 2,
        }
    }
}

/// One lookup in the store.
struct Lookup<'a> {
    works: &'a Works,
    shared: &'a SharedStore,
    slot: &'a Slot,
    key: StoreKey,
    reason: FetchReason,
    /// Whether the current token is usable and no caller waits for another.
    is_background: bool,
    times: LeaseTimes,
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

/// The outcome of a read.
enum Stored {
    Found(Fetched),
    /// There is no token, or none that is better than the current one.
    Missing,
    StoreDown,
}

/// The outcome of a request for the lease.
enum LeaseOutcome {
    Acquired(HeldLease),
    /// Another process holds the lease.
    Taken,
    StoreDown,
}

impl Lookup<'_> {
    async fn run(&mut self) -> Decision {
        match self.first_read().await {
            Stored::Found(token) => return Decision::Use(token),
            Stored::StoreDown => return self.without_store(),
            Stored::Missing => {}
        }
        match self.acquire_lease().await {
            LeaseOutcome::Acquired(lease) => self.read_under_lease(lease).await,
            LeaseOutcome::Taken if self.is_background => Decision::KeepCurrent,
            LeaseOutcome::Taken => self.wait_for_token_or_lease().await,
            LeaseOutcome::StoreDown => self.without_store(),
        }
    }

    /// Reads the store. A forced refresh only remembers the token found here, to accept no other than a newer one later.
    async fn first_read(&mut self) -> Stored {
        if self.reason != FetchReason::Forced {
            return self.read().await;
        }
        let Some(loaded) = self.load().await else {
            return Stored::StoreDown;
        };
        if let Loaded::Found(record) = loaded {
            self.replaced = Some(TokenDigest::of(&record.text));
        }
        Stored::Missing
    }

    /// Reads again under the lease, because another process may have saved a token in the meantime.
    async fn read_under_lease(&mut self, lease: HeldLease) -> Decision {
        let Stored::Found(token) = self.read().await else {
            return Decision::Fetch(Some(lease));
        };
        self.release(Some(lease)).await;
        Decision::Use(token)
    }

    /// Waits until the process that holds the lease has saved a token, or until the lease is free.
    async fn wait_for_token_or_lease(&mut self) -> Decision {
        let deadline = Instant::now() + self.times.wait;
        let mut last_response = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            time::sleep(pause.mul_f64(1.0 - chance() / 2.0).min(left)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let stored = self.read().await;
            if let Stored::Found(token) = stored {
                return Decision::Use(token);
            }
            let lease = self.acquire_lease().await;
            if let LeaseOutcome::Acquired(lease) = lease {
                return self.read_under_lease(lease).await;
            }
            let now = Instant::now();
            if matches!((stored, lease), (Stored::Missing, LeaseOutcome::Taken)) {
                last_response = now;
            }
            // Another process is fetching the token, so a short outage of the store is worth waiting for.
            if last_response + TOLERATED_OUTAGE <= now {
                return self.without_store();
            }
            if now >= deadline {
                return self.wait_timed_out();
            }
        }
    }

    fn wait_timed_out(&self) -> Decision {
        if !self.works.source.wants_lease() {
            return Decision::Fetch(None);
        }
        Decision::Fail(TokenError::new(
            ErrorKind::Unavailable,
            format!(
                "other processes held the lease for this token for {:?} and stored none, and its source allows only one fetch at a \
                 time: check the logs of the other processes",
                self.times.wait
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
            let window = times.end().remaining(times.refresh());
            times.end().remaining(self.works.now()) > window / 2
        };
        if self.is_background && self.slot.token().is_some_and(has_time) {
            return Decision::KeepCurrent;
        }
        Decision::Fetch(None)
    }

    /// Reads a token that this process accepts. Deletes it if it has been rejected.
    async fn read(&mut self) -> Stored {
        let record = match self.load().await {
            None => return Stored::StoreDown,
            Some(Loaded::Found(record)) => record,
            Some(Loaded::Missing | Loaded::Unreadable(_)) => return Stored::Missing,
        };
        let digest = TokenDigest::of(&record.text);
        if self.shared.rejected.contains(&digest) {
            let delete = self.shared.store.forget(&self.key, &digest);
            self.write(delete).await;
            return Stored::Missing;
        }
        if self.replaced == Some(digest) {
            return Stored::Missing;
        }
        self.accept(&record).map_or(Stored::Missing, Stored::Found)
    }

    /// Reads the record. Returns `None` if the store is down.
    async fn load(&mut self) -> Option<Loaded> {
        let deadline = Instant::now() + START_LIMIT;
        let mut loaded = self.try_load(READ_LIMIT).await;
        // The first read of a process may have to wait for a connection. Without these repetitions, many processes that start
        // together would all fetch.
        while loaded.is_none()
            && !self.is_background
            && self.shared.reads.is_starting(self.works.now(), START_LIMIT)
            && Instant::now() + FIRST_PAUSE * 2 < deadline
        {
            time::sleep(FIRST_PAUSE).await;
            let left = deadline.saturating_duration_since(Instant::now());
            loaded = self.try_load(READ_LIMIT.min(left)).await;
        }
        self.is_readable |= loaded.is_some();
        match &loaded {
            Some(Loaded::Found(_)) => self.shared.unreadable.store(false, Ordering::Relaxed),
            Some(Loaded::Unreadable(why)) => self.report_unreadable(why.as_str()),
            Some(Loaded::Missing) | None => {}
        }
        loaded
    }

    async fn try_load(&self, limit: Duration) -> Option<Loaded> {
        let load = self.shared.store.load(&self.key);
        let call = self
            .shared
            .call(StoreWork::Reading, limit, load, self.works);
        call.await
    }

    /// Returns the stored token if it is usable and better than the current one.
    fn accept(&self, record: &Record) -> Option<Fetched> {
        let now = self.works.now();
        let Some((token, times)) = record::to_token(record, now, chance()) else {
            self.report_unreadable("malformed");
            return None;
        };
        let freshness = freshness::judge(&times, now);
        if freshness == Freshness::Expired {
            return None;
        }
        if let Some(current) = self.slot.token() {
            let is_usable = !current.times().end().is_past(now);
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

    async fn acquire_lease(&self) -> LeaseOutcome {
        let lease = self.shared.store.lease(&self.key, self.times.lifetime);
        match self.write(lease).await {
            Some(Some(lease)) => LeaseOutcome::Acquired(lease),
            Some(None) => LeaseOutcome::Taken,
            None => LeaseOutcome::StoreDown,
        }
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
        let lifetime = fetched.times.expiry().remaining(self.works.now());
        let save = self.shared.store.save(&self.key, &record, lifetime, lease);
        self.write(save).await;
    }

    async fn release(&self, lease: Option<HeldLease>) {
        if let Some(lease) = lease {
            self.write(self.shared.store.release(lease)).await;
        }
    }

    /// Runs a write. Returns `None` if it fails.
    async fn write<T>(&self, operation: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
        let call = self
            .shared
            .call(StoreWork::Writing, WRITE_LIMIT, operation, self.works);
        call.await
    }

    fn report_unreadable(&self, why: &'static str) {
        count(&self.works.counters.store_unreadable);
        let first = !self.shared.unreadable.swap(true, Ordering::Relaxed);
        let unreadable = TokenEvent::StoreUnreadable {
            spec: self.slot.spec(),
            why,
            first,
        };
        self.works.settings.telemetry.tell(&unreadable);
    }
}
