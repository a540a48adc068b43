//! Tokens for whomever a SAML 2.0 assertion speaks for.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use serde_json::{Value, json};
use tower_bearer::{
    ErrorKind, Secret, TokenCache, TokenSpec,
    credentials::{ClientAuth, Saml2Bearer, TokenEndpoint, assertion},
    transport::Transport,
};

use crate::{
    http_client::KINDS,
    round::{Round, SAML2_BEARER},
    site::{Client, Site},
};

/// XML about this person, of no other test. Its base64url has every odd character, and would be padded.
fn xml(client: &Client, account: &str) -> String {
    let text = format!(
        "<saml:Assertion ID=\"{}\">\n  <saml:NameID>{account} ÿþ¿~~~~~?????</saml:NameID>\n</saml:Assertion>",
        client.id
    );
    let gap = (4 - text.len() % 3) % 3;
    text + &" ".repeat(gap)
}

fn endpoint(site: &Site, client: &Client, transport: Transport) -> TokenEndpoint {
    let Client { id, secret, .. } = client.clone();
    TokenEndpoint::new(&site.token_url)
        .with_client(id, ClientAuth::basic(secret))
        .with_transport(transport)
}

/// Somebody issues it about this person; or takes it back.
async fn issue(site: &Site, text: &str, account: Value) {
    let words = json!({ "text": text, "account": account });
    site.call("assertion", words).await;
}

#[tokio::test]
async fn the_person_of_a_saml_assertion_gets_a_token() {
    let (Some(plain), Some(tls)) = (Site::oidc(), Site::oidc_tls()) else {
        return;
    };
    for site in [plain, tls] {
        let client = site.client("client_secret_basic").await;
        let text = xml(&client, "ada");
        issue(&site, &text, json!("ada")).await;
        let source = async |transport| {
            Saml2Bearer::new(
                endpoint(&site, &client, transport),
                Secret::new(text.as_str()),
            )
        };
        let round = Round::of(&site, &client).with_grant(SAML2_BEARER);
        let seen = round.go(source).await;
        assert!(seen.iter().all(|claims| claims["sub"] == "ada"), "{seen:?}");
    }
}

#[tokio::test]
async fn a_saml_assertion_is_made_anew_for_each_token() {
    let Some(site) = Site::oidc() else { return };
    let client = site.client("client_secret_basic").await;
    let made = Arc::new(AtomicU32::new(0));
    let source = async |transport| {
        let (site, client, made) = (site.clone(), client.clone(), made.clone());
        let endpoint = endpoint(&site, &client, transport);
        let assertion = assertion::from_fn(move |wanted| {
            let (site, client) = (site.clone(), client.clone());
            let number = made.fetch_add(1, Relaxed);
            async move {
                assert_eq!(wanted.audience(), site.token_url);
                let text = xml(&client, &format!("ada {number}"));
                issue(&site, &text, json!("ada")).await;
                Ok(Secret::new(text))
            }
        });
        Saml2Bearer::new(endpoint, assertion)
    };
    let round = Round::of(&site, &client).with_grant(SAML2_BEARER);
    round.go(source).await;
    // Two tokens over each transport.
    assert_eq!(made.load(Relaxed), 4);
}

#[tokio::test]
async fn a_saml_assertion_that_does_not_hold_is_refused_and_shown_to_nobody() {
    let Some(site) = Site::oidc() else { return };
    let client = site.client("client_secret_basic").await;
    let text = xml(&client, "ada");
    for kind in KINDS {
        let cache = TokenCache::new(Saml2Bearer::new(
            endpoint(&site, &client, kind.transport(&site)),
            Secret::new(text.as_str()),
        ));
        let spec = TokenSpec::scopes(["read"]);
        issue(&site, &text, json!("ada")).await;
        cache.get(&spec).await.unwrap();
        issue(&site, &text, Value::Null).await;
        let error = cache.refresh(&spec).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidGrant, "{error}");
        assert!(
            !format!("{error} {error:?} {cache:?}").contains("saml:Assertion"),
            "{error:?}"
        );
    }
    let refused = site.count(&client.id, "invalid_grant", SAML2_BEARER).await;
    assert_eq!(refused, KINDS.len() as u64);
}
