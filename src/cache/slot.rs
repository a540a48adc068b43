//! What is known of one spec's token: a state machine without I/O, time or tasks of its own.
//!
//! The token in service can be read without a lock; everything else stands behind one short lock. Whoever finds that a
//! new token is wanted gets a [`Takeoff`], and there is at most one at a time: it is the right, and the duty, to fetch.
//! It ends in [`Takeoff::land`]. If it is dropped instead, wherever and however its task died, those who wait are woken and
//! one of them takes off anew. So nothing that happens to a task can leave a slot without a way on.
//!
//! A generation is never given twice in a process, so "the token that I sent" means the same token for ever: rejecting an
//! old one never costs the one that has replaced it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwapOption, Guard};
use http::HeaderValue;
use tokio::sync::watch;

use super::{
    backoff::{Budget, Hold},
    freshness::{self, Freshness},
    owed::{Debt, Owed},
    wishes::{Standing, Wanted, Wish, Wishes},
};
use crate::{
    clock::Moment,
    error::TokenError,
    parts::{CacheId, Origin, Reason, Stamp, Times, TokenParts},
    source::TokenRequest,
    spec::TokenSpec,
    token::{NewToken, Token},
};

#[cfg(test)]
mod model;

/// What a flight brings, for everybody who waits for it.
pub(super) type Outcome = Result<Token, TokenError>;

/// A task that died without a word is not followed by another sooner than this after its start, while the token serves.
const PAUSE_AFTER_DEATH: Duration = Duration::from_secs(1);

pub(crate) struct Slot {
    spec: TokenSpec,
    token: ArcSwapOption<TokenParts>,
    /// The generation in service, zero for none: what a handle compares its own copy with.
    in_service: AtomicU64,
    /// Until then (monotonic) a stale token needs nobody's attention: a flight is under way, or the provider is left alone.
    quiet_until: AtomicU64,
    desk: Mutex<Desk>,
}

/// What nearly no slot has at any time is boxed: there may be very many slots.
#[derive(Default)]
struct Desk {
    flight: Option<Box<Landing>>,
    /// The number of the last flight. One with an older number no longer lands here.
    last_flight: u64,
    troubles: Option<Box<Troubles>>,
}

/// What has gone wrong with a slot's tokens so far.
struct Troubles {
    hold: Option<Hold>,
    budget: Budget,
    /// Whether the last rejection was not believed.
    storm: bool,
    /// The generations whose rejections were spent, and that nothing has vindicated yet; no more than can be spent.
    unsettled: VecDeque<u64>,
    /// The last token that was rejected, to know it again when the source returns the same one.
    rejected: Option<Token>,
    /// Its generation, which is not forgotten with it: somebody may hold that token who has not looked yet.
    refused: u64,
    /// The rejection that no replay could follow, and that waits for the next token's first acceptance.
    owed: Option<Debt>,
    /// What servers want of the next token.
    wishes: Wishes,
}

/// What somebody who wants a token is told.
pub(super) enum Answer {
    /// Here it is.
    Have(Token),
    /// Here it is, and a new one is due: fetch it behind the scenes.
    HaveAndFetch(Token, Takeoff),
    /// Somebody is fetching it.
    Wait(Landing),
    /// Fetch it, and wait like everybody else.
    Fetch(Takeoff, Landing),
    /// There is none, and the provider is left alone for a while.
    Held(TokenError),
}

/// What became of a token that was rejected, or of which more was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// It is out of service.
    Dropped,
    /// It was out of service already, or another is due already.
    Superseded,
    /// It stays in service until one with further scopes is there.
    Outdated,
    /// It was asked for with all that was wanted of it.
    Vain,
    /// Too many rejections lately: it stays.
    Disbelieved {
        /// The first since one was believed.
        first: bool,
    },
}

/// What an operator is told of a slot.
pub(super) struct Snapshot {
    /// With the scopes that servers want.
    pub(super) spec: TokenSpec,
    pub(super) token: Option<Token>,
    pub(super) last_error: Option<TokenError>,
    pub(super) held: bool,
    pub(super) storm: bool,
}

impl Slot {
    pub(crate) fn new(spec: TokenSpec) -> Self {
        Self {
            spec,
            in_service: AtomicU64::new(0),
            token: ArcSwapOption::empty(),
            quiet_until: AtomicU64::new(0),
            desk: Mutex::default(),
        }
    }

