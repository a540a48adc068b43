//! Runs random schedules on a whole cache and compares it with a model of its contract.
//!
//! The model records the source's requests and responses and the callers' requests and results, and derives outcome may happen
//! next. Where the cache is random (jitter), the model knows bounds.

mod support;

use std::{
    collections::HashMap,
    env, future,
    panic::resume_unwind,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    task::Poll,
    time::Duration,
};

use proptest::{prelude::*, test_runner::Config};
use support::{HOUR, builder, fault, lock, millis, secs, settle, tenant};
use tokio::{
    runtime,
    task::JoinSet,
    time::{self, Instant},
};
use tower_bearer::{
    ErrorKind, NewToken, Token, TokenCache, TokenError, TokenSource, TokenSpec,
    source::TokenRequest,
};

const KEYS: usize = 3;
const DEADLINE: Duration = secs(10);
/// The rejections that cause a fetch; time refunds one per interval.
const BUDGET: u8 = 5;
const REFILL: Duration = secs(15);
/// A timer rounds up to a millisecond.
const TICK: Duration = millis(3);

#[derive(Clone, Debug)]
enum Op {
    Advance(Duration),
    Get(usize),
    Refresh(usize),
    Reject(usize),
    /// Gets and rejects a token repeatedly.
    RejectRepeatedly(usize, usize),
    /// Rejects a token that was current earlier.
    RejectOld(usize, usize),
    Remove(usize),
    Clear,
    CancelCallers,
    /// Sets the response to all later requests for this key.
    Provider(usize, Reply),
}

#[derive(Clone, Debug, Default)]
struct Reply {
    after: Duration,
    outcome: Outcome,
}

#[derive(Clone, Debug)]
enum Outcome {
    Token(Option<Duration>),
    RefreshIn(Duration, Duration),
    /// The last token again, valid for an hour.
    Same,
    Fail(ErrorKind, Option<Duration>),
    Hang,
    Panic,
}

impl Default for Outcome {
    fn default() -> Self {
        Self::Token(Some(HOUR))
    }
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

fn outcome() -> impl Strategy<Value = Outcome> {
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
    let retry_after = prop::sample::select(vec![
        Duration::ZERO,
        secs(1),
        secs(2),
        secs(3),
        secs(30),
        HOUR * 2,
    ]);
    prop_oneof![
        6 => lifetime().prop_map(|lifetime| Outcome::Token(Some(lifetime))),
        1 => Just(Outcome::Token(None)),
        1 => (lifetime(), lifetime()).prop_map(|(one, other)| Outcome::RefreshIn(one, other)),
        1 => Just(Outcome::Same),
        5 => (kinds, prop::option::weighted(0.3, retry_after)).prop_map(|(kind, retry_after)| Outcome::Fail(kind, retry_after)),
        1 => Just(Outcome::Hang),
        1 => Just(Outcome::Panic),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    let after = prop::sample::select(vec![0, 0, 10, 700, 3_100, 9_850]);
    (after, outcome()).prop_map(|(after, outcome)| Reply {
        after: millis(after),
        outcome,
    })
}

fn advance() -> impl Strategy<Value = Duration> {
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
        8 => advance().prop_map(Op::Advance),
        10 => key().prop_map(Op::Get),
        2 => key().prop_map(Op::Refresh),
        3 => key().prop_map(Op::Reject),
        2 => (key(), 0_usize..8).prop_map(|(key, old)| Op::RejectOld(key, old)),
        1 => (key(), 2_usize..9).prop_map(|(key, times)| Op::RejectRepeatedly(key, times)),
        2 => key().prop_map(Op::Remove),
        1 => Just(Op::Clear),
        1 => Just(Op::CancelCallers),
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
    fn random_schedules_keep_the_contract_of_the_cache(
        cap in prop_oneof![3 => Just(32_usize), 1 => Just(1), 1 => Just(2)],
        ops in prop::collection::vec(op(), 1..60),
    ) {
        run(cap, &ops).map_err(TestCaseError::fail)?;
    }
}

/// Runs a schedule, and returns the first violation.
fn run(cap: usize, ops: &[Op]) -> Result<(), String> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut schedule = Schedule::new(cap);
        for op in ops {
            schedule.apply(op).await;
            schedule.model().result()?;
        }
        schedule.finish().await;
        schedule.model().result()
    })
}

