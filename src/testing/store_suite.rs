//! Checks that an implementation of [`TokenStore`] meets the contract that the cache relies on.

// The suite reports a violation by a panic.
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

/// A lifetime that does not expire during a check.
const LONG: Duration = Duration::from_secs(300);
/// A lifetime short enough to wait for its expiry.
const SHORT: Duration = Duration::from_millis(200);
/// The time limit for waiting.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// Checks the whole contract of a [`TokenStore`] that a cache relies on.
///
/// Each call of `make` returns a new handle to the same storage, as each process of a fleet has one. Every run uses new names, so
/// one server can serve many runs and other clients. Lifetimes are measured in real time, or by Tokio's clock if the store uses it.
/// The suite waits for values and leases to expire, up to a time limit.
///
/// | topic | checks |
/// |---|---|
/// | values | the last value put is returned to every handle, byte for byte; a name without a value returns none |
/// | lifetimes | a value is returned until its lifetime ends and not afterwards |
/// | deletion | only a value equal to the given one is deleted; the result says whether it was deleted |
/// | sizes | values may be empty or 1 MiB long, and may contain every byte |
/// | names | names have 1 to 128 characters; case matters; a prefix of a name is another name |
/// | leases | a name has one lease at a time; only its holder can release it; it expires; names have independent leases |
/// | fences | fences increase; a value with an outdated fence is rejected, one with the current fence is stored |
/// | concurrency | one of 100 tasks gets the lease; 100 writers leave one complete value; one of many deletions succeeds |
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
/// Panics if a check fails. The message names the violated requirement.
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
    lease_expiry(&run, &one, &other).await;
    fences(&run, &one, &other).await;

    let mut handles = vec![Arc::new(one), Arc::new(other)];
    for _ in 0..6 {
        handles.push(Arc::new(make().await));
    }
    concurrency(&run, &handles).await;
}

async fn values(run: &Run, one: &impl TokenStore, other: &impl TokenStore) {
    let name = run.name("values");
    let nothing = ok(one.get(&name).await);
    assert_eq!(nothing, None, "a name without a value returns none");
    assert!(
        ok(one.put(&name, bytes("first"), LONG, None).await),
        "a value without a fence is stored"
    );
    for _ in 0..2 {
        let found = ok(one.get(&name).await);
        assert_eq!(
            found,
            Some(bytes("first")),
            "a stored value is returned on each read"
        );
    }
    let found = ok(other.get(&name).await);
    assert_eq!(
        found,
        Some(bytes("first")),
        "a stored value is returned to every handle"
    );
    assert!(
        ok(other.put(&name, bytes("second"), LONG, None).await),
        "a value replaces another"
    );
    let found = ok(one.get(&name).await);
    assert_eq!(
        found,
        Some(bytes("second")),
        "the last value stored is returned"
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
            "a value is returned until its lifetime ends"
        );
    }
    until("a value expires after its lifetime", async || {
        ok(one.get(&name).await).is_none().then_some(())
    })
    .await;
    let deleted = ok(other.delete_if(&name, &bytes("short")).await);
    assert!(!deleted, "an expired value can't be deleted");

    ok(one.put(&name, bytes("short"), SHORT, None).await);
    ok(one.put(&name, bytes("long"), LONG, None).await);
    sleep(SHORT * 2).await;
    let found = ok(one.get(&name).await);
    assert_eq!(
        found,
        Some(bytes("long")),
        "a value that replaces another has a new lifetime"
    );
    let forever = Duration::MAX;
    ok(one.put(&name, bytes("forever"), forever, None).await);
    let found = ok(one.get(&name).await);
    assert_eq!(
        found,
        Some(bytes("forever")),
        "the longest lifetime is accepted"
    );
    ok(one.delete_if(&name, &bytes("forever")).await);
}

async fn deletion(run: &Run, one: &impl TokenStore, other: &impl TokenStore) {
    let name = run.name("deletion");
    assert!(
        !ok(one.delete_if(&name, &bytes("a")).await),
        "a missing value can't be deleted"
    );
    ok(one.put(&name, bytes("value"), LONG, None).await);
    for almost in ["valu", "value2", "Value", "", "valuf"] {
        let deleted = ok(other.delete_if(&name, &bytes(almost)).await);
        assert!(!deleted, "only an equal value is deleted");
    }
    let found = ok(one.get(&name).await);
    assert_eq!(
        found,
        Some(bytes("value")),
        "a failed comparison deletes nothing"
    );
    assert!(
        ok(other.delete_if(&name, &bytes("value")).await),
        "an equal value is deleted"
    );
    assert_eq!(
        ok(one.get(&name).await),
        None,
        "a deleted value is not returned"
    );
    assert!(
        !ok(one.delete_if(&name, &bytes("value")).await),
        "a value is deleted once"
    );
    assert!(
        ok(one.put(&name, bytes("next"), LONG, None).await),
        "a value is stored after a deletion"
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
            "{size}: a value is stored"
        );
        let found = ok(other.get(&name).await);
        assert!(
            found.as_ref() == Some(&value),
            "{size}: a value is returned byte for byte"
        );
        assert!(
            ok(other.delete_if(&name, &value).await),
            "{size}: a value is compared byte for byte"
        );
        assert_eq!(ok(one.get(&name).await), None, "{size}: a value is deleted");
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
            "different names have different values"
        );
        ok(one.delete_if(name, &bytes(name.as_str())).await);
    }
    let shortest = ok(Name::new("-"));
    ok(one.get(&shortest).await);
}

