//! Random schedules on a whole cache, held against a plain account of its contract.
//!
//! The account is told what the source is asked and what it answers, and what callers ask and get. From that it says, in its
//! own words, what may happen next. Where chance has a say (jitter), it knows bounds.

mod support;

use std::{
    collections::{HashMap, HashSet},
    env, future,
    panic::resume_unwind,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use proptest::{prelude::*, test_runner::Config};
use support::{HOUR, fault, millis, secs, settle, tenant};
use tokio::{
    runtime,
    task::JoinSet,
    time::{self, Instant},
};
use tower_bearer::{
    ErrorKind, NewToken, Token, TokenCache, TokenError, TokenSource, TokenSpec, clock::Clock,
    source::TokenRequest,
};

const KEYS: usize = 3;
const DEADLINE: Duration = secs(10);
/// Time refunds one rejection per interval.
const REFILL: Duration = secs(15);
/// A timer rounds up to a millisecond.
const TICK: Duration = millis(3);

#[derive(Clone, Debug)]
enum Op {
    Pass(Duration),
    Get(usize),
    Refresh(usize),
    Reject(usize),
    /// Somebody asks and refuses, again and again.
    Storm(usize, usize),
    /// One of the tokens that were seen before.
    RejectOld(usize, usize),
    Remove(usize),
    Clear,
    /// All who wait go away.
    Leave,
    /// From now on, the provider answers so for this key.
    Provider(usize, Reply),
}

#[derive(Clone, Debug)]
struct Reply {
    after: Duration,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Token(Option<Duration>),
    RefreshIn(Duration, Duration),
    /// The text of the last one, for an hour.
    Same,
    Fail(ErrorKind, Option<Duration>),
    Hang,
    Panic,
}

fn key() -> impl Strategy<Value = usize> {
    0..KEYS
}

fn lifetime() -> impl Strategy<Value = Duration> {
    prop::sample::select(vec![
        secs(1),
        secs(2),
        secs(20),
        secs(100),
        secs(300),
        HOUR,
        HOUR * 24,
        HOUR * 24 * 3650,
    ])
}

fn what() -> impl Strategy<Value = What> {
    let kinds = prop::sample::select(vec![
        ErrorKind::Configuration,
        ErrorKind::InvalidClient,
        ErrorKind::UnauthorizedClient,
        ErrorKind::InvalidGrant,
        ErrorKind::InvalidScope,
        ErrorKind::InvalidTarget,
        ErrorKind::AccessDenied,
        ErrorKind::Refused,
        ErrorKind::InteractionRequired,
        ErrorKind::Throttled,
        ErrorKind::Unavailable,
        ErrorKind::Malformed,
        ErrorKind::Timeout,
        ErrorKind::Network,
    ]);
    let asked = prop::sample::select(vec![
        Duration::ZERO,
        secs(1),
        secs(2),
        secs(3),
        secs(30),
        HOUR * 2,
    ]);
    prop_oneof![
        6 => lifetime().prop_map(|lifetime| What::Token(Some(lifetime))),
        1 => Just(What::Token(None)),
        1 => (lifetime(), lifetime()).prop_map(|(one, other)| What::RefreshIn(one, other)),
        1 => Just(What::Same),
        5 => (kinds, prop::option::weighted(0.3, asked)).prop_map(|(kind, asked)| What::Fail(kind, asked)),
        1 => Just(What::Hang),
        1 => Just(What::Panic),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    let after = prop::sample::select(vec![0, 0, 10, 700, 3_100, 9_850]);
    (after, what()).prop_map(|(after, what)| Reply {
        after: millis(after),
        what,
    })
}

fn pass() -> impl Strategy<Value = Duration> {
    let about = prop::sample::select(vec![
        1,
        50,
        400,
        1_100,
        5_000,
        16_000,
        31_000,
        90_000,
        3_300_000,
        86_000_000,
        31_000_000_000,
    ]);
    (about, 0_u64..100).prop_map(|(about, percent)| millis(about + about * percent / 100))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => pass().prop_map(Op::Pass),
        10 => key().prop_map(Op::Get),
        2 => key().prop_map(Op::Refresh),
        3 => key().prop_map(Op::Reject),
        2 => (key(), 0_usize..8).prop_map(|(key, old)| Op::RejectOld(key, old)),
        1 => (key(), 2_usize..9).prop_map(|(key, times)| Op::Storm(key, times)),
        2 => key().prop_map(Op::Remove),
        1 => Just(Op::Clear),
        1 => Just(Op::Leave),
        6 => (key(), reply()).prop_map(|(key, reply)| Op::Provider(key, reply)),
    ]
}

fn config() -> Config {
    let usual = Config::default();
    Config {
        cases: env::var("PROPTEST_CASES").map_or(1_000, |_| usual.cases),
        failure_persistence: None,
        ..usual
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_happens_the_cache_keeps_its_contract(
        cap in prop_oneof![3 => Just(32_usize), 1 => Just(1), 1 => Just(2)],
        ops in prop::collection::vec(op(), 1..60),
    ) {
        run(cap, &ops).map_err(TestCaseError::fail)?;
    }
}

/// Runs a schedule; says what went wrong.
fn run(cap: usize, ops: &[Op]) -> Result<(), String> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut play = Play::new(cap);
        for op in ops {
            play.take(op).await;
            play.account().verdict()?;
        }
        play.finish().await;
        play.account().verdict()
    })
}

