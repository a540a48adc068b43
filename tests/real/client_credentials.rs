//! Client credentials, with the client's secret in the header and in the form.

use std::time::Duration;

use serde_json::json;
use tokio::time::{self, Instant};
use tower_bearer::{
    AuthLayer, ErrorKind, TokenCache, TokenSpec,
    credentials::{ClientAuth, ClientCredentials, TokenEndpoint},
};

use crate::{
    http_client::{HttpClient, KINDS, Kind},
    round::{CLIENT_CREDENTIALS, Round},
    site::{Client, SECRET, Site},
};

fn source(site: &Site, client: &Client, kind: Kind) -> ClientCredentials {
    let Client { id, secret, .. } = client.clone();
    ClientCredentials::new(&site.token_url, id, secret).with_transport(kind.transport(site))
}

async fn secrets_work(site: &Site, client: &Client, auth: fn(String) -> ClientAuth) {
    let source = async |transport| {
        let Client { id, secret, .. } = client.clone();
        ClientCredentials::from_endpoint(
            TokenEndpoint::new(&site.token_url)
                .with_client(id, auth(secret))
                .with_transport(transport),
        )
    };
    Round::of(site, client).go(source).await;
}

#[tokio::test]
async fn oidc_provider_takes_a_secret_of_odd_characters_in_the_header_and_in_the_form() {
    let (Some(plain), Some(tls)) = (Site::oidc(), Site::oidc_tls()) else {
        return;
    };
    for site in [plain, tls] {
        let client = site.client("client_secret_basic").await;
        secrets_work(&site, &client, ClientAuth::basic).await;
        let client = site.client("client_secret_post").await;
        secrets_work(&site, &client, ClientAuth::post).await;
    }
}

#[tokio::test]
async fn django_takes_a_secret_of_odd_characters_in_the_header_and_in_the_form() {
    let Some(site) = Site::django() else { return };
    // oidc-provider refuses letters beyond ASCII in a secret; this one takes them.
    let secret = format!("{SECRET}é");
    for hashed in [false, true] {
        let words = json!({ "auth": "any", "secret": secret, "hashed": hashed });
        let client = site.client_with(words).await;
        secrets_work(&site, &client, ClientAuth::basic).await;
        secrets_work(&site, &client, ClientAuth::post).await;
    }
}

#[tokio::test]
async fn a_token_that_its_client_revoked_is_replaced_unseen() {
    let (Some(oidc), Some(django)) = (Site::oidc(), Site::django()) else {
        return;
    };
    for site in [oidc, django] {
        let client = site.client("client_secret_basic").await;
        for kind in KINDS {
            let cache = TokenCache::new(source(&site, &client, kind));
            let spec = TokenSpec::scopes(["read"]);
            let layer = AuthLayer::new(cache.clone());
            let layer = layer.route(site.api_root(), spec.clone()).unwrap();
            let http = HttpClient::new(kind, &site, &layer);
            let token = cache.get(&spec).await.unwrap();
            site.revoke_token(&client, &token).await;
            let answer = http.post(&site.api("read"), "body").await.unwrap();
            assert_eq!(answer.outcome(), (200, "recovered"), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn a_wrong_secret_is_the_providers_refusal_and_is_not_tried_again() {
    let (Some(oidc), Some(django)) = (Site::oidc(), Site::django()) else {
        return;
    };
    for site in [oidc, django] {
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
async fn a_scope_that_the_token_lacks_is_the_callers_403() {
    let (Some(oidc), Some(django)) = (Site::oidc(), Site::django()) else {
        return;
    };
    for site in [oidc, django] {
        let client = site.client("client_secret_basic").await;
        for kind in KINDS {
            let cache = TokenCache::new(source(&site, &client, kind));
            let layer = AuthLayer::new(cache);
            let layer = layer.route(site.api_root(), TokenSpec::scopes(["read"]));
            let http = HttpClient::new(kind, &site, &layer.unwrap());
            let answer = http.post(&site.api("write"), "body").await.unwrap();
            assert_eq!(answer.status, 403, "{kind:?}");
        }
        let granted = site.count(&client.id, "granted", CLIENT_CREDENTIALS);
        assert_eq!(granted.await, KINDS.len() as u64);
    }
}

#[tokio::test]
async fn a_scope_that_the_provider_does_not_have_is_its_refusal() {
    let Some(site) = Site::django() else { return };
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
async fn tokens_for_two_resources_are_two_tokens_and_a_jwt_does_as_well() {
    let Some(site) = Site::oidc() else { return };
    let client = site.client("client_secret_basic").await;
    for kind in KINDS {
        let cache = TokenCache::new(source(&site, &client, kind));
        let read = || TokenSpec::scopes(["read"]);
        for resource in ["urn:stock", "https://orders.example/v1"] {
            let spec = read().with_resource(resource);
            let layer = AuthLayer::new(cache.clone());
            let layer = layer.route(site.api_root(), spec.clone()).unwrap();
            let http = HttpClient::new(kind, &site, &layer);
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
async fn tokens_of_two_seconds_follow_each_other_unseen() {
    let Some(site) = Site::oidc() else { return };
    let words = json!({ "auth": "client_secret_basic", "secret": SECRET, "lifetime": 2 });
    for kind in KINDS {
        let client = site.client_with(words.clone()).await;
        let cache = TokenCache::new(source(&site, &client, kind));
        let layer = AuthLayer::new(cache);
        let layer = layer.route(site.api_root(), TokenSpec::scopes(["read"]));
        let http = HttpClient::new(kind, &site, &layer.unwrap());
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(4) {
            // The server counts whole seconds, so it ends a token up to a second before the lifetime that it gave: that is
            // a refusal now and then.
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
