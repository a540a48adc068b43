//! A person signed in once: the program goes on by refresh tokens, keeps each new one in a file, and says when it is over.

use std::{error::Error, fs};

use tokio::task::JoinSet;
use tower_bearer::testing::AuthorizationServer;
use tower_bearer::{
    ErrorKind, Secret, TokenCache, TokenError, TokenSpec,
    credentials::{ClientAuth, RefreshToken, TokenEndpoint},
};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    let login = AuthorizationServer::start().await?;
    let file = std::env::temp_dir().join(format!("refresh-token-{}", std::process::id()));
    let sign_in = || {
        let (_, refresh_token) = login.sign_in("alice", "client", ["mail", "calendar"]);
        fs::write(&file, refresh_token)
    };
    sign_in()?;

    // Read from the file, and written to it before the access token that came with it is handed out. A real program makes the
    // file readable for its user alone, and writes it beside first.
    let source = || -> Result<RefreshToken, TokenError> {
        let endpoint = TokenEndpoint::new(login.token_url())
            .with_client("client", ClientAuth::basic("secret"));
        let source = RefreshToken::new(endpoint, Secret::from_file(&file)?);
        let file = file.clone();
        Ok(source.on_rotation(move |new: Secret| {
            let kept = new.expose().and_then(|new| {
                fs::write(&file, new.as_str()).map_err(|error| {
                    TokenError::new(ErrorKind::Configuration, "can't write the refresh token")
                        .with_source(error)
                })
            });
            std::future::ready(kept)
        }))
    };

    // Two resources and a hundred tasks share it; no refresh token is used twice, or the provider would end the sign-in.
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
    println!(
        "300 callers, {} refresh tokens.",
        login.refresh_token_uses()
    );
    ensure(login.refresh_token_uses() == 6, "not one for each fetch")?;

    // The program starts anew, and finds the last one in the file.
    let cache = TokenCache::new(source()?);
    let spec = TokenSpec::scopes(["mail"]);
    cache.get(&spec).await?;
    println!("Started anew without another sign-in.");

    // The provider ends the sign-in: only a person can mend that. When they have, the file tells.
    login.revoke_refresh_tokens();
    let Err(error) = cache.refresh(&spec).await else {
        return Err("a dead sign-in brought a token".into());
    };
    ensure(error.kind() == ErrorKind::InvalidGrant, "another error")?;
    println!("{error}.");
    sign_in()?;
    TokenCache::new(source()?).get(&spec).await?;
    println!("Signed in again.");
    fs::remove_file(&file)?;
    Ok(())
}

fn ensure(so: bool, what: &str) -> Outcome {
    so.then_some(()).ok_or_else(|| what.into())
}
