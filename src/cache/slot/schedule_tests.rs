//! Runs every order of the events on one slot, and compares the slot with a simple model after each event.
//!
//! A schedule is a list of choices among the steps that are possible at each point. After a schedule has run, the last choice
//! that has an alternative takes it, until there are none left. No schedule is skipped.
//!
//! A slot changes under its one lock, and what is read without the lock are single atomics and the pointer to the token. The
//! order of whole steps is therefore all that matters, except for readers that run during a step. Loom can't explore these, because
//! neither the `watch` channel nor `ArcSwap` uses its types. The last test looks for them with threads.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    thread,
    time::Duration,
};

use tokio::time::timeout;
use tokio_test::task::{self, Spawn};

use super::{fetch_guard::PAUSE_AFTER_DEATH, *};
use crate::{
    cache::backoff::Backoff,
    clock::Moment,
    error::{ErrorKind, TokenError},
    source::TokenRequest,
    token::{NewToken, Times, Token, TokenOrigin, TokenSpec},
};

/// A token is fresh for this long, and then stale for as long.
const AGE: Duration = Duration::from_secs(10);
/// A fetch that has not ended after this time counts as dead.
const FETCH_LIMIT: Duration = Duration::from_secs(15);
const BACKOFF: Duration = Duration::from_secs(1);
const SOURCE_BACKOFF: Duration = Duration::from_secs(12);
const REFILL: Duration = Duration::from_secs(15);
const FULL_BUDGET: u8 = 5;
const START: Moment = Moment {
    monotonic: 1,
    wall: 1,
};

/// A step, and the number of the waiter or fetch that takes it, or the generation that is refunded.
type Step = (Kind, usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A caller needs a usable token.
    Request,
    /// A caller needs a new token.
    Refresh,
    /// A waiter that was woken is polled.
    PollWaiter,
    /// A waiter is dropped.
    Cancel,
    /// A fetch ends with a new token.
    Complete,
    /// A fetch ends with the token that the slot had last.
    CompleteSame,
    Fail,
    /// The task of a fetch is dropped.
    Die,
    /// A fetch tries to end without an outcome.
    Abandon,
    /// A server rejects the current token.
    Reject,
    /// A server rejects the token before the newest one.
    RejectOld,
    /// A server requires one more scope.
    RequireScope,
    /// A server repeats its last challenge for a scope.
    RepeatScope,
    /// A server requires other claims.
    RequireClaims,
    Refund,
    Remove,
    BackOffSource,
    /// Time passes.
    Advance,
}

use Kind::*;

/// The steps of a set of schedules.
#[derive(Clone)]
struct Program {
    /// How often each kind of step may be taken.
    limits: Vec<(Kind, u8)>,
    /// How many steps may be taken.
    depth: usize,
    /// How far `Advance` moves the clock.
    advance: Duration,
    /// Whether waiters are polled as soon as they are woken, instead of at any later time.
    is_prompt: bool,
}

impl Program {
    fn new(depth: usize, limits: &[(Kind, u8)]) -> Self {
        Self {
            limits: limits.to_vec(),
            depth,
            advance: AGE,
            is_prompt: false,
        }
    }

    /// Runs every schedule, and checks that there are more than `min` of them.
    fn run(self, min: usize) {
        let mut choices = Choices::default();
        let mut schedules = 0;
        loop {
            let mut world = World::new(self.clone());
            for _ in 0..self.depth {
                let steps = world.steps();
                if steps.is_empty() {
                    break;
                }
                world.take(steps[choices.choose(steps.len())]);
                world.check();
                if self.is_prompt {
                    world.poll_all();
                }
            }
            world.finish();
            schedules += 1;
            if !choices.advance() {
                break;
            }
        }
        assert!(schedules > min, "{schedules}");
    }

    /// Returns how often this kind of step may still be taken.
    fn left(&self, kind: Kind) -> u8 {
        let limit = self.limits.iter().find(|(limited, _)| *limited == kind);
        limit.map_or(0, |(_, left)| *left)
    }
}

#[test]
fn all_waiters_share_a_fetch_however_it_ends() {
    let limits = [
        (Request, 4),
        (Cancel, 2),
        (Complete, 1),
        (Fail, 1),
        (Die, 2),
    ];
    Program::new(8, &limits).run(5_000);
}