/// The cache, its callers, and the account that is kept of them.
struct Play {
    cache: TokenCache,
    account: Arc<Mutex<Account>>,
    callers: JoinSet<()>,
    specs: Vec<TokenSpec>,
    seen: Vec<Vec<Token>>,
}

impl Play {
    fn new(cap: usize) -> Self {
        let account = Arc::new(Mutex::new(Account::new(cap)));
        let cache = TokenCache::builder(Provider(Arc::clone(&account)))
            .with_clock(Clock::tokio())
            // What is forgotten on purpose is no part of the contract.
            .with_idle_time(Duration::MAX)
            .with_max_fetches(cap)
            .build();
        Self {
            cache,
            account,
            callers: JoinSet::new(),
            specs: (0..KEYS).map(tenant).collect(),
            seen: vec![Vec::new(); KEYS],
        }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        lock(&self.account)
    }

    async fn take(&mut self, op: &Op) {
        let due = match op {
            Op::Get(key) => self.account().is_due(*key).then_some(*key),
            _ => None,
        };
        // With few places a flight may queue unseen, and what becomes of it then can't be told from outside.
        let queues = self.account().cap < KEYS;
        match op {
            Op::Pass(time) => time::sleep(*time).await,
            Op::Get(key) => self.call(*key, false),
            Op::Refresh(key) => self.call(*key, true),
            Op::Reject(key) => self.reject_current(*key),
            Op::Storm(key, times) => {
                for _ in 0..*times {
                    self.call(*key, false);
                    settle().await;
                    self.look();
                    self.reject_current(*key);
                }
            }
            Op::RejectOld(key, old) => {
                if let Some(token) = self.seen[*key].get(*old).cloned() {
                    self.reject(*key, &token);
                }
            }
            Op::Remove(_) | Op::Clear if queues => {}
            Op::Remove(key) => {
                let removed = self.cache.remove(&self.specs[*key]);
                self.account().removed(*key, Some(removed));
            }
            Op::Clear => {
                self.cache.clear();
                let mut account = self.account();
                (0..KEYS).for_each(|key| account.removed(key, None));
                account.source = None;
            }
            Op::Leave => self.callers.abort_all(),
            Op::Provider(key, reply) => self.account().keys[*key].reply = reply.clone(),
        }
        settle().await;
        if let Some(key) = due {
            let mut account = self.account();
            let asked = account.keys[key].last_asked == Some(Instant::now());
            account.hold_that(asked, || "stale, and nobody fetches".into());
        }
        self.look();
    }

    fn call(&mut self, key: usize, forced: bool) {
        let (cache, account) = (self.cache.clone(), Arc::clone(&self.account));
        let spec = self.specs[key].clone();
        self.callers.spawn(async move {
            let call = Call::begin(&account, key, forced);
            let mut get = pin!(async {
                if forced {
                    cache.refresh(&spec).await
                } else {
                    cache.get(&spec).await
                }
            });
            let first = future::poll_fn(|cx| Poll::Ready(get.as_mut().poll(cx))).await;
            let (at_once, outcome) = match first {
                Poll::Ready(outcome) => (true, outcome),
                Poll::Pending => (false, get.await),
            };
            call.end(at_once, &outcome);
        });
    }

