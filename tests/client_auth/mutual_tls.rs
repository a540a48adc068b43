//! A certificate in the handshake (RFC 8705), given by value and in files that are replaced.

use tower_bearer::{
    ErrorKind, Secret, TokenCache, TokenError, TokenSource, TokenSpec,
    credentials::{ClientAuth, ClientCredentials},
    source::TokenRequest,
    testing::{AuthMethod, AuthorizationServer, ClientCertificate},
    transport::Transport,
};

use super::{TempFile, transports, vector};

async fn server() -> AuthorizationServer {
    let login = AuthorizationServer::builder().with_mutual_tls();
    login.start().await.unwrap()
}

fn trusting(login: &AuthorizationServer) -> [Transport; 2] {
    let ca = login.ca_pem().unwrap();
    transports().map(|transport| transport.with_root_certificate_pem(ca.as_bytes()).unwrap())
}

fn showing(transport: Transport, certificate: &ClientCertificate) -> Transport {
    let (chain, key) = (certificate.certificate_pem(), certificate.key_pem());
    transport
        .with_client_identity_pem(chain.as_bytes(), key.as_bytes())
        .unwrap()
}

fn source(login: &AuthorizationServer, transport: Transport) -> ClientCredentials {
    ClientCredentials::over(transport, login.token_url(), "orders", Secret::none())
        .with_client_auth(ClientAuth::mtls())
}

async fn fetch(source: &ClientCredentials) -> Result<(), TokenError> {
    source.check()?;
    let request = TokenRequest::new(TokenSpec::default());
    source.fetch(&request).await.map(drop)
}

#[tokio::test]
async fn only_the_registered_certificate_authenticates() {
    let login = server().await;
    let (right, wrong) = (
        login.client_certificate("orders").unwrap(),
        login.client_certificate("stock").unwrap(),
    );
    for transport in trusting(&login) {
        fetch(&source(&login, showing(transport.clone(), &right)))
            .await
            .unwrap();
        let call = login.requests().pop().unwrap();
        assert_eq!(call.auth, AuthMethod::Certificate);
        assert_eq!(call.parameter("client_id"), Some("orders"));
        assert_eq!(call.form.len(), 2);

        let error = fetch(&source(&login, showing(transport, &wrong))).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidClient);
    }
}

#[tokio::test]
async fn certificate_combines_with_a_secret() {
    let login = server().await;
    let certificate = login.client_certificate("orders").unwrap();
    for transport in trusting(&login) {
        let transport = showing(transport, &certificate);
        let source = ClientCredentials::over(transport, login.token_url(), "client", "secret");
        fetch(&source).await.unwrap();
        assert_eq!(login.requests().pop().unwrap().auth, AuthMethod::Basic);
    }
}

#[tokio::test]
async fn unknown_certificate_authority_fails_the_handshake() {
    let login = server().await;
    let stranger = server().await.client_certificate("orders").unwrap();
    for transport in trusting(&login) {
        let error = fetch(&source(&login, showing(transport, &stranger))).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Network);
    }
    assert_eq!(login.counts().requests, 0);
}

#[tokio::test]
async fn mismatched_key_is_a_configuration_error() {
    let login = server().await;
    for transport in trusting(&login) {
        let (chain, key) = (vector("p256.certificate.pem"), vector("p384.pkcs8.pem"));
        let transport = transport
            .with_client_identity_pem(chain.as_bytes(), key.as_bytes())
            .unwrap();
        let error = fetch(&source(&login, transport)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        assert!(error.to_string().contains("belong together"), "{error}");
    }
}

#[tokio::test]
async fn every_key_format_builds_a_client_identity() {
    let login = server().await;
    for transport in trusting(&login) {
        for key in [
            "rsa.pkcs1.pem",
            "rsa.pkcs8.pem",
            "p256.sec1.pem",
            "p384.sec1.pem",
            "ed25519.pkcs8.pem",
        ] {
            let (name, _) = key.split_once('.').unwrap();
            let (chain, key) = (vector(&format!("{name}.certificate.pem")), vector(key));
            let transport = transport
                .clone()
                .with_client_identity_pem(chain.as_bytes(), key.as_bytes())
                .unwrap();
            // The client can be built; the server knows none of them.
            let error = fetch(&source(&login, transport)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Network, "{name}: {error}");
        }
    }
}

#[tokio::test]
async fn custom_transport_rejects_a_client_identity() {
    let own = Transport::from_fn(async |_| Ok(http::Response::new("{}".into())));
    let error = own
        .clone()
        .with_client_identity_pem(
            vector("p256.certificate.pem").as_bytes(),
            vector("p256.sec1.pem").as_bytes(),
        )
        .unwrap_err();
    assert!(error.to_string().contains("your own"), "{error}");
    let source = ClientCredentials::over(own, "https://login.example", "orders", Secret::none());
    source.with_client_auth(ClientAuth::mtls()).check().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_files_are_reloaded() {
    let login = server().await;
    for transport in trusting(&login) {
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
        // One connection for all three.
        let connections = |calls: &[tower_bearer::testing::TokenCall]| {
            let mut ids: Vec<_> = calls.iter().map(|call| call.connection).collect();
            ids.dedup();
            ids.len()
        };
        assert_eq!(connections(&login.requests()), 1);

        let second = login.client_certificate("orders").unwrap();
        let error = cache.refresh(&spec).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidClient);
        // One file after the other: in between they don't belong together, and the first pair still asks.
        chain.write(second.certificate_pem());
        let error = fetch(&source(&login, transport)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidClient);
        key.write(second.key_pem());
        // The hold is looked at once a second.
        let end = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
        while let Err(error) = cache.refresh(&spec).await {
            assert!(tokio::time::Instant::now() < end, "{error}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        login.reset_counts();
    }
}
