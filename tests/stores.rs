//! Every store does what a cache relies on: the suite over each.

use tower_bearer::{store::MemoryStore, testing::store_suite};

#[tokio::test(start_paused = true)]
async fn the_memory_store_does_what_a_cache_relies_on() {
    let store = MemoryStore::new();
    store_suite(async || store.clone()).await;
}