    fn reject_current(&self, key: usize) {
        if let Some(token) = self.cache.peek(&self.specs[key]) {
            self.reject(key, &token);
        }
    }

    fn reject(&self, key: usize, token: &Token) {
        let rejected = self.cache.reject(token);
        self.account().rejected(key, token.generation(), rejected);
    }

    /// What is in service must be what the account says; and the account learns its generation.
    fn look(&mut self) {
        while let Some(outcome) = self.callers.try_join_next() {
            if let Err(error) = outcome {
                assert!(error.is_cancelled(), "a caller panicked");
            }
        }
        for key in 0..KEYS {
            let token = self.cache.peek(&self.specs[key]);
            lock(&self.account).peeked(key, token.as_ref());
            if let Some(token) = token {
                let seen = &mut self.seen[key];
                if seen.last().map(Token::generation) != Some(token.generation()) {
                    seen.push(token);
                }
            }
        }
        let stats = self.cache.stats();
        let mut account = lock(&self.account);
        let counted = (
            stats.hits,
            stats.misses,
            stats.rejections,
            stats.rejection_limit_reached,
        );
        let expected = (
            account.hits,
            account.misses,
            account.rejections,
            account.storms,
        );
        account.hold_that(counted == expected, || {
            format!("counted {counted:?}, expected {expected:?}")
        });
        let asked = account.asked;
        account.hold_that(stats.token_requests == asked, || {
            format!("{} requests counted of {asked}", stats.token_requests)
        });
        account.hold_that(
            stats.entries <= KEYS as u64 && stats.bytes < 1 << 20,
            || format!("{stats:?}"),
        );
    }

    /// Once the provider is well again, nothing is left of what was.
    async fn finish(&mut self) {
        for key in 0..KEYS {
            self.account().keys[key].reply = Reply {
                after: Duration::ZERO,
                what: What::Token(Some(HOUR)),
            };
        }
        self.take(&Op::Pass(HOUR * 2)).await;
        let waiting = self.account().waiting();
        self.account()
            .hold_that(waiting == 0, || format!("{waiting} wait for ever"));
        for key in 0..KEYS {
            let got = self.cache.get(&self.specs[key]).await;
            self.account()
                .hold_that(got.is_ok(), || format!("latched: {got:?}"));
        }
        settle().await;
        let stats = self.cache.stats();
        let mut account = self.account();
        let landed = account.landed;
        account.hold_that(stats.fetches == stats.fetch_failures + landed, || {
            format!("{landed} landed of {stats:?}")
        });
    }
}

/// A caller who waits, as the account sees it.
struct Call<'a> {
    account: &'a Mutex<Account>,
    key: usize,
    forced: bool,
    begun: Instant,
    service: Option<Service>,
    flying: bool,
    held: bool,
}

impl<'a> Call<'a> {
    fn begin(account: &'a Mutex<Account>, key: usize, forced: bool) -> Self {
        let begun = Instant::now();
        let mut now = lock(account);
        now.catch_up();
        let held = now.surely_held(key, begun);
        let queues = now.cap < KEYS;
        let state = &mut now.keys[key];
        state.callers += 1;
        state.forced += usize::from(forced);
        state.forced_unseen |= forced && queues;
        let call = Self {
            account,
            key,
            forced,
            begun,
            service: state.service.clone().filter(|service| begun < service.end),
            flying: !state.flights.is_empty(),
            held,
        };
        if !forced && call.service.is_some() {
            now.hits += 1;
        } else if !forced {
            now.misses += 1;
        }
        call
    }

