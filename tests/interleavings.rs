//! Every order of what callers, the source and an operator do to one key of a whole cache, driven by hand.
//!
//! Each schedule is run from its start; then the last choice that has a next one moves on, until all were made. Callers
//! are polled when they are woken and a step says so; the cache's tasks run when a step says so; each fetch waits for a
//! step to tell it what it comes to. So a schedule holds everything between "was spawned" and "was answered".

mod support;

use std::{
    collections::HashSet,
    panic::resume_unwind,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};

use support::{HOUR, fault, secs, spec};
use tokio::{sync::oneshot, time};
use tokio_test::task::{self, Spawn};
use tower_bearer::{
    ErrorKind, NewToken, Token, TokenCache, TokenError, TokenSource, clock::Clock,
    source::TokenRequest,
};

/// A token is stale after 75 s at the latest, and over after 90 s.
const LIFETIME: Duration = secs(100);
/// Two of them make a token stale, and three end it. A fetch may take longer than all of them.
const PASS: Duration = secs(40);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Get,
    Refresh,
    Cancel(usize),
    Look(usize),
    /// The cache's tasks run until none has anything to do.
    Run,
    Land(usize),
    LandSame(usize),
    Fail(usize),
    Panic(usize),
    Reject,
    RejectOld,
    Remove,
    Clear,
    Pass,
    /// The last handle beside those of the callers.
    DropHandle,
}

type IsIt = fn(&Step) -> bool;

/// How often each step may be taken, and how many of them there are.
struct Program {
    supply: &'static [(IsIt, usize)],
    depth: usize,
}

macro_rules! supply {
    ($($pattern:pat => $times:expr),* $(,)?) => {
        &[$(((|step| matches!(step, $pattern)) as IsIt, $times)),*]
    };
}

