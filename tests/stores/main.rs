//! Every store does what a cache relies on, whatever happens to it.

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
mod redis_server;

use tower_bearer::{store::MemoryStore, testing::store_suite};

#[tokio::test(start_paused = true)]
async fn the_memory_store_does_what_a_cache_relies_on() {
    let store = MemoryStore::new();
    store_suite(async || store.clone()).await;
}