    fn end(self, at_once: bool, outcome: &Result<Token, TokenError>) {
        let (key, begun) = (self.key, self.begun);
        let now = Instant::now();
        let mut account = lock(self.account);
        account.catch_up();
        let served = !self.forced && self.service.is_some();
        let took = now - begun;
        let most = if account.cap < KEYS {
            DEADLINE * 3 * (KEYS as u32 + 1)
        } else {
            DEADLINE * 3
        };
        account.hold_that(took <= most + millis(50), || format!("waited {took:?}"));
        account.hold_that(!served || (at_once && outcome.is_ok()), || {
            format!("a token that serves was not served: {outcome:?}")
        });
        if self.held && !served && !self.flying {
            account.hold_that(at_once && outcome.is_err(), || {
                format!("held back, and yet {at_once} {outcome:?}")
            });
        }
        match outcome {
            Ok(token) => {
                account.served(key, token, now);
                let before = self.service.as_ref();
                let before = before.and_then(|service| service.generation);
                if self.forced {
                    account.hold_that(Some(token.generation()) > before, || {
                        "a forced refresh gave nothing new".into()
                    });
                } else if let Some(before) = before {
                    account.hold_that(token.generation() == before, || {
                        "another token than the one in service".into()
                    });
                }
            }
            Err(error) if at_once => {
                let holds = [account.keys[key].hold.clone(), account.source.clone()];
                let right = holds.iter().flatten().any(|hold| hold.tells(error, now));
                account.hold_that(right, || format!("{error:?} at once, for {holds:?}"));
            }
            Err(_) => {}
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut account = lock(self.account);
        // Gone without an answer: it waited.
        let state = &mut account.keys[self.key];
        state.callers -= 1;
        state.forced -= usize::from(self.forced);
    }
}

/// What is known of the cache from what went in and out.
struct Account {
    cap: usize,
    keys: Vec<Key>,
    source: Option<Held>,
    wrong: Vec<String>,
    texts: u64,
    asked: u64,
    landed: u64,
    hits: u64,
    misses: u64,
    rejections: u64,
    storms: u64,
}

struct Key {
    reply: Reply,
    service: Option<Service>,
    flights: Vec<Flight>,
    hold: Option<Held>,
    /// A flight that died is not followed sooner, while the token serves.
    paused_until: Option<Instant>,
    refused: HashSet<u64>,
    newest_refused: u64,
    given: HashMap<String, Instant>,
    last_text: Option<String>,
    last_asked: Option<Instant>,
    callers: usize,
    forced: usize,
    /// Somebody forced a refresh, and no flight was seen since.
    forced_unseen: bool,
    budget: u8,
    refill: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Service {
    text: String,
    generation: Option<u64>,
    earliest_refresh: Instant,
    latest_refresh: Instant,
    end: Instant,
}

struct Flight {
    number: u64,
    started: Instant,
    attempt: u32,
    asked: Instant,
    /// Between two attempts: not before then.
    pausing: Option<Instant>,
    orphan: bool,
}

/// A wait of which chance has a part: between these two.
#[derive(Clone, Debug)]
struct Held {
    kind: ErrorKind,
    asked_for: bool,
    failures: (u32, u32),
    least: Instant,
    most: Instant,
}

impl Held {
    /// Each failure doubles the wait from a second to a minute, less up to a half; or what the server asks for, from a second
    /// to an hour, and up to a tenth more. What fails during a wait does not double it.
    fn after(
        before: Option<&Self>,
        kind: ErrorKind,
        asked: Option<Duration>,
        now: (Instant, Instant),
    ) -> Self {
        let during = before.is_some_and(|held| now.0 < held.most);
        let surely = before.is_some_and(|held| now.1 < held.least);
        let (low, high) = before.map_or((0, 0), |held| held.failures);
        let failures = (
            if during { low.max(1) } else { low + 1 },
            if surely { high } else { high + 1 },
        );
        let doubled = |failures: u32| secs(1 << (failures.clamp(1, 7) - 1)).min(secs(60));
        let (mut least, mut most) = match asked {
            Some(asked) => {
                let asked = asked.clamp(secs(1), HOUR);
                let more = (asked + asked.min(secs(60)) / 10).min(HOUR);
                (now.0 + asked, now.1 + more)
            }
            None => (now.0 + doubled(failures.0) / 2, now.1 + doubled(failures.1)),
        };
        if let Some(before) = before {
            if surely {
                least = least.max(before.least);
            }
            if during {
                most = most.max(before.most);
            }
        }
        Self {
            kind,
            asked_for: asked.is_some() || kind == ErrorKind::Throttled,
            failures,
            least,
            most,
        }
    }

    /// Whether this is the error, with what is left of the wait.
    fn tells(&self, error: &TokenError, now: Instant) -> bool {
        let Some(left) = error.retry_after() else {
            return false;
        };
        let until = now + left;
        error.kind() == self.kind && until + TICK >= self.least && until <= self.most + TICK
    }
}

impl Account {
    fn new(cap: usize) -> Self {
        let key = || Key {
            reply: Reply {
                after: Duration::ZERO,
                what: What::Token(Some(HOUR)),
            },
            service: None,
            flights: Vec::new(),
            hold: None,
            paused_until: None,
            refused: HashSet::new(),
            newest_refused: 0,
            given: HashMap::new(),
            last_text: None,
            last_asked: None,
            callers: 0,
            forced: 0,
            forced_unseen: false,
            budget: 5,
            refill: None,
        };
        Self {
            cap,
            keys: (0..KEYS).map(|_| key()).collect(),
            source: None,
            wrong: Vec::new(),
            texts: 0,
            asked: 0,
            landed: 0,
            hits: 0,
            misses: 0,
            rejections: 0,
            storms: 0,
        }
    }

