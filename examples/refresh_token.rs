//! Stays signed in with rotating refresh tokens, stores each new one in a file, and reports when the user must sign in again.

use std::fs;

use tokio::task::JoinSet;
use tower::BoxError;
use tower_bearer::testing::AuthorizationServer;
use tower_bearer::{
    ErrorKind, Secret, TokenCache, TokenError, TokenSpec,
    credentials::{ClientAuth, RefreshToken, TokenEndpoint},
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let login = AuthorizationServer::start().await?;
    let file = std::env::temp_dir().join(format!("refresh-token-{}", std::process::id()));
    let sign_in = || {
        let (_, refresh_token) = login.sign_in("alice", "client", ["mail", "calendar"]);
        fs::write(&file, refresh_token)
    };
    sign_in()?;

    // The refresh token is read from the file. A new one is written to it before the access token that came with it is returned.
    // A production program makes the file readable only for its user, and replaces it atomically by renaming a temporary file.
    let source = || -> Result<RefreshToken, TokenError> {
        let endpoint = TokenEndpoint::new(login.token_url())
            .with_client("client", ClientAuth::basic("secret"));
        let source = RefreshToken::new(endpoint, Secret::from_file(&file)?);
        let file = file.clone();
        Ok(source.on_rotation(move |new: Secret| {
            let stored = new.expose().and_then(|new| {
                fs::write(&file, new.as_str()).map_err(|error| {
                    TokenError::new(ErrorKind::Configuration, "can't write the refresh token")
                        .with_source(error)
                })
            });
            std::future::ready(stored)
        }))
    };

    // A hundred tasks share the source and need tokens for two scopes. No refresh token is used twice: the provider would take
    // that for theft and revoke all of them.
    let cache = TokenCache::new(source()?);
    for _ in 0..3 {
        let mut tasks = JoinSet::new();
        for i in 0..100 {
            let cache = cache.clone();
            let spec = TokenSpec::scopes([["mail", "calendar"][i % 2]]);
            tasks.spawn(async move { cache.get(&spec).await.map(drop) });
        }
        while let Some(outcome) = tasks.join_next().await {
            outcome??;
        }
        cache.clear();
    }
    let uses = login.refresh_token_uses();
    assert_eq!(uses, 6);
    println!("300 callers needed {uses} refresh tokens.");

    // After a restart, the program continues with the last refresh token in the file.
    let cache = TokenCache::new(source()?);
    let spec = TokenSpec::scopes(["mail"]);
    cache.get(&spec).await?;
    println!("Restarted without another sign-in.");

    // The provider revokes the refresh token. Now the user must sign in again, which writes a new one to the file.
    login.revoke_refresh_tokens();
    let error = cache.refresh(&spec).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidGrant);
    println!("Revoked: {error}.");
    sign_in()?;
    TokenCache::new(source()?).get(&spec).await?;
    println!("Signed in again.");
    fs::remove_file(&file)?;
    Ok(())
}