#[test]
fn rejected_tokens_are_never_used_and_newer_ones_stay() {
    let limits = [
        (Request, 3),
        (Complete, 3),
        (CompleteSame, 1),
        (Reject, 2),
        (RejectOld, 1),
        (Remove, 2),
    ];
    Program::new(9, &limits).run(5_000);
}

#[test]
fn time_ends_tokens_fetches_and_back_offs() {
    let limits = [
        (Request, 3),
        (Refresh, 1),
        (Complete, 2),
        (Fail, 1),
        (Die, 1),
        (BackOffSource, 1),
        (Advance, 3),
    ];
    Program::new(8, &limits).run(5_000);
}

#[test]
fn fetch_is_abandoned_only_without_waiters() {
    let limits = [
        (Request, 3),
        (Refresh, 1),
        (Cancel, 1),
        (Complete, 2),
        (Die, 1),
        (Abandon, 2),
        (Reject, 1),
        (Remove, 1),
        (Advance, 2),
    ];
    Program::new(7, &limits).run(5_000);
}

#[test]
fn each_failure_doubles_the_back_off_until_a_success() {
    let limits = [
        (Request, 2),
        (Refresh, 3),
        (Complete, 1),
        (Fail, 3),
        (Remove, 1),
        (Advance, 2),
    ];
    let program = Program {
        advance: BACKOFF,
        is_prompt: true,
        ..Program::new(9, &limits)
    };
    program.run(1_000);
}

#[test]
fn no_order_of_events_blocks_the_slot() {
    let limits = [
        (Request, 2),
        (Refresh, 1),
        (Complete, 2),
        (CompleteSame, 1),
        (Fail, 1),
        (Die, 1),
        (Reject, 1),
        (Remove, 1),
        (Advance, 2),
    ];
    Program::new(7, &limits).run(5_000);
}

#[test]
fn rejection_budget_is_spent_refunded_and_refilled() {
    let limits = [
        (Request, 8),
        (Complete, 8),
        (Reject, 7),
        (Refund, 2),
        (Advance, 1),
    ];
    let program = Program {
        advance: REFILL,
        is_prompt: true,
        ..Program::new(23, &limits)
    };
    program.run(5_000);
}

#[test]
fn required_claims_are_in_the_token_of_every_waiter() {
    let limits = [
        (Request, 2),
        (Refresh, 1),
        (Complete, 3),
        (Fail, 2),
        (RequireClaims, 2),
        (Remove, 1),
    ];
    Program::new(7, &limits).run(1_000);
}

#[test]
fn scope_challenges_and_rejections_share_a_budget() {
    let limits = [
        (Request, 2),
        (Complete, 2),
        (Reject, 1),
        (RequireScope, 6),
        (RepeatScope, 1),
        (Refund, 1),
        (Advance, 1),
    ];
    let program = Program {
        advance: REFILL,
        is_prompt: true,
        ..Program::new(12, &limits)
    };
    program.run(1_000);
}