    fn verdict(&self) -> Result<(), String> {
        self.wrong
            .first()
            .map_or(Ok(()), |wrong| Err(wrong.clone()))
    }

    fn hold_that(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(otherwise());
        }
    }

    fn waiting(&self) -> usize {
        self.keys.iter().map(|key| key.callers).sum()
    }

    fn surely_held(&self, key: usize, now: Instant) -> bool {
        let holds = [&self.keys[key].hold, &self.source];
        holds.into_iter().flatten().any(|held| now < held.least)
    }

    /// What pauses between two attempts when its deadline comes ends without the source's knowing.
    fn catch_up(&mut self) {
        let now = Instant::now();
        for key in 0..KEYS {
            let late =
                |flight: &Flight| flight.pausing.is_some() && now >= flight.started + DEADLINE;
            while let Some(place) = self.keys[key].flights.iter().position(late) {
                let flight = self.keys[key].flights.remove(place);
                let ended = flight.started + DEADLINE;
                self.failed(
                    key,
                    flight.orphan,
                    ErrorKind::Timeout,
                    None,
                    (ended, ended + TICK),
                );
            }
        }
    }

    /// Whether whoever asks now is served and sees to a new token: it is stale, and nothing is in the way.
    fn is_due(&mut self, key: usize) -> bool {
        self.catch_up();
        let now = Instant::now();
        let state = &self.keys[key];
        let mut holds = [&state.hold, &self.source].into_iter().flatten();
        let service = state.service.as_ref().filter(|service| now < service.end);
        service.is_some_and(|service| now >= service.latest_refresh)
            && state.flights.is_empty()
            && state.paused_until.is_none_or(|until| now >= until)
            && holds.all(|held| now >= held.most)
            && self.cap >= KEYS
    }

    fn asks(&mut self, key: usize, attempt: u32) -> (u64, Reply) {
        self.catch_up();
        let now = Instant::now();
        self.asked += 1;
        let number = self.asked;
        if attempt > 1 {
            let resumed = self.keys[key].flights.iter_mut().find(|flight| {
                flight.attempt + 1 == attempt && flight.pausing.is_some_and(|until| until <= now)
            });
            match resumed {
                Some(flight) => {
                    flight.attempt = attempt;
                    flight.asked = now;
                    flight.pausing = None;
                    flight.number = number;
                }
                None => self.wrong.push(format!("attempt {attempt} out of turn")),
            }
            return (number, self.keys[key].reply.clone());
        }
        let held = self.surely_held(key, now);
        self.hold_that(!held, || "asked while held back".into());
        let queues = self.cap < KEYS;
        let state = &mut self.keys[key];
        state.last_asked = Some(now);
        let second = state.flights.iter().any(|flight| !flight.orphan);
        let forced = state.forced > 0 || state.forced_unseen;
        state.forced_unseen = false;
        let usable = state.service.as_ref().filter(|service| now < service.end);
        let wanted = forced || usable.is_none_or(|service| now >= service.earliest_refresh);
        let paused = usable.is_some() && state.paused_until.is_some_and(|until| now < until);
        state.flights.push(Flight {
            number,
            started: now,
            attempt,
            asked: now,
            pausing: None,
            orphan: false,
        });
        let reply = state.reply.clone();
        let running: usize = self.keys.iter().map(|key| key.flights.len()).sum();
        self.hold_that(!second, || "two flights for one key".into());
        self.hold_that(wanted, || "nobody wanted it".into());
        self.hold_that(!paused || forced || queues, || {
            "so soon after a death".into()
        });
        let cap = self.cap;
        self.hold_that(running <= cap, || format!("{running} flights of {cap}"));
        (number, reply)
    }

    fn flight(&mut self, key: usize, number: u64) -> Option<Flight> {
        self.catch_up();
        let flights = &mut self.keys[key].flights;
        let place = flights.iter().position(|flight| flight.number == number);
        place.map(|place| flights.remove(place))
    }

