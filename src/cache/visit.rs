//! The way of a flight over a store: look there first, and let one of a fleet ask the provider.
//!
//! ```text
//! look ── there is one ────────────────────────────────────────▶ take it
//!   │
//!   └─ none ── lease ── ours ── look again ── none ── provider ── save ── give the lease back
//!                │
//!                └─ another's ── a refresh: keep what serves, and look again later
//!                              └ else: look and ask for the lease again, until one of the two is ours
//! ```
//! The second look is for what came between the first and the lease. A holder that dies is followed when its lease ends, which
//! is before those who wait lose patience; who does asks the provider by itself. So does everybody while the store fails: it
//! is never the reason why a request has no token.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::{self, Instant};

use super::{
    asked::Asked,
    core::{Works, chance, next_generation},
    fleet::Fleet,
    freshness::{self, Freshness},
    provider::{Brought, from_provider},
    record,
    slot::{Fetched, Slot, Takeoff},
    stats::count,
};
use crate::{
    clock::Moment,
    error::{ErrorKind, TokenError},
    parts::{FetchReason, TokenOrigin},
    store::{Held, Loaded, Place, Record, StoreError, TokenDigest},
    telemetry::{StoreWork, Telemetry, TokenEvent},
    token::Token,
};

/// What a read may take at most, whatever the store's own bound is.
const READ: Duration = Duration::from_millis(250);
/// What a write, a lease or a deletion may take at most: a file's are as slow as the disk.
const WRITE: Duration = Duration::from_secs(1);
/// How long a process that starts tries a store that is slow to begin.
const BEGINNING: Duration = Duration::from_millis(500);
/// How long a store may fail before who waits for another process's fetch does without.
const HOPE: Duration = Duration::from_secs(1);
const LONGEST_LEASE: Duration = Duration::from_secs(15);
/// Between two looks for what another process fetches: doubled from the first to the second, each shortened by up to a half.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// How long a right to fetch lasts, and how long another's is waited for.
struct Terms {
    lease: Duration,
    wait: Duration,
    /// Who has not got it after that asks the provider nevertheless.
    alone: bool,
}

impl Terms {
    fn of(works: &Works) -> Self {
        let timeout = works.settings.fetch_timeout;
        if works.source.wants_lease() {
            // Longer than a fetch can take: there are never two at a time.
            let lease = timeout + Duration::from_secs(1);
            return Self {
                lease,
                wait: lease + LONGEST_PAUSE,
                alone: false,
            };
        }
        Self {
            lease: (timeout * 2 / 5).min(LONGEST_LEASE),
            wait: timeout / 2,
            alone: true,
        }
    }
}

/// Brings a token from the store, or else from the provider. Nothing if the flight stepped back: another process is at it, and
/// nobody here waits for it.
pub(super) async fn bring(
    works: &Works,
    fleet: &Fleet,
    flight: &mut Option<Takeoff>,
    asked: &mut bool,
) -> Option<Brought> {
    let mut patient = flight.as_ref()?.reason() != FetchReason::Stale;
    loop {
        let takeoff = flight.as_ref()?;
        let brought = try_to_bring(works, fleet, takeoff, patient, asked).await;
        if brought.is_some() {
            return brought;
        }
        let quiet = look_again_at(takeoff.slot(), works.now());
        match flight.take()?.step_back(quiet) {
            Ok(()) => return None,
            Err(takeoff) => *flight = Some(takeoff),
        }
        patient = true;
    }
}

/// The same. Who is not `patient` gets nothing while another process fetches.
async fn try_to_bring(
    works: &Works,
    fleet: &Fleet,
    takeoff: &Takeoff,
    patient: bool,
    asked: &mut bool,
) -> Option<Brought> {
    let mut visit = match Visit::new(works, fleet, takeoff, patient) {
        Ok(visit) => visit,
        Err(error) => return Some(Brought::Failure(error)),
    };
    let turn = match visit.arrive().await {
        Arrival::Found(found) => {
            count(&works.counters.store_hits);
            Telemetry::store_load("hit");
            return Some(Brought::Token(found));
        }
        Arrival::Elsewhere => return None,
        Arrival::TooLate => return Some(Brought::Failure(visit.too_late())),
        Arrival::Turn(turn) => turn,
    };
    if visit.looked {
        count(&works.counters.store_misses);
        Telemetry::store_load("miss");
    }
    takeoff.delayed(works.overdue(works.now()));
    let brought = from_provider(works, takeoff, asked).await;
    if let Brought::Token(fetched) = &brought {
        visit.save(fetched, turn.as_ref()).await;
    }
    visit.give_back(turn).await;
    Some(brought)
}

