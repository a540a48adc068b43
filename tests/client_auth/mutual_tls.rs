//! Tests mutual TLS (RFC 8705) with certificates given as values and as files that are replaced.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tower_bearer::{
    ErrorKind, TokenCache, TokenError, TokenSource, TokenSpec,
    credentials::{ClientAuth, ClientCredentials, TokenEndpoint},
    source::TokenRequest,
    testing::{AuthMethod, AuthorizationServer, ClientCertificate},
    transport::Transport,
};

use super::{TempFile, start, transports, vector};

async fn server() -> AuthorizationServer {
    start(AuthorizationServer::builder().with_mutual_tls()).await
}

fn trusting_transports(login: &AuthorizationServer) -> [Transport; 2] {
    let ca = login.ca_pem().unwrap();
    transports().map(|transport| transport.with_root_certificate_pem(ca.as_bytes()).unwrap())
}

fn with_identity(transport: &Transport, chain: &str, key: &str) -> Transport {
    let transport = transport.clone();
    let transport = transport.with_client_identity_pem(chain.as_bytes(), key.as_bytes());
    transport.unwrap()
}

fn with_certificate(transport: &Transport, certificate: &ClientCertificate) -> Transport {
    with_identity(
        transport,
        certificate.certificate_pem(),
        certificate.key_pem(),
    )
}

fn source(login: &AuthorizationServer, transport: Transport) -> ClientCredentials {
    ClientCredentials::from_endpoint(
        TokenEndpoint::new(login.token_url())
            .with_client("orders", ClientAuth::mtls())
            .with_transport(transport),
    )
}

async fn fetch(source: &ClientCredentials) -> Result<(), TokenError> {
    source.check()?;
    let request = TokenRequest::new(TokenSpec::default());
    source.fetch(&request).await.map(drop)
}

#[tokio::test]
async fn only_the_registered_certificate_authenticates() {
    let login = server().await;
    let [right, wrong] = ["orders", "stock"].map(|id| login.client_certificate(id).unwrap());
    for transport in trusting_transports(&login) {
        let authenticated = source(&login, with_certificate(&transport, &right));
        fetch(&authenticated).await.unwrap();
        let call = login.requests().pop().unwrap();
        assert_eq!(call.auth, AuthMethod::Certificate);
        assert_eq!(call.parameter("client_id"), Some("orders"));
        assert_eq!(call.form.len(), 2);

        let error = fetch(&source(&login, with_certificate(&transport, &wrong))).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidClient);
    }
}

#[tokio::test]
async fn certificate_combines_with_a_secret() {
    let login = server().await;
    let certificate = login.client_certificate("orders").unwrap();
    for transport in trusting_transports(&login) {
        let transport = with_certificate(&transport, &certificate);
        let source =
            ClientCredentials::new(login.token_url(), "client", "secret").with_transport(transport);
        fetch(&source).await.unwrap();
        assert_eq!(login.requests().pop().unwrap().auth, AuthMethod::Basic);
    }
}

#[tokio::test]
async fn unknown_certificate_authority_fails_the_handshake() {
    let login = server().await;
    let stranger = server().await.client_certificate("orders").unwrap();
    for transport in trusting_transports(&login) {
        let error = fetch(&source(&login, with_certificate(&transport, &stranger))).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Network);
    }
    assert_eq!(login.counts().requests, 0);
}

#[tokio::test]
async fn mismatched_key_is_a_configuration_error() {
    let login = server().await;
    for transport in trusting_transports(&login) {
        let (chain, key) = (vector("p256.certificate.pem"), vector("p384.pkcs8.pem"));
        let transport = with_identity(&transport, &chain, &key);
        let error = fetch(&source(&login, transport)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        assert!(error.to_string().contains("matches its key"), "{error}");
    }
}

#[tokio::test]
async fn every_key_format_builds_a_client_identity() {
    let login = server().await;
    for transport in trusting_transports(&login) {
        for key in "rsa.pkcs1 rsa.pkcs8 p256.sec1 p384.sec1 ed25519.pkcs8".split(' ') {
            let (name, _) = key.split_once('.').unwrap();
            let chain = vector(&format!("{name}.certificate.pem"));
            let key = vector(&format!("{key}.pem"));
            let transport = with_identity(&transport, &chain, &key);
            // The client can be built; the server does not trust the certificate.
            let error = fetch(&source(&login, transport)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Network, "{name}: {error}");
        }
    }
}

#[tokio::test]
async fn custom_transport_rejects_a_client_identity() {
    let custom = Transport::from_fn(async |_| Ok(http::Response::new("{}".into())));
    let (chain, key) = (vector("p256.certificate.pem"), vector("p256.sec1.pem"));
    let error = custom
        .clone()
        .with_client_identity_pem(chain.as_bytes(), key.as_bytes());
    let error = error.unwrap_err();
    assert!(error.to_string().contains("custom client"), "{error}");
    let endpoint = TokenEndpoint::new("https://login.example")
        .with_client("orders", ClientAuth::mtls())
        .with_transport(custom);
    endpoint.check().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_files_are_reloaded() {
    let login = server().await;
    for transport in trusting_transports(&login) {
        let first = login.client_certificate("orders").unwrap();
        let (chain, key) = (
            TempFile::new(first.certificate_pem()),
            TempFile::new(first.key_pem()),
        );
        let transport = transport
            .with_client_identity_files(chain.path(), key.path())
            .unwrap();
        let cache = TokenCache::new(source(&login, transport.clone()));
        let spec = TokenSpec::default();
        for _ in 0..3 {
            cache.refresh(&spec).await.unwrap();
        }
        // All three use one connection.
        let calls = login.requests();
        let first_one = calls[0].connection;
        assert!(calls.iter().all(|call| call.connection == first_one));

        let second = login.client_certificate("orders").unwrap();
        let error = cache.refresh(&spec).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidClient);
        // The files are replaced one after the other. While they do not match, the first pair stays in use.
        chain.write(second.certificate_pem());
        let error = fetch(&source(&login, transport)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidClient);
        key.write(second.key_pem());
        // The credentials are checked once a second during a back-off.
        let replaced = async {
            while cache.refresh(&spec).await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(5), replaced).await.unwrap();
        login.reset_counts();
    }
}