    fn answers(&mut self, key: usize, number: u64, what: &What, text: &str) {
        let now = Instant::now();
        let Some(mut flight) = self.flight(key, number) else {
            return self.wrong.push("an answer to nobody".into());
        };
        let (lifetime, refresh_in) = match what {
            What::Token(lifetime) => (lifetime.unwrap_or(secs(300)), None),
            What::RefreshIn(lifetime, after) => (*lifetime, Some(*after)),
            What::Same => (HOUR, None),
            What::Fail(kind, asked) => {
                if let Some(pause) = pause_before_another(*kind, *asked, flight.attempt) {
                    flight.pausing = Some(now + pause);
                    return self.keys[key].flights.push(flight);
                }
                return self.failed(key, flight.orphan, *kind, *asked, (now, now));
            }
            What::Hang | What::Panic => return,
        };
        let service = Service::new(text, flight.asked, lifetime, refresh_in);
        if now >= service.end {
            return self.failed(key, flight.orphan, ErrorKind::Malformed, None, (now, now));
        }
        self.landed += 1;
        match &mut self.source {
            Some(held) if held.asked_for && now < held.least => {}
            Some(held) if held.asked_for && now < held.most => held.failures.0 = 0,
            source => *source = None,
        }
        let state = &mut self.keys[key];
        let end = state.given.entry(text.to_owned()).or_insert(service.end);
        *end = service.end.max(*end);
        if !flight.orphan {
            state.hold = None;
            state.paused_until = None;
            state.service = Some(service);
        }
    }

    /// The future of a fetch was dropped: its deadline came, it panicked, or nobody is left.
    fn dropped(&mut self, key: usize, number: u64, panicked: bool) {
        let now = Instant::now();
        let Some(flight) = self.flight(key, number) else {
            return;
        };
        if panicked {
            if !flight.orphan {
                self.keys[key].paused_until = Some(flight.started + secs(1));
            }
            return;
        }
        self.hold_that(now >= flight.started + DEADLINE, || {
            "a flight was given up before its deadline".into()
        });
        self.failed(key, flight.orphan, ErrorKind::Timeout, None, (now, now));
    }

    fn failed(
        &mut self,
        key: usize,
        orphan: bool,
        kind: ErrorKind,
        asked: Option<Duration>,
        now: (Instant, Instant),
    ) {
        let everybody = asked.is_some()
            || [
                ErrorKind::Throttled,
                ErrorKind::InvalidClient,
                ErrorKind::Network,
                ErrorKind::Timeout,
            ]
            .contains(&kind);
        if everybody {
            self.source = Some(Held::after(self.source.as_ref(), kind, asked, now));
        } else if !orphan {
            let hold = &mut self.keys[key].hold;
            *hold = Some(Held::after(hold.as_ref(), kind, asked, now));
        }
    }

    fn rejected(&mut self, key: usize, generation: u64, rejected: bool) {
        let now = Instant::now();
        let state = &mut self.keys[key];
        while state.budget < 5
            && let Some(refill) = state.refill
            && now >= refill
        {
            state.budget += 1;
            state.refill = Some(refill + REFILL);
        }
        let in_service = state
            .service
            .as_ref()
            .and_then(|service| service.generation);
        let is_meant = in_service == Some(generation);
        let believed = is_meant && state.budget > 0;
        if believed {
            if state.budget == 5 {
                state.refill = Some(now + REFILL);
            }
            state.budget -= 1;
            state.service = None;
            state.refused.insert(generation);
            state.newest_refused = generation;
            self.rejections += 1;
        } else if is_meant {
            self.storms += 1;
        }
        self.hold_that(believed == rejected, || {
            format!("a refusal of {generation}, with {in_service:?} in service: {rejected}")
        });
    }

    fn removed(&mut self, key: usize, had: Option<bool>) {
        let state = &mut self.keys[key];
        let has = state.service.take().is_some();
        state.hold = None;
        state.paused_until = None;
        for flight in &mut state.flights {
            flight.orphan = true;
        }
        if state.flights.is_empty() && state.callers == 0 {
            // Nobody holds it: the whole entry went, and comes back as new.
            state.budget = 5;
            state.refill = None;
        }
        self.hold_that(had.is_none_or(|had| had == has), || {
            format!("removed a token: {had:?}")
        });
    }

