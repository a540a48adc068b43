//! Every source against a real authorization server: what it sends, what it makes of the answer, and what it keeps.

mod all_sources;
mod grants;
#[path = "../support/log.rs"]
mod log;
mod refresh_token;
#[path = "../support/temp_file.rs"]
mod temp_file;
mod token_exchange;

use tower_bearer::{
    ErrorKind, NewToken, TokenCache, TokenError, TokenSource, TokenSpec,
    credentials::TokenEndpoint,
    source::{SourceId, TokenRequest},
    testing::{AuthorizationServer, TokenCall},
    transport::Transport,
};

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

/// One attempt, which has to fail in this way.
async fn fails(source: &impl TokenSource, spec: TokenSpec, kind: ErrorKind) -> String {
    let error = fetch(source, spec).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}

/// The token request that arrived last.
fn last_call(login: &AuthorizationServer) -> TokenCall {
    login.requests().pop().unwrap()
}

fn assert_distinct(ids: &[SourceId]) {
    for (i, id) in ids.iter().enumerate() {
        assert!(id.is_named(), "{i}");
        assert!(!ids[..i].contains(id), "{i}");
    }
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