/// The cache, its callers and their model.
struct Schedule {
    cache: TokenCache,
    model: Arc<Mutex<Model>>,
    callers: JoinSet<()>,
    specs: Vec<TokenSpec>,
    seen: Vec<Vec<Token>>,
}

impl Schedule {
    fn new(cap: usize) -> Self {
        let model = Arc::new(Mutex::new(Model::new(cap)));
        let cache = builder(&Provider(Arc::clone(&model)))
            // The model does not contain the eviction of idle entries.
            .with_idle_time(Duration::MAX)
            .with_max_fetches(cap)
            .build();
        Self {
            cache,
            model,
            callers: JoinSet::new(),
            specs: (0..KEYS).map(tenant).collect(),
            seen: vec![Vec::new(); KEYS],
        }
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        lock(&self.model)
    }

    async fn apply(&mut self, op: &Op) {
        let due = match op {
            Op::Get(key) => self.model().is_due(*key).then_some(*key),
            _ => None,
        };
        // With few permits, a fetch may wait for one unseen, and its fate is unknown to the model.
        let queues = self.model().cap < KEYS;
        match op {
            Op::Advance(time) => time::sleep(*time).await,
            Op::Get(key) => self.call(*key, false),
            Op::Refresh(key) => self.call(*key, true),
            Op::Reject(key) => self.reject_current(*key),
            Op::RejectRepeatedly(key, times) => {
                for _ in 0..*times {
                    self.call(*key, false);
                    settle().await;
                    self.compare();
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
                self.model().removed(*key, Some(removed));
            }
            Op::Clear => {
                self.cache.clear();
                let mut model = self.model();
                (0..KEYS).for_each(|key| model.removed(key, None));
                model.source = None;
            }
            Op::CancelCallers => self.callers.abort_all(),
            Op::Provider(key, reply) => self.model().keys[*key].reply = reply.clone(),
        }
        settle().await;
        if let Some(key) = due {
            let mut model = self.model();
            let requested = model.keys[key].last_request == Some(Instant::now());
            model.check(requested, || "stale, and not fetched".into());
        }
        self.compare();
    }

    fn call(&mut self, key: usize, forced: bool) {
        let (cache, model) = (self.cache.clone(), Arc::clone(&self.model));
        let spec = self.specs[key].clone();
        self.callers.spawn(async move {
            let call = Call::begin(&model, key, forced);
            let mut get = pin!(async {
                match forced {
                    true => cache.refresh(&spec).await,
                    false => cache.get(&spec).await,
                }
            });
            let first = future::poll_fn(|cx| Poll::Ready(get.as_mut().poll(cx))).await;
            let (immediate, outcome) = match first {
                Poll::Ready(outcome) => (true, outcome),
                Poll::Pending => (false, get.await),
            };
            call.end(immediate, &outcome);
        });
    }

    fn reject_current(&self, key: usize) {
        if let Some(token) = self.cache.peek(&self.specs[key]) {
            self.reject(key, &token);
        }
    }

    fn reject(&self, key: usize, token: &Token) {
        let rejected = self.cache.reject(token);
        self.model().rejected(key, token.generation(), rejected);
    }

    /// Compares the cache with the model, which learns the generations of new tokens.
    fn compare(&mut self) {
        while let Some(outcome) = self.callers.try_join_next() {
            if let Err(error) = outcome {
                assert!(error.is_cancelled(), "a caller panicked");
            }
        }
        for key in 0..KEYS {
            let token = self.cache.peek(&self.specs[key]);
            self.model().peeked(key, token.as_ref());
            if let Some(token) = token {
                let seen = &mut self.seen[key];
                if seen.last().map(Token::generation) != Some(token.generation()) {
                    seen.push(token);
                }
            }
        }
        let stats = self.cache.stats();
        let mut model = lock(&self.model);
        let counted = (
            stats.hits,
            stats.misses,
            stats.rejections,
            stats.rejection_limit_reached,
        );
        let expected = (model.hits, model.misses, model.rejections, model.limited);
        model.check(counted == expected, || {
            format!("counted {counted:?}, expected {expected:?}")
        });
        let requests = model.requests;
        model.check(stats.token_requests == requests, || {
            format!("{} requests counted of {requests}", stats.token_requests)
        });
        model.check(
            stats.entries <= KEYS as u64 && stats.bytes < 1 << 20,
            || format!("{stats:?}"),
        );
    }

    /// Checks that no caller waits forever, and that each key gets a token once the provider works again.
    async fn finish(&mut self) {
        for key in 0..KEYS {
            self.model().keys[key].reply = Reply::default();
        }
        self.apply(&Op::Advance(HOUR * 2)).await;
        let waiting = self.model().waiting();
        self.model()
            .check(waiting == 0, || format!("{waiting} callers wait forever"));
        for key in 0..KEYS {
            let got = self.cache.get(&self.specs[key]).await;
            self.model()
                .check(got.is_ok(), || format!("not recovered: {got:?}"));
        }
        settle().await;
        let stats = self.cache.stats();
        let mut model = self.model();
        let completed = model.completed;
        model.check(stats.fetches == stats.fetch_failures + completed, || {
            format!("{completed} completed of {stats:?}")
        });
    }
}

/// A caller that waits.
struct Call<'a> {
    model: &'a Mutex<Model>,
    key: usize,
    forced: bool,
    begun: Instant,
    current: Option<Current>,
    is_fetched: bool,
    backs_off: bool,
}

