//! Every order of events on one slot, compared after each with a plain account of what the slot ought to be.
//!
//! A schedule is a list of choices among the steps that are possible where it stands. It is run from the start; then the
//! last choice that has a next one moves on, until all were made. Nothing is left to chance, and nothing is skipped but
//! what differs in the names of the waiters alone.
//!
//! A slot changes under its one lock, and what is read beside the lock are single atomics and the token's pointer: so
//! there are no finer orders than those of whole steps, but for the few in which somebody looks in the middle of one.
//! Loom could walk those only in a copy of the slot, since neither the `watch` channel nor `ArcSwap` is made of its types;
//! threads on the slot itself look for them at the end.

use std::{
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use super::{fetch_guard::PAUSE_AFTER_DEATH, *};
use crate::{
    cache::backoff::Hold,
    error::ErrorKind,
    source::TokenRequest,
    token::{NewToken, Times, TokenOrigin},
};

/// A token is fresh for this long, and stale for as long again.
const AGE: Duration = Duration::from_secs(10);
/// Not heard of for this long, a flight counts as dead.
const OVERDUE: Duration = Duration::from_secs(15);
const HOLD: Duration = Duration::from_secs(1);
const SOURCE_HOLD: Duration = Duration::from_secs(12);
const REFILL: Duration = Duration::from_secs(15);
const START: Moment = Moment {
    monotonic: 1,
    wall: 1,
};

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask,
    Force,
    /// Ask for a token with all that servers want.
    AskWished,
    Look(usize),
    Cancel(usize),
    Land(usize),
    LandSame(usize),
    Fail(usize),
    Die(usize),
    Retreat(usize),
    Reject,
    RejectLate,
    /// A server wants one scope more.
    WantScope,
    /// It wants the scope that it wanted last once more.
    WantScopeAgain,
    /// It wants other claims.
    WantClaims,
    Vindicate(u64),
    Remove,
    HoldSource,
    Pass,
}

/// How often each kind of step may be taken, and how many of them in all.
#[derive(Clone, Copy, Default)]
struct Program {
    asks: u8,
    forced: u8,
    wished: u8,
    cancels: u8,
    landings: u8,
    same: u8,
    failures: u8,
    deaths: u8,
    step_backs: u8,
    rejections: u8,
    late_rejections: u8,
    scopes: u8,
    scopes_again: u8,
    claims: u8,
    vindications: u8,
    removals: u8,
    source_holds: u8,
    passes: u8,
    pass: Duration,
    /// Whoever is woken looks at once, and not at any time later.
    prompt: bool,
    depth: usize,
}

impl Program {
    /// Runs every schedule, and says how many there are.
    fn walk(self) -> usize {
        let mut walk = Walk::default();
        let mut schedules = 0;
        loop {
            let mut world = World::new(self);
            for _ in 0..self.depth {
                let steps = world.steps();
                if steps.is_empty() {
                    break;
                }
                world.take(steps[walk.choose(steps.len())]);
                world.check();
                if self.prompt {
                    world.look_all();
                }
            }
            world.finish();
            schedules += 1;
            if !walk.goes_on() {
                return schedules;
            }
        }
    }

    fn left(&mut self, step: Step) -> Option<&mut u8> {
        Some(match step {
            Step::Ask => &mut self.asks,
            Step::Force => &mut self.forced,
            Step::AskWished => &mut self.wished,
            Step::Look(_) => return None,
            Step::Cancel(_) => &mut self.cancels,
            Step::Land(_) => &mut self.landings,
            Step::LandSame(_) => &mut self.same,
            Step::Fail(_) => &mut self.failures,
            Step::Die(_) => &mut self.deaths,
            Step::Retreat(_) => &mut self.step_backs,
            Step::Reject => &mut self.rejections,
            Step::RejectLate => &mut self.late_rejections,
            Step::WantScope => &mut self.scopes,
            Step::WantScopeAgain => &mut self.scopes_again,
            Step::WantClaims => &mut self.claims,
            Step::Vindicate(_) => &mut self.vindications,
            Step::Remove => &mut self.removals,
            Step::HoldSource => &mut self.source_holds,
            Step::Pass => &mut self.passes,
        })
    }
}

