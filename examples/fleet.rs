//! Shares tokens between the replicas of a service through a store: one replica fetches for all, and a restart fetches nothing.

use tokio::task::JoinSet;
use tower::BoxError;
use tower_bearer::{
    Secret, TokenCache, TokenSpec,
    credentials::ClientCredentials,
    store::{KeyRing, MemoryStore},
    testing::AuthorizationServer,
    token::TokenOrigin,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let login = AuthorizationServer::start().await?;
    let spec = TokenSpec::scopes(["read"]);

    // All replicas use the same store and the same key. In production, replicas are processes and share a `RedisStore`; here
    // they are caches in one process, so a store in memory is enough. The key is 32 random bytes, stored with the other secrets.
    let store = MemoryStore::new();
    let ring = KeyRing::new(Secret::new("0nF2ql0S7ivVYJz7IXgbRLHwlGAd0Vg5LGn6i3tGqzE="))?;
    let replica = || {
        let source = ClientCredentials::new(login.token_url(), "client", "secret");
        TokenCache::builder(source)
            .with_store(store.clone(), ring.clone())
            .build()
    };

    // Ten replicas start at the same time and need the same token.
    let replicas: Vec<TokenCache> = (0..10).map(|_| replica()).collect();
    let mut starting = JoinSet::new();
    for cache in replicas.clone() {
        let spec = spec.clone();
        starting.spawn(async move { cache.get(&spec).await });
    }
    let mut shared = 0;
    while let Some(token) = starting.join_next().await {
        shared += usize::from(token??.origin() == TokenOrigin::Store);
    }
    let fetches = login.counts().requests;
    assert_eq!((fetches, shared), (1, 9));
    println!(
        "Start: {fetches} token request, and {shared} replicas took the token from the store."
    );

    // An API rejects the token of one replica after the other. The first fetches a new token, and the others use it too.
    for cache in &replicas {
        let rejected = cache.get(&spec).await?;
        cache.reject(&rejected);
        let next = cache.get(&spec).await?;
        assert_ne!(next.expose(), rejected.expose());
    }
    let fetches = login.counts().requests;
    assert_eq!(fetches, 2);
    println!("After all ten replicas had their token rejected: {fetches} token requests.");

    // All replicas stop, and one starts again.
    drop(replicas);
    let restarted = replica();
    let token = restarted.get(&spec).await?;
    println!(
        "After a restart, {token:?} comes from the {}.",
        token.origin().as_str()
    );
    assert_eq!(token.origin(), TokenOrigin::Store);
    println!("{:?}", restarted.stats());
    Ok(())
}
