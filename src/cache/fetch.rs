//! Runs the task that fetches a slot's token.
//!
//! A fetch is a separate task with its own deadline. It outlives its callers: a caller that is cancelled only ends its wait. The task
//! holds [`CacheShared`] and not a handle, so dropping the last handle of the cache ends it.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    time::{self, Instant},
};
use tracing::Instrument;

#[cfg(feature = "store")]
use super::second_level;
use super::{
    backoff::{self, Backoff},
    fetch_limit::FetchPermit,
    provider::{FetchResult, from_provider},
    shared::{CacheHandle, CacheShared, random_fraction},
    slot::{FetchGuard, Fetched},
    stats::count,
};
use crate::{
    clock::Moment,
    error::TokenError,
    telemetry::{Telemetry, TokenEvent},
    token::TokenOrigin,
    util::timer,
};

/// While the source backs off, a key is looked up in the store at most once per this time.
const STORE_LOOKUP_INTERVAL: Duration = Duration::from_secs(1);

/// Starts the task in the caller's runtime. Without a runtime, or one without timers, the fetch fails.
pub(super) fn spawn(cache: &CacheHandle, guard: FetchGuard) {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return guard.fail(error, Moment::default(), |_| None),
    };
    let shared = Arc::clone(&cache.shared);
    let mut last_handle = cache.last_handle.subscribe();
    let span = Telemetry::fetch_span(guard.slot().spec(), guard.reason());
    // With a store, the token may come from there.
    let is_counted = !shared.has_store();
    if is_counted {
        count(&shared.counters.fetches);
    }
    // Created here and not in the task: if the runtime never polls the task, the drop of the guard still wakes the waiters.
    let fetch = Fetch {
        shared,
        guard: Some(guard),
        is_counted,
    };
    let task = async move {
        tokio::select! {
            biased;
            // The last handle was dropped, and no waiter is left.
            _ = last_handle.changed() => {}
            () = fetch.run() => {}
        }
    };
    runtime.spawn(task.instrument(span));
}

/// Returns the caller's runtime, if a fetch can run there.
fn runtime() -> Result<Handle, TokenError> {
    let Ok(runtime) = Handle::try_current() else {
        return Err(TokenError::configuration(
            "there is no Tokio runtime to fetch the token in: call from inside a Tokio runtime",
        ));
    };
    if timer::after(Duration::ZERO).is_none() {
        return Err(TokenError::configuration(
            "the Tokio runtime has no timers, which a fetch needs for its deadline: build it with `enable_time` or `enable_all`",
        ));
    }
    Ok(runtime)
}

struct Fetch {
    shared: Arc<CacheShared>,
    guard: Option<FetchGuard>,
    /// Whether this has been counted as a fetch from the provider.
    is_counted: bool,
}

impl Fetch {
    async fn run(mut self) {
        let Some(guard) = &self.guard else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        let _permit = acquire_permit(&shared, guard).await;
        let start = Instant::now();
        let result = self.load_or_fetch().await;
        let (Some(result), Some(guard)) = (result, self.guard.take()) else {
            return;
        };
        match result {
            FetchResult::Token(fetched) => complete(&shared, guard, fetched, start.elapsed()),
            FetchResult::Failed(error) => fail(&shared, guard, error, start.elapsed()),
            FetchResult::BackingOff(error) => fail_without_request(&shared, guard, error),
        }
    }

    /// Returns a token from the store, if there is one behind the cache, otherwise from the provider. Returns `None` if the
    /// fetch was abandoned.
    async fn load_or_fetch(&mut self) -> Option<FetchResult> {
        let shared = &*self.shared;
        #[cfg(feature = "store")]
        if let Some(store) = &shared.store {
            // Boxed, so that the task is small for caches without a store.
            let result =
                second_level::load_or_fetch(shared, store, &mut self.guard, &mut self.is_counted);
            return Box::pin(result).await;
        }
        Some(from_provider(shared, self.guard.as_ref()?, &mut self.is_counted).await)
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if self.guard.is_some() && self.is_counted {
            count(&self.shared.counters.fetch_failures);
        }
    }
}

/// Waits for one of the permits that limit concurrent fetches. The deadline of the fetch begins after that.
async fn acquire_permit<'a>(shared: &'a CacheShared, guard: &FetchGuard) -> FetchPermit<'a> {
    loop {
        // Registered before the check, so that a permit that is released in between is not missed.
        let mut released = pin!(shared.fetch_limit.released.notified());
        released.as_mut().enable();
        let now = shared.now();
        let deadline = shared.fetch_deadline(now);
        guard.extend(deadline);
        if let Some(permit) = shared.fetch_limit.acquire(now, deadline) {
            return permit;
        }
        // The timeout is for a permit that expires instead of being released.
        let _ = time::timeout(shared.settings.fetch_timeout, released).await;
    }
}

fn complete(shared: &CacheShared, guard: FetchGuard, fetched: Fetched, elapsed: Duration) {
    if fetched.origin == TokenOrigin::Provider {
        shared.source_succeeded(shared.now());
    }
    guard.complete(fetched, |slot, token| {
        shared.map.reweigh(slot);
        let event = match token.origin() {
            TokenOrigin::Provider => TokenEvent::Fetched { token, elapsed },
            TokenOrigin::Store => TokenEvent::Loaded { token, elapsed },
        };
        shared.settings.telemetry.emit(&event);
        let idle_time = shared.settings.idle_time;
        shared.map.purge_if_due(shared.now(), idle_time);
        shared.publish_metrics();
    });
}

fn fail(shared: &CacheShared, guard: FetchGuard, error: TokenError, elapsed: Duration) {
    let now = shared.now();
    count(&shared.counters.fetch_failures);
    shared.settings.telemetry.emit(&TokenEvent::FetchFailed {
        spec: guard.slot().spec(),
        reason: guard.reason(),
        error: &error,
        elapsed,
    });
    if backoff::concerns_the_source(&error) {
        let until = shared.back_off_source(&error, now);
        guard.fail(error, until, |_| None);
    } else {
        let kept = error.clone();
        guard.fail(error, now, |last| {
            Some(Backoff::after(last, kept, now, random_fraction()))
        });
    }
}

/// Ends a fetch that made no request because the source backs off.
fn fail_without_request(shared: &CacheShared, guard: FetchGuard, error: TokenError) {
    let now = shared.now();
    count(&shared.counters.fetch_failures);
    let until = now + error.retry_after().unwrap_or_default();
    // Without a store, callers get the source's error before they start a fetch. With one, each key is looked up there.
    let until_next_lookup = shared.has_store().then(|| {
        let error = error.clone().with_retry_after(STORE_LOOKUP_INTERVAL);
        Backoff::after(None, error, now, 0.0)
    });
    guard.fail(error, until, |_| until_next_lookup);
}