#[test]
fn a_crowd_shares_each_flight_however_it_ends_and_whoever_goes_away() {
    let schedules = Program {
        asks: 4,
        cancels: 2,
        landings: 1,
        failures: 1,
        deaths: 2,
        depth: 8,
        ..Program::default()
    }
    .walk();
    assert!(schedules > 5_000, "{schedules}");
}

#[test]
fn a_refusal_never_costs_a_newer_token_and_what_was_refused_is_never_served() {
    let schedules = Program {
        asks: 3,
        landings: 3,
        same: 1,
        rejections: 2,
        late_rejections: 1,
        removals: 2,
        depth: 9,
        ..Program::default()
    }
    .walk();
    assert!(schedules > 5_000, "{schedules}");
}

#[test]
fn time_ends_tokens_and_flights_and_back_offs_and_nobody_is_left_waiting() {
    let schedules = Program {
        asks: 3,
        forced: 1,
        landings: 2,
        failures: 1,
        deaths: 1,
        source_holds: 1,
        passes: 3,
        pass: AGE,
        depth: 8,
        ..Program::default()
    }
    .walk();
    assert!(schedules > 5_000, "{schedules}");
}

#[test]
fn a_flight_steps_back_from_nobody_who_waits_and_leaves_the_slot_as_it_was() {
    let schedules = Program {
        asks: 3,
        forced: 1,
        cancels: 1,
        landings: 2,
        deaths: 1,
        step_backs: 2,
        rejections: 1,
        removals: 1,
        passes: 2,
        pass: AGE,
        depth: 7,
        ..Program::default()
    }
    .walk();
    assert!(schedules > 5_000, "{schedules}");
}

#[test]
fn each_failure_doubles_the_wait_and_a_landing_or_a_removal_ends_it() {
    let schedules = Program {
        asks: 2,
        forced: 3,
        landings: 1,
        failures: 3,
        removals: 1,
        passes: 2,
        pass: HOLD,
        prompt: true,
        depth: 9,
        ..Program::default()
    }
    .walk();
    assert!(schedules > 1_000, "{schedules}");
}

#[test]
fn whatever_happens_in_whatever_order_somebody_can_go_on() {
    let schedules = Program {
        asks: 2,
        forced: 1,
        landings: 2,
        same: 1,
        failures: 1,
        deaths: 1,
        rejections: 1,
        removals: 1,
        passes: 2,
        pass: AGE,
        depth: 7,
        ..Program::default()
    }
    .walk();
    assert!(schedules > 5_000, "{schedules}");
}

#[test]
fn the_budget_of_refusals_is_never_exceeded_nor_kept_short() {
    let schedules = Program {
        asks: 8,
        landings: 8,
        rejections: 7,
        vindications: 1,
        passes: 1,
        pass: REFILL,
        prompt: true,
        depth: 23,
        ..Program::default()
    }
    .walk();
    assert!(schedules > 5_000, "{schedules}");
}

#[test]
fn what_a_server_wants_is_in_the_token_of_whoever_waits_for_it() {
    let schedules = Program {
        asks: 1,
        forced: 1,
        wished: 2,
        landings: 3,
        scopes: 2,
        claims: 1,
        depth: 7,
        ..Program::default()
    }
    .walk();
    assert!(schedules > 1_000, "{schedules}");
}

#[test]
fn what_the_provider_refuses_is_wanted_no_more_whenever_it_was_wanted() {
    let schedules = Program {
        asks: 1,
        wished: 2,
        landings: 2,
        failures: 2,
        scopes: 2,
        scopes_again: 1,
        claims: 1,
        removals: 1,
        depth: 7,
        ..Program::default()
    }
    .walk();
    assert!(schedules > 1_000, "{schedules}");
}

#[test]
fn wishes_are_paid_from_the_same_budget_as_refusals() {
    let schedules = Program {
        asks: 1,
        wished: 7,
        landings: 8,
        scopes: 7,
        vindications: 1,
        passes: 1,
        pass: REFILL,
        prompt: true,
        depth: 23,
        ..Program::default()
    }
    .walk();
    assert!(schedules > 1_000, "{schedules}");
}

