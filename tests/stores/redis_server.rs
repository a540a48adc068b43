//! Provides the Redis servers that `tests/run` starts, and servers that a test can stop and kill.

use std::{env, time::Duration};

use tower_bearer::store::RedisStore;

pub(crate) use super::redis_process::Redis;

/// Returns a variable set by `tests/run`. Without it a test is skipped, or fails if `TOWER_BEARER_REAL` is set.
pub(crate) fn variable(name: &str) -> Option<String> {
    let value = env::var(name).ok();
    assert!(
        value.is_some() || env::var_os("TOWER_BEARER_REAL").is_none(),
        "{name} is not set: run the tests by tests/run"
    );
    if value.is_none() {
        println!("skipped: {name} is not set; tests/run sets it");
    }
    value
}

/// Returns the store with time limits for a busy machine.
pub(crate) fn patient(store: RedisStore) -> RedisStore {
    let long = Duration::from_secs(20);
    store
        .with_read_timeout(long)
        .with_write_timeout(long)
        .with_connect_timeout(long)
}
