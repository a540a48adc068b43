//! Tests every source against an authorization server: requests, responses and cached state.

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
    credentials::{ClientAuth, TokenEndpoint},
    source::{SourceId, TokenRequest},
    testing::{AuthorizationServer, TokenCall},
    transport::Transport,
};

/// Starts a server, and begins to capture the log.
async fn login() -> AuthorizationServer {
    log::begin();
    AuthorizationServer::start().await.unwrap()
}

/// The server's endpoint, with the credentials of the registered client.
fn endpoint(login: &AuthorizationServer) -> TokenEndpoint {
    TokenEndpoint::new(login.token_url()).with_client("client", ClientAuth::basic("secret"))
}

/// Makes one attempt, without a cache.
async fn fetch(source: &impl TokenSource, spec: TokenSpec) -> Result<NewToken, TokenError> {
    source.fetch(&TokenRequest::new(spec)).await
}

/// Makes one attempt that must fail with this kind of error, and returns the message.
async fn fails(source: &impl TokenSource, spec: TokenSpec, kind: ErrorKind) -> String {
    let error = fetch(source, spec).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}

/// Returns the most recent token request.
fn last_call(login: &AuthorizationServer) -> TokenCall {
    login.requests().pop().unwrap()
}

fn assert_distinct(ids: &[Option<SourceId>]) {
    for (i, id) in ids.iter().enumerate() {
        assert!(id.is_some(), "{i}");
        assert!(!ids[..i].contains(id), "{i}");
    }
}

/// Returns the text of a token that the source fetches for the spec.
async fn token(source: impl TokenSource, spec: &TokenSpec) -> String {
    let cache = TokenCache::new(source);
    cache.get(spec).await.unwrap().expose().to_owned()
}

/// Returns an endpoint with a client, which panics when a request is sent.
fn silent_endpoint() -> TokenEndpoint {
    TokenEndpoint::new("https://login.example/")
        .with_client("client", ClientAuth::basic("secret"))
        .with_transport(silent())
}

/// Returns a transport that panics when a request is sent.
fn silent() -> Transport {
    Transport::from_fn(async |_| panic!("a request was sent"))
}
