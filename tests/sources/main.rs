//! Every source against a real authorization server: what it sends, what it makes of the answer, and what it keeps.

mod all_sources;
mod grants;
#[path = "../support/log.rs"]
mod log;
mod refresh_token;
mod token_exchange;

use std::time::Duration;

use tower_bearer::{
    NewToken, TokenCache, TokenError, TokenSource, TokenSpec, credentials::TokenEndpoint,
    source::TokenRequest, testing::AuthorizationServer, transport::Transport,
};

/// What a busy machine may need for what takes no time.
const SOON: Duration = Duration::from_secs(20);

/// A server, and a log of what goes on from here.
async fn login() -> AuthorizationServer {
    log::begin();
    AuthorizationServer::start().await.unwrap()
}

/// The server's endpoint, as the client that it knows.
fn endpoint(login: &AuthorizationServer) -> TokenEndpoint {
    TokenEndpoint::new(login.token_url(), "client", "secret")
}

/// One attempt, without a cache.
async fn fetch(source: &impl TokenSource, spec: TokenSpec) -> Result<NewToken, TokenError> {
    source.fetch(&TokenRequest::new(spec)).await
}

/// The text of the token that a source has for a spec.
async fn token(source: impl TokenSource, spec: &TokenSpec) -> String {
    let cache = TokenCache::new(source);
    cache.get(spec).await.unwrap().expose().to_owned()
}

/// A transport on which nothing may be sent.
fn silent() -> Transport {
    Transport::from_fn(async |_| panic!("nothing may be sent"))
}
