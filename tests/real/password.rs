//! The password grant, which django-oauth-toolkit still has of its own.

use serde_json::json;
use tower_bearer::{
    ErrorKind, Secret, TokenCache, TokenSpec,
    credentials::{ClientAuth, Password, TokenEndpoint},
    transport::Transport,
};

use crate::{
    http_client::KINDS,
    round::{PASSWORD, Round},
    site::{Client, SECRET, Site},
};

/// What a form has to encode, and letters beyond ASCII.
const WORD: &str = "a b&c=d%+é/ÿ";

/// A provider, and a client that may ask with a person's password.
async fn scenes() -> Option<[(Site, Client); 2]> {
    let (oidc, django) = (Site::oidc()?, Site::django()?);
    let client = oidc.client("client_secret_basic").await;
    let words = json!({ "auth": "any", "secret": SECRET, "grant": PASSWORD });
    let djangos = django.client_with(words).await;
    Some([(oidc, client), (django, djangos)])
}

fn source(
    site: &Site,
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
async fn a_name_and_a_password_of_odd_characters_get_a_token() {
    let Some(scenes) = scenes().await else { return };
    for (site, client) in scenes {
        let name = site.person(&client, WORD).await;
        let source = async |transport| source(&site, &client, transport, &name, WORD);
        let seen = Round::of(&site, &client)
            .with_grant(PASSWORD)
            .go(source)
            .await;
        assert!(seen.iter().all(|claims| claims["sub"] == name), "{seen:?}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_and_shown_to_nobody() {
    let Some(scenes) = scenes().await else { return };
    for (site, client) in scenes {
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