    pub(crate) fn spec(&self) -> &TokenSpec {
        &self.spec
    }

    /// The last token that was rejected, until another has come.
    #[cfg(feature = "store")]
    pub(super) fn rejected(&self) -> Option<Token> {
        self.desk().rejected().cloned()
    }

    /// The generation in service, zero for none.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.in_service.load(Ordering::Acquire)
    }

    /// Whether a stale token can be served without telling anybody.
    #[inline]
    pub(crate) fn is_quiet(&self, now: Moment) -> bool {
        now.monotonic < self.quiet_until.load(Ordering::Relaxed)
    }

    /// The token in service, whatever its age.
    pub(super) fn token(&self) -> Option<Token> {
        self.of_parts(self.token.load_full())
    }

    fn of_parts(&self, parts: Option<Arc<TokenParts>>) -> Option<Token> {
        Some(Token::new(parts?, self.spec.clone()))
    }

    /// Puts a token in service: from now on it is what everybody gets.
    fn put_in_service(&self, token: &Arc<TokenParts>) {
        self.token.store(Some(Arc::clone(token)));
        self.in_service.store(token.generation(), Ordering::Release);
        self.spec.show(Arc::clone(token));
    }

    /// Takes the token out of service, if there is one: whoever looks from now on does not find it.
    fn take_out_of_service(&self) -> Option<Arc<TokenParts>> {
        self.in_service.store(0, Ordering::Release);
        let token = self.token.swap(None)?;
        self.spec.take_out(&token);
        Some(token)
    }

    /// A token that can be sent, if that takes nobody's attention. No lock, no allocation.
    pub(crate) fn usable(&self, now: Moment) -> Option<Arc<TokenParts>> {
        let token = self.token.load();
        self.serves(token.as_ref()?, now)?;
        Guard::into_inner(token)
    }

    /// The header value of such a token, its generation and whether it is stale, if that header is all there is to it. The
    /// token itself stays where it is, so nobody counts references to it.
    pub(crate) fn header(&self, now: Moment) -> Option<(HeaderValue, u64, bool)> {
        let token = self.token.load();
        let token = token.as_ref()?;
        let header = token.only_header()?;
        let stale = self.serves(token, now)?;
        Some((header.clone(), token.generation(), stale))
    }

    /// Whether a token can be sent without anybody's attention; if so, whether it is stale.
    fn serves(&self, token: &TokenParts, now: Moment) -> Option<bool> {
        match freshness::judge(token.times(), now) {
            Freshness::Fresh => Some(false),
            Freshness::Stale => self.is_quiet(now).then_some(true),
            Freshness::Expired => None,
        }
    }

    /// A token, or what must be done for one. `source` is the error for which the whole source is left alone, if it is.
    /// A flight counts as dead when it has not been heard of until `overdue` (monotonic).
    pub(super) fn ask(
        self: &Arc<Self>,
        now: Moment,
        overdue: Moment,
        source: Option<TokenError>,
    ) -> Answer {
        let mut desk = self.desk();
        let (usable, reason) = match self.token() {
            None if desk.rejected().is_some() => (None, Reason::Rejected),
            None => (None, Reason::Missing),
            Some(token) => match freshness::judge(token.times(), now) {
                Freshness::Fresh => return Answer::Have(token),
                Freshness::Stale => (Some(token), Reason::Stale),
                Freshness::Expired => (None, Reason::Expired),
            },
        };
        let Some(token) = usable else {
            return self.fetch_or_wait(&mut desk, now, overdue, source, reason);
        };
        if desk.flight(now).is_some() {
            return Answer::Have(token);
        }
        if let Some(held) = desk.held(now).or(source) {
            // Nobody need ask again before that is over.
            let quiet = now + held.retry_after().unwrap_or_default();
            self.quiet_until.store(quiet.monotonic, Ordering::Relaxed);
            return Answer::Have(token);
        }
        let (takeoff, _) = self.take_off(&mut desk, now, overdue, reason);
        Answer::HaveAndFetch(token, takeoff)
    }

    /// A new token, however good the one in service is.
    pub(super) fn ask_anew(
        self: &Arc<Self>,
        now: Moment,
        overdue: Moment,
        source: Option<TokenError>,
    ) -> Answer {
        self.fetch_or_wait(&mut self.desk(), now, overdue, source, Reason::Forced)
    }

    /// A token that was asked for with all that servers want by now.
    pub(super) fn ask_as_wished(
        self: &Arc<Self>,
        now: Moment,
        overdue: Moment,
        source: Option<TokenError>,
    ) -> Answer {
        let mut desk = self.desk();
        if desk.wishes().is_some_and(Wishes::is_due) {
            return self.fetch_or_wait(&mut desk, now, overdue, source, Reason::Widened);
        }
        drop(desk);
        self.ask(now, overdue, source)
    }

    fn fetch_or_wait(
        self: &Arc<Self>,
        desk: &mut Desk,
        now: Moment,
        overdue: Moment,
        source: Option<TokenError>,
        reason: Reason,
    ) -> Answer {
        if let Some(landing) = desk.flight(now) {
            return Answer::Wait(landing);
        }
        if let Some(error) = desk.held(now).or(source) {
            return Answer::Held(error);
        }
        let (takeoff, landing) = self.take_off(desk, now, overdue, reason);
        Answer::Fetch(takeoff, landing)
    }

    fn take_off(
        self: &Arc<Self>,
        desk: &mut Desk,
        now: Moment,
        overdue: Moment,
        reason: Reason,
    ) -> (Takeoff, Landing) {
        let (sender, receiver) = watch::channel(None);
        let landing = Landing {
            receiver,
            overdue: overdue.monotonic,
        };
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

    /// Takes exactly this token out of service.
    pub(crate) fn reject(&self, generation: u64, now: Moment) -> Rejection {
        self.reject_with(&mut self.desk(), generation, now, None)
    }

    /// A server wants more of exactly this token. Claims take it out of service; scopes leave it there until a wider one is
    /// in its place.
    pub(crate) fn wish(&self, generation: u64, wish: Wish<'_>, now: Moment) -> Rejection {
        let mut desk = self.desk();
        let scopes = match wish {
            Wish::Claims(claims) => {
                return self.reject_with(&mut desk, generation, now, Some(claims));
            }
            Wish::Scopes(scopes) => scopes,
        };
        let own = Wishes::default();
        let wishes = desk.wishes().unwrap_or(&own);
        match wishes.standing(&self.spec, scopes) {
            Standing::New => {}
            Standing::Served if self.generation() == generation => return Rejection::Vain,
            Standing::Due | Standing::Served => return Rejection::Superseded,
        }
        let troubles = desk.troubles();
        if let Err(disbelieved) = troubles.believe(generation, now) {
            return disbelieved;
        }
        if !troubles.wishes.want_scopes(&self.spec, scopes) {
            return Rejection::Vain;
        }
        Rejection::Outdated
    }

    fn reject_with(
        &self,
        desk: &mut Desk,
        generation: u64,
        now: Moment,
        claims: Option<&str>,
    ) -> Rejection {
        let in_service = self.generation();
        if generation == 0 || in_service != generation {
            // Somebody else's refusal was first; what will replace the token is still to come, and can have the claims.
            if let (0, Some(claims), Some(troubles)) = (in_service, claims, &mut desk.troubles)
                && generation != 0
                && troubles.refused == generation
            {
                troubles.wishes.want_claims(claims);
            }
            return Rejection::Superseded;
        }
        let troubles = desk.troubles();
        if let Err(disbelieved) = troubles.believe(generation, now) {
            return disbelieved;
        }
        if let Some(claims) = claims {
            troubles.wishes.want_claims(claims);
        }
        troubles.refused = generation;
        troubles.rejected = self.of_parts(self.take_out_of_service());
        Rejection::Dropped
    }

    /// Whether a token that landed here must not be sent any more.
    pub(super) fn is_over(&self, token: &Token, now: Moment) -> bool {
        if token.times().end().has_come(now) {
            return true;
        }
        if self.generation() == token.generation() {
            return false;
        }
        let desk = self.desk();
        let refused = desk
            .troubles
            .as_ref()
            .map_or(0, |troubles| troubles.refused);
        token.generation() <= refused.max(self.generation())
    }

    /// This token's rejection turned out well, for whoever it was: it costs nothing.
    pub(crate) fn vindicate(&self, generation: u64) {
        if let Some(troubles) = self.desk().settle(generation) {
            troubles.budget.give_back();
        }
    }

    /// This token's rejection could not be followed by a replay: the next token's first acceptance tells how it turned out.
    pub(crate) fn vindicate_later(&self, generation: u64, owed: &Owed) {
        self.desk().troubles().owed = Some(owed.one(generation));
    }

    /// A request with this token was not rejected.
    pub(crate) fn accepted(&self, generation: u64, now: Moment) {
        if self.generation() != generation {
            return;
        }
        let mut desk = self.desk();
        let troubles = desk.troubles.as_mut();
        let Some(debt) = troubles.and_then(|troubles| troubles.owed.take()) else {
            return;
        };
        if let Some(troubles) = desk.settle(debt.refused()) {
            troubles.budget.give_back_by_acceptance(now);
        }
    }

    /// Forgets everything but what was rejected, and how often. A flight under way answers those who wait for it, and no more.
    pub(super) fn empty(&self) -> bool {
        let mut desk = self.desk();
        desk.last_flight += 1;
        desk.flight = None;
        desk.forget_failures();
        if let Some(troubles) = &mut desk.troubles {
            troubles.wishes = Wishes::default();
        }
        self.quiet_until.store(0, Ordering::Relaxed);
        self.take_out_of_service().is_some()
    }

    /// Whether anything here is worth its memory.
    pub(super) fn is_worth_keeping(&self, now: Moment) -> bool {
        let desk = self.desk();
        let token = self.token.load();
        let expired = |token: &TokenParts| token.times().end().has_come(now);
        token.as_deref().is_some_and(|token| !expired(token))
            || desk.held(now).is_some()
            || desk.flight(now).is_some()
            // Who was refused lately does not start anew.
            || desk.troubles.as_ref().is_some_and(|troubles| !troubles.budget.is_full(now))
    }

    pub(super) fn snapshot(&self, now: Moment) -> Snapshot {
        let desk = self.desk();
        let (wanted, _) = desk.wishes().map(Wishes::wanted).unwrap_or_default();
        Snapshot {
            spec: wanted.spec.unwrap_or_else(|| self.spec.clone()),
            token: self.token(),
            last_error: desk.hold().map(|hold| hold.last_error().clone()),
            held: desk.held(now).is_some(),
            storm: desk
                .troubles
                .as_ref()
                .is_some_and(|troubles| troubles.budget.is_spent(now)),
        }
    }

    /// Bytes of memory held, for the cache's bound.
    pub(super) fn weight(&self) -> usize {
        let token = self.token.load();
        size_of::<Self>() + self.spec.weight() + token.as_ref().map_or(0, |token| token.weight())
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Nothing under this lock can panic half way; and a poisoned slot would be a latch.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.take_out_of_service();
    }
}