impl<'a> Call<'a> {
    fn begin(model: &'a Mutex<Model>, key: usize, forced: bool) -> Self {
        let begun = Instant::now();
        let mut now = lock(model);
        now.catch_up();
        let backs_off = now.surely_backs_off(key, begun);
        let queues = now.cap < KEYS;
        let state = &mut now.keys[key];
        state.callers += 1;
        state.forced += usize::from(forced);
        state.forced_unseen |= forced && queues;
        let call = Self {
            model,
            key,
            forced,
            begun,
            current: state.current.clone().filter(|current| begun < current.end),
            is_fetched: !state.fetches.is_empty(),
            backs_off,
        };
        match call.current {
            _ if forced => {}
            Some(_) => now.hits += 1,
            None => now.misses += 1,
        }
        call
    }

    fn end(self, immediate: bool, outcome: &Result<Token, TokenError>) {
        let (key, begun) = (self.key, self.begun);
        let now = Instant::now();
        let mut model = lock(self.model);
        model.catch_up();
        let served = !self.forced && self.current.is_some();
        let took = now - begun;
        let queued = if model.cap < KEYS { KEYS } else { 0 };
        let most = DEADLINE * 3 * (queued as u32 + 1);
        model.check(took <= most + millis(50), || format!("waited {took:?}"));
        model.check(!served || (immediate && outcome.is_ok()), || {
            format!("a usable token was not served: {outcome:?}")
        });
        if self.backs_off && !served && !self.is_fetched {
            model.check(immediate && outcome.is_err(), || {
                format!("backing off, and yet {immediate} {outcome:?}")
            });
        }
        match outcome {
            Ok(token) => {
                model.served(key, token, now);
                let before = self.current.as_ref();
                let before = before.and_then(|current| current.generation);
                if self.forced {
                    model.check(Some(token.generation()) > before, || {
                        "a forced refresh returned an old token".into()
                    });
                } else if let Some(before) = before {
                    model.check(token.generation() == before, || {
                        "not the current token".into()
                    });
                }
            }
            Err(error) if immediate => {
                let back_offs = [model.keys[key].back_off.clone(), model.source.clone()];
                let right = back_offs
                    .iter()
                    .flatten()
                    .any(|one| one.matches(error, now));
                model.check(right, || format!("{error:?} at once, for {back_offs:?}"));
            }
            Err(_) => {}
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut model = lock(self.model);
        let state = &mut model.keys[self.key];
        state.callers -= 1;
        state.forced -= usize::from(self.forced);
    }
}

/// The state of the cache that follows from its inputs and outputs.
#[derive(Default)]
struct Model {
    cap: usize,
    keys: Vec<Key>,
    source: Option<BackOff>,
    violations: Vec<String>,
    texts: u64,
    requests: u64,
    completed: u64,
    hits: u64,
    misses: u64,
    rejections: u64,
    limited: u64,
}

#[derive(Default)]
struct Key {
    reply: Reply,
    current: Option<Current>,
    fetches: Vec<FetchState>,
    back_off: Option<BackOff>,
    /// After the death of a fetch, no other starts before this, while the token is usable.
    paused_until: Option<Instant>,
    newest_rejected: u64,
    issued: HashMap<String, Instant>,
    last_text: Option<String>,
    last_request: Option<Instant>,
    callers: usize,
    forced: usize,
    /// A refresh was forced, and no fetch was seen since.
    forced_unseen: bool,
    budget: u8,
    refill: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Current {
    text: String,
    generation: Option<u64>,
    earliest_refresh: Instant,
    latest_refresh: Instant,
    end: Instant,
}

struct FetchState {
    number: u64,
    started: Instant,
    attempt: u32,
    requested_at: Instant,
    /// The start of the next attempt, during the pause before it.
    pausing: Option<Instant>,
    discarded: bool,
}

/// A back-off that ends at a random time between `least` and `most`.
#[derive(Clone, Debug)]
struct BackOff {
    kind: ErrorKind,
    is_requested: bool,
    failures: (u32, u32),
    least: Instant,
    most: Instant,
}

impl BackOff {
    /// Each failure doubles the back-off from a second to a minute, shortened by up to a half. A `Retry-After` is clamped to
    /// between a second and an hour, and prolonged by up to a tenth. A failure during a back-off does not double it.
    fn after(
        before: Option<&Self>,
        kind: ErrorKind,
        retry_after: Option<Duration>,
        now: (Instant, Instant),
    ) -> Self {
        let during = before.is_some_and(|back_off| now.0 < back_off.most);
        let surely = before.is_some_and(|back_off| now.1 < back_off.least);
        let (low, high) = before.map_or((0, 0), |back_off| back_off.failures);
        let failures = (
            if during { low.max(1) } else { low + 1 },
            if surely { high } else { high + 1 },
        );
        let doubled = |failures: u32| secs(1 << (failures.clamp(1, 7) - 1)).min(secs(60));
        let (mut least, mut most) = match retry_after {
            Some(retry_after) => {
                let retry_after = retry_after.clamp(secs(1), HOUR);
                let more = (retry_after + retry_after.min(secs(60)) / 10).min(HOUR);
                (now.0 + retry_after, now.1 + more)
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
            is_requested: retry_after.is_some() || kind == ErrorKind::Throttled,
            failures,
            least,
            most,
        }
    }

    /// Returns whether the error is of this back-off and names the remaining time.
    fn matches(&self, error: &TokenError, now: Instant) -> bool {
        let Some(left) = error.retry_after() else {
            return false;
        };
        let until = now + left;
        error.kind() == self.kind && until + TICK >= self.least && until <= self.most + TICK
    }
}

impl Model {
    fn new(cap: usize) -> Self {
        let key = || Key {
            budget: BUDGET,
            ..Key::default()
        };
        Self {
            cap,
            keys: (0..KEYS).map(|_| key()).collect(),
            ..Self::default()
        }
    }