/// Two threads use the slot at once. Each compares what it sees with what it knew before.
#[test]
fn threads_see_no_rejected_token_and_no_second_fetch() {
    const ROUNDS: u64 = 20_000;
    let slot = Arc::new(Slot::new(TokenSpec::scopes(["shared"])));
    let (time, generations) = (AtomicU64::new(1), AtomicU64::new(0));
    let (rejected, fetches) = (AtomicU64::new(0), AtomicUsize::new(0));
    let fetch = |guard: FetchGuard, now: Moment| {
        assert_eq!(fetches.fetch_add(1, SeqCst), 0, "two fetches for one slot");
        thread::yield_now();
        let generation = generations.fetch_add(1, SeqCst) + 1;
        fetches.fetch_sub(1, SeqCst);
        match generation % 5 {
            0 => drop(guard),
            1 => guard.fail(refusal(), now, |_| None),
            _ => drop(guard.complete(fetched(generation, generation, now), |_, _| {})),
        }
    };
    let run = |seed: u64| {
        let mut newest = 0;
        for round in 0..ROUNDS {
            let nanos = time.fetch_add(AGE.as_nanos() as u64 / 8, SeqCst);
            let now = Moment {
                monotonic: nanos,
                wall: nanos,
            };
            let last_rejected = rejected.load(SeqCst);
            let current = slot.current_generation();
            assert!(
                current == 0 || current >= newest,
                "an older token is current again"
            );
            newest = newest.max(current);
            let token = slot.usable(now).or_else(|| {
                // No fetch is past its deadline here, because both threads make progress.
                let (answer, guard) = slot.request(Need::Usable, now, Moment::NEVER, None);
                if let Some(guard) = guard {
                    fetch(guard, now);
                }
                match answer {
                    SlotAnswer::Ready(token) => Some(token),
                    SlotAnswer::Wait(receiver) => {
                        block_on(receiver).filter(|token| !slot.is_unusable(token, now))
                    }
                    SlotAnswer::BackingOff(_) => None,
                }
            });
            let Some(token) = token else {
                continue;
            };
            let generation = token.generation();
            assert!(
                generation > last_rejected,
                "{generation} is used after {last_rejected} was rejected"
            );
            if (round + seed).is_multiple_of(3)
                && slot.reject(generation, None, now) == Rejection::Applied
            {
                rejected.fetch_max(generation, SeqCst);
                slot.refund(generation);
            }
        }
    };
    thread::scope(|threads| {
        threads.spawn(|| run(0));
        threads.spawn(|| run(1));
    });
    assert!(generations.into_inner() > ROUNDS / 100);
}

/// Waits on this thread, with a limit.
fn block_on(mut receiver: FetchReceiver) -> Option<Token> {
    let wait = async { timeout(Duration::from_secs(50), receiver.outcome()).await };
    let outcome = tokio_test::block_on(wait).expect("the waiter is woken");
    outcome?.ok()
}

/// The choices of a schedule, each with the number of its alternatives.
#[derive(Default)]
struct Choices {
    choices: Vec<(usize, usize)>,
    made: usize,
}

impl Choices {
    fn choose(&mut self, among: usize) -> usize {
        if self.made == self.choices.len() {
            self.choices.push((0, among));
        }
        let (choice, before) = self.choices[self.made];
        assert_eq!(before, among, "the same steps had another effect");
        self.made += 1;
        choice
    }

    /// Moves on to the next schedule, if there is one.
    fn advance(&mut self) -> bool {
        self.made = 0;
        while let Some((choice, among)) = self.choices.pop() {
            if choice + 1 < among {
                self.choices.push((choice + 1, among));
                return true;
            }
        }
        false
    }
}

/// A slot, its callers and fetches, and the model of the slot.
struct World {
    slot: Arc<Slot>,
    now: Moment,
    waiters: Vec<ModelWaiter>,
    fetches: Vec<ModelFetch>,
    model: Model,
    /// The claims that each token was requested with, by generation.
    tokens: Vec<Option<usize>>,
    left: Program,
    /// The steps so far, which are printed if a check fails.
    done: Vec<Step>,
}

/// A caller that waits as `Waiter::wait` does, poll by poll.
struct ModelWaiter {
    outcome: Spawn<Pin<Box<dyn Future<Output = Option<Outcome>>>>>,
    fetch: usize,
    need: Need,
    /// The claims that were required when the caller began to wait, and how often any had been dropped by then.
    required: Option<usize>,
    dropped: usize,
}

struct ModelFetch {
    guard: Option<FetchGuard>,
    started: Moment,
    /// The version of the claims that it requests.
    version: u64,
}

/// The expected state of the slot.
#[derive(Default)]
struct Model {
    current: Option<ModelToken>,
    /// The text of the last current token, and the first generation that had it.
    text: Option<(u64, u64)>,
    /// The newest generation that was rejected.
    rejected: u64,
    /// The fetch whose token becomes the current one.
    fetch: Option<usize>,
    backoff_until: Moment,
    failures: u32,
    source_backoff_until: Moment,
    paused_until: Moment,
    budget: u8,
    is_limit_reached: bool,
    refilled_at: Moment,
    paid: Vec<u64>,
    required: Option<usize>,
    version: u64,
    /// The claims that the last token was fetched with.
    granted: Option<usize>,
    granted_version: u64,
    /// Tokens that were fetched after other claims had been required.
    outdated: Vec<u64>,
    /// The number of challenges so far, and how often required claims were dropped.
    challenges: usize,
    dropped: usize,
    last_scope: usize,
    /// The last challenge for scopes that was paid for: the generation and the scope.
    paid_challenge: Option<(u64, usize)>,
}