/// Two threads do everything at once; each checks what it sees against what it knew before it looked.
#[test]
fn threads_see_no_refused_token_and_no_second_flight_and_none_is_left_waiting() {
    const TURNS: u64 = 20_000;
    let spec = TokenSpec::scopes(["shared"]);
    let slot = Arc::new(Slot::new(spec.clone()));
    let (time, generations) = (AtomicU64::new(1), AtomicU64::new(0));
    let (refused, flights) = (AtomicU64::new(0), AtomicUsize::new(0));
    let fly = |takeoff: Takeoff, now: Moment| {
        assert_eq!(flights.fetch_add(1, SeqCst), 0, "two flights for one slot");
        thread::yield_now();
        let generation = generations.fetch_add(1, SeqCst) + 1;
        flights.fetch_sub(1, SeqCst);
        match generation % 5 {
            0 => drop(takeoff),
            1 => takeoff.fail(fault(), now, |_| None),
            _ => drop(takeoff.land(fetched(generation, generation, now), |_, _| {})),
        }
    };
    let live = |seed: u64| {
        let mut newest = 0;
        for turn in 0..TURNS {
            let nanos = time.fetch_add(AGE.as_nanos() as u64 / 8, SeqCst);
            let now = Moment {
                monotonic: nanos,
                wall: nanos,
            };
            let known = refused.load(SeqCst);
            let in_service = slot.generation();
            assert!(
                in_service == 0 || in_service >= newest,
                "an older token is back"
            );
            newest = newest.max(in_service);
            let still_good = |token: &Token| !slot.is_over(token, now);
            let usable = slot.usable(now);
            let usable = usable.map(|token| Token::new(token, spec.clone()));
            let token = usable.or_else(|| {
                // Nobody is overdue here: both threads go on.
                match slot.ask(now, Moment::NEVER, None) {
                    Answer::Have(token) => Some(token),
                    Answer::HaveAndFetch(token, takeoff) => {
                        fly(takeoff, now);
                        Some(token)
                    }
                    Answer::Fetch(takeoff, landing) => {
                        fly(takeoff, now);
                        wait_here(landing).filter(still_good)
                    }
                    Answer::Wait(landing) => wait_here(landing).filter(still_good),
                    Answer::Held(_) => None,
                }
            });
            let Some(token) = token else {
                continue;
            };
            let generation = token.generation();
            assert!(generation > known, "{generation} after {known} was refused");
            if (turn + seed).is_multiple_of(3) && slot.reject(generation, now) == Rejection::Dropped
            {
                refused.fetch_max(generation, SeqCst);
                slot.vindicate(generation);
            }
        }
    };
    thread::scope(|threads| {
        threads.spawn(|| live(0));
        threads.spawn(|| live(1));
    });
    assert!(generations.into_inner() > TURNS / 100);
}

/// Waits on this thread, and not for ever.
fn wait_here(mut landing: Landing) -> Option<Token> {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut outcome = std::pin::pin!(landing.outcome());
    let start = std::time::Instant::now();
    loop {
        if let Poll::Ready(outcome) = outcome.as_mut().poll(&mut Context::from_waker(&waker)) {
            return outcome?.ok();
        }
        thread::park_timeout(Duration::from_secs(60));
        assert!(start.elapsed() < Duration::from_secs(50), "it hangs");
    }
}

/// Chooses, and chooses otherwise the next time, until everything was chosen.
#[derive(Default)]
struct Walk {
    choices: Vec<(usize, usize)>,
    made: usize,
}

impl Walk {
    fn choose(&mut self, among: usize) -> usize {
        if self.made == self.choices.len() {
            self.choices.push((0, among));
        }
        let (choice, before) = self.choices[self.made];
        assert_eq!(before, among, "the same steps led elsewhere");
        self.made += 1;
        choice
    }

