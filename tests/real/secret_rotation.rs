//! Tests rotation of secrets and keys, and mass revocation, under load.

use std::time::Duration;

use serde_json::json;
use tokio::{task::JoinSet, time};
use tower_bearer::{
    ErrorKind, Secret, TokenCache, TokenSpec,
    credentials::{ClientAuth, ClientCredentials, SigningKey, TokenEndpoint},
};

use crate::{
    http_client::{HttpClient, KINDS, Kind},
    lifecycle::CLIENT_CREDENTIALS,
    server::{Client, SECRET, Server},
    temp_folder::TempFolder,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_401s_share_one_fetch() {
    for site in Server::oidc_and_django() {
        for kind in KINDS {
            let client = site.client("client_secret_basic").await;
            let Client { id, secret, .. } = client.clone();
            let source = ClientCredentials::new(&site.token_url, id, secret)
                .with_transport(kind.transport(&site));
            let cache = TokenCache::new(source);
            let http = HttpClient::new(kind, &site, &cache, TokenSpec::scopes(["read"]));
            for round in 1..=2 {
                let mut crowd = JoinSet::new();
                for number in 0..100 {
                    let (http, url) = (http.clone(), site.api("read"));
                    crowd.spawn(async move {
                        let body = number.to_string();
                        let answer = http.post(&url, &body).await.unwrap();
                        assert_eq!((answer.status, &answer.claims["body"]), (200, &body.into()));
                    });
                }
                crowd.join_all().await;
                let granted = site.count(&client.id, "granted", CLIENT_CREDENTIALS).await;
                assert_eq!(granted, round, "{kind:?}");
                site.revoke(&client.id).await;
            }
            assert_eq!(cache.stats().rejections, 1, "{kind:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secret_rotates_under_load() {
    for site in Server::oidc_and_django() {
        for kind in KINDS {
            let client = site.client("client_secret_post").await;
            let file = TempFolder::new(&client.secret);
            let secret = Secret::from_file(file.path()).unwrap();
            let endpoint = TokenEndpoint::new(&site.token_url)
                .with_client(&client.id, ClientAuth::post(secret))
                .with_transport(kind.transport(&site));
            let source = ClientCredentials::from_endpoint(endpoint);
            check_rotation(
                &site,
                kind,
                &client,
                TokenCache::new(source),
                async |round| {
                    let secret = format!("{SECRET} {round}");
                    file.replace(&secret);
                    site.change_secret(&client.id, &secret).await;
                },
            )
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_rotates_under_load() {
    let Some(site) = Server::oidc() else { return };
    for kind in KINDS {
        let words = json!({ "auth": "private_key_jwt", "algorithm": "ES256" });
        let client = site.client_with(words).await;
        let file = TempFolder::new(&client.key);
        let key = SigningKey::from_file(file.path()).unwrap();
        let endpoint = TokenEndpoint::new(&site.token_url)
            .with_client(&client.id, ClientAuth::private_key_jwt(key))
            .with_transport(kind.transport(&site));
        let source = ClientCredentials::from_endpoint(endpoint);
        check_rotation(&site, kind, &client, TokenCache::new(source), async |_| {
            file.replace(&site.change_key(&client.id, "ES256").await);
        })
        .await;
    }
}

/// Sends a hundred requests a second, and rotates the client's credential twice a second. Checks that the next token is
/// requested only with the new credential, and that no request fails.
async fn check_rotation(
    site: &Server,
    kind: Kind,
    client: &Client,
    cache: TokenCache,
    change: impl AsyncFn(u32),
) {
    let spec = TokenSpec::scopes(["read"]);
    let http = HttpClient::new(kind, site, &cache, spec.clone());
    // The first token is fetched before the first rotation.
    cache.get(&spec).await.unwrap();
    for round in 0..4 {
        let mut requests = JoinSet::new();
        let mut pace = time::interval(Duration::from_millis(10));
        for number in 0..50 {
            pace.tick().await;
            let (http, url) = (http.clone(), site.api("read"));
            requests.spawn(async move { http.post(&url, "body").await.unwrap().status });
            if number == 25 {
                change(round).await;
                site.revoke(&client.id).await;
            }
        }
        // A request that meets two revocations would be rejected twice.
        let all = requests.join_all().await;
        assert_eq!(all, [200; 50], "{kind:?}");
    }
    let count = |outcome| site.count(&client.id, outcome, CLIENT_CREDENTIALS);
    assert_eq!(count("invalid_client").await, 0, "{kind:?}");
    assert_eq!(count("granted").await, 5, "{kind:?}");
}

#[tokio::test]
async fn rotated_secret_ends_the_back_off() {
    for site in Server::oidc_and_django() {
        for kind in KINDS {
            let client = site.client("client_secret_basic").await;
            let file = TempFolder::new(&client.secret);
            let secret = Secret::from_file(file.path()).unwrap();
            let source = ClientCredentials::new(&site.token_url, &client.id, secret)
                .with_transport(kind.transport(&site));
            let cache = TokenCache::new(source);
            let spec = TokenSpec::scopes(["read"]);
            let http = HttpClient::new(kind, &site, &cache, spec.clone());
            cache.get(&spec).await.unwrap();

            // The server already has the new secret, the client still the old one.
            let next = format!("{SECRET} of tomorrow");
            site.change_secret(&client.id, &next).await;
            let error = cache.refresh(&spec).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidClient, "{error}");
            let answer = http.post(&site.api("read"), "body").await.unwrap();
            assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");

            file.replace(&next);
            site.revoke(&client.id).await;
            let answer = http.post(&site.api("read"), "body").await.unwrap();
            assert_eq!(answer.outcome(), (200, "recovered"), "{kind:?}");
        }
    }
}
