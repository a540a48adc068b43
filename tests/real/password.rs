//! Tests the password grant.

use serde_json::json;
use tower_bearer::{
    ErrorKind, Secret, TokenCache, TokenSpec,
    credentials::{ClientAuth, Password, TokenEndpoint},
    transport::Transport,
};

use crate::{
    http_client::KINDS,
    lifecycle::{Lifecycle, PASSWORD},
    server::{Client, SECRET, Server},
};

/// Contains characters that a form encodes, and non-ASCII letters.
const WORD: &str = "a b&c=d%+é/ÿ";

/// Returns both providers, each with a client that may use the password grant.
async fn providers() -> Option<[(Server, Client); 2]> {
    let (oidc, django) = (Server::oidc()?, Server::django()?);
    let client = oidc.client("client_secret_basic").await;
    let words = json!({ "auth": "any", "secret": SECRET, "grant": PASSWORD });
    let djangos = django.client_with(words).await;
    Some([(oidc, client), (django, djangos)])
}

fn source(
    site: &Server,
    client: &Client,
    transport: Transport,
    name: &str,
    password: &str,
) -> Password {
    let Client { id, secret, .. } = client.clone();
    let endpoint = TokenEndpoint::new(&site.token_url)
        .with_client(id, ClientAuth::basic(secret))
        .with_transport(transport);
    Password::new(endpoint, name, Secret::new(password))
}

#[tokio::test]
async fn password_with_special_characters_gets_a_token() {
    let Some(providers) = providers().await else {
        return;
    };
    for (site, client) in providers {
        let name = site.person(&client, WORD).await;
        let source = async |transport| source(&site, &client, transport, &name, WORD);
        let seen = Lifecycle::of(&site, &client)
            .with_grant(PASSWORD)
            .check(source)
            .await;
        assert!(seen.iter().all(|claims| claims["sub"] == name), "{seen:?}");
    }
}

#[tokio::test]
async fn wrong_password_is_sent_once_and_redacted() {
    let Some(providers) = providers().await else {
        return;
    };
    for (site, client) in providers {
        let name = site.person(&client, WORD).await;
        for kind in KINDS {
            let transport = kind.transport(&site);
            let cache = TokenCache::new(source(&site, &client, transport, &name, "not it"));
            for _ in 0..2 {
                let error = cache.get(&TokenSpec::scopes(["read"])).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidGrant, "{error}");
                let said = format!("{error} {error:?} {cache:?}");
                assert!(!said.contains("not it") && !said.contains(&name), "{said}");
            }
        }
        let refused = site.count(&client.id, "invalid_grant", PASSWORD).await;
        assert_eq!(refused, KINDS.len() as u64);
    }
}
