//! Clients that prove themselves by an assertion or a certificate, to oidc-provider.

use std::fs;

use serde_json::json;
use tower_bearer::{
    ErrorKind, Secret, TokenCache, TokenSpec,
    credentials::{
        ClientAuth, ClientCredentials, SigningAlgorithm, SigningKey, TokenEndpoint, assertion,
    },
    transport::Transport,
};

use crate::{
    http_client::{KINDS, Kind},
    round::{CLIENT_CREDENTIALS, Round},
    signing::{about_itself, rs256},
    site::{Client, SECRET, Site, address},
};

#[tokio::test]
async fn an_assertion_signed_with_the_secret_is_taken() {
    let (Some(plain), Some(tls)) = (Site::oidc(), Site::oidc_tls()) else {
        return;
    };
    for site in [plain, tls] {
        // As many bytes as HS256 wants.
        let secret = SECRET.repeat(3);
        let words = json!({ "auth": "client_secret_jwt", "secret": secret, "algorithm": "HS256" });
        let client = site.client_with(words).await;
        let asking = site.client("client_secret_basic").await;
        let source = async |transport| {
            ClientCredentials::from_endpoint(
                TokenEndpoint::new(&site.token_url)
                    .with_client(&client.id, ClientAuth::secret_jwt(secret.as_str()))
                    .with_transport(transport),
            )
        };
        Round::of(&site, &client)
            .asked_about_by(&asking)
            .go(source)
            .await;
    }
}

#[tokio::test]
async fn an_assertion_signed_with_a_key_of_any_kind_is_taken() {
    let Some(site) = Site::oidc() else { return };
    let asking = site.client("client_secret_basic").await;
    for algorithm in [
        SigningAlgorithm::RS256,
        SigningAlgorithm::RS384,
        SigningAlgorithm::RS512,
        SigningAlgorithm::PS256,
        SigningAlgorithm::PS384,
        SigningAlgorithm::PS512,
        SigningAlgorithm::ES256,
        SigningAlgorithm::ES384,
        SigningAlgorithm::EdDSA,
    ] {
        let client = key_client(&site, &format!("{algorithm:?}")).await;
        let key = SigningKey::from_pem(&client.key).unwrap();
        let key = key.with_algorithm(algorithm).with_key_id(&client.id);
        let auth = ClientAuth::private_key_jwt(key);
        // The token endpoint is whom an assertion is for unless it is said otherwise; the issuer is as good here.
        let auth = match algorithm {
            SigningAlgorithm::ES256 => auth.with_assertion_audience(&site.issuer),
            _ => auth,
        };
        let source = async |transport| {
            ClientCredentials::from_endpoint(
                TokenEndpoint::new(&site.token_url)
                    .with_client(&client.id, auth.clone())
                    .with_transport(transport),
            )
        };
        let round = Round::of(&site, &client).asked_about_by(&asking);
        round.go(source).await;
    }
}

#[tokio::test]
async fn an_assertion_that_somebody_else_signed_is_taken() {
    let Some(site) = Site::oidc() else { return };
    let asking = site.client("client_secret_basic").await;
    let client = key_client(&site, "RS256").await;
    let source = async |transport| {
        let (own, audience) = (client.clone(), site.issuer.clone());
        let sign = assertion::from_fn(move |_| {
            let assertion = rs256(&own.key, &about_itself(&own.id, &audience));
            std::future::ready(Ok(Secret::new(assertion)))
        });
        ClientCredentials::from_endpoint(
            TokenEndpoint::new(&site.token_url)
                .with_client(&client.id, ClientAuth::assertion(sign))
                .with_transport(transport),
        )
    };
    Round::of(&site, &client)
        .asked_about_by(&asking)
        .go(source)
        .await;
}