#[derive(Clone, Copy)]
struct ModelToken {
    generation: u64,
    refresh: Moment,
    end: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Ready,
    Wait,
    BackingOff,
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("after {:?}", self.done);
        }
    }
}

impl World {
    fn new(program: Program) -> Self {
        Self {
            slot: Arc::new(Slot::new(TokenSpec::default().with_tenant("own"))),
            now: START,
            waiters: Vec::new(),
            fetches: Vec::new(),
            model: Model {
                budget: FULL_BUDGET,
                refilled_at: Moment::NEVER,
                ..Model::default()
            },
            tokens: Vec::new(),
            left: program,
            done: Vec::new(),
        }
    }

    /// Returns the newest generation.
    fn generation(&self) -> u64 {
        self.tokens.len() as u64
    }

    /// Returns the steps that are possible now.
    fn steps(&self) -> Vec<Step> {
        let mut kinds = vec![Request, Refresh, Remove, Advance, BackOffSource];
        if self.model.current.is_some() {
            kinds.push(Reject);
        }
        if self.generation() > 0 {
            kinds.extend([RejectOld, RequireScope, RequireClaims]);
        }
        if self.model.last_scope > 0 {
            kinds.push(RepeatScope);
        }
        let mut steps: Vec<Step> = kinds.into_iter().map(|kind| (kind, 0)).collect();
        if let Some(generation) = self.model.paid.first() {
            steps.push((Refund, *generation as usize));
        }
        for (number, fetch) in self.fetches.iter().enumerate() {
            if fetch.guard.is_some() {
                let ends = [Complete, CompleteSame, Fail, Die, Abandon];
                steps.extend(ends.map(|kind| (kind, number)));
            }
        }
        for (number, waiter) in self.waiters.iter().enumerate() {
            steps.push((Cancel, number));
            if waiter.outcome.is_woken() {
                steps.push((PollWaiter, number));
            }
        }
        let would_fetch = self.expected(Need::Usable) == (Expected::Wait, true);
        steps.retain(|(kind, _)| match kind {
            PollWaiter => true,
            Request if self.left.is_prompt && !would_fetch => false,
            _ => self.left.left(*kind) > 0,
        });
        steps
    }

    fn take(&mut self, step: Step) {
        self.done.push(step);
        let (kind, number) = step;
        for (limited, left) in &mut self.left.limits {
            *left -= u8::from(*limited == kind);
        }
        match kind {
            Request => self.request(Need::Usable),
            Refresh => self.request(Need::New),
            PollWaiter => self.poll(number),
            Cancel => drop(self.waiters.remove(number)),
            Complete => self.complete(number, None),
            CompleteSame => self.complete(number, self.model.text.map(|(text, _)| text)),
            Fail => self.fail(number),
            Die => self.die(number),
            Abandon => self.abandon(number),
            Reject => self.reject(self.model.current.unwrap().generation, None),
            RejectOld => self.reject(self.generation().saturating_sub(1).max(1), None),
            RequireScope => {
                self.model.challenges += 1;
                self.model.last_scope = self.model.challenges;
                self.require_scope();
            }
            RepeatScope => self.require_scope(),
            RequireClaims => {
                self.model.challenges += 1;
                self.reject(self.generation(), Some(self.model.challenges));
            }
            Refund => {
                let generation = number as u64;
                self.slot.refund(generation);
                self.model.paid.remove(0);
                self.model.budget = (self.model.budget + 1).min(FULL_BUDGET);
            }
            Remove => self.remove(),
            BackOffSource => self.model.source_backoff_until = self.now + SOURCE_BACKOFF,
            Advance => self.now = self.now + self.left.advance,
        }
    }