/// One flight's dealings with the store.
struct Visit<'a> {
    works: &'a Works,
    fleet: &'a Fleet,
    slot: &'a Slot,
    reason: FetchReason,
    /// Somebody waits for the token.
    patient: bool,
    place: Place,
    terms: Terms,
    /// What was there at the first look, if only what comes after that will do.
    before: Option<TokenDigest>,
    /// The store could be read.
    looked: bool,
}

enum Arrival {
    Found(Fetched),
    /// Another process is at it, or may be.
    Elsewhere,
    /// Other processes are at it one after another, and this may not ask beside them.
    TooLate,
    /// Ask the provider: with a lease, or because there is none to be had.
    Turn(Option<Held>),
}

enum Look {
    Found(Fetched),
    Nothing,
    Down,
}

impl<'a> Visit<'a> {
    fn new(
        works: &'a Works,
        fleet: &'a Fleet,
        takeoff: &'a Takeoff,
        patient: bool,
    ) -> Result<Self, TokenError> {
        let slot = takeoff.slot();
        if let Some(rejected) = slot.rejected() {
            fleet.disown(&rejected);
        }
        Ok(Self {
            works,
            fleet,
            slot,
            reason: takeoff.reason(),
            patient,
            place: place(works, fleet, takeoff)?,
            terms: Terms::of(works),
            before: None,
            looked: false,
        })
    }

    /// A token from the store, or the turn to ask the provider.
    async fn arrive(&mut self) -> Arrival {
        match self.first_look().await {
            Look::Found(found) => return Arrival::Found(found),
            Look::Down => return self.without_store(),
            Look::Nothing => {}
        }
        match self.lease().await {
            Some(Some(held)) => self.look_again(held).await,
            Some(None) if self.patient => self.wait_for_another().await,
            Some(None) => Arrival::Elsewhere,
            None => self.without_store(),
        }
    }

    /// Another process has the lease: its token, or its turn when it gives the lease back or dies.
    async fn wait_for_another(&mut self) -> Arrival {
        let end = Instant::now() + self.terms.wait;
        let mut last_good = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            time::sleep(pause.mul_f64(1.0 - chance() / 2.0).min(left)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let look = self.look().await;
            if let Look::Found(found) = look {
                return Arrival::Found(found);
            }
            let lease = self.lease().await;
            if let Some(Some(held)) = lease {
                return self.look_again(held).await;
            }
            let now = Instant::now();
            if lease.is_some() && !matches!(look, Look::Down) {
                last_good = now;
            }
            // A fetch is under way, so it is worth while to wait for a store that fails for a moment.
            if last_good + HOPE <= now {
                return self.without_store();
            }
            if now >= end && self.terms.alone {
                return Arrival::Turn(None);
            }
            if now >= end {
                return Arrival::TooLate;
            }
        }
    }

    /// The store fails. A refresh may hope that it is soon well again, and must not: half of the time for it goes to each.
    /// So what is short costs no provider a request from each of a fleet.
    fn without_store(&self) -> Arrival {
        let may_hope = |token: Token| {
            let times = token.times();
            let window = times.end().remaining(times.refresh());
            times.end().remaining(self.works.now()) > window / 2
        };
        if !self.patient && self.slot.token().is_some_and(may_hope) {
            return Arrival::Elsewhere;
        }
        Arrival::Turn(None)
    }

    /// Whoever wants a new token does not want the one that is there; what comes while it waits is new.
    async fn first_look(&mut self) -> Look {
        if self.reason != FetchReason::Forced {
            return self.look().await;
        }
        let Some(loaded) = self.load().await else {
            return Look::Down;
        };
        if let Loaded::Found(record) = loaded {
            self.before = Some(TokenDigest::of(&record.text));
        }
        Look::Nothing
    }

    /// Under the lease: somebody may have been here since.
    async fn look_again(&mut self, held: Held) -> Arrival {
        let Look::Found(found) = self.look().await else {
            return Arrival::Turn(Some(held));
        };
        self.give_back(Some(held)).await;
        Arrival::Found(found)
    }

    async fn look(&mut self) -> Look {
        let record = match self.load().await {
            None => return Look::Down,
            Some(Loaded::Found(record)) => record,
            Some(Loaded::Missing | Loaded::Unreadable(_)) => return Look::Nothing,
        };
        let digest = TokenDigest::of(&record.text);
        if self.fleet.refused.contains(&digest) {
            let forget = self.fleet.vault.forget(&self.place, &digest);
            self.write(forget).await;
            return Look::Nothing;
        }
        if self.before == Some(digest) {
            return Look::Nothing;
        }
        self.wanted(&record).map_or(Look::Nothing, Look::Found)
    }

