//! The right and the duty to fetch a slot's next token, from the take-off to the landing.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::sync::watch;

use super::{
    Slot,
    fetch_receiver::{Landing, Outcome},
    state::Desk,
};
use crate::{
    cache::{
        backoff::Hold,
        required_claims::{Wanted, Wishes},
    },
    clock::Moment,
    error::TokenError,
    source::TokenRequest,
    token::{FetchReason, NewToken, Stamp, Times, Token, TokenOrigin},
};

/// A task that died without a word is not followed by another sooner than this after its start, while the token serves.
pub(super) const PAUSE_AFTER_DEATH: Duration = Duration::from_secs(1);

/// The right and the duty to fetch a slot's next token.
pub(in crate::cache) struct Takeoff {
    slot: Arc<Slot>,
    /// None once it has landed.
    sender: Option<watch::Sender<Option<Outcome>>>,
    reason: FetchReason,
    wanted: Wanted,
    /// Which version of the slot's wishes that is.
    version: u64,
    number: u64,
    pause: Moment,
}

/// A token from its source, and what the cache adds to it.
pub(in crate::cache) struct Fetched {
    pub(in crate::cache) token: NewToken,
    pub(in crate::cache) times: Times,
    pub(in crate::cache) generation: u64,
    pub(in crate::cache) origin: TokenOrigin,
}

impl Slot {
    /// Begins a flight: the right to fetch, and where all who wait for it are answered.
    pub(super) fn take_off(
        self: &Arc<Self>,
        desk: &mut Desk,
        now: Moment,
        overdue: Moment,
        reason: FetchReason,
    ) -> (Takeoff, Landing) {
        let (sender, receiver) = watch::channel(None);
        let landing = Landing::new(receiver, overdue.monotonic);
        desk.last_flight += 1;
        desk.flight = Some(Box::new(landing.clone()));
        self.quiet_until.store(overdue.monotonic, Ordering::Relaxed);
        let (wanted, version) = desk.wishes().map(Wishes::wanted).unwrap_or_default();
        let takeoff = Takeoff {
            slot: Arc::clone(self),
            sender: Some(sender),
            reason,
            wanted,
            version,
            number: desk.last_flight,
            pause: now + PAUSE_AFTER_DEATH,
        };
        (takeoff, landing)
    }
}

impl Takeoff {
    pub(in crate::cache) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    pub(in crate::cache) fn reason(&self) -> FetchReason {
        self.reason
    }

    /// What to ask the source for.
    pub(in crate::cache) fn request(&self) -> TokenRequest {
        let spec = self.wanted.spec.as_ref().unwrap_or(&self.slot.spec);
        let request = TokenRequest::new(spec.clone()).because(self.reason);
        match &self.wanted.claims {
            Some(claims) => request.with_claims(Arc::clone(claims)),
            None => request,
        }
    }

    /// All that is asked for, as bytes that are the same in every process: what a store's name is made of.
    #[cfg(feature = "store")]
    pub(in crate::cache) fn store_key(&self) -> Vec<u8> {
        let spec = self.wanted.spec.as_ref().unwrap_or(&self.slot.spec);
        let mut key = spec.key().to_vec();
        if let Some(claims) = &self.wanted.claims {
            // No record of a spec begins with that.
            key.push(u8::MAX);
            key.extend_from_slice(claims.as_bytes());
        }
        key
    }

    /// Still alive, though not started yet: counts as dead at a later moment.
    pub(in crate::cache) fn delayed(&self, overdue: Moment) {
        let mut desk = self.slot.desk();
        if desk.last_flight != self.number {
            return;
        }
        if let Some(landing) = &mut desk.flight {
            landing.delay(overdue.monotonic);
        }
        self.slot
            .quiet_until
            .store(overdue.monotonic, Ordering::Relaxed);
    }