#[cfg(test)]
impl Slot {
    pub(super) fn hold_desk(&self) -> impl Sized + '_ {
        self.desk()
    }
}

impl Desk {
    /// The flight under way, unless it died or was not heard of for too long.
    fn flight(&self, now: Moment) -> Option<Landing> {
        let landing = self.flight.as_ref()?;
        let alive = landing.receiver.has_changed().is_ok() && now.monotonic < landing.overdue;
        alive.then(|| Landing::clone(landing))
    }

    fn troubles(&mut self) -> &mut Troubles {
        self.troubles.get_or_insert_default()
    }

    /// The troubles, if this generation's rejection was among them and still unsettled; it no longer is.
    fn settle(&mut self, generation: u64) -> Option<&mut Troubles> {
        let troubles = self.troubles.as_deref_mut()?;
        let mut unsettled = troubles.unsettled.iter();
        let place = unsettled.position(|one| *one == generation)?;
        troubles.unsettled.remove(place);
        Some(troubles)
    }

    fn hold(&self) -> Option<&Hold> {
        self.troubles.as_ref()?.hold.as_ref()
    }

    fn held(&self, now: Moment) -> Option<TokenError> {
        self.hold()?.error(now)
    }

    fn wishes(&self) -> Option<&Wishes> {
        Some(&self.troubles.as_ref()?.wishes)
    }

