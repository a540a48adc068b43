//! Tests client credentials, with the secret in the header and in the form.

use std::time::Duration;

use serde_json::json;
use tokio::time::{self, Instant};
use tower_bearer::{
    ErrorKind, TokenCache, TokenSpec,
    credentials::{ClientAuth, ClientCredentials, TokenEndpoint},
};

use crate::{
    http_client::{HttpClient, KINDS, Kind},
    lifecycle::{CLIENT_CREDENTIALS, Lifecycle},
    server::{Client, SECRET, Server},
};

fn source(site: &Server, client: &Client, kind: Kind) -> ClientCredentials {
    let Client { id, secret, .. } = client.clone();
    ClientCredentials::new(&site.token_url, id, secret).with_transport(kind.transport(site))
}

async fn secrets_work(site: &Server, client: &Client, auth: fn(String) -> ClientAuth) {
    let source = async |transport| {
        let Client { id, secret, .. } = client.clone();
        ClientCredentials::from_endpoint(
            TokenEndpoint::new(&site.token_url)
                .with_client(id, auth(secret))
                .with_transport(transport),
        )
    };
    Lifecycle::of(site, client).check(source).await;
}

#[tokio::test]
async fn oidc_provider_accepts_secrets_with_special_characters() {
    for site in Server::oidc_plain_and_tls() {
        let client = site.client("client_secret_basic").await;
        secrets_work(&site, &client, ClientAuth::basic).await;
        let client = site.client("client_secret_post").await;
        secrets_work(&site, &client, ClientAuth::post).await;
    }
}

#[tokio::test]
async fn django_accepts_secrets_with_special_characters() {
    let Some(site) = Server::django() else { return };
    // Unlike oidc-provider, Django accepts non-ASCII letters in a secret.
    let secret = format!("{SECRET}é");
    for hashed in [false, true] {
        let words = json!({ "auth": "any", "secret": secret, "hashed": hashed });
        let client = site.client_with(words).await;
        secrets_work(&site, &client, ClientAuth::basic).await;
        secrets_work(&site, &client, ClientAuth::post).await;
    }
}

#[tokio::test]
async fn token_revoked_by_its_client_is_replaced() {
    for site in Server::oidc_and_django() {
        let client = site.client("client_secret_basic").await;
        for kind in KINDS {
            let cache = TokenCache::new(source(&site, &client, kind));
            let spec = TokenSpec::scopes(["read"]);
            let http = HttpClient::new(kind, &site, &cache, spec.clone());
            let token = cache.get(&spec).await.unwrap();
            site.revoke_token(&client, &token).await;
            let answer = http.post(&site.api("read"), "body").await.unwrap();
            assert_eq!(answer.outcome(), (200, "recovered"), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn wrong_secret_is_not_retried() {
    for site in Server::oidc_and_django() {
        let mut client = site.client("client_secret_basic").await;
        client.secret = "wrong".into();
        for kind in KINDS {
            let cache = TokenCache::new(source(&site, &client, kind));
            let spec = TokenSpec::scopes(["read"]);
            for _ in 0..2 {
                let error = cache.get(&spec).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidClient, "{error}");
                assert!(!error.to_string().contains("wrong"), "{error}");
            }
        }
        let refused = site.count(&client.id, "invalid_client", CLIENT_CREDENTIALS);
        assert_eq!(refused.await, KINDS.len() as u64);
    }
}

#[tokio::test]
async fn missing_scope_returns_the_403() {
    for site in Server::oidc_and_django() {
        let client = site.client("client_secret_basic").await;
        for kind in KINDS {
            let cache = TokenCache::new(source(&site, &client, kind));
            let http = HttpClient::new(kind, &site, &cache, TokenSpec::scopes(["read"]));
            let answer = http.post(&site.api("write"), "body").await.unwrap();
            assert_eq!(answer.status, 403, "{kind:?}");
        }
        let granted = site.count(&client.id, "granted", CLIENT_CREDENTIALS);
        assert_eq!(granted.await, KINDS.len() as u64);
    }
}

#[tokio::test]
async fn unknown_scope_is_invalid_scope() {
    let Some(site) = Server::django() else { return };
    let client = site.client("client_secret_basic").await;
    for kind in KINDS {
        let cache = TokenCache::new(source(&site, &client, kind));
        let error = cache
            .get(&TokenSpec::scopes(["nothing"]))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidScope, "{error}");
    }
}

#[tokio::test]
async fn each_resource_has_its_own_token() {
    let Some(site) = Server::oidc() else { return };
    let client = site.client("client_secret_basic").await;
    for kind in KINDS {
        let cache = TokenCache::new(source(&site, &client, kind));
        let read = || TokenSpec::scopes(["read"]);
        for resource in ["urn:stock", "https://orders.example/v1"] {
            let spec = read().with_resource(resource);
            let http = HttpClient::new(kind, &site, &cache, spec.clone());
            for expected in ["none", "recovered"] {
                let answer = http.post(&site.api("read"), "body").await.unwrap();
                assert_eq!(answer.outcome(), (200, expected), "{kind:?}");
                // RFC 8707 §2.2: "the authorization server … SHOULD audience-restrict issued access tokens to the resource(s)".
                assert_eq!(answer.claims["aud"], resource);
                site.revoke(&client.id).await;
            }
        }
        let error = cache
            .get(&read().with_resource("urn:unknown"))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("invalid_target"), "{error}");
    }
}

#[tokio::test]
async fn short_lived_tokens_are_replaced() {
    let Some(site) = Server::oidc() else { return };
    let words = json!({ "auth": "client_secret_basic", "secret": SECRET, "lifetime": 2 });
    for kind in KINDS {
        let client = site.client_with(words.clone()).await;
        let cache = TokenCache::new(source(&site, &client, kind));
        let http = HttpClient::new(kind, &site, &cache, TokenSpec::scopes(["read"]));
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(4) {
            // The server counts whole seconds, so a token may expire up to a second early, which causes an occasional
            // rejection.
            let answer = http.post(&site.api("read"), "body").await.unwrap();
            assert_eq!(answer.status, 200, "{kind:?}");
            time::sleep(Duration::from_millis(100)).await;
        }
        let elapsed = start.elapsed().as_secs();
        let granted = site.count(&client.id, "granted", CLIENT_CREDENTIALS).await;
        let each_lasts_one_or_two = elapsed / 2..=elapsed + 2;
        assert!(
            each_lasts_one_or_two.contains(&granted),
            "{kind:?}: {granted} in {elapsed} s"
        );
    }
}
