//! Starts an authorization server and an API, and builds a layer for reqwest's clients.

use std::time::Duration;

use http::Extensions;
use tokio::time::timeout;
use tower_bearer::{
    AuthLayer, TokenCache, TokenSpec,
    credentials::ClientCredentials,
    layer::Recovery,
    testing::{Api, AuthorizationServer, Fault},
};

pub(crate) struct Fixture {
    pub(crate) login: AuthorizationServer,
    pub(crate) api: Api,
    pub(crate) cache: TokenCache,
    pub(crate) layer: AuthLayer,
}

impl Fixture {
    /// Starts an API whose `/admin` requires another scope than its route requests.
    pub(crate) async fn new() -> Self {
        let login = AuthorizationServer::start().await.unwrap();
        let api = Api::builder(&login).with_required_scope("/admin", "write");
        let api = api.start().await.unwrap();
        let source = ClientCredentials::new(login.token_url(), "client", "secret");
        let cache = TokenCache::new(source);
        let layer = AuthLayer::new(cache.clone());
        let layer = layer.route(api.url(), reading()).unwrap();
        Self {
            login,
            api,
            cache,
            layer,
        }
    }

    /// Fills the cache with tokens that the API refuses.
    pub(crate) async fn cache_revoked_tokens(&self) {
        self.cache.warm([&reading(), &writing()]).await.unwrap();
        self.login.revoke_all();
        self.login.reset_counts();
    }

    pub(crate) fn fetches(&self) -> u64 {
        self.login.counts().requests
    }
}

pub(crate) fn reading() -> TokenSpec {
    TokenSpec::scopes(["read"])
}

pub(crate) fn writing() -> TokenSpec {
    TokenSpec::scopes(["write"])
}

/// Returns the name of the recovery in a response's extensions.
pub(crate) fn recovery(extensions: &Extensions) -> Option<&'static str> {
    extensions.get().map(Recovery::as_str)
}

/// Returns the response of a token endpoint that refuses a request.
pub(crate) fn oauth_error(status: u16, code: &str) -> Fault {
    let body = format!(r#"{{"error":"{code}"}}"#);
    Fault::response(status, Some("application/json"), body)
}

/// Awaits a future for at most a minute.
pub(crate) async fn within<F: IntoFuture>(future: F) -> F::Output {
    let limit = Duration::from_secs(60);
    timeout(limit, future).await.expect("timed out")
}