    fn result(&self) -> Result<(), String> {
        self.violations
            .first()
            .map_or(Ok(()), |first| Err(first.clone()))
    }

    fn check(&mut self, condition: bool, message: impl FnOnce() -> String) {
        if !condition {
            self.violations.push(message());
        }
    }

    fn waiting(&self) -> usize {
        self.keys.iter().map(|key| key.callers).sum()
    }

    fn surely_backs_off(&self, key: usize, now: Instant) -> bool {
        let back_offs = [&self.keys[key].back_off, &self.source];
        back_offs
            .into_iter()
            .flatten()
            .any(|back_off| now < back_off.least)
    }

    /// Ends each fetch whose deadline came between two attempts, when the source sees nothing.
    fn catch_up(&mut self) {
        let now = Instant::now();
        for key in 0..KEYS {
            let late =
                |fetch: &FetchState| fetch.pausing.is_some() && now >= fetch.started + DEADLINE;
            while let Some(index) = self.keys[key].fetches.iter().position(late) {
                let fetch = self.keys[key].fetches.remove(index);
                let ended = fetch.started + DEADLINE;
                self.failed(
                    key,
                    fetch.discarded,
                    ErrorKind::Timeout,
                    None,
                    (ended, ended + TICK),
                );
            }
        }
    }