    fn goes_on(&mut self) -> bool {
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

struct World {
    slot: Arc<Slot>,
    spec: TokenSpec,
    now: Moment,
    waiters: Vec<Waiter>,
    flights: Vec<Flight>,
    account: Account,
    /// What each token was asked for with.
    tokens: Vec<Plain>,
    generation: u64,
    left: Program,
    /// What was done so far, to be told if it goes wrong.
    done: Vec<Step>,
}

/// Somebody who waits as `fetch::wait` does, poll by poll.
struct Waiter {
    outcome: Pin<Box<dyn Future<Output = Option<Outcome>>>>,
    flight: usize,
    asked: Asked,
    /// What servers wanted when it asked, and how often a wish had been taken back by then.
    wanted: Plain,
    taken_back: usize,
    wakes: Arc<Wakes>,
    seen: usize,
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

struct Flight {
    takeoff: Option<Takeoff>,
    started: Moment,
    /// Which version of what servers want it asks for.
    version: u64,
}

/// How somebody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Plainly,
    Anew,
    AsWished,
}

/// What servers want, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Plain {
    scopes: Vec<usize>,
    claims: Option<usize>,
}

impl Plain {
    fn of(request: &TokenRequest) -> Self {
        let number = |text: &str| {
            text.trim_matches(|c: char| !c.is_ascii_digit())
                .parse()
                .unwrap()
        };
        Self {
            scopes: request.spec().iter_scopes().map(number).collect(),
            claims: request.claims().map(number),
        }
    }
}

/// What the slot ought to be, in plain words.
struct Account {
    service: Option<Served>,
    /// The last text that was in service, and the generation since which it is.
    text: Option<(u64, u64)>,
    /// The newest generation that was ever taken out of service by a refusal.
    rejected: u64,
    /// Which flight may put its token in service.
    latest: Option<usize>,
    held_until: Moment,
    failures: u32,
    source_held_until: Moment,
    paused_until: Moment,
    budget: u8,
    /// Whether the last refusal was not believed.
    storm: bool,
    refill: Moment,
    unsettled: Vec<u64>,
    wanted: Plain,
    version: u64,
    /// What the last token was got with.
    granted: Plain,
    granted_version: u64,
    /// Tokens that came when more was wanted already.
    outdated: Vec<u64>,
    /// How many wishes there were so far, and how often any were taken back.
    wishes: usize,
    taken_back: usize,
    last_scope: usize,
}

#[derive(Clone, Copy)]
struct Served {
    generation: u64,
    refresh: Moment,
    end: Moment,
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
        let spec = TokenSpec::default().with_tenant("own");
        Self {
            slot: Arc::new(Slot::new(spec.clone())),
            spec,
            now: START,
            waiters: Vec::new(),
            flights: Vec::new(),
            account: Account {
                service: None,
                text: None,
                rejected: 0,
                latest: None,
                held_until: START,
                failures: 0,
                source_held_until: START,
                paused_until: START,
                budget: 5,
                storm: false,
                refill: Moment::NEVER,
                unsettled: Vec::new(),
                wanted: Plain::default(),
                version: 0,
                granted: Plain::default(),
                granted_version: 0,
                outdated: Vec::new(),
                wishes: 0,
                taken_back: 0,
                last_scope: 0,
            },
            tokens: Vec::new(),
            generation: 0,
            left: program,
            done: Vec::new(),
        }
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = vec![Step::Ask, Step::Force, Step::AskWished];
        steps.extend([Step::Remove, Step::Pass, Step::HoldSource]);
        if self.account.service.is_some() {
            steps.push(Step::Reject);
        }
        if self.generation > 0 {
            steps.extend([Step::RejectLate, Step::WantScope, Step::WantClaims]);
        }
        if self.account.last_scope > 0 {
            steps.push(Step::WantScopeAgain);
        }
        if let Some(generation) = self.account.unsettled.first() {
            steps.push(Step::Vindicate(*generation));
        }
        for (number, flight) in self.flights.iter().enumerate() {
            if flight.takeoff.is_some() {
                steps.extend([Step::Land(number), Step::LandSame(number)]);
                steps.extend([Step::Fail(number), Step::Die(number)]);
                steps.push(Step::Retreat(number));
            }
        }
        for (number, waiter) in self.waiters.iter().enumerate() {
            steps.push(Step::Cancel(number));
            if waiter.is_woken() {
                steps.push(Step::Look(number));
            }
        }
        let mut left = self.left;
        if left.prompt && self.account_answer(Asked::Plainly) != Expected::Fetch {
            left.asks = 0;
        }
        // What is wanted is asked for before more is.
        match self.account.is_due() {
            _ if !left.prompt => {}
            true => left.scopes = 0,
            false => left.wished = 0,
        }
        if left.prompt && self.is_flying() {
            left.wished = 0;
        }
        steps.retain(|step| left.left(*step).is_none_or(|left| *left > 0));
        steps
    }