    /// What is there; nothing if the store can't be read.
    async fn load(&mut self) -> Option<Loaded> {
        let end = Instant::now() + BEGINNING;
        let mut loaded = self.try_to_load(READ).await;
        // A process's first read may have to wait for a connection, or for a processor: a fleet that starts must not go by its
        // store for that. So until it has worked once, it is tried for a little longer.
        while loaded.is_none()
            && self.patient
            && self.fleet.reading.is_beginning(self.works.now(), BEGINNING)
            && Instant::now() + FIRST_PAUSE * 2 < end
        {
            time::sleep(FIRST_PAUSE).await;
            let left = end.saturating_duration_since(Instant::now());
            loaded = self.try_to_load(READ.min(left)).await;
        }
        self.looked |= loaded.is_some();
        match &loaded {
            Some(Loaded::Found(_)) => self.fleet.unreadable.store(false, Ordering::Relaxed),
            Some(Loaded::Unreadable(why)) => self.tell_unreadable(why.as_str()),
            Some(Loaded::Missing) | None => {}
        }
        loaded
    }

    async fn try_to_load(&self, limit: Duration) -> Option<Loaded> {
        let load = self.fleet.vault.load(&self.place, None);
        let asked = Asked::new(&self.fleet.reading, StoreWork::Reading, limit);
        asked.run(load, self.works).await
    }

    /// The record as a token of ours, if it is better than what is in service.
    fn wanted(&self, record: &Record) -> Option<Fetched> {
        let now = self.works.now();
        let Some((token, times)) = record::resume(record, now, chance()) else {
            self.tell_unreadable("malformed");
            return None;
        };
        let freshness = freshness::judge(&times, now);
        if freshness == Freshness::Expired {
            return None;
        }
        if let Some(current) = self.slot.token() {
            let usable = !current.times().end().is_past(now);
            // Our own deadlines of the same token stand.
            if token.same_text(&current) || (usable && freshness != Freshness::Fresh) {
                return None;
            }
        }
        Some(Fetched {
            token,
            times,
            generation: next_generation(),
            origin: TokenOrigin::Store,
            cache: self.works.cache_id(),
        })
    }

    /// The right to fetch, if it is free; nothing if the store can't be asked for it.
    async fn lease(&self) -> Option<Option<Held>> {
        let lease = self.fleet.vault.lease(&self.place, self.terms.lease);
        self.write(lease).await
    }

    /// For the others, and for our next start.
    async fn save(&self, fetched: &Fetched, held: Option<&Held>) {
        let digest = TokenDigest::of(fetched.token.expose());
        self.fleet.refused.forgive(&digest);
        // Who can't read has no use for what is written; trying would only take longer.
        if !self.looked {
            return;
        }
        let record = record::of(&fetched.token, &fetched.times);
        let lifetime = fetched.times.expiry().remaining(self.works.now());
        let save = self.fleet.vault.save(&self.place, &record, lifetime, held);
        self.write(save).await;
    }

    async fn give_back(&self, held: Option<Held>) {
        if let Some(held) = held {
            let release = self.fleet.vault.release(held);
            self.write(release).await;
        }
    }

    /// Writes to the store. Nothing if that fails.
    async fn write<T>(&self, operation: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
        let asked = Asked::new(&self.fleet.writing, StoreWork::Writing, WRITE);
        asked.run(operation, self.works).await
    }

    fn too_late(&self) -> TokenError {
        TokenError::new(
            ErrorKind::Unavailable,
            format!(
                "other processes had the right to fetch this token for {:?} and got none, and its source must not be asked by two at a \
                 time: look into their logs",
                self.terms.wait
            ),
        )
    }

    fn tell_unreadable(&self, why: &'static str) {
        count(&self.works.counters.store_unreadable);
        let first = !self.fleet.unreadable.swap(true, Ordering::Relaxed);
        let unreadable = TokenEvent::StoreUnreadable {
            spec: self.slot.spec(),
            why,
            first,
        };
        self.works.settings.telemetry.emit(&unreadable);
    }
}

/// When to look again for what another process fetches, while the token in service serves.
fn look_again_at(slot: &Slot, now: Moment) -> Moment {
    let left = slot.token().map(|token| token.times().end().remaining(now));
    let pause = left.unwrap_or_default() / 8;
    let pause = pause.clamp(Duration::from_millis(50), Duration::from_secs(1));
    now + pause.mul_f64(1.0 - chance() / 2.0)
}

/// Where the slot's token belongs: the source, the namespace, and all that is asked for.
fn place(works: &Works, fleet: &Fleet, takeoff: &Takeoff) -> Result<Place, TokenError> {
    let identity = works.source.source_id_of();
    if !identity.is_named() && fleet.namespace.is_none() {
        return Err(TokenError::configuration(
            "the token source has no identity, so a store can't tell its tokens from another's: \
             give the source one, or call `with_store_namespace` on the cache's builder",
        ));
    }
    let namespace = fleet.namespace.as_deref().unwrap_or_default();
    let length = (namespace.len() as u64).to_be_bytes();
    let owner = [&length, namespace.as_bytes(), identity.as_bytes()].concat();
    Ok(Place::new(&owner, &takeoff.store_key()))
}