    /// Returns whether a caller now starts a background refresh.
    fn is_due(&mut self, key: usize) -> bool {
        self.catch_up();
        let now = Instant::now();
        let state = &self.keys[key];
        let mut back_offs = [&state.back_off, &self.source].into_iter().flatten();
        let current = state.current.as_ref().filter(|current| now < current.end);
        current.is_some_and(|current| now >= current.latest_refresh)
            && state.fetches.is_empty()
            && state.paused_until.is_none_or(|until| now >= until)
            && back_offs.all(|back_off| now >= back_off.most)
            && self.cap >= KEYS
    }

    fn request(&mut self, key: usize, attempt: u32) -> (u64, Reply) {
        self.catch_up();
        let now = Instant::now();
        self.requests += 1;
        let number = self.requests;
        if attempt > 1 {
            let resumed = self.keys[key].fetches.iter_mut().find(|fetch| {
                fetch.attempt + 1 == attempt && fetch.pausing.is_some_and(|until| until <= now)
            });
            match resumed {
                Some(fetch) => {
                    fetch.attempt = attempt;
                    fetch.requested_at = now;
                    fetch.pausing = None;
                    fetch.number = number;
                }
                None => self
                    .violations
                    .push(format!("attempt {attempt} out of turn")),
            }
            return (number, self.keys[key].reply.clone());
        }
        let backs_off = self.surely_backs_off(key, now);
        self.check(!backs_off, || "requested during a back-off".into());
        let queues = self.cap < KEYS;
        let state = &mut self.keys[key];
        state.last_request = Some(now);
        let second = state.fetches.iter().any(|fetch| !fetch.discarded);
        let forced = state.forced > 0 || state.forced_unseen;
        state.forced_unseen = false;
        let usable = state.current.as_ref().filter(|current| now < current.end);
        let is_needed = forced || usable.is_none_or(|current| now >= current.earliest_refresh);
        let paused = usable.is_some() && state.paused_until.is_some_and(|until| now < until);
        state.fetches.push(FetchState {
            number,
            started: now,
            attempt,
            requested_at: now,
            pausing: None,
            discarded: false,
        });
        let reply = state.reply.clone();
        let running: usize = self.keys.iter().map(|key| key.fetches.len()).sum();
        self.check(!second, || "two fetches for one key".into());
        self.check(is_needed, || "an unnecessary request".into());
        self.check(!paused || forced || queues, || {
            "too soon after the death of a fetch".into()
        });
        let cap = self.cap;
        self.check(running <= cap, || format!("{running} fetches of {cap}"));
        (number, reply)
    }

    fn take_fetch(&mut self, key: usize, number: u64) -> Option<FetchState> {
        self.catch_up();
        let fetches = &mut self.keys[key].fetches;
        let index = fetches.iter().position(|fetch| fetch.number == number);
        index.map(|index| fetches.remove(index))
    }