    fn peeked(&mut self, key: usize, token: Option<&Token>) {
        let now = Instant::now();
        let service = &mut self.keys[key].service;
        let expected = service.as_mut().filter(|service| now < service.end);
        let expected = match (expected, token) {
            (Some(service), Some(token)) => {
                let generation = *service.generation.get_or_insert(token.generation());
                service.text == token.expose() && generation == token.generation()
            }
            (service, token) => service.is_none() == token.is_none(),
        };
        self.hold_that(expected, || format!("{token:?} in service of {key}"));
        if let Some(token) = token {
            self.served(key, token, now);
        }
    }

    fn served(&mut self, key: usize, token: &Token, now: Instant) {
        let state = &self.keys[key];
        let generation = token.generation();
        let own = token.expose().starts_with(&format!("{key}-"));
        let refused = generation <= state.newest_refused || state.refused.contains(&generation);
        let alive = state
            .given
            .get(token.expose())
            .is_some_and(|end| now < *end);
        self.hold_that(own, || "another key's token".into());
        self.hold_that(!refused, || "a refused token".into());
        self.hold_that(alive, || "an expired token".into());
    }
}

impl Service {
    fn new(text: &str, asked: Instant, lifetime: Duration, refresh_in: Option<Duration>) -> Self {
        let lead = secs(300).min(lifetime / 4);
        let end = lifetime - secs(10).min(lifetime / 10);
        let latest = refresh_in.unwrap_or(lifetime - lead);
        let earliest = latest - (lead / 5).min(latest / 5);
        let rest = secs(10).min(lifetime / 4);
        Self {
            text: text.to_owned(),
            generation: None,
            earliest_refresh: asked + earliest.max(rest).min(end),
            latest_refresh: asked + latest.max(rest).min(end),
            end: asked + end,
        }
    }
}

/// A flight makes three attempts when the provider is out of order, or asks for a moment's patience.
fn pause_before_another(
    kind: ErrorKind,
    asked: Option<Duration>,
    attempt: u32,
) -> Option<Duration> {
    use ErrorKind::{Network, Throttled, Timeout, Unavailable};
    let own = millis(100) * attempt;
    let pause = match (kind, asked) {
        (Throttled | Timeout | Unavailable | Network, Some(asked)) => asked.max(own),
        (Unavailable | Network, None) => own,
        _ => return None,
    };
    (attempt < 3 && pause <= secs(2)).then_some(pause)
}

struct Provider(Arc<Mutex<Account>>);

/// Tells of a fetch that does not come to its end.
struct Underway<'a> {
    account: &'a Mutex<Account>,
    key: usize,
    number: u64,
    answered: bool,
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let panicked = std::thread::panicking();
            lock(self.account).dropped(self.key, self.number, panicked);
        }
    }
}

impl TokenSource for Provider {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        let key: usize = request.spec().tenant().unwrap().parse().unwrap();
        let (number, reply) = lock(&self.0).asks(key, request.attempt());
        let mut underway = Underway {
            account: &self.0,
            key,
            number,
            answered: false,
        };
        time::sleep(reply.after).await;
        match reply.what {
            What::Hang => future::pending().await,
            What::Panic => resume_unwind(Box::new("ordered")),
            _ => {}
        }
        let text = {
            let mut account = lock(&self.0);
            account.texts += 1;
            let new = format!("{key}-{}", account.texts);
            let state = &mut account.keys[key];
            let text = match (&reply.what, &state.last_text) {
                (What::Same, Some(last)) => last.clone(),
                _ => new,
            };
            if !matches!(reply.what, What::Fail(..)) {
                state.last_text = Some(text.clone());
            }
            account.answers(key, number, &reply.what, &text);
            text
        };
        underway.answered = true;
        let token = NewToken::bearer(&text)?;
        Ok(match reply.what {
            What::Token(None) => token,
            What::Token(Some(lifetime)) => token.with_lifetime(lifetime),
            What::RefreshIn(lifetime, after) => {
                token.with_lifetime(lifetime).with_refresh_in(after)
            }
            What::Same => token.with_lifetime(HOUR),
            What::Fail(kind, asked) => {
                let error = fault(kind);
                return Err(match asked {
                    Some(asked) => error.with_retry_after(asked),
                    None => error,
                });
            }
            What::Hang | What::Panic => unreachable!(),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