#[tokio::test]
async fn an_assertion_that_was_used_before_is_refused() {
    let Some(site) = Site::oidc() else { return };
    let client = key_client(&site, "RS256").await;
    let assertion = rs256(&client.key, &about_itself(&client.id, &site.issuer));
    let source = |kind: Kind| {
        ClientCredentials::from_endpoint(
            TokenEndpoint::new(&site.token_url)
                .with_client(
                    &client.id,
                    ClientAuth::assertion(Secret::new(assertion.as_str())),
                )
                .with_transport(kind.transport(&site)),
        )
    };
    let spec = TokenSpec::scopes(["read"]);
    TokenCache::new(source(Kind::Reqwest))
        .get(&spec)
        .await
        .unwrap();
    let error = TokenCache::new(source(Kind::Hyper))
        .get(&spec)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidClient, "{error}");
    // Once: what has not changed is not sent again.
    let refused = site
        .count(&client.id, "invalid_client", CLIENT_CREDENTIALS)
        .await;
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn an_assertion_for_somebody_else_is_refused() {
    let Some(site) = Site::oidc() else { return };
    let client = key_client(&site, "ES256").await;
    let key = SigningKey::from_pem(&client.key).unwrap();
    let auth =
        ClientAuth::private_key_jwt(key).with_assertion_audience("https://elsewhere.example");
    for kind in KINDS {
        let source = ClientCredentials::from_endpoint(
            TokenEndpoint::new(&site.token_url)
                .with_client(&client.id, auth.clone())
                .with_transport(kind.transport(&site)),
        );
        let error = TokenCache::new(source)
            .get(&TokenSpec::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidClient, "{error}");
    }
}

#[tokio::test]
async fn a_certificate_of_an_authority_is_taken_where_the_metadata_say() {
    let (Some(site), Some(certificate), Some(key)) = (
        Site::oidc_tls(),
        address("TOWER_BEARER_CLIENT_CERT"),
        address("TOWER_BEARER_CLIENT_KEY"),
    ) else {
        return;
    };
    let asking = site.client("client_secret_basic").await;
    let words = json!({ "auth": "tls_client_auth", "subject": "CN=client" });
    let client = site.client_with(words).await;
    let in_memory = (fs::read(&certificate).unwrap(), fs::read(&key).unwrap());
    let source = async |transport: Transport| {
        let transport = transport.with_client_identity_pem(&in_memory.0, &in_memory.1);
        with_certificate(transport.unwrap(), &site, &client)
    };
    Round::of(&site, &client)
        .asked_about_by(&asking)
        .go(source)
        .await;
    let source = async |transport: Transport| {
        let transport = transport.with_client_identity_files(&certificate, &key);
        with_certificate(transport.unwrap(), &site, &client)
    };
    Round::of(&site, &client)
        .asked_about_by(&asking)
        .go(source)
        .await;
}

#[tokio::test]
async fn a_certificate_that_the_client_signed_itself_is_taken_if_it_is_registered() {
    let Some(site) = Site::oidc_tls() else { return };
    let asking = site.client("client_secret_basic").await;
    let own = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
    let words = json!({ "auth": "self_signed_tls_client_auth", "certificate": own.cert.pem() });
    let client = site.client_with(words).await;
    let identified = |transport: Transport, by: &Identity| {
        let (certificate, key) = (by.cert.pem(), by.signing_key.serialize_pem());
        let transport = transport.with_client_identity_pem(certificate.as_bytes(), key.as_bytes());
        with_certificate(transport.unwrap(), &site, &client)
    };
    let source = async |transport| identified(transport, &own);
    Round::of(&site, &client)
        .asked_about_by(&asking)
        .go(source)
        .await;
    for kind in KINDS {
        let source = identified(kind.transport(&site), &other);
        let error = TokenCache::new(source)
            .get(&TokenSpec::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidClient, "{error}");
    }
}

type Identity = rcgen::CertifiedKey<rcgen::KeyPair>;

fn with_certificate(transport: Transport, site: &Site, client: &Client) -> ClientCredentials {
    let endpoint = TokenEndpoint::discover(&site.issuer)
        .with_client(&client.id, ClientAuth::mtls())
        .with_transport(transport);
    ClientCredentials::from_endpoint(endpoint)
}

async fn key_client(site: &Site, algorithm: &str) -> Client {
    let words = json!({ "auth": "private_key_jwt", "algorithm": algorithm });
    site.client_with(words).await
}
