//! Checks that every store keeps the contract that a cache relies on, also after faults.

mod faulty;
#[cfg(feature = "file")]
mod file;
#[cfg(all(feature = "file", unix))]
mod file_crashes;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod redis_outages;
#[cfg(feature = "redis")]
#[path = "../support/redis.rs"]
mod redis_process;
#[cfg(feature = "redis")]
mod redis_server;

use tower_bearer::{store::MemoryStore, testing::store_suite};
#[cfg(any(feature = "file", feature = "redis"))]
use {
    bytes::Bytes,
    std::time::Duration,
    tower_bearer::store::{Name, TokenStore},
};

#[cfg(any(feature = "file", feature = "redis"))]
const LONG: Duration = Duration::from_secs(300);

#[cfg(any(feature = "file", feature = "redis"))]
fn name(name: &str) -> Name {
    Name::new(name).unwrap()
}

#[cfg(any(feature = "file", feature = "redis"))]
async fn put(store: &impl TokenStore, name: &Name, value: impl Into<Bytes>) -> bool {
    store.put(name, value.into(), LONG, None).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn memory_store_passes_the_store_suite() {
    let store = MemoryStore::new();
    store_suite(async || store.clone()).await;
}