    /// Asks the slot as `lookup` does. The answer must be the one of the model.
    fn request(&mut self, need: Need) {
        let (now, deadline) = (self.now, self.now + FETCH_LIMIT);
        let source_until = self.model.source_backoff_until;
        let source_error = (!source_until.is_past(now))
            .then(|| refusal().with_retry_after(source_until.remaining(now)));
        let (expected, is_fetch_expected) = self.expected(need);
        let (answer, guard) = self.slot.request(need, now, deadline, source_error);
        assert_eq!(guard.is_some(), is_fetch_expected);
        if let Some(guard) = guard {
            self.start_fetch(guard);
        }
        match answer {
            SlotAnswer::Ready(token) => {
                assert_eq!(expected, Expected::Ready);
                self.check_token(&token);
            }
            SlotAnswer::Wait(receiver) => {
                assert_eq!(expected, Expected::Wait);
                self.wait(receiver, need);
            }
            SlotAnswer::BackingOff(error) => {
                assert_eq!(expected, Expected::BackingOff);
                let left = error.retry_after().unwrap();
                let slot_until = self.model.backoff_until;
                assert!(left == slot_until.remaining(now) || left == source_until.remaining(now));
            }
        }
    }

    /// Returns the model's answer, and whether the caller must start a fetch.
    fn expected(&self, need: Need) -> (Expected, bool) {
        let is_past = |moment: Moment| moment.is_past(self.now);
        let model = &self.model;
        let usable = model.current.filter(|token| !is_past(token.end));
        let usable = usable.filter(|_| need == Need::Usable);
        if usable.is_some_and(|token| !is_past(token.refresh)) {
            return (Expected::Ready, false);
        }
        let is_backing_off = !is_past(model.backoff_until) || !is_past(model.source_backoff_until);
        let is_fetching = self.is_fetching();
        let answer = match usable {
            Some(_) => Expected::Ready,
            None if is_backing_off && !is_fetching => Expected::BackingOff,
            None => Expected::Wait,
        };
        (answer, !is_fetching && !is_backing_off)
    }

    /// Returns `true` if there is a fetch that callers can wait for.
    fn is_fetching(&self) -> bool {
        self.model.fetch.is_some_and(|number| {
            let fetch = &self.fetches[number];
            fetch.guard.is_some() && !(fetch.started + FETCH_LIMIT).is_past(self.now)
        })
    }

    fn start_fetch(&mut self, guard: FetchGuard) {
        assert!(!self.is_fetching(), "two fetches for one slot");
        let claims = claims_of(&guard.request());
        assert_eq!(
            claims, self.model.required,
            "the required claims are not requested"
        );
        self.model.fetch = Some(self.fetches.len());
        self.fetches.push(ModelFetch {
            guard: Some(guard),
            started: self.now,
            version: self.model.version,
        });
    }

    fn wait(&mut self, mut receiver: FetchReceiver, need: Need) {
        let mut waiter = ModelWaiter {
            outcome: task::spawn(Box::pin(async move { receiver.outcome().await })),
            fetch: self.model.fetch.expect("there is no fetch to wait for"),
            need,
            required: self.model.required,
            dropped: self.model.dropped,
        };
        assert!(waiter.outcome.poll().is_pending());
        self.waiters.push(waiter);
    }

    fn poll(&mut self, number: usize) {
        let mut waiter = self.waiters.remove(number);
        match waiter.outcome.poll() {
            Poll::Pending => self.waiters.push(waiter),
            Poll::Ready(Some(Err(_))) => {}
            Poll::Ready(Some(Ok(token))) if !self.slot.is_unusable(&token, self.now) => {
                self.check_token(&token);
                let claims = self.tokens[token.generation() as usize - 1];
                let is_still_required = self.model.dropped == waiter.dropped;
                assert!(
                    claims >= waiter.required || !is_still_required,
                    "got {claims:?} for {:?}",
                    waiter.required
                );
            }
            Poll::Ready(_) => self.request(waiter.need),
        }
    }

    fn poll_all(&mut self) {
        let woken = |waiter: &ModelWaiter| waiter.outcome.is_woken();
        while let Some(number) = self.waiters.iter().position(woken) {
            self.poll(number);
            self.check();
        }
    }

