//! A token that somebody made by hand: nobody can replace it but whoever made it.

use std::{env, fs};

use tower_bearer::{AuthLayer, Secret, TokenCache, TokenSpec, credentials::Static};

use crate::{
    http_client::{HttpClient, KINDS, Kind},
    lifecycle::CLIENT_CREDENTIALS,
    server::{Client, Server},
};

/// A token of Ada's for the scope `read`, made at the provider's door.
async fn made(site: &Server, client: &Client) -> String {
    site.sign_in(client, "ada", "read").await.access_token
}

fn behind(site: &Server, kind: Kind, secret: Secret) -> (TokenCache, HttpClient) {
    let cache = TokenCache::new(Static::new(secret));
    let layer = AuthLayer::new(cache.clone());
    let layer = layer.route(site.api_root(), TokenSpec::default()).unwrap();
    (cache, HttpClient::new(kind, site, &layer))
}

#[tokio::test]
async fn a_token_made_by_hand_serves_until_it_is_revoked_and_then_the_401_is_the_callers() {
    let (Some(oidc), Some(django)) = (Server::oidc(), Server::django()) else {
        return;
    };
    for site in [oidc, django] {
        let client = site.client("client_secret_basic").await;
        for kind in KINDS {
            let token = made(&site, &client).await;
            let (cache, http) = behind(&site, kind, Secret::new(token.as_str()));
            let url = site.api("read");
            for _ in 0..2 {
                let answer = http.post(&url, "body").await.unwrap();
                assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");
                assert_eq!(answer.claims["sub"], "ada");
            }
            let first = cache.get(&TokenSpec::default()).await.unwrap();
            assert_eq!(first.expose(), token);
            let claims = site.introspect(&client, &first).await.unwrap();
            assert_eq!(claims["client_id"], client.id.as_str());

            assert!(site.revoke(&client.id).await >= 1);
            assert_eq!(site.introspect(&client, &first).await, None);
            let answer = http.post(&url, "body").await.unwrap();
            assert_eq!(answer.outcome(), (401, "same_token"), "{kind:?}");
            // It stays in service: there is no other.
            let second = cache.get(&TokenSpec::default()).await.unwrap();
            assert_eq!(second.expose(), token);
        }
        let asked = site.count(&client.id, "granted", CLIENT_CREDENTIALS);
        assert_eq!(asked.await, 0);
    }
}

#[tokio::test]
async fn a_token_that_is_replaced_in_its_file_is_taken_up_at_the_next_401() {
    let (Some(oidc), Some(django)) = (Server::oidc(), Server::django()) else {
        return;
    };
    for site in [oidc, django] {
        let client = site.client("client_secret_basic").await;
        for kind in KINDS {
            let name = format!("tower-bearer-{}-{kind:?}", client.id);
            let path = env::temp_dir().join(name);
            fs::write(&path, made(&site, &client).await).unwrap();
            let (_, http) = behind(&site, kind, Secret::from_file(&path).unwrap());
            let url = site.api("read");
            let answer = http.post(&url, "first").await.unwrap();
            assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");

            site.revoke(&client.id).await;
            fs::write(&path, made(&site, &client).await).unwrap();
            let answer = http.post(&url, "second").await.unwrap();
            assert_eq!(answer.outcome(), (200, "recovered"), "{kind:?}");
            assert_eq!(answer.claims["body"], "second");
            fs::remove_file(&path).unwrap();
        }
    }
}