    fn take(&mut self, step: Step) {
        self.done.push(step);
        if let Some(left) = self.left.left(step) {
            *left -= 1;
        }
        match step {
            Step::Ask => self.ask(Asked::Plainly),
            Step::Force => self.ask(Asked::Anew),
            Step::AskWished => self.ask(Asked::AsWished),
            Step::Look(number) => self.look(number),
            Step::Cancel(number) => drop(self.waiters.remove(number)),
            Step::Land(number) => self.land(number, None),
            Step::LandSame(number) => {
                self.land(number, self.account.text.map(|(text, _)| text));
            }
            Step::Fail(number) => self.fail(number),
            Step::Die(number) => self.die(number),
            Step::Retreat(number) => self.step_back(number),
            Step::Reject => {
                let generation = self.account.service.unwrap().generation;
                self.reject(generation, None);
            }
            Step::RejectLate => self.reject(self.generation.saturating_sub(1).max(1), None),
            Step::WantScope => {
                self.account.wishes += 1;
                self.account.last_scope = self.account.wishes;
                self.want_scope();
            }
            Step::WantScopeAgain => self.want_scope(),
            Step::WantClaims => {
                self.account.wishes += 1;
                self.reject(self.generation, Some(self.account.wishes));
            }
            Step::Vindicate(generation) => {
                self.slot.vindicate(generation);
                self.account.settle(generation);
                self.account.budget = (self.account.budget + 1).min(5);
            }
            Step::Remove => self.remove(),
            Step::HoldSource => self.account.source_held_until = self.now + SOURCE_HOLD,
            Step::Pass => self.now = self.now + self.left.pass,
        }
    }

    /// Asks as `fetch::wait` and `fetch::wait_anew` do; the answer must be the one that the account gives.
    fn ask(&mut self, asked: Asked) {
        let (now, overdue) = (self.now, self.now + OVERDUE);
        let source = self.source_error();
        let expected = self.account_answer(asked);
        let answer = match asked {
            Asked::Plainly => self.slot.ask(now, overdue, source),
            Asked::Anew => self.slot.ask_anew(now, overdue, source),
            Asked::AsWished => self.slot.ask_as_wished(now, overdue, source),
        };
        match answer {
            Answer::Have(token) => {
                assert_eq!(expected, Expected::Have);
                self.served(&token);
            }
            Answer::HaveAndFetch(token, takeoff) => {
                assert_eq!(expected, Expected::HaveAndFetch);
                self.served(&token);
                self.took_off(takeoff);
            }
            Answer::Wait(landing) => {
                assert_eq!(expected, Expected::Wait);
                self.wait(landing, asked);
            }
            Answer::Fetch(takeoff, landing) => {
                assert_eq!(expected, Expected::Fetch);
                self.took_off(takeoff);
                self.wait(landing, asked);
            }
            Answer::Held(error) => {
                assert_eq!(expected, Expected::Held);
                let left = error.retry_after().unwrap();
                let (key, source) = (self.account.held_until, self.account.source_held_until);
                assert!(left == key.remaining(now) || left == source.remaining(now));
            }
        }
    }

