//! Replicas of a service that share their tokens through a store: one fetches for all, and a restart fetches nothing.

use std::error::Error;

use tokio::task::JoinSet;
use tower_bearer::{
    Secret, TokenCache, TokenSpec,
    credentials::ClientCredentials,
    store::{KeyRing, MemoryStore},
    testing::AuthorizationServer,
    token::TokenOrigin,
};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    let login = AuthorizationServer::start().await?;
    let spec = TokenSpec::scopes(["read"]);

    // What all replicas have in common. Replicas are processes, so theirs is a `RedisStore`; this one, in memory, is for the
    // ones below, which are not. The key is 32 random bytes, from wherever the service has its secrets.
    let store = MemoryStore::new();
    let ring = KeyRing::new(Secret::new("0nF2ql0S7ivVYJz7IXgbRLHwlGAd0Vg5LGn6i3tGqzE="))?;
    let replica = || {
        let source = ClientCredentials::new(login.token_url(), "client", "secret");
        TokenCache::builder(source)
            .with_store(store.clone(), ring.clone())
            .build()
    };

    // Ten of them start at once, and all need the same token.
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
    println!(
        "{} token request, and {shared} took what it brought.",
        login.counts().requests
    );
    ensure(
        (login.counts().requests, shared) == (1, 9),
        "not one for all",
    )?;

    // The API refuses the token, for one after another: the first gets a new one, the others take that.
    for cache in &replicas {
        let refused = cache.get(&spec).await?;
        cache.reject(&refused);
        let next = cache.get(&spec).await?;
        ensure(next.expose() != refused.expose(), "the same token again")?;
    }
    println!(
        "{} token requests, after all ten were refused.",
        login.counts().requests
    );
    ensure(login.counts().requests == 2, "not one for all")?;

    // All go, and one comes back.
    drop(replicas);
    let restarted = replica();
    let token = restarted.get(&spec).await?;
    println!(
        "After a restart, {token:?} is from the {}.",
        token.origin().as_str()
    );
    ensure(token.origin() == TokenOrigin::Store, "a token request")?;
    println!("{:?}", restarted.stats());
    Ok(())
}

fn ensure(so: bool, what: &str) -> Outcome {
    so.then_some(()).ok_or_else(|| what.into())
}
