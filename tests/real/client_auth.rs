//! Tests clients that authenticate to oidc-provider with an assertion or a certificate.

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
    jwt_signing::{about_itself, rs256},
    lifecycle::{CLIENT_CREDENTIALS, Lifecycle},
    server::{Client, SECRET, Server, address},
};

#[tokio::test]
async fn secret_jwt_authenticates() {
    for site in Server::oidc_plain_and_tls() {
        // HS256 requires 32 bytes.
        let secret = SECRET.repeat(3);
        let words = json!({ "auth": "client_secret_jwt", "secret": secret, "algorithm": "HS256" });
        let client = site.client_with(words).await;
        let source = async |transport| {
            ClientCredentials::from_endpoint(
                TokenEndpoint::new(&site.token_url)
                    .with_client(&client.id, ClientAuth::secret_jwt(secret.as_str()))
                    .with_transport(transport),
            )
        };
        Lifecycle::of(&site, &client).check(source).await;
    }
}

#[tokio::test]
async fn private_key_jwt_works_with_each_algorithm() {
    let Some(site) = Server::oidc() else { return };
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
        // The default audience is the token endpoint; the server accepts the issuer, too.
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
        let round = Lifecycle::of(&site, &client);
        round.check(source).await;
    }
}

#[tokio::test]
async fn externally_signed_assertion_authenticates() {
    let Some(site) = Server::oidc() else { return };
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
    Lifecycle::of(&site, &client).check(source).await;
}

#[tokio::test]
async fn reused_assertion_is_rejected() {
    let Some(site) = Server::oidc() else { return };
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
    // Only once: an unchanged assertion is not sent again.
    let refused = site
        .count(&client.id, "invalid_client", CLIENT_CREDENTIALS)
        .await;
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn wrong_assertion_audience_is_rejected() {
    let Some(site) = Server::oidc() else { return };
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
async fn ca_signed_certificate_authenticates_at_the_mtls_alias() {
    let (Some(site), Some(certificate), Some(key)) = (
        Server::oidc_tls(),
        address("TOWER_BEARER_CLIENT_CERT"),
        address("TOWER_BEARER_CLIENT_KEY"),
    ) else {
        return;
    };
    let words = json!({ "auth": "tls_client_auth", "subject": "CN=client" });
    let client = site.client_with(words).await;
    let in_memory = (fs::read(&certificate).unwrap(), fs::read(&key).unwrap());
    let source = async |transport: Transport| {
        let transport = transport.with_client_identity_pem(&in_memory.0, &in_memory.1);
        with_certificate(transport.unwrap(), &site, &client)
    };
    Lifecycle::of(&site, &client).check(source).await;
    let source = async |transport: Transport| {
        let transport = transport.with_client_identity_files(&certificate, &key);
        with_certificate(transport.unwrap(), &site, &client)
    };
    Lifecycle::of(&site, &client).check(source).await;
}

#[tokio::test]
async fn registered_self_signed_certificate_authenticates() {
    let Some(site) = Server::oidc_tls() else {
        return;
    };
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
    Lifecycle::of(&site, &client).check(source).await;
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

fn with_certificate(transport: Transport, site: &Server, client: &Client) -> ClientCredentials {
    let endpoint = TokenEndpoint::discover(&site.issuer)
        .with_client(&client.id, ClientAuth::mtls())
        .with_transport(transport);
    ClientCredentials::from_endpoint(endpoint)
}

async fn key_client(site: &Server, algorithm: &str) -> Client {
    let words = json!({ "auth": "private_key_jwt", "algorithm": algorithm });
    site.client_with(words).await
}