    fn account_answer(&self, asked: Asked) -> Expected {
        let is_past = |moment: Moment| moment.is_past(self.now);
        let account = &self.account;
        let forced = match asked {
            Asked::Plainly => false,
            Asked::Anew => true,
            Asked::AsWished => account.is_due(),
        };
        let usable = account.service.filter(|served| !is_past(served.end));
        if !forced && usable.is_some_and(|served| !is_past(served.refresh)) {
            return Expected::Have;
        }
        let serves = !forced && usable.is_some();
        let held = !is_past(account.held_until) || !is_past(account.source_held_until);
        match (serves, self.is_flying(), held) {
            (true, true, _) | (true, _, true) => Expected::Have,
            (true, false, false) => Expected::HaveAndFetch,
            (false, true, _) => Expected::Wait,
            (false, false, true) => Expected::Held,
            (false, false, false) => Expected::Fetch,
        }
    }

    fn source_error(&self) -> Option<TokenError> {
        let until = self.account.source_held_until;
        let left = until.remaining(self.now);
        (!until.is_past(self.now)).then(|| fault().with_retry_after(left))
    }

    /// Whether somebody is fetching whose outcome can be waited for.
    fn is_flying(&self) -> bool {
        self.account.latest.is_some_and(|number| {
            let flight = &self.flights[number];
            flight.takeoff.is_some() && !(flight.started + OVERDUE).is_past(self.now)
        })
    }

    fn took_off(&mut self, takeoff: Takeoff) {
        assert!(!self.is_flying(), "two flights for one slot");
        let request = Plain::of(&takeoff.request());
        assert_eq!(request, self.account.wanted, "not asked for what is wanted");
        self.account.latest = Some(self.flights.len());
        self.flights.push(Flight {
            takeoff: Some(takeoff),
            started: self.now,
            version: self.account.version,
        });
    }

    fn wait(&mut self, mut landing: Landing, asked: Asked) {
        let mut waiter = Waiter {
            outcome: Box::pin(async move { landing.outcome().await }),
            flight: self.account.latest.expect("there is nothing to wait for"),
            asked,
            wanted: self.account.wanted.clone(),
            taken_back: self.account.taken_back,
            wakes: Arc::default(),
            seen: 0,
        };
        assert!(waiter.poll().is_pending());
        self.waiters.push(waiter);
    }

    fn look(&mut self, number: usize) {
        let mut waiter = self.waiters.remove(number);
        match waiter.poll() {
            Poll::Pending => self.waiters.push(waiter),
            Poll::Ready(Some(Err(_))) => {}
            Poll::Ready(Some(Ok(token))) if !self.slot.is_over(&token, self.now) => {
                self.served(&token);
                let got = &self.tokens[token.generation() as usize - 1];
                let has = |scope: &usize| got.scopes.contains(scope);
                let as_wished = waiter.wanted.scopes.iter().all(has);
                let still_wanted = self.account.taken_back == waiter.taken_back;
                assert!(
                    as_wished || !still_wanted,
                    "got {got:?} for {:?}",
                    waiter.wanted
                );
            }
            Poll::Ready(_) => self.ask(waiter.asked),
        }
    }

    fn look_all(&mut self) {
        while let Some(number) = self.waiters.iter().position(Waiter::is_woken) {
            self.look(number);
            self.check();
        }
    }

    /// Whatever anybody gets can be sent.
    fn served(&self, token: &Token) {
        let generation = token.generation();
        assert!(
            !token.times().end().is_past(self.now),
            "served when expired"
        );
        assert!(
            generation > self.account.rejected,
            "served {generation} when rejected"
        );
        assert!(
            !self.account.outdated.contains(&generation),
            "served when outdated"
        );
    }

    fn land(&mut self, number: usize, text: Option<u64>) {
        let version = self.flights[number].version;
        let takeoff = self.flights[number].takeoff.take().unwrap();
        self.tokens.push(Plain::of(&takeoff.request()));
        self.generation += 1;
        let generation = self.generation;
        let text = text.unwrap_or(generation);
        let fetched = fetched(text, generation, self.now);
        let times = fetched.times;
        let token = takeoff.land(fetched, |_, _| {});
        assert_eq!(token.generation(), generation);
        let account = &mut self.account;
        if account.latest != Some(number) {
            return;
        }
        let same = account.text.filter(|(last, _)| *last == text);
        let since = same.map_or(generation, |(_, since)| since);
        assert_eq!(token.same_since(), since);
        account.latest = None;
        if version != account.version {
            account.outdated.push(generation);
            return;
        }
        account.text = Some((text, since));
        if account.is_due() {
            account.granted = account.wanted.clone();
            account.granted_version = account.version;
        }
        account.held_until = START;
        account.failures = 0;
        account.service = Some(Served {
            generation,
            refresh: times.refresh(),
            end: times.end(),
        });
    }