    fn rejected(&self) -> Option<&Token> {
        self.troubles.as_ref()?.rejected.as_ref()
    }

    /// All but how often a token was rejected, and what servers want.
    fn forget_failures(&mut self) {
        if let Some(troubles) = &mut self.troubles {
            troubles.hold = None;
            troubles.rejected = None;
        }
    }
}

impl Troubles {
    /// Spends one of the budget on a server's word about this token, if any is left.
    fn believe(&mut self, generation: u64, now: Moment) -> Result<(), Rejection> {
        if !self.budget.take(now) {
            let first = !std::mem::replace(&mut self.storm, true);
            return Err(Rejection::Disbelieved { first });
        }
        self.storm = false;
        if self.unsettled.len() >= usize::from(Budget::FULL) {
            self.unsettled.pop_front();
        }
        self.unsettled.push_back(generation);
        Ok(())
    }
}

impl Default for Troubles {
    fn default() -> Self {
        Self {
            hold: None,
            budget: Budget::new(),
            storm: false,
            refused: 0,
            unsettled: VecDeque::new(),
            rejected: None,
            owed: None,
            wishes: Wishes::default(),
        }
    }
}

/// Where the outcome of a flight arrives.
#[derive(Clone)]
pub(super) struct Landing {
    receiver: watch::Receiver<Option<Outcome>>,
    overdue: u64,
}