async fn walk(program: Program) -> usize {
    let mut walk = Walk::default();
    let mut schedules = 0;
    loop {
        let mut play = Play::new();
        for _ in 0..program.depth {
            let steps = play.steps(&program);
            if steps.is_empty() {
                break;
            }
            play.take(steps[walk.choose(steps.len())]).await;
            play.check();
        }
        play.finish().await;
        schedules += 1;
        if !walk.goes_on() {
            return schedules;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn callers_come_and_go_while_fetches_land_fail_and_panic() {
    let supply = supply! {
        Step::Get => 3,
        Step::Cancel(_) => 1,
        Step::Land(_) => 1,
        Step::Fail(_) => 1,
        Step::Panic(_) => 1,
        Step::Run => 3,
    };
    let schedules = walk(Program { supply, depth: 9 }).await;
    assert!(schedules > 1_000, "{schedules}");
}

#[tokio::test(start_paused = true)]
async fn refusals_and_removals_come_at_the_worst_moment() {
    let supply = supply! {
        Step::Get => 2,
        Step::Refresh => 1,
        Step::Land(_) => 2,
        Step::LandSame(_) => 1,
        Step::Reject => 2,
        Step::RejectOld => 1,
        Step::Remove => 1,
        Step::Clear => 1,
        Step::Run => 3,
    };
    let schedules = walk(Program { supply, depth: 7 }).await;
    assert!(schedules > 1_000, "{schedules}");
}

#[tokio::test(start_paused = true)]
async fn tokens_grow_old_while_they_are_asked_for_and_fetched() {
    let supply = supply! {
        Step::Get => 3,
        Step::Refresh => 1,
        Step::Land(_) => 2,
        Step::Fail(_) => 1,
        Step::Reject => 1,
        Step::Run => 3,
        Step::Pass => 3,
    };
    let schedules = walk(Program { supply, depth: 7 }).await;
    assert!(schedules > 1_000, "{schedules}");
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_goes_at_any_moment_and_takes_every_task_with_it() {
    let supply = supply! {
        Step::Get => 2,
        Step::Cancel(_) => 2,
        Step::Land(_) => 1,
        Step::Panic(_) => 1,
        Step::Reject => 1,
        Step::Run => 2,
        Step::Remove => 1,
        Step::DropHandle => 1,
    };
    let schedules = walk(Program { supply, depth: 7 }).await;
    assert!(schedules > 1_000, "{schedules}");
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

/// A caller who waits, with a handle of its own.
type Waiting = Spawn<std::pin::Pin<Box<dyn Future<Output = Result<Token, TokenError>>>>>;

struct Play {
    cache: Option<TokenCache>,
    gate: Gate,
    callers: Vec<Waiting>,
    refused: HashSet<u64>,
    newest_refused: u64,
    seen: Vec<Token>,
    removals: usize,
    /// How many fetches had begun when everything was last forgotten.
    forgotten: usize,
    done: Vec<Step>,
}

impl Drop for Play {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("after {:?}", self.done);
        }
    }
}

impl Play {
    fn new() -> Self {
        let gate = Gate::default();
        let cache = TokenCache::builder(gate.clone())
            .with_clock(Clock::tokio())
            .with_fetch_timeout(HOUR)
            .build();
        Self {
            cache: Some(cache),
            gate,
            callers: Vec::new(),
            refused: HashSet::new(),
            newest_refused: 0,
            seen: Vec::new(),
            removals: 0,
            forgotten: 0,
            done: Vec::new(),
        }
    }

    fn steps(&self, program: &Program) -> Vec<Step> {
        let mut steps = vec![Step::Run];
        if let Some(cache) = &self.cache {
            steps.extend([Step::Get, Step::Refresh, Step::Remove, Step::Clear]);
            steps.extend([Step::Pass, Step::DropHandle]);
            if cache.peek(spec()).is_some() {
                steps.push(Step::Reject);
            }
            if self.seen.len() > 1 {
                steps.push(Step::RejectOld);
            }
        }
        for (number, open) in self.gate.fetches().iter().enumerate() {
            if open.as_ref().is_some_and(|answer| !answer.is_closed()) {
                steps.extend([Step::Land(number), Step::Fail(number), Step::Panic(number)]);
                steps.push(Step::LandSame(number));
            }
        }
        for (number, caller) in self.callers.iter().enumerate() {
            steps.push(Step::Cancel(number));
            if caller.is_woken() {
                steps.push(Step::Look(number));
            }
        }
        // Two steps of the same kind in a row that do nothing new are one.
        if self.done.last() == Some(&Step::Run) {
            steps.remove(0);
        }
        steps.retain(|step| {
            let supply = program.supply.iter().find(|(is_it, _)| is_it(step));
            let taken = |is_it: &IsIt| self.done.iter().filter(|one| is_it(one)).count();
            match supply {
                Some((is_it, times)) => taken(is_it) < *times,
                None => matches!(step, Step::Look(_)),
            }
        });
        steps
    }

    async fn take(&mut self, step: Step) {
        self.done.push(step);
        match step {
            Step::Get => self.call(false),
            Step::Refresh => self.call(true),
            Step::Cancel(number) => drop(self.callers.remove(number)),
            Step::Look(number) => self.look(number),
            Step::Run => run().await,
            Step::Land(number) => self.gate.answer(number, What::Token),
            Step::LandSame(number) => self.gate.answer(number, What::Same),
            Step::Fail(number) => self.gate.answer(number, What::Fail),
            Step::Panic(number) => self.gate.answer(number, What::Panic),
            Step::Reject => {
                let token = self.cache().peek(spec()).unwrap();
                // None is disbelieved: there are five.
                assert!(self.cache().reject(&token));
                self.refused.insert(token.generation());
                self.newest_refused = token.generation();
            }
            Step::RejectOld => {
                let before = self.cache().peek(spec()).map(|token| token.generation());
                let old = &self.seen[self.seen.len() - 2];
                let is_in_service = before == Some(old.generation());
                assert_eq!(self.cache().reject(old), is_in_service);
                if is_in_service {
                    self.newest_refused = old.generation();
                }
                let after = self.cache().peek(spec()).map(|token| token.generation());
                assert!(is_in_service || before == after, "a newer token was lost");
            }
            Step::Remove | Step::Clear => {
                if step == Step::Remove {
                    self.cache().remove(spec());
                } else {
                    self.cache().clear();
                }
                self.removals += 1;
                self.forgotten = self.gate.requests();
                assert!(self.cache().peek(spec()).is_none());
            }
            Step::Pass => time::advance(PASS).await,
            Step::DropHandle => self.cache = None,
        }
    }

    fn cache(&self) -> &TokenCache {
        self.cache.as_ref().unwrap()
    }

    fn call(&mut self, forced: bool) {
        let cache = self.cache().clone();
        let wait: Waiting = task::spawn(Box::pin(async move {
            if forced {
                cache.refresh(spec()).await
            } else {
                cache.get(spec()).await
            }
        }));
        self.callers.push(wait);
        self.look(self.callers.len() - 1);
    }

    fn look(&mut self, number: usize) {
        match self.callers[number].poll() {
            Poll::Pending => {}
            Poll::Ready(outcome) => {
                drop(self.callers.remove(number));
                if let Ok(token) = outcome {
                    self.served(&token);
                    self.seen.push(token);
                }
            }
        }
    }

    fn served(&self, token: &Token) {
        let generation = token.generation();
        assert!(generation > self.newest_refused, "a refused token");
        assert!(!self.refused.contains(&generation));
        // The margin is a tenth of the lifetime.
        let end = self.gate.newest(token.expose()).0 + LIFETIME / 10 * 9;
        assert!(time::Instant::now() < end, "an expired token");
    }

    /// What must hold after each step.
    fn check(&mut self) {
        if let Some(cache) = &self.cache
            && let Some(token) = cache.peek(spec())
        {
            self.served(&token);
            let fetch = self.gate.newest(token.expose()).1;
            assert!(fetch > self.forgotten, "a forgotten fetch landed");
            if let Some(last) = self.seen.last() {
                assert!(token.generation() >= last.generation() || self.removals > 0);
            }
            if self.seen.last().map(Token::generation) != Some(token.generation()) {
                self.seen.push(token);
            }
        }
        let running = self.gate.0.running.load(SeqCst);
        assert!(running <= 1 + self.removals, "{running} fetches at once");
    }

    /// From wherever a schedule ends, all who wait get their answer, whoever comes next a token, and every task goes.
    async fn finish(&mut self) {
        if self.cache.is_none() && self.callers.is_empty() {
            run().await;
            self.check_that_no_task_is_left();
        }
        for _ in 0..6 {
            if self.callers.is_empty() {
                break;
            }
            run().await;
            for number in 0..self.gate.requests() {
                self.gate.answer(number, What::Token);
            }
            run().await;
            while let Some(number) = self.callers.iter().position(Waiting::is_woken) {
                self.look(number);
            }
        }
        assert!(self.callers.is_empty(), "somebody waits for ever");
        run().await;
        for number in 0..self.gate.requests() {
            self.gate.answer(number, What::Token);
        }
        run().await;
        let requests = self.gate.requests();
        if let Some(cache) = self.cache.clone() {
            // Whatever was held back is so no more.
            time::advance(secs(2)).await;
            let mut get = task::spawn(cache.get(spec()));
            let mut outcome = get.poll();
            if outcome.is_pending() {
                run().await;
                self.gate.answer(self.gate.requests() - 1, What::Token);
                run().await;
                assert_eq!(self.gate.requests(), requests + 1);
                outcome = get.poll();
            }
            let Poll::Ready(Ok(token)) = outcome else {
                panic!("it latched: {outcome:?}");
            };
            self.served(&token);
        }
        self.cache = None;
        run().await;
        self.check_that_no_task_is_left();
    }

    fn check_that_no_task_is_left(&self) {
        let running = self.gate.0.running.load(SeqCst);
        assert_eq!(running, 0, "a task outlives its cache");
    }
}

/// Lets the tasks run. No time passes meanwhile.
async fn run() {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
}

#[derive(Clone, Copy)]
enum What {
    Token,
    Same,
    Fail,
    Panic,
}

/// A source whose every fetch waits to be told what it comes to.
#[derive(Clone, Default)]
struct Gate(Arc<Fetches>);

#[derive(Default)]
struct Fetches {
    open: Mutex<Vec<Option<oneshot::Sender<What>>>>,
    given: Mutex<Vec<Given>>,
    running: AtomicUsize,
}

impl Gate {
    fn fetches(&self) -> MutexGuard<'_, Vec<Option<oneshot::Sender<What>>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn requests(&self) -> usize {
        self.fetches().len()
    }

    fn given(&self) -> MutexGuard<'_, Vec<Given>> {
        self.0.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, number: usize, what: What) {
        if let Some(answer) = self.fetches()[number].take() {
            let _ = answer.send(what);
        }
    }

    /// When the newest token with this text was asked for, and by which fetch.
    fn newest(&self, text: &str) -> (time::Instant, usize) {
        let given = self.given();
        let newest = given.iter().rev().find(|given| given.text == text);
        let newest = newest.expect("nobody gave this token");
        (newest.asked, newest.fetch)
    }
}

/// A token as it was given: by the how manieth fetch, from 1.
struct Given {
    text: String,
    asked: time::Instant,
    fetch: usize,
}

struct Running(Arc<Fetches>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

impl TokenSource for Gate {
    async fn fetch(&self, _: &TokenRequest) -> Result<NewToken, TokenError> {
        let asked = time::Instant::now();
        let (answer, told) = oneshot::channel();
        let fetch = {
            let mut fetches = self.fetches();
            fetches.push(Some(answer));
            fetches.len()
        };
        self.0.running.fetch_add(1, SeqCst);
        let _running = Running(Arc::clone(&self.0));
        let what = told.await.unwrap_or(What::Fail);
        let mut text = format!("token-{fetch}");
        match what {
            What::Token => {}
            What::Same => {
                if let Some(last) = self.given().last() {
                    text.clone_from(&last.text);
                }
            }
            What::Fail => return Err(fault(ErrorKind::AccessDenied)),
            What::Panic => resume_unwind(Box::new("ordered")),
        }
        self.given().push(Given {
            text: text.clone(),
            asked,
            fetch,
        });
        Ok(NewToken::bearer(&text)?.with_lifetime(LIFETIME))
    }
}