    fn fail(&mut self, number: usize) {
        let takeoff = self.flights[number].takeoff.take().unwrap();
        takeoff.fail(fault(), self.now, |before| {
            Some(Hold::after(before, fault(), self.now, 0.0))
        });
        let account = &mut self.account;
        if account.latest != Some(number) {
            return;
        }
        account.latest = None;
        if account.is_due() && self.flights[number].version == account.version {
            account.wanted = account.granted.clone();
            account.version += 1;
            account.granted_version = account.version;
            account.taken_back += 1;
        } else {
            account.failures += 1;
            account.held_until = self.now + HOLD * 2_u32.pow(account.failures - 1);
        }
    }

    fn die(&mut self, number: usize) {
        let flight = &mut self.flights[number];
        drop(flight.takeoff.take().unwrap());
        if self.account.latest == Some(number) {
            self.account.paused_until = flight.started + PAUSE_AFTER_DEATH;
        }
    }

    /// Whoever waits for a flight keeps it in the air; a flight that nobody waits for leaves everything as it was.
    fn step_back(&mut self, number: usize) {
        let takeoff = self.flights[number].takeoff.take().unwrap();
        let is_waited_for = self.waiters.iter().any(|waiter| waiter.flight == number);
        let quiet = self.now + HOLD;
        match takeoff.step_back(quiet) {
            Err(takeoff) => {
                assert!(is_waited_for, "nobody waits, and it can't step back");
                self.flights[number].takeoff = Some(takeoff);
            }
            Ok(()) => {
                assert!(!is_waited_for, "it stepped back from somebody who waits");
                if self.account.latest == Some(number) {
                    self.account.latest = None;
                    self.account.paused_until = quiet;
                }
            }
        }
    }

    fn reject(&mut self, generation: u64, claims: Option<usize>) {
        let account = &mut self.account;
        let in_service = account.service.map(|served| served.generation);
        let expected = if in_service != Some(generation) {
            // The claims of whoever came second go into the token that is to come.
            let refused = account.outdated.last().map_or(0, |last| *last);
            let refused = refused.max(account.rejected);
            if claims.is_some() && in_service.is_none() && refused == generation {
                account.wanted.claims = claims;
                account.version += 1;
            }
            Rejection::Superseded
        } else if let Err(disbelieved) = account.believe(generation, self.now) {
            disbelieved
        } else {
            account.service = None;
            account.rejected = generation;
            if claims.is_some() {
                account.wanted.claims = claims;
                account.version += 1;
            }
            Rejection::Dropped
        };
        let claims = claims.map(|claims| format!("c{claims}"));
        let rejection = match &claims {
            Some(claims) => self.slot.wish(generation, Wish::Claims(claims), self.now),
            None => self.slot.reject(generation, self.now),
        };
        assert_eq!(rejection, expected);
    }

    /// A server wants a scope of the newest token.
    fn want_scope(&mut self) {
        let account = &mut self.account;
        let (generation, scope) = (self.generation, account.last_scope);
        let in_service = account.service.map(|served| served.generation);
        let expected = if account.wanted.scopes.contains(&scope) {
            match !account.is_due() && in_service == Some(generation) {
                true => Rejection::Vain,
                false => Rejection::Superseded,
            }
        } else if let Err(disbelieved) = account.believe(generation, self.now) {
            disbelieved
        } else {
            account.wanted.scopes.push(scope);
            account.wanted.scopes.sort_unstable();
            account.version += 1;
            Rejection::Outdated
        };
        let scopes = [format!("s{scope}")];
        let rejection = self.slot.wish(generation, Wish::Scopes(&scopes), self.now);
        assert_eq!(rejection, expected);
    }

