//! Tokens from code of one's own: a type that fetches, a closure that fetches, and what takes either.

use std::{error::Error, time::Duration};

use tower::{Service, ServiceBuilder, ServiceExt};
use tower_bearer::testing::{Api, AuthorizationServer};
use tower_bearer::{
    AuthLayer, ErrorKind, NewToken, TokenCache, TokenError, TokenSource, TokenSpec,
    source::{self, TokenProvider, TokenRequest},
};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Asks the provider with a plain form. One attempt: deadlines, further attempts and keeping are the cache's.
struct Plain {
    client: reqwest::Client,
    token_url: String,
}

impl TokenSource for Plain {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        let scopes: Vec<_> = request.spec().iter_scopes().collect();
        let form = "grant_type=client_credentials&client_id=client&client_secret=secret&scope=";
        let ask = self.client.post(&self.token_url);
        let ask = ask.header("content-type", "application/x-www-form-urlencoded");
        let answer = ask.body(form.to_owned() + &scopes.join("+")).send().await;
        let answer = answer.map_err(|error| {
            TokenError::new(ErrorKind::Network, "can't reach the provider").with_source(error)
        })?;
        let json = answer.bytes().await.unwrap_or_default();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap_or_default();
        let (token, lifetime) = (json["access_token"].as_str(), json["expires_in"].as_u64());
        let (Some(token), Some(lifetime)) = (token, lifetime) else {
            return Err(TokenError::new(
                ErrorKind::Malformed,
                "the provider gave no token",
            ));
        };
        Ok(NewToken::bearer(token)?.with_lifetime(Duration::from_secs(lifetime)))
    }
}

#[tokio::main]
async fn main() -> Outcome {
    let login = AuthorizationServer::start().await?;
    let api = Api::start(&login).await?;
    let plain = Plain {
        client: reqwest::Client::new(),
        token_url: login.token_url(),
    };

    // A type of one's own, behind the cache that the layer takes.
    let cache = TokenCache::new(plain);
    let auth = AuthLayer::new(cache.clone()).route(api.url(), TokenSpec::scopes(["read"]))?;
    let mut client = ServiceBuilder::new()
        .layer(auth)
        .service(reqwest::Client::new());
    for _ in 0..100 {
        let request = reqwest::Request::new(reqwest::Method::GET, api.url().parse()?);
        client
            .ready()
            .await?
            .call(request)
            .await?
            .error_for_status()?;
    }
    let (answers, fetches) = (api.counts().ok, login.counts().requests);
    ensure((answers, fetches) == (100, 1), "not one fetch for all")?;
    println!("A source of one's own: {answers} answers, {fetches} token request.");

    // A closure does too; and one that needs another's token takes a provider, which has it cached.
    let exchanged = TokenCache::new(source::from_fn(move |request| {
        let cache = cache.clone();
        async move { exchange(&cache, request.spec()).await }
    }));
    let token = exchanged.get(&TokenSpec::scopes(["read"])).await?;
    ensure(
        token.expose().starts_with("exchanged-for-"),
        "another token",
    )?;
    ensure(
        login.counts().requests == 1,
        "the first token was fetched again",
    )?;
    println!("A closure: {token:?}.");
    Ok(())
}

/// Makes a token of the token that somebody else has.
async fn exchange(of: &impl TokenProvider, spec: &TokenSpec) -> Result<NewToken, TokenError> {
    let token = of.token(spec).await?;
    NewToken::bearer(&format!("exchanged-for-{}", token.generation()))
}

fn ensure(so: bool, what: &str) -> Outcome {
    so.then_some(()).ok_or_else(|| what.into())
}