async fn leases(run: &Run, one: &impl TokenStore, other: &impl TokenStore) {
    let name = run.name("leases");
    let lease = some(one.lease(&name, LONG).await, "a free lease is granted");
    none(
        one.lease(&name, LONG).await,
        "a lease is granted once, even to the same handle",
    );
    none(other.lease(&name, LONG).await, "a lease is granted once");
    let neighbour = run.name("leases_neighbour");
    let second = some(
        other.lease(&neighbour, LONG).await,
        "names have independent leases",
    );
    ok(one.put(&name, bytes("value"), LONG, None).await);
    let found = ok(one.get(&name).await);
    assert_eq!(
        found,
        Some(bytes("value")),
        "a lease doesn't affect the value"
    );

    let stranger = Lease::new(lease.fence(), "another holder");
    ok(other.release(&name, stranger).await);
    none(
        other.lease(&name, LONG).await,
        "only its holder releases a lease",
    );
    ok(other.release(&name, second.clone()).await);
    none(
        other.lease(&name, LONG).await,
        "a lease of another name releases nothing",
    );
    ok(one.release(&name, lease.clone()).await);
    let next = some(
        other.lease(&name, LONG).await,
        "a released lease is granted again",
    );
    ok(one.release(&name, lease).await);
    none(
        one.lease(&name, LONG).await,
        "a former holder can't release the lease",
    );
    let found = ok(one.get(&name).await);
    assert_eq!(
        found,
        Some(bytes("value")),
        "a release doesn't affect the value"
    );
    ok(other.release(&name, next).await);
    ok(other.release(&neighbour, second).await);
    ok(one.delete_if(&name, &bytes("value")).await);
}

async fn lease_expiry(run: &Run, one: &impl TokenStore, other: &impl TokenStore) {
    let name = run.name("leases_end");
    let late = some(one.lease(&name, SHORT).await, "a short lease is granted");
    let next = until("a lease expires", async || {
        ok(other.lease(&name, LONG).await)
    })
    .await;
    assert!(
        late.fence() < next.fence(),
        "fences increase after a lease expires"
    );
    let put = ok(one
        .put(&name, bytes("late"), LONG, Some(late.fence()))
        .await);
    assert!(!put, "the holder of an expired lease can't overwrite");
    ok(one.release(&name, late).await);
    none(
        one.lease(&name, LONG).await,
        "the holder of an expired lease can't release the next",
    );
    ok(other.release(&name, next).await);
}

async fn fences(run: &Run, one: &impl TokenStore, other: &impl TokenStore) {
    let name = run.name("fences");
    let mut before: Option<Fence> = None;
    for turn in 0..5 {
        let store = if turn % 2 == 0 { 0 } else { 1 };
        let lease = match store {
            0 => some(one.lease(&name, LONG).await, "a lease is granted again"),
            _ => some(other.lease(&name, LONG).await, "a lease is granted again"),
        };
        let fence = lease.fence();
        assert!(before < Some(fence), "fences increase");
        if let Some(stale) = before {
            let put = ok(one.put(&name, bytes("late"), LONG, Some(stale)).await);
            assert!(!put, "a value with an outdated fence is rejected");
            assert_ne!(
                ok(other.get(&name).await),
                Some(bytes("late")),
                "a rejected value is not stored"
            );
        }
        let put = ok(other.put(&name, bytes("in time"), LONG, Some(fence)).await);
        assert!(put, "a value with the current fence is stored");
        ok(one.release(&name, lease).await);
        let put = ok(other.put(&name, bytes("in time"), LONG, Some(fence)).await);
        assert!(
            put,
            "the current fence is valid after the release of its lease"
        );
        before = Some(fence);
    }
    let found = ok(one.get(&name).await);
    assert_eq!(
        found,
        Some(bytes("in time")),
        "a value with the current fence stays"
    );
    let put = ok(one.put(&name, bytes("anyhow"), LONG, None).await);
    assert!(put, "a value without a fence is always stored");
    ok(one.delete_if(&name, &bytes("anyhow")).await);
    let (stale, untouched) = (Fence::new(1), run.name("fences_none"));
    let put = ok(one.put(&untouched, bytes("first"), LONG, Some(stale)).await);
    assert!(put, "every fence is valid before the first lease");
    ok(one.delete_if(&untouched, &bytes("first")).await);
}

async fn concurrency<S: TokenStore>(run: &Run, handles: &[Arc<S>]) {
    let name = run.name("concurrency");
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
    assert_eq!(leases, 1, "one of 100 tasks gets the lease");

    let mut deleters = JoinSet::new();
    for store in handles {
        let (store, name) = (Arc::clone(store), name.clone());
        deleters.spawn(async move {
            let value = ok(store.get(&name).await);
            let Some(value) = value else { return 0 };
            let whole = value.len() == 1000 && value.iter().all(|byte| Some(byte) == value.first());
            assert!(whole, "100 writers leave one complete value");
            usize::from(ok(store.delete_if(&name, &value).await))
        });
    }
    let deleted: usize = deleters.join_all().await.into_iter().sum();
    assert_eq!(deleted, 1, "one of many deletions of a value succeeds");
}

/// One run of the suite, whose names are unique.
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
        Err(error) => panic!("a store operation failed: {error:?}"),
    }
}

#[track_caller]
fn some(lease: Result<Option<Lease>, StoreError>, fact: &str) -> Lease {
    match ok(lease) {
        Some(lease) => lease,
        None => panic!("violated: {fact}"),
    }
}

#[track_caller]
fn none(lease: Result<Option<Lease>, StoreError>, fact: &str) {
    assert!(ok(lease).is_none(), "violated: {fact}");
}

/// Waits until `poll` returns a value. Panics at the time limit.
async fn until<T>(fact: &str, mut poll: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = poll().await {
            return found;
        }
        assert!(start.elapsed() < TIME_LIMIT, "violated: {fact}");
        sleep(SHORT / 10).await;
    }
}