    fn remove(&mut self) {
        assert_eq!(self.slot.empty(), self.account.service.is_some());
        let account = &mut self.account;
        account.service = None;
        account.text = None;
        account.latest = None;
        account.held_until = START;
        account.failures = 0;
        account.wanted = Plain::default();
        account.granted = Plain::default();
        account.version = 0;
        account.granted_version = 0;
        account.taken_back += 1;
    }

    /// What must hold after each step.
    fn check(&self) {
        let account = &self.account;
        let in_service = account.service.map_or(0, |served| served.generation);
        assert_eq!(self.slot.generation(), in_service);
        let token = self.slot.token().map_or(0, |token| token.generation());
        assert_eq!(token, in_service);
        // What is served without asking needs nobody's attention.
        let expected = self.account_answer(Asked::Plainly);
        if let Some(token) = self.slot.usable(self.now) {
            self.served(&Token::new(token, self.spec.clone()));
            let is_paused = !account.paused_until.is_past(self.now);
            assert!(expected == Expected::Have || is_paused, "{expected:?}");
        } else {
            let fresh = account.service;
            let fresh = fresh.is_some_and(|served| !served.refresh.is_past(self.now));
            assert!(!fresh, "fresh, and not served at once");
        }

        for waiter in &self.waiters {
            let ended = self.flights[waiter.flight].takeoff.is_none();
            assert_eq!(waiter.is_woken(), ended, "woken when it can go on");
        }
    }

    /// From wherever a schedule ends, all who wait get their answer, and whoever comes next a token.
    fn finish(&mut self) {
        for _ in 0..4 {
            for number in 0..self.flights.len() {
                if self.flights[number].takeoff.is_some() {
                    self.land(number, None);
                    self.check();
                }
            }
            self.look_all();
        }
        assert!(self.waiters.is_empty(), "somebody waits for ever");
        self.now = self.now + SOURCE_HOLD + AGE * 2;
        self.ask(Asked::Plainly);
        let number = self.account.latest.expect("nobody fetches");
        self.land(number, None);
        let number = self.waiters.len() - 1;
        self.look(number);
        assert!(self.slot.usable(self.now).is_some());
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Have,
    HaveAndFetch,
    Wait,
    Fetch,
    Held,
}

impl Account {
    fn settle(&mut self, generation: u64) {
        let place = self.unsettled.iter().position(|one| *one == generation);
        self.unsettled.remove(place.expect("it is unsettled"));
    }

    fn is_due(&self) -> bool {
        self.version != self.granted_version
    }

    fn believe(&mut self, generation: u64, now: Moment) -> Result<(), Rejection> {
        while self.budget < 5 && self.refill.is_past(now) {
            self.budget += 1;
            self.refill = self.refill + REFILL;
        }
        if self.budget == 0 {
            let first = !std::mem::replace(&mut self.storm, true);
            return Err(Rejection::Disbelieved { first });
        }
        self.storm = false;
        if self.budget == 5 {
            self.refill = now + REFILL;
        }
        self.budget -= 1;
        self.unsettled.push(generation);
        if self.unsettled.len() > 5 {
            self.unsettled.remove(0);
        }
        Ok(())
    }
}

impl Waiter {
    fn poll(&mut self) -> Poll<Option<Outcome>> {
        self.seen = self.wakes.0.load(SeqCst);
        let waker = Waker::from(Arc::clone(&self.wakes));
        self.outcome.as_mut().poll(&mut Context::from_waker(&waker))
    }

    fn is_woken(&self) -> bool {
        self.wakes.0.load(SeqCst) > self.seen
    }
}

fn fetched(text: u64, generation: u64, now: Moment) -> Fetched {
    Fetched {
        token: NewToken::bearer(&format!("text-{text}")).unwrap(),
        times: Times::new(now, AGE, AGE * 2, AGE * 2),
        generation,
        origin: TokenOrigin::Provider,
    }
}

fn fault() -> TokenError {
    TokenError::new(ErrorKind::AccessDenied, "no")
}
