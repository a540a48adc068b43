//! Fetches tokens with custom code: a type that implements `TokenSource`, and a closure that uses another cache's tokens.

use std::time::Duration;

use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tower_bearer::testing::{Api, AuthorizationServer};
use tower_bearer::{
    AuthLayer, ErrorKind, NewToken, TokenCache, TokenError, TokenSource, TokenSpec,
    source::{self, TokenProvider, TokenRequest},
};

/// Sends a form to the provider, once. Timeouts, retries and caching are left to the cache.
struct FormSource {
    client: reqwest::Client,
    token_url: String,
}

impl TokenSource for FormSource {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        let scopes: Vec<_> = request.spec().iter_scopes().collect();
        let form = "grant_type=client_credentials&client_id=client&client_secret=secret&scope=";
        let request = self.client.post(&self.token_url);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let response = request.body(form.to_owned() + &scopes.join("+")).send();
        let response = response.await.map_err(|error| {
            TokenError::new(ErrorKind::Network, "can't reach the provider").with_source(error)
        })?;
        let json = response.bytes().await.unwrap_or_default();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap_or_default();
        let (token, lifetime) = (json["access_token"].as_str(), json["expires_in"].as_u64());
        let (Some(token), Some(lifetime)) = (token, lifetime) else {
            return Err(TokenError::new(
                ErrorKind::Malformed,
                "the provider's response has no token",
            ));
        };
        Ok(NewToken::bearer(token)?.with_lifetime(Duration::from_secs(lifetime)))
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let login = AuthorizationServer::start().await?;
    let api = Api::start(&login).await?;

    // The cache takes any source, and the layer takes the cache.
    let cache = TokenCache::new(FormSource {
        client: reqwest::Client::new(),
        token_url: login.token_url(),
    });
    let auth = AuthLayer::new(cache.clone()).route(api.url(), TokenSpec::scopes(["read"]))?;
    let mut client = ServiceBuilder::new()
        .layer(auth)
        .service(reqwest::Client::new());
    for _ in 0..100 {
        let request = reqwest::Request::new(reqwest::Method::GET, api.url().parse()?);
        let response = client.ready().await?.call(request).await?;
        assert_eq!(response.status(), 200);
    }
    let (accepted, fetches) = (api.counts().ok, login.counts().requests);
    assert_eq!((accepted, fetches), (100, 1));
    println!("A custom type: {accepted} requests needed {fetches} token request.");

    // A closure is a source too. This one gets a token from the first cache and exchanges it for another.
    let exchanged = TokenCache::new(source::from_fn(move |request| {
        let cache = cache.clone();
        async move { exchange(&cache, request.spec()).await }
    }));
    let token = exchanged.get(&TokenSpec::scopes(["read"])).await?;
    assert!(token.expose().starts_with("exchanged-for-"));
    assert_eq!(login.counts().requests, 1, "the first token was not cached");
    println!("A closure: {token:?}.");
    Ok(())
}

/// Returns a new token in exchange for the provider's token.
async fn exchange(provider: &impl TokenProvider, spec: &TokenSpec) -> Result<NewToken, TokenError> {
    let token = provider.token(spec).await?;
    NewToken::bearer(&format!("exchanged-for-{}", token.generation()))
}