    fn respond(&mut self, key: usize, number: u64, outcome: &Outcome, text: &str) {
        let now = Instant::now();
        let Some(mut fetch) = self.take_fetch(key, number) else {
            return self.violations.push("a response without a fetch".into());
        };
        let (lifetime, refresh_in) = match outcome {
            Outcome::Token(lifetime) => (lifetime.unwrap_or(secs(300)), None),
            Outcome::RefreshIn(lifetime, after) => (*lifetime, Some(*after)),
            Outcome::Same => (HOUR, None),
            Outcome::Fail(kind, retry_after) => {
                if let Some(pause) = pause_before_another(*kind, *retry_after, fetch.attempt) {
                    fetch.pausing = Some(now + pause);
                    return self.keys[key].fetches.push(fetch);
                }
                return self.failed(key, fetch.discarded, *kind, *retry_after, (now, now));
            }
            Outcome::Hang | Outcome::Panic => return,
        };
        let current = Current::new(text, fetch.requested_at, lifetime, refresh_in);
        if now >= current.end {
            return self.failed(key, fetch.discarded, ErrorKind::Malformed, None, (now, now));
        }
        self.completed += 1;
        match &mut self.source {
            Some(back_off) if back_off.is_requested && now < back_off.least => {}
            Some(back_off) if back_off.is_requested && now < back_off.most => {
                back_off.failures.0 = 0;
            }
            source => *source = None,
        }
        let state = &mut self.keys[key];
        let end = state.issued.entry(text.to_owned()).or_insert(current.end);
        *end = current.end.max(*end);
        if !fetch.discarded {
            state.back_off = None;
            state.paused_until = None;
            state.current = Some(current);
        }
    }

    /// Records the drop of a fetch at its deadline or by a panic.
    fn dropped(&mut self, key: usize, number: u64, panicked: bool) {
        let now = Instant::now();
        let Some(fetch) = self.take_fetch(key, number) else {
            return;
        };
        if panicked {
            if !fetch.discarded {
                self.keys[key].paused_until = Some(fetch.started + secs(1));
            }
            return;
        }
        self.check(now >= fetch.started + DEADLINE, || {
            "a fetch ended before its deadline".into()
        });
        self.failed(key, fetch.discarded, ErrorKind::Timeout, None, (now, now));
    }

    fn failed(
        &mut self,
        key: usize,
        discarded: bool,
        kind: ErrorKind,
        retry_after: Option<Duration>,
        now: (Instant, Instant),
    ) {
        use ErrorKind::{InvalidClient, Network, Throttled, Timeout};
        let concerns_source =
            retry_after.is_some() || matches!(kind, Throttled | InvalidClient | Network | Timeout);
        if concerns_source {
            self.source = Some(BackOff::after(self.source.as_ref(), kind, retry_after, now));
        } else if !discarded {
            let back_off = &mut self.keys[key].back_off;
            *back_off = Some(BackOff::after(back_off.as_ref(), kind, retry_after, now));
        }
    }

    fn rejected(&mut self, key: usize, generation: u64, rejected: bool) {
        let now = Instant::now();
        let state = &mut self.keys[key];
        while state.budget < BUDGET
            && let Some(refill) = state.refill
            && now >= refill
        {
            state.budget += 1;
            state.refill = Some(refill + REFILL);
        }
        let current = state
            .current
            .as_ref()
            .and_then(|current| current.generation);
        let is_current = current == Some(generation);
        let applied = is_current && state.budget > 0;
        if applied {
            if state.budget == BUDGET {
                state.refill = Some(now + REFILL);
            }
            state.budget -= 1;
            state.current = None;
            state.newest_rejected = generation;
            self.rejections += 1;
        } else if is_current {
            self.limited += 1;
        }
        self.check(applied == rejected, || {
            format!("rejection of {generation}, current {current:?}: {rejected}")
        });
    }

    fn removed(&mut self, key: usize, had: Option<bool>) {
        let state = &mut self.keys[key];
        let has = state.current.take().is_some();
        state.back_off = None;
        state.paused_until = None;
        for fetch in &mut state.fetches {
            fetch.discarded = true;
        }
        if state.fetches.is_empty() && state.callers == 0 {
            // The whole entry was removed.
            state.budget = BUDGET;
            state.refill = None;
        }
        self.check(had.is_none_or(|had| had == has), || {
            format!("removed a token: {had:?}")
        });
    }

    fn peeked(&mut self, key: usize, token: Option<&Token>) {
        let now = Instant::now();
        let current = &mut self.keys[key].current;
        let expected = current.as_mut().filter(|current| now < current.end);
        let expected = match (expected, token) {
            (Some(current), Some(token)) => {
                let generation = *current.generation.get_or_insert(token.generation());
                current.text == token.expose() && generation == token.generation()
            }
            (current, token) => current.is_none() == token.is_none(),
        };
        self.check(expected, || format!("{token:?} of {key}"));
        if let Some(token) = token {
            self.served(key, token, now);
        }
    }

