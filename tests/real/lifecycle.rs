//! Checks the lifecycle of a token: fetch, use, introspection, revocation and replacement.

use serde_json::Value;
use tower_bearer::{TokenCache, TokenSource, TokenSpec, transport::Transport};

use crate::{
    http_client::{HttpClient, KINDS},
    server::{Client, Server},
};

pub(crate) const CLIENT_CREDENTIALS: &str = "client_credentials";
pub(crate) const REFRESH_TOKEN: &str = "refresh_token";
pub(crate) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
pub(crate) const SAML2_BEARER: &str = "urn:ietf:params:oauth:grant-type:saml2-bearer";
#[cfg(feature = "password")]
pub(crate) const PASSWORD: &str = "password";
pub(crate) const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// The client, grant and spec of the tokens to check.
pub(crate) struct Lifecycle<'a> {
    site: &'a Server,
    client: &'a Client,
    grant: &'static str,
    spec: TokenSpec,
}

impl<'a> Lifecycle<'a> {
    /// Checks tokens that the client gets by client credentials for the scope `read`.
    pub(crate) fn of(site: &'a Server, client: &'a Client) -> Self {
        Self {
            site,
            client,
            grant: CLIENT_CREDENTIALS,
            spec: TokenSpec::scopes(["read"]),
        }
    }

    pub(crate) fn with_grant(mut self, grant: &'static str) -> Self {
        self.grant = grant;
        self
    }

    pub(crate) fn with_spec(mut self, spec: TokenSpec) -> Self {
        self.spec = spec;
        self
    }

    /// Checks the lifecycle over each HTTP client, with a source that uses the same HTTP library. Returns the claims of the
    /// first tokens.
    pub(crate) async fn check<S: TokenSource>(
        &self,
        source: impl AsyncFn(Transport) -> S,
    ) -> Vec<Value> {
        let other;
        let introspecting = match self.client.can_introspect {
            true => self.client,
            false => {
                other = self.site.client("client_secret_basic").await;
                &other
            }
        };
        let id = self.client.id.as_str();
        let mut seen = Vec::new();
        for kind in KINDS {
            let source = source(kind.transport(self.site)).await;
            let cache = TokenCache::new(source);
            let http = HttpClient::new(kind, self.site, &cache, self.spec.clone());
            let url = self.site.api("read");
            let before = self.granted().await;

            let answer = http.post(&url, "first").await.unwrap();
            assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");
            assert_eq!(answer.claims["client_id"], id);
            assert_eq!(answer.claims["body"], "first");
            seen.push(answer.claims);
            let first = cache.get(&self.spec).await.unwrap();
            let claims = self.site.introspect(introspecting, &first).await.unwrap();
            assert_eq!(claims["client_id"], id);
            assert_eq!(self.granted().await, before + 1, "{kind:?}");

            assert!(self.site.revoke(id).await >= 1);
            assert_eq!(self.site.introspect(introspecting, &first).await, None);
            let answer = http.post(&url, "second").await.unwrap();
            assert_eq!(answer.outcome(), (200, "recovered"), "{kind:?}");
            assert_eq!(answer.claims["body"], "second");
            let second = cache.get(&self.spec).await.unwrap();
            assert_ne!(first.expose(), second.expose());
            assert!(self.site.introspect(introspecting, &second).await.is_some());
            assert_eq!(self.granted().await, before + 2, "{kind:?}");
        }
        seen
    }

    async fn granted(&self) -> u64 {
        let client = &self.client.id;
        self.site.count(client, "granted", self.grant).await
    }
}
