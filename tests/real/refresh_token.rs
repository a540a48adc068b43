//! Refresh tokens that the server replaces at each use, and whose second use ends the sign-in.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::task::JoinSet;
use tower_bearer::{
    AuthLayer, ErrorKind, TokenCache, TokenSpec,
    credentials::{ClientAuth, RefreshToken, TokenEndpoint},
};

use crate::{
    http_client::{HttpClient, KINDS, Kind},
    round::{REFRESH_TOKEN, Round},
    site::{Client, Site},
};

const SCOPES: &str = "read write";

fn endpoint(site: &Site, client: &Client, kind: Kind) -> TokenEndpoint {
    let Client { id, secret, .. } = client.clone();
    TokenEndpoint::new(&site.token_url)
        .with_client(id, ClientAuth::basic(secret))
        .with_transport(kind.transport(site))
}

#[tokio::test]
async fn a_sign_in_goes_on_by_refresh_tokens_that_are_replaced() {
    let (Some(oidc), Some(django)) = (Site::oidc(), Site::django()) else {
        return;
    };
    for site in [oidc, django] {
        let client = site.client("client_secret_basic").await;
        let source = async |transport| {
            let login = site.sign_in(&client, "ada", SCOPES).await;
            let (id, secret) = (&client.id, client.secret.as_str());
            let endpoint = TokenEndpoint::new(&site.token_url)
                .with_client(id, ClientAuth::basic(secret))
                .with_transport(transport);
            RefreshToken::new(endpoint, login.refresh_token.as_str())
        };
        let seen = Round::of(&site, &client)
            .with_grant(REFRESH_TOKEN)
            .go(source)
            .await;
        assert!(seen.iter().all(|claims| claims["sub"] == "ada"), "{seen:?}");
    }
}

#[tokio::test]
async fn a_public_client_needs_no_secret_to_refresh() {
    let Some(site) = Site::oidc() else { return };
    let client = site.client_with(json!({ "auth": "none" })).await;
    let asking = site.client("client_secret_basic").await;
    let source = async |transport| {
        let login = site.sign_in(&client, "ada", SCOPES).await;
        let endpoint = TokenEndpoint::new(&site.token_url)
            .with_client(&client.id, ClientAuth::none())
            .with_transport(transport);
        RefreshToken::new(endpoint, login.refresh_token.as_str())
    };
    let round = Round::of(&site, &client).with_grant(REFRESH_TOKEN);
    round.asked_about_by(&asking).go(source).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_callers_use_each_refresh_token_once() {
    let Some(site) = Site::oidc() else { return };
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
        // Two specs share the sign-in.
        let [read, write] = ["read", "write"].map(|scope| {
            let layer = AuthLayer::new(cache.clone());
            let layer = layer.route(site.api_root(), TokenSpec::scopes([scope]));
            (
                HttpClient::new(kind, &site, &layer.unwrap()),
                site.api(scope),
            )
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
        // Whoever kept the last one goes on where this program ended.
        let last = kept.lock().unwrap().pop().unwrap();
        let next = TokenCache::new(RefreshToken::new(endpoint(&site, &client, kind), last));
        next.get(&TokenSpec::scopes(["read"])).await.unwrap();
    }
}

#[tokio::test]
async fn a_second_use_ends_the_sign_in_and_is_said_aloud() {
    let (Some(oidc), Some(django)) = (Site::oidc(), Site::django()) else {
        return;
    };
    for site in [oidc, django] {
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
            // Another program was given the same one.
            let error = second.get(&spec).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidGrant, "{error}");
            // RFC 9700 §4.14.2: the server can't tell which of the two is the thief, and ends the sign-in for both.
            let error = first.refresh(&spec).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidGrant, "{error}");
            let refused = site.count(&client.id, "invalid_grant", REFRESH_TOKEN).await;
            assert_eq!(refused, 2, "{kind:?}");
            // The server is not asked again with what it has refused.
            first.refresh(&spec).await.unwrap_err();
            let refused = site.count(&client.id, "invalid_grant", REFRESH_TOKEN).await;
            assert_eq!(refused, 2, "{kind:?}");
        }
    }
}
