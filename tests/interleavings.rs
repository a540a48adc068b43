//! Runs every order of steps on one key of a whole cache: its fetches are tasks, and its last handle is dropped.
//!
//! The orders of steps on a slot are in `src/cache/slot/schedule_tests.rs`. Here, the cache's tasks run, a woken caller is
//! polled and a fetch ends only by a step, so a schedule contains every state between a task's start and its result.

mod support;

use std::{
    mem::discriminant,
    panic::resume_unwind,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
};

use support::{HOUR, builder, fault, lock, secs, spec, walk::Walk};
use tokio::{sync::oneshot, time};
use tokio_test::task::{self, Spawn};
use tower_bearer::{
    ErrorKind, NewToken, Token, TokenCache, TokenError, TokenSource, source::TokenRequest,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Get,
    Cancel(usize),
    Poll(usize),
    /// Runs the cache's tasks until they are idle.
    RunTasks,
    Complete(usize),
    Fail(usize),
    Panic(usize),
    Reject,
    Remove,
    /// Drops the last handle that no caller has.
    DropHandle,
}

/// How often a schedule contains a kind of step.
type Limit = fn(Step) -> usize;

/// Runs every schedule of at most `depth` steps, and returns their number.
async fn run_all(depth: usize, limit: Limit) -> usize {
    let mut walk = Walk::default();
    let mut schedules = 0;
    loop {
        let mut schedule = Schedule::new();
        for _ in 0..depth {
            let steps = schedule.steps(limit);
            if steps.is_empty() {
                break;
            }
            schedule.take(steps[walk.choose(steps.len())]).await;
            schedule.check();
        }
        schedule.finish().await;
        schedules += 1;
        if !walk.advance() {
            return schedules;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_caller_gets_an_answer_whichever_way_a_fetch_ends() {
    let schedules = run_all(9, |step| match step {
        Step::Get | Step::RunTasks => 3,
        Step::Cancel(_) | Step::Complete(_) | Step::Fail(_) | Step::Panic(_) => 1,
        Step::Poll(_) => usize::MAX,
        Step::Reject | Step::Remove | Step::DropHandle => 0,
    })
    .await;
    assert!(schedules > 1_000, "{schedules}");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_ends_every_task() {
    let schedules = run_all(7, |step| match step {
        Step::Get | Step::Cancel(_) | Step::RunTasks => 2,
        Step::Complete(_) | Step::Panic(_) => 1,
        Step::Reject | Step::Remove | Step::DropHandle => 1,
        Step::Poll(_) => usize::MAX,
        Step::Fail(_) => 0,
    })
    .await;
    assert!(schedules > 1_000, "{schedules}");
}

/// A caller that waits, with its own handle.
type Caller = Spawn<Pin<Box<dyn Future<Output = Result<Token, TokenError>>>>>;

struct Schedule {
    cache: Option<TokenCache>,
    source: ManualSource,
    callers: Vec<Caller>,
    newest_rejected: u64,
    removals: usize,
    /// The number of fetches that had begun at the last removal.
    discarded: usize,
    done: Vec<Step>,
}

impl Drop for Schedule {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("after {:?}", self.done);
        }
    }
}

impl Schedule {
    fn new() -> Self {
        let source = ManualSource::default();
        Self {
            cache: Some(builder(&source).with_fetch_timeout(HOUR).build()),
            source,
            callers: Vec::new(),
            newest_rejected: 0,
            removals: 0,
            discarded: 0,
            done: Vec::new(),
        }
    }

    fn steps(&self, limit: Limit) -> Vec<Step> {
        let mut steps = Vec::new();
        // Twice in a row does nothing.
        if self.done.last() != Some(&Step::RunTasks) {
            steps.push(Step::RunTasks);
        }
        if let Some(cache) = &self.cache {
            steps.extend([Step::Get, Step::Remove, Step::DropHandle]);
            if cache.peek(spec()).is_some() {
                steps.push(Step::Reject);
            }
        }
        for (number, end) in self.source.fetches().iter().enumerate() {
            if end.as_ref().is_some_and(|end| !end.is_closed()) {
                steps.extend([Step::Complete, Step::Fail, Step::Panic].map(|step| step(number)));
            }
        }
        for (number, caller) in self.callers.iter().enumerate() {
            steps.push(Step::Cancel(number));
            if caller.is_woken() {
                steps.push(Step::Poll(number));
            }
        }
        steps.retain(|step| {
            let is_same = |done: &&Step| discriminant(*done) == discriminant(step);
            self.done.iter().filter(is_same).count() < limit(*step)
        });
        steps
    }

    async fn take(&mut self, step: Step) {
        self.done.push(step);
        match step {
            Step::Get => {
                let cache = self.cache().clone();
                let get = Box::pin(async move { cache.get(spec()).await });
                self.callers.push(task::spawn(get));
                self.poll(self.callers.len() - 1);
            }
            Step::Cancel(number) => drop(self.callers.remove(number)),
            Step::Poll(number) => self.poll(number),
            Step::RunTasks => run_tasks().await,
            Step::Complete(number) => self.source.end(number, End::Token),
            Step::Fail(number) => self.source.end(number, End::Fail),
            Step::Panic(number) => self.source.end(number, End::Panic),
            Step::Reject => {
                let token = self.cache().peek(spec()).unwrap();
                assert!(self.cache().reject(&token));
                self.newest_rejected = token.generation();
            }
            Step::Remove => {
                self.cache().remove(spec());
                self.removals += 1;
                self.discarded = self.source.fetches().len();
                assert!(self.cache().peek(spec()).is_none());
            }
            Step::DropHandle => self.cache = None,
        }
    }

    fn cache(&self) -> &TokenCache {
        self.cache.as_ref().unwrap()
    }

    fn poll(&mut self, number: usize) {
        if let Poll::Ready(result) = self.callers[number].poll() {
            drop(self.callers.remove(number));
            if let Ok(token) = result {
                self.check_served(&token);
            }
        }
    }

    fn check_served(&self, token: &Token) {
        assert!(token.generation() > self.newest_rejected, "rejected");
    }

    /// Checks what holds after each step.
    fn check(&self) {
        if let Some(token) = self.cache.as_ref().and_then(|cache| cache.peek(spec())) {
            self.check_served(&token);
            let fetch: usize = token.expose().parse().unwrap();
            assert!(fetch > self.discarded, "a discarded fetch was cached");
        }
        let running = self.source.running();
        assert!(running <= 1 + self.removals, "{running} concurrent fetches");
    }

    /// Checks that each caller gets its answer, that a later one gets a token, and that no task is left in the end.
    async fn finish(&mut self) {
        if self.cache.is_none() && self.callers.is_empty() {
            run_tasks().await;
            assert_eq!(self.source.running(), 0, "a task outlives its cache");
        }
        // A caller may need as many fetches as there were steps that cost it one.
        for _ in 0..6 {
            self.complete_all().await;
            while let Some(number) = self.callers.iter().position(Caller::is_woken) {
                self.poll(number);
            }
        }
        assert!(self.callers.is_empty(), "a caller waits forever");
        if let Some(cache) = self.cache.clone() {
            let fetches = self.source.fetches().len();
            // Every back-off has ended by then.
            time::advance(secs(2)).await;
            let mut get = task::spawn(cache.get(spec()));
            let mut result = get.poll();
            if result.is_pending() {
                self.complete_all().await;
                assert_eq!(self.source.fetches().len(), fetches + 1);
                result = get.poll();
            }
            let Poll::Ready(Ok(token)) = result else {
                panic!("no token: {result:?}");
            };
            self.check_served(&token);
        }
        self.cache = None;
        run_tasks().await;
        assert_eq!(self.source.running(), 0, "a task outlives its cache");
    }

    async fn complete_all(&self) {
        run_tasks().await;
        let fetches = self.source.fetches().len();
        (0..fetches).for_each(|number| self.source.end(number, End::Token));
        run_tasks().await;
    }
}

/// Runs the tasks until they are idle, without advancing the time.
async fn run_tasks() {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
}

#[derive(Clone, Copy)]
enum End {
    Token,
    Fail,
    Panic,
}

/// A source whose fetches end by [`Self::end`]. The text of a token is the number of its fetch, from 1.
#[derive(Clone, Default)]
struct ManualSource(Arc<Fetches>);

#[derive(Default)]
struct Fetches {
    ends: Mutex<Vec<Option<oneshot::Sender<End>>>>,
    running: AtomicUsize,
}

impl ManualSource {
    fn fetches(&self) -> MutexGuard<'_, Vec<Option<oneshot::Sender<End>>>> {
        lock(&self.0.ends)
    }

    fn running(&self) -> usize {
        self.0.running.load(SeqCst)
    }

    fn end(&self, number: usize, end: End) {
        if let Some(sender) = self.fetches()[number].take() {
            let _ = sender.send(end);
        }
    }
}

struct Running(Arc<Fetches>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

impl TokenSource for ManualSource {
    async fn fetch(&self, _: &TokenRequest) -> Result<NewToken, TokenError> {
        let (sender, end) = oneshot::channel();
        let number = {
            let mut fetches = self.fetches();
            fetches.push(Some(sender));
            fetches.len()
        };
        self.0.running.fetch_add(1, SeqCst);
        let _running = Running(Arc::clone(&self.0));
        match end.await.unwrap_or(End::Fail) {
            End::Token => Ok(NewToken::bearer(&number.to_string())?.with_lifetime(HOUR)),
            End::Fail => Err(fault(ErrorKind::AccessDenied)),
            End::Panic => resume_unwind(Box::new("scripted")),
        }
    }
}