impl Landing {
    /// Waits for the outcome; none if the flight died.
    pub(super) async fn outcome(&mut self) -> Option<Outcome> {
        let outcome = self.receiver.wait_for(Option::is_some).await.ok()?;
        outcome.clone()
    }

    /// How long to wait before asking the slot again whether the flight is still under way.
    pub(super) fn patience(&self, now: Moment) -> Duration {
        Duration::from_nanos(self.overdue.saturating_sub(now.monotonic))
    }
}

/// The right and the duty to fetch a slot's next token.
pub(super) struct Takeoff {
    slot: Arc<Slot>,
    /// None once it has landed.
    sender: Option<watch::Sender<Option<Outcome>>>,
    reason: Reason,
    wanted: Wanted,
    /// Which version of the slot's wishes that is.
    version: u64,
    number: u64,
    pause: Moment,
}

/// A token from its source, and what the cache adds to it.
pub(super) struct Fetched {
    pub(super) token: NewToken,
    pub(super) times: Times,
    pub(super) generation: u64,
    pub(super) origin: Origin,
    pub(super) cache: CacheId,
}

impl Takeoff {
    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    pub(super) fn reason(&self) -> Reason {
        self.reason
    }

    /// What to ask the source for.
    pub(super) fn request(&self) -> TokenRequest {
        let spec = self.wanted.spec.as_ref().unwrap_or(&self.slot.spec);
        let request = TokenRequest::new(spec.clone()).because(self.reason);
        match &self.wanted.claims {
            Some(claims) => request.with_claims(Arc::clone(claims)),
            None => request,
        }
    }

    /// All that is asked for, as bytes that are the same in every process: what a store's name is made of.
    #[cfg(feature = "store")]
    pub(super) fn store_key(&self) -> Vec<u8> {
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
    pub(super) fn delayed(&self, overdue: Moment) {
        let mut desk = self.slot.desk();
        if desk.last_flight != self.number {
            return;
        }
        if let Some(landing) = &mut desk.flight {
            landing.overdue = overdue.monotonic;
        }
        self.slot
            .quiet_until
            .store(overdue.monotonic, Ordering::Relaxed);
    }

    /// Puts the token in service, does what is to be done before anybody knows, and gives it to all who wait.
    pub(super) fn land(self, fetched: Fetched, before: impl FnOnce(&Arc<Slot>, &Token)) -> Token {
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
            cache: fetched.cache,
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
            if let Some(troubles) = &mut desk.troubles {
                troubles.wishes.grant();
            }
            slot.put_in_service(token.parts());
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
    pub(super) fn fail(
        self,
        error: TokenError,
        quiet: Moment,
        hold: impl FnOnce(Option<&Hold>) -> Option<Hold>,
    ) {
        let slot = Arc::clone(&self.slot);
        let mut desk = slot.desk();
        if desk.last_flight == self.number {
            desk.flight = None;
            let troubles = desk.troubles.as_deref_mut();
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
    pub(super) fn step_back(mut self, quiet: Moment) -> Result<(), Self> {
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
