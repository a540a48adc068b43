//! Tests refresh tokens that the server rotates, and whose reuse revokes the grant.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::task::JoinSet;
use tower_bearer::{
    ErrorKind, TokenCache, TokenSpec,
    credentials::{ClientAuth, RefreshToken, TokenEndpoint},
};

use crate::{
    http_client::{HttpClient, KINDS, Kind},
    lifecycle::{Lifecycle, REFRESH_TOKEN},
    server::{Client, Server},
};

const SCOPES: &str = "read write";

fn endpoint(site: &Server, client: &Client, kind: Kind) -> TokenEndpoint {
    let Client { id, secret, .. } = client.clone();
    TokenEndpoint::new(&site.token_url)
        .with_client(id, ClientAuth::basic(secret))
        .with_transport(kind.transport(site))
}

#[tokio::test]
async fn rotated_refresh_tokens_keep_a_grant_alive() {
    for site in Server::oidc_and_django() {
        let client = site.client("client_secret_basic").await;
        let source = async |transport| {
            let login = site.sign_in(&client, "ada", SCOPES).await;
            let (id, secret) = (&client.id, client.secret.as_str());
            let endpoint = TokenEndpoint::new(&site.token_url)
                .with_client(id, ClientAuth::basic(secret))
                .with_transport(transport);
            RefreshToken::new(endpoint, login.refresh_token.as_str())
        };
        let seen = Lifecycle::of(&site, &client)
            .with_grant(REFRESH_TOKEN)
            .check(source)
            .await;
        assert!(seen.iter().all(|claims| claims["sub"] == "ada"), "{seen:?}");
    }
}

#[tokio::test]
async fn public_client_refreshes_without_a_secret() {
    let Some(site) = Server::oidc() else { return };
    let client = site.client_with(json!({ "auth": "none" })).await;
    let source = async |transport| {
        let login = site.sign_in(&client, "ada", SCOPES).await;
        let endpoint = TokenEndpoint::new(&site.token_url)
            .with_client(&client.id, ClientAuth::none())
            .with_transport(transport);
        RefreshToken::new(endpoint, login.refresh_token.as_str())
    };
    let round = Lifecycle::of(&site, &client).with_grant(REFRESH_TOKEN);
    round.check(source).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_callers_use_each_refresh_token_once() {
    let Some(site) = Server::oidc() else { return };
    for kind in KINDS {
        let client = site.client("client_secret_basic").await;
        let login = site.sign_in(&client, "ada", SCOPES).await;
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = kept.clone();
        let source =
            RefreshToken::new(endpoint(&site, &client, kind), login.refresh_token.as_str())
                .on_rotation(move |token| {
                    keep.lock().unwrap().push(token);
                    std::future::ready(Ok(()))
                });
        let cache = TokenCache::new(source);
        // Two specs share the refresh token.
        let [read, write] = ["read", "write"].map(|scope| {
            let spec = TokenSpec::scopes([scope]);
            (HttpClient::new(kind, &site, &cache, spec), site.api(scope))
        });
        for round in 1..=3 {
            let mut crowd = JoinSet::new();
            for number in 0..100 {
                let (http, url) = if number % 2 == 0 { &read } else { &write }.clone();
                crowd.spawn(async move {
                    assert_eq!(http.post(&url, "body").await.unwrap().status, 200);
                });
            }
            crowd.join_all().await;
            let count = |outcome| site.count(&client.id, outcome, REFRESH_TOKEN);
            assert_eq!(count("granted").await, 2 * round, "{kind:?}");
            assert_eq!(count("invalid_grant").await, 0, "{kind:?}");
            assert_eq!(kept.lock().unwrap().len() as u64, 2 * round, "{kind:?}");
            site.revoke(&client.id).await;
        }
        // A new process continues with the last refresh token.
        let last = kept.lock().unwrap().pop().unwrap();
        let next = TokenCache::new(RefreshToken::new(endpoint(&site, &client, kind), last));
        next.get(&TokenSpec::scopes(["read"])).await.unwrap();
    }
}

#[tokio::test]
async fn reused_refresh_token_ends_the_grant() {
    for site in Server::oidc_and_django() {
        for kind in KINDS {
            let client = site.client("client_secret_basic").await;
            let login = site.sign_in(&client, "ada", SCOPES).await;
            let cache = || {
                let token = login.refresh_token.as_str();
                TokenCache::new(RefreshToken::new(endpoint(&site, &client, kind), token))
            };
            let (first, second) = (cache(), cache());
            let spec = TokenSpec::scopes(["read"]);
            first.get(&spec).await.unwrap();
            // Another process uses the same refresh token.
            let error = second.get(&spec).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidGrant, "{error}");
            // RFC 9700 §4.14.2: the server cannot tell which of the two is the attacker, and revokes the grant for both.
            let error = first.refresh(&spec).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidGrant, "{error}");
            let refused = site.count(&client.id, "invalid_grant", REFRESH_TOKEN).await;
            assert_eq!(refused, 2, "{kind:?}");
            // A rejected refresh token is not sent again.
            first.refresh(&spec).await.unwrap_err();
            let refused = site.count(&client.id, "invalid_grant", REFRESH_TOKEN).await;
            assert_eq!(refused, 2, "{kind:?}");
        }
    }
}