    /// Checks that a token that was returned can be sent.
    fn check_token(&self, token: &Token) {
        let generation = token.generation();
        let end = token.times().unusable_at();
        assert!(!end.is_past(self.now), "returned an expired token");
        assert!(
            generation > self.model.rejected,
            "returned {generation}, which was rejected"
        );
        assert!(
            !self.model.outdated.contains(&generation),
            "returned a token without the required claims"
        );
    }

    fn complete(&mut self, number: usize, text: Option<u64>) {
        let version = self.fetches[number].version;
        let guard = self.fetches[number].guard.take().unwrap();
        self.tokens.push(claims_of(&guard.request()));
        let generation = self.generation();
        let text = text.unwrap_or(generation);
        let fetched = fetched(text, generation, self.now);
        let times = fetched.times;
        let token = guard.complete(fetched, |_, _| {});
        assert_eq!(token.generation(), generation);
        let model = &mut self.model;
        if model.fetch != Some(number) {
            return;
        }
        let same = model.text.filter(|(last, _)| *last == text);
        let since = same.map_or(generation, |(_, since)| since);
        assert_eq!(token.same_since(), since);
        model.fetch = None;
        if version != model.version {
            model.outdated.push(generation);
            return;
        }
        model.text = Some((text, since));
        if model.is_on_trial() {
            model.granted = model.required;
            model.granted_version = model.version;
        }
        model.backoff_until = START;
        model.failures = 0;
        model.current = Some(ModelToken {
            generation,
            refresh: times.refresh_at(),
            end: times.unusable_at(),
        });
    }

    fn fail(&mut self, number: usize) {
        let guard = self.fetches[number].guard.take().unwrap();
        guard.fail(refusal(), self.now, |last| {
            Some(Backoff::after(last, refusal(), self.now, 0.0))
        });
        let model = &mut self.model;
        if model.fetch != Some(number) {
            return;
        }
        model.fetch = None;
        if model.is_on_trial() && self.fetches[number].version == model.version {
            model.required = model.granted;
            model.version += 1;
            model.granted_version = model.version;
            model.dropped += 1;
        } else {
            model.failures += 1;
            model.backoff_until = self.now + BACKOFF * 2_u32.pow(model.failures - 1);
        }
    }

    fn die(&mut self, number: usize) {
        let fetch = &mut self.fetches[number];
        drop(fetch.guard.take().unwrap());
        if self.model.fetch == Some(number) {
            self.model.paused_until = fetch.started + PAUSE_AFTER_DEATH;
        }
    }

    /// A fetch continues if a caller waits for it. Otherwise it ends and the slot stays as it was.
    fn abandon(&mut self, number: usize) {
        let guard = self.fetches[number].guard.take().unwrap();
        let has_waiter = self.waiters.iter().any(|waiter| waiter.fetch == number);
        let quiet = self.now + BACKOFF;
        match guard.abandon(quiet) {
            Err(guard) => {
                assert!(has_waiter, "not abandoned, although no caller waits");
                self.fetches[number].guard = Some(guard);
            }
            Ok(()) => {
                assert!(!has_waiter, "abandoned while a caller waits");
                if self.model.fetch == Some(number) {
                    self.model.fetch = None;
                    self.model.paused_until = quiet;
                }
            }
        }
    }

    fn reject(&mut self, generation: u64, claims: Option<usize>) {
        let model = &mut self.model;
        let current = model.current.map(|token| token.generation);
        let expected = if current != Some(generation) {
            // The claims of a later rejection of the same token are requested if that token has not been replaced yet.
            let outdated = model.outdated.last().map_or(0, |last| *last);
            if current.is_none() && outdated.max(model.rejected) == generation {
                model.require(claims);
            }
            Rejection::Superseded
        } else if let Err(limit) = model.spend(generation, self.now) {
            limit
        } else {
            model.current = None;
            model.rejected = generation;
            model.require(claims);
            Rejection::Applied
        };
        let claims = claims.map(|claims| format!("c{claims}"));
        let rejection = self.slot.reject(generation, claims.as_deref(), self.now);
        assert_eq!(rejection, expected);
    }