    /// Puts the token in service, does what is to be done before anybody knows, and gives it to all who wait.
    pub(in crate::cache) fn land(
        self,
        fetched: Fetched,
        before: impl FnOnce(&Arc<Slot>, &Token),
    ) -> Token {
        let slot = Arc::clone(&self.slot);
        let mut desk = slot.desk();
        let last = slot.token().or_else(|| desk.rejected().cloned());
        let same_since = last
            .filter(|last| fetched.token.same_text(last))
            .map_or(fetched.generation, |last| last.same_since());
        let stamp = Stamp {
            generation: fetched.generation,
            same_since,
            reason: self.reason,
            origin: fetched.origin,
        };
        let token = Token::seal(fetched.token, slot.spec.clone(), fetched.times, stamp);
        let is_last = desk.last_flight == self.number;
        let is_as_wished = desk.wishes().map_or(0, Wishes::version) == self.version;
        if is_last {
            desk.flight = None;
        }
        if is_last && !is_as_wished {
            // While it was fetched, a server wanted more. Whoever waited asks again.
            desk.troubles().refused = fetched.generation;
            slot.quiet_until.store(0, Ordering::Relaxed);
        } else if is_last {
            desk.forget_failures();
            if let Some(troubles) = desk.known_troubles_mut() {
                troubles.wishes.grant();
            }
            slot.put_in_service(&mut desk, token.parts());
            slot.quiet_until.store(0, Ordering::Relaxed);
        }
        drop(desk);
        before(&slot, &token);
        drop(slot);
        self.tell(Ok(token.clone()));
        token
    }

    /// Gives the error to all who wait. Until `quiet`, the token that may still be in service needs nobody's attention;
    /// `hold` makes of the slot's last hold the one that is kept, if this failure is the slot's own.
    pub(in crate::cache) fn fail(
        self,
        error: TokenError,
        quiet: Moment,
        hold: impl FnOnce(Option<&Hold>) -> Option<Hold>,
    ) {
        let slot = Arc::clone(&self.slot);
        let mut desk = slot.desk();
        if desk.last_flight == self.number {
            desk.flight = None;
            let troubles = desk.known_troubles_mut();
            let wish_refused =
                troubles.is_some_and(|troubles| troubles.wishes.fail(self.version, &error));
            let mut quiet = quiet.monotonic;
            // The provider has not been asked yet for the token without what a server wanted of it.
            if !wish_refused && let Some(hold) = hold(desk.hold()) {
                quiet = quiet.max(hold.until().monotonic);
                desk.troubles().hold = Some(hold);
            }
            slot.quiet_until.store(quiet, Ordering::Relaxed);
        }
        drop(desk);
        drop(slot);
        self.tell(Err(error));
    }

    /// Gives the flight up without an outcome, unless somebody waits for one. Until `quiet`, the token that may still be
    /// in service needs nobody's attention.
    #[cfg(any(test, feature = "store"))]
    pub(in crate::cache) fn step_back(mut self, quiet: Moment) -> Result<(), Self> {
        let slot = Arc::clone(&self.slot);
        let mut desk = slot.desk();
        // Whoever joins a flight does so under this lock; the desk's own landing is one of them.
        let joined = desk.last_flight == self.number;
        if let Some(sender) = &self.sender
            && sender.receiver_count() > usize::from(joined)
        {
            drop(desk);
            return Err(self);
        }
        self.sender = None;
        if joined {
            desk.flight = None;
            slot.quiet_until.store(quiet.monotonic, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The last thing: by then, nobody but those who wait holds the slot on the flight's account.
    fn tell(mut self, outcome: Outcome) {
        let sender = self.sender.take();
        drop(self);
        if let Some(sender) = sender {
            sender.send_replace(Some(outcome));
        }
    }
}

impl Drop for Takeoff {
    /// The task died. Those who wait see the sender go; a token still in service is left in peace for a moment.
    fn drop(&mut self) {
        if self.sender.is_none() {
            return;
        }
        let desk = self.slot.desk();
        if desk.last_flight == self.number {
            self.slot
                .quiet_until
                .store(self.pause.monotonic, Ordering::Relaxed);
        }
    }
}
