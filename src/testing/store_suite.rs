//! What every store must do: facts to try any implementation of [`TokenStore`] with.

// A suite says by a panic what is wrong.
#![allow(clippy::panic)]

use std::{
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::store::{Fence, Lease, Name, StoreError, TokenStore};

/// Long enough that it does not end while a fact is tried.
const LONG: Duration = Duration::from_secs(300);
/// Short enough to wait for.
const SHORT: Duration = Duration::from_millis(200);
/// What must come within this comes late or never.
const PATIENCE: Duration = Duration::from_secs(20);

/// Tries a store: every fact that a cache relies on.
///
/// `make` gives a handle to one and the same storage each time, as each process of a fleet has one. Names are new for each
/// run, so that a real server may serve many runs, and others beside. Lifetimes go by real time, or by Tokio's if the
/// store does; the suite waits, bounded, for what must end.
///
/// | fact | |
/// |---|---|
/// | values | what was put is there, for every handle, byte for byte, and the last one put; a name without one has none |
/// | lifetime | a value is there for its lifetime and not after it |
/// | deletion | by comparison: only exactly this value, and whether it was deleted is said |
/// | sizes | no byte and 1 MiB, every byte there is |
/// | names | of 1 and of 128 characters; upper and lower case differ; a name that begins with another is another |
/// | leases | one at a time; released by its holder alone, and over by time; each name has its own |
/// | fences | they grow; a value with one that is too low is refused, with the present one taken |
/// | crowds | of 100 tasks one gets the lease; 100 writers leave one whole value, and one deleter of many wins |
///
/// ```
/// use tower_bearer::{store::MemoryStore, testing::store_suite};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// let store = MemoryStore::new();
/// store_suite(async || store.clone()).await;
/// # }
/// ```
///
/// # Panics
/// A fact does not hold. The message says which.
pub async fn store_suite<S, F>(make: F)
where
    S: TokenStore,
    F: AsyncFn() -> S,
{
    let run = Run::new();
    let one = make().await;
    let other = make().await;

    values(&run, &one, &other).await;
    lifetimes(&run, &one, &other).await;
    deletion(&run, &one, &other).await;
    sizes(&run, &one, &other).await;
    names(&run, &one).await;
    leases(&run, &one, &other).await;
    leases_end(&run, &one, &other).await;
    fences(&run, &one, &other).await;

    let mut handles = vec![Arc::new(one), Arc::new(other)];
    for _ in 0..6 {
        handles.push(Arc::new(make().await));
    }
    crowds(&run, &handles).await;
}

async fn values(run: &Run, one: &impl TokenStore, other: &impl TokenStore) {
    let name = run.name("values");
    let nothing = ok(one.get(&name).await);
    assert_eq!(nothing, None, "a name without a value has none");
    assert!(
        ok(one.put(&name, bytes("first"), LONG, None).await),
        "a value without a fence is put"
    );
    for _ in 0..2 {
        let found = ok(one.get(&name).await);
        assert_eq!(
            found,
            Some(bytes("first")),
            "what was put is there, however often it is read"
        );
    }
    let found = ok(other.get(&name).await);
    assert_eq!(
        found,
        Some(bytes("first")),
        "what was put is there for every handle"
    );
    assert!(
        ok(other.put(&name, bytes("second"), LONG, None).await),
        "a value is put over another"
    );
    let found = ok(one.get(&name).await);
    assert_eq!(
        found,
        Some(bytes("second")),
        "the last value put is the one there"
    );
}

async fn lifetimes(run: &Run, one: &impl TokenStore, other: &impl TokenStore) {
    let name = run.name("lifetimes");
    let (put_at, real) = (Instant::now(), std::time::Instant::now());
    ok(one.put(&name, bytes("short"), SHORT, None).await);
    let found = ok(other.get(&name).await);
    if put_at.elapsed() < SHORT && real.elapsed() < SHORT {
        assert_eq!(
            found,
            Some(bytes("short")),
            "a value is there for its lifetime"
        );
    }
    until("a value is over after its lifetime", async || {
        ok(one.get(&name).await).is_none().then_some(())
    })
    .await;
    let deleted = ok(other.delete_if(&name, &bytes("short")).await);
    assert!(!deleted, "a value that is over can't be deleted");

    ok(one.put(&name, bytes("short"), SHORT, None).await);
    ok(one.put(&name, bytes("long"), LONG, None).await);
    sleep(SHORT * 2).await;
    let found = ok(one.get(&name).await);
    assert_eq!(
        found,
        Some(bytes("long")),
        "a value put over another has its own lifetime"
    );
    let forever = Duration::MAX;
    ok(one.put(&name, bytes("forever"), forever, None).await);
    let found = ok(one.get(&name).await);
    assert_eq!(
        found,
        Some(bytes("forever")),
        "there is no lifetime that is too long"
    );
    ok(one.delete_if(&name, &bytes("forever")).await);
}

async fn deletion(run: &Run, one: &impl TokenStore, other: &impl TokenStore) {
    let name = run.name("deletion");
    assert!(
        !ok(one.delete_if(&name, &bytes("a")).await),
        "what is not there can't be deleted"
    );
    ok(one.put(&name, bytes("value"), LONG, None).await);
    for almost in ["valu", "value2", "Value", "", "valuf"] {
        let deleted = ok(other.delete_if(&name, &bytes(almost)).await);
        assert!(!deleted, "only exactly this value is deleted");
    }
    let found = ok(one.get(&name).await);
    assert_eq!(
        found,
        Some(bytes("value")),
        "a comparison that fails deletes nothing"
    );
    assert!(
        ok(other.delete_if(&name, &bytes("value")).await),
        "exactly this value is deleted"
    );
    assert_eq!(
        ok(one.get(&name).await),
        None,
        "what was deleted is not there"
    );
    assert!(
        !ok(one.delete_if(&name, &bytes("value")).await),
        "a value is deleted once"
    );
    assert!(
        ok(one.put(&name, bytes("next"), LONG, None).await),
        "where a value was deleted another is put"
    );
    ok(one.delete_if(&name, &bytes("next")).await);
}

async fn sizes(run: &Run, one: &impl TokenStore, other: &impl TokenStore) {
    let every_byte: Bytes = (0..=u8::MAX).collect();
    let large: Bytes = every_byte.repeat(1 << 12).into();
    for (size, value) in [
        ("empty", Bytes::new()),
        ("binary", every_byte),
        ("large", large),
    ] {
        let name = run.name(size);
        assert!(
            ok(one.put(&name, value.clone(), LONG, None).await),
            "{size}: it is put"
        );
        let found = ok(other.get(&name).await);
        assert!(
            found.as_ref() == Some(&value),
            "{size}: a value is there byte for byte"
        );
        assert!(
            ok(other.delete_if(&name, &value).await),
            "{size}: it is compared byte for byte"
        );
        assert_eq!(ok(one.get(&name).await), None, "{size}: it is deleted");
    }
}

async fn names(run: &Run, one: &impl TokenStore) {
    let base = run.name("Names");
    let lower = ok(Name::new(&base.as_str().to_lowercase()));
    let longest = ok(Name::new(&format!("{base:-<128}", base = base.as_str())));
    let dashes = ok(Name::new(&format!("--{}__", base.as_str())));
    let begun = ok(Name::new(&format!("{}x", base.as_str())));
    let all = [base, lower, longest, dashes, begun];
    for name in &all {
        ok(one.put(name, bytes(name.as_str()), LONG, None).await);
    }
    for name in &all {
        let found = ok(one.get(name).await);
        assert_eq!(
            found,
            Some(bytes(name.as_str())),
            "names that differ are different"
        );
        ok(one.delete_if(name, &bytes(name.as_str())).await);
    }
    let shortest = ok(Name::new("-"));
    ok(one.get(&shortest).await);
}

async fn leases(run: &Run, one: &impl TokenStore, other: &impl TokenStore) {
    let name = run.name("leases");
    let lease = some(
        one.lease(&name, LONG).await,
        "a lease that nobody has is given",
    );
    none(
        one.lease(&name, LONG).await,
        "a lease is given once, to the same handle too",
    );
    none(other.lease(&name, LONG).await, "a lease is given once");
    let neighbour = run.name("leases_neighbour");
    let second = some(
        other.lease(&neighbour, LONG).await,
        "each name has its own lease",
    );
    ok(one.put(&name, bytes("value"), LONG, None).await);
    let found = ok(one.get(&name).await);
    assert_eq!(
        found,
        Some(bytes("value")),
        "a lease is not in the way of a value"
    );

    let stranger = Lease::new(lease.fence(), "somebody else");
    ok(other.release(&name, stranger).await);
    none(
        other.lease(&name, LONG).await,
        "a lease is released by its holder alone",
    );
    ok(other.release(&name, second.clone()).await);
    none(
        other.lease(&name, LONG).await,
        "another name's lease releases nothing",
    );
    ok(one.release(&name, lease.clone()).await);
    let next = some(
        other.lease(&name, LONG).await,
        "a lease that was released is given anew",
    );
    ok(one.release(&name, lease).await);
    none(
        one.lease(&name, LONG).await,
        "a lease that is no longer one's own can't be released",
    );
    let found = ok(one.get(&name).await);
    assert_eq!(found, Some(bytes("value")), "a release leaves the value");
    ok(other.release(&name, next).await);
    ok(other.release(&neighbour, second).await);
    ok(one.delete_if(&name, &bytes("value")).await);
}

async fn leases_end(run: &Run, one: &impl TokenStore, other: &impl TokenStore) {
    let name = run.name("leases_end");
    let late = some(one.lease(&name, SHORT).await, "a short lease is given");
    let next = until("a lease is over by time", async || {
        ok(other.lease(&name, LONG).await)
    })
    .await;
    assert!(
        late.fence() < next.fence(),
        "fences grow when a lease is over by time too"
    );
    let put = ok(one
        .put(&name, bytes("late"), LONG, Some(late.fence()))
        .await);
    assert!(!put, "who slept over the end of a lease can't overwrite");
    ok(one.release(&name, late).await);
    none(
        one.lease(&name, LONG).await,
        "who slept over the end of a lease can't release the next",
    );
    ok(other.release(&name, next).await);
}

async fn fences(run: &Run, one: &impl TokenStore, other: &impl TokenStore) {
    let name = run.name("fences");
    let mut before: Option<Fence> = None;
    for turn in 0..5 {
        let store = if turn % 2 == 0 { 0 } else { 1 };
        let lease = match store {
            0 => some(one.lease(&name, LONG).await, "a lease is given again"),
            _ => some(other.lease(&name, LONG).await, "a lease is given again"),
        };
        let fence = lease.fence();
        assert!(before < Some(fence), "fences grow");
        if let Some(stale) = before {
            let put = ok(one.put(&name, bytes("late"), LONG, Some(stale)).await);
            assert!(!put, "a value with a fence that is too low is refused");
            assert_ne!(
                ok(other.get(&name).await),
                Some(bytes("late")),
                "what was refused is not there"
            );
        }
        let put = ok(other.put(&name, bytes("in time"), LONG, Some(fence)).await);
        assert!(put, "a value with the present fence is put");
        ok(one.release(&name, lease).await);
        let put = ok(other.put(&name, bytes("in time"), LONG, Some(fence)).await);
        assert!(put, "the highest fence holds after its lease too");
        before = Some(fence);
    }
    let found = ok(one.get(&name).await);
    assert_eq!(found, Some(bytes("in time")), "what was put in time stays");
    let put = ok(one.put(&name, bytes("anyhow"), LONG, None).await);
    assert!(put, "a value without a fence is put at any time");
    ok(one.delete_if(&name, &bytes("anyhow")).await);
    let (stale, untouched) = (Fence::new(1), run.name("fences_none"));
    let put = ok(one.put(&untouched, bytes("first"), LONG, Some(stale)).await);
    assert!(put, "where no lease was given no fence is too low");
    ok(one.delete_if(&untouched, &bytes("first")).await);
}

async fn crowds<S: TokenStore>(run: &Run, handles: &[Arc<S>]) {
    let name = run.name("crowds");
    let mut tasks = JoinSet::new();
    for (task, store) in (0..100).zip(handles.iter().cycle().cloned()) {
        let name = name.clone();
        tasks.spawn(async move {
            let lease = ok(store.lease(&name, LONG).await);
            let value = Bytes::from(vec![task; 1000]);
            ok(store
                .put(&name, value, LONG, lease.as_ref().map(Lease::fence))
                .await);
            usize::from(lease.is_some())
        });
    }
    let leases: usize = tasks.join_all().await.into_iter().sum();
    assert_eq!(leases, 1, "of 100 tasks one gets the lease");

    let mut deleters = JoinSet::new();
    for store in handles {
        let (store, name) = (Arc::clone(store), name.clone());
        deleters.spawn(async move {
            let value = ok(store.get(&name).await);
            let Some(value) = value else { return 0 };
            let whole = value.len() == 1000 && value.iter().all(|byte| Some(byte) == value.first());
            assert!(whole, "100 writers leave one whole value");
            usize::from(ok(store.delete_if(&name, &value).await))
        });
    }
    let deleted: usize = deleters.join_all().await.into_iter().sum();
    assert_eq!(deleted, 1, "of many that delete a value one does");
}

/// One run of the suite, whose names there were never before.
struct Run(String);

impl Run {
    fn new() -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        Self(format!("{}_{}_{run}", time.as_nanos(), std::process::id()))
    }

    fn name(&self, fact: &str) -> Name {
        ok(Name::new(&format!("{fact}_{}", self.0)))
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[track_caller]
fn ok<T>(result: Result<T, StoreError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("the store does not do what it is asked: {error:?}"),
    }
}

#[track_caller]
fn some(lease: Result<Option<Lease>, StoreError>, fact: &str) -> Lease {
    match ok(lease) {
        Some(lease) => lease,
        None => panic!("it does not hold that {fact}"),
    }
}

#[track_caller]
fn none(lease: Result<Option<Lease>, StoreError>, fact: &str) {
    assert!(ok(lease).is_none(), "it does not hold that {fact}");
}

/// Waits until this yields something; it must do so.
async fn until<T>(fact: &str, mut asked: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = asked().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "it does not hold that {fact}");
        sleep(SHORT / 10).await;
    }
}