    /// A server requires a scope that the newest token lacks.
    fn require_scope(&mut self) {
        let generation = self.generation();
        let model = &mut self.model;
        let scope = model.last_scope;
        let expected = if model.paid_challenge == Some((generation, scope)) {
            Rejection::Superseded
        } else if let Err(limit) = model.spend(generation, self.now) {
            limit
        } else {
            model.paid_challenge = Some((generation, scope));
            Rejection::Applied
        };
        let wider = TokenSpec::scopes([format!("s{scope}")]);
        let rejection = self.slot.spend_on_scopes(generation, &wider, self.now);
        assert_eq!(rejection, expected);
    }

    fn remove(&mut self) {
        assert_eq!(self.slot.clear(), self.model.current.is_some());
        let model = &mut self.model;
        model.current = None;
        model.text = None;
        model.fetch = None;
        model.backoff_until = START;
        model.failures = 0;
        model.required = None;
        model.granted = None;
        model.version = 0;
        model.granted_version = 0;
        model.dropped += 1;
    }

    /// Checks what must hold after each step.
    fn check(&self) {
        let model = &self.model;
        let current = model.current.map_or(0, |token| token.generation);
        assert_eq!(self.slot.current_generation(), current);
        let token = self.slot.token().map_or(0, |token| token.generation());
        assert_eq!(token, current);
        // A token that is returned without the lock starts no refresh.
        let expected = self.expected(Need::Usable);
        if let Some(token) = self.slot.usable(self.now) {
            self.check_token(&token);
            let is_paused = !model.paused_until.is_past(self.now);
            assert!(
                expected == (Expected::Ready, false) || is_paused,
                "{expected:?}"
            );
        } else {
            let is_fresh = |token: ModelToken| !token.refresh.is_past(self.now);
            let has_fresh = model.current.is_some_and(is_fresh);
            assert!(!has_fresh, "a fresh token is not returned at once");
        }
        for waiter in &self.waiters {
            let has_ended = self.fetches[waiter.fetch].guard.is_none();
            assert_eq!(
                waiter.outcome.is_woken(),
                has_ended,
                "woken when the fetch ends"
            );
        }
    }

    /// Checks that all waiters of a schedule get an outcome, and that the next caller gets a token.
    fn finish(&mut self) {
        for _ in 0..4 {
            for number in 0..self.fetches.len() {
                if self.fetches[number].guard.is_some() {
                    self.complete(number, None);
                    self.check();
                }
            }
            self.poll_all();
        }
        assert!(self.waiters.is_empty(), "a caller waits forever");
        self.now = self.now + SOURCE_BACKOFF + AGE * 2;
        self.request(Need::Usable);
        let number = self.model.fetch.expect("no fetch was started");
        self.complete(number, None);
        self.poll(self.waiters.len() - 1);
        assert!(self.slot.usable(self.now).is_some());
    }
}

impl Model {
    fn is_on_trial(&self) -> bool {
        self.version != self.granted_version
    }

    fn require(&mut self, claims: Option<usize>) {
        if claims.is_some() {
            self.required = claims;
            self.version += 1;
        }
    }

    fn spend(&mut self, generation: u64, now: Moment) -> Result<(), Rejection> {
        while self.budget < FULL_BUDGET && (self.refilled_at + REFILL).is_past(now) {
            self.budget += 1;
            self.refilled_at = self.refilled_at + REFILL;
        }
        if self.budget == 0 {
            let first = !std::mem::replace(&mut self.is_limit_reached, true);
            return Err(Rejection::LimitReached { first });
        }
        self.is_limit_reached = false;
        if self.budget == FULL_BUDGET {
            self.refilled_at = now;
        }
        self.budget -= 1;
        self.paid.push(generation);
        if self.paid.len() > usize::from(FULL_BUDGET) {
            self.paid.remove(0);
        }
        Ok(())
    }
}

/// Returns the number of the claims in a request.
fn claims_of(request: &TokenRequest) -> Option<usize> {
    request.claims()?.strip_prefix('c')?.parse().ok()
}

fn fetched(text: u64, generation: u64, now: Moment) -> Fetched {
    Fetched {
        token: NewToken::bearer(&format!("text-{text}")).unwrap(),
        times: Times::new(now, AGE, AGE * 2, AGE * 2),
        generation,
        origin: TokenOrigin::Provider,
    }
}

fn refusal() -> TokenError {
    TokenError::new(ErrorKind::AccessDenied, "refused")
}
