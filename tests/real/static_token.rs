//! Tests static tokens, which the library cannot replace.

use tower_bearer::{Secret, TokenCache, TokenSpec, credentials::Static};

use crate::{
    http_client::{HttpClient, KINDS, Kind},
    lifecycle::CLIENT_CREDENTIALS,
    server::{Client, Server},
    temp_folder::TempFolder,
};

/// Returns a token of the user Ada for the scope `read`.
async fn sign_in(site: &Server, client: &Client) -> String {
    site.sign_in(client, "ada", "read").await.access_token
}

fn static_client(site: &Server, kind: Kind, secret: Secret) -> (TokenCache, HttpClient) {
    let cache = TokenCache::new(Static::new(secret));
    let http = HttpClient::new(kind, site, &cache, TokenSpec::default());
    (cache, http)
}

#[tokio::test]
async fn revoked_static_token_returns_the_401() {
    for site in Server::oidc_and_django() {
        let client = site.client("client_secret_basic").await;
        for kind in KINDS {
            let token = sign_in(&site, &client).await;
            let (cache, http) = static_client(&site, kind, Secret::new(token.as_str()));
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
            // It stays in the cache, because there is no other.
            let second = cache.get(&TokenSpec::default()).await.unwrap();
            assert_eq!(second.expose(), token);
        }
        let granted = site.count(&client.id, "granted", CLIENT_CREDENTIALS);
        assert_eq!(granted.await, 0);
    }
}

#[tokio::test]
async fn replaced_token_file_is_read_after_a_401() {
    for site in Server::oidc_and_django() {
        let client = site.client("client_secret_basic").await;
        for kind in KINDS {
            let file = TempFolder::new(&sign_in(&site, &client).await);
            let (_, http) = static_client(&site, kind, Secret::from_file(file.path()).unwrap());
            let url = site.api("read");
            let answer = http.post(&url, "first").await.unwrap();
            assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");

            site.revoke(&client.id).await;
            file.replace(&sign_in(&site, &client).await);
            let answer = http.post(&url, "second").await.unwrap();
            assert_eq!(answer.outcome(), (200, "recovered"), "{kind:?}");
            assert_eq!(answer.claims["body"], "second");
        }
    }
}