    fn served(&mut self, key: usize, token: &Token, now: Instant) {
        let state = &self.keys[key];
        let generation = token.generation();
        let own = token.expose().starts_with(&format!("{key}-"));
        let rejected = generation <= state.newest_rejected;
        let usable = state
            .issued
            .get(token.expose())
            .is_some_and(|end| now < *end);
        self.check(own, || "another key's token".into());
        self.check(!rejected, || "a rejected token".into());
        self.check(usable, || "an expired token".into());
    }
}

impl Current {
    fn new(
        text: &str,
        requested_at: Instant,
        lifetime: Duration,
        refresh_in: Option<Duration>,
    ) -> Self {
        let lead = secs(300).min(lifetime / 4);
        let end = lifetime - secs(10).min(lifetime / 10);
        let latest = refresh_in.unwrap_or(lifetime - lead);
        let earliest = latest - (lead / 5).min(latest / 5);
        let rest = secs(10).min(lifetime / 4);
        Self {
            text: text.to_owned(),
            generation: None,
            earliest_refresh: requested_at + earliest.max(rest).min(end),
            latest_refresh: requested_at + latest.max(rest).min(end),
            end: requested_at + end,
        }
    }
}

/// Returns the pause before the next of three attempts, if the error is transient or its `Retry-After` is short.
fn pause_before_another(
    kind: ErrorKind,
    retry_after: Option<Duration>,
    attempt: u32,
) -> Option<Duration> {
    use ErrorKind::{Network, Throttled, Timeout, Unavailable};
    let own = millis(100) * attempt;
    let pause = match (kind, retry_after) {
        (Throttled | Timeout | Unavailable | Network, Some(retry_after)) => retry_after.max(own),
        (Unavailable | Network, None) => own,
        _ => return None,
    };
    (attempt < 3 && pause <= secs(2)).then_some(pause)
}

#[derive(Clone)]
struct Provider(Arc<Mutex<Model>>);

/// Reports a fetch that is dropped before its response.
struct RunningFetch<'a> {
    model: &'a Mutex<Model>,
    key: usize,
    number: u64,
    responded: bool,
}

impl Drop for RunningFetch<'_> {
    fn drop(&mut self) {
        if !self.responded {
            let panicked = std::thread::panicking();
            lock(self.model).dropped(self.key, self.number, panicked);
        }
    }
}

impl TokenSource for Provider {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        let key: usize = request.spec().tenant().unwrap().parse().unwrap();
        let (number, reply) = lock(&self.0).request(key, request.attempt());
        let mut fetch = RunningFetch {
            model: &self.0,
            key,
            number,
            responded: false,
        };
        time::sleep(reply.after).await;
        match reply.outcome {
            Outcome::Hang => future::pending().await,
            Outcome::Panic => resume_unwind(Box::new("scripted")),
            _ => {}
        }
        let text = {
            let mut model = lock(&self.0);
            model.texts += 1;
            let new = format!("{key}-{}", model.texts);
            let state = &mut model.keys[key];
            let text = match (&reply.outcome, &state.last_text) {
                (Outcome::Same, Some(last)) => last.clone(),
                _ => new,
            };
            if !matches!(reply.outcome, Outcome::Fail(..)) {
                state.last_text = Some(text.clone());
            }
            model.respond(key, number, &reply.outcome, &text);
            text
        };
        fetch.responded = true;
        let token = NewToken::bearer(&text)?;
        Ok(match reply.outcome {
            Outcome::Token(None) => token,
            Outcome::Token(Some(lifetime)) => token.with_lifetime(lifetime),
            Outcome::RefreshIn(lifetime, after) => {
                token.with_lifetime(lifetime).with_refresh_in(after)
            }
            Outcome::Same => token.with_lifetime(HOUR),
            Outcome::Fail(kind, retry_after) => {
                let error = fault(kind);
                return Err(match retry_after {
                    Some(retry_after) => error.with_retry_after(retry_after),
                    None => error,
                });
            }
            Outcome::Hang | Outcome::Panic => unreachable!(),
        })
    }
}
