//! The token endpoint over both transports: plain and TLS, with the secret in the header and in the form.

use std::time::Duration;

use http::Version;
use tower_bearer::{
    ErrorKind, TokenCache, TokenError, TokenSpec,
    credentials::{ClientAuth, ClientCredentials, TokenEndpoint},
    testing::{AuthMethod, AuthorizationServer},
    transport::Transport,
};

/// Blank, colon, percent, plus, slash, the form's own characters, and letters beyond ASCII.
const SECRET: &str = "a b:c%d+e/f&g=h é\u{1f511}";
const CLIENT: &str = "or:ders é";

pub(crate) fn transports() -> [Transport; 2] {
    [Transport::reqwest(), Transport::hyper()]
}

#[tokio::test]
async fn a_secret_of_every_character_arrives_in_the_header_and_in_the_form() {
    for tls in [false, true] {
        let mut login = AuthorizationServer::builder().with_client(CLIENT, SECRET);
        if tls {
            login = login.with_tls();
        }
        let login = login.start().await.unwrap();
        for transport in transports() {
            let transport = match login.ca_pem() {
                Some(ca) => transport.with_root_certificate_pem(ca.as_bytes()).unwrap(),
                None => transport,
            };
            for (auth, method) in [
                (ClientAuth::basic(SECRET), AuthMethod::Basic),
                (ClientAuth::post(SECRET), AuthMethod::Post),
            ] {
                login.reset_counts();
                let url = login.token_url();
                let source = ClientCredentials::from_endpoint(
                    TokenEndpoint::new(url)
                        .with_client(CLIENT, auth)
                        .with_transport(transport.clone()),
                );
                let spec = TokenSpec::scopes(["b", "a"]).with_audience("stock");
                let token = TokenCache::new(source).get(&spec).await.unwrap();
                assert!(login.is_valid(token.expose(), Some("a b")));
                let left = token.expires_at().duration_since(token.requested_at());
                assert_eq!(left.unwrap(), Duration::from_secs(3600));
                let call = login.requests().pop().unwrap();
                assert_eq!(call.auth, method, "{transport:?}");
                assert_eq!(call.parameter("audience"), Some("stock"));
                let version = if tls {
                    Version::HTTP_2
                } else {
                    Version::HTTP_11
                };
                assert_eq!(call.version, version, "{transport:?}");
                assert_eq!(login.counts().issued, 1);
            }
        }
    }
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused_before_anything_is_sent() {
    let login = AuthorizationServer::builder()
        .with_tls()
        .start()
        .await
        .unwrap();
    for transport in transports() {
        let source =
            ClientCredentials::new(login.token_url(), "client", "secret").with_transport(transport);
        let error = TokenCache::new(source)
            .get(&TokenSpec::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network, "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
        assert_eq!(login.counts().requests, 0);
    }
}

#[tokio::test]
async fn a_wrong_secret_is_our_fault_and_is_not_tried_again() {
    let login = AuthorizationServer::start().await.unwrap();
    for transport in transports() {
        for auth in [ClientAuth::basic("wrong"), ClientAuth::post("wrong")] {
            login.reset_counts();
            let url = login.token_url();
            let endpoint = TokenEndpoint::new(url)
                .with_client("client", auth)
                .with_transport(transport.clone());
            let cache = TokenCache::new(ClientCredentials::from_endpoint(endpoint));
            for _ in 0..3 {
                let error = cache.get(&TokenSpec::default()).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidClient, "{error}");
                assert!(!error.is_retryable());
            }
            assert_eq!((login.counts().requests, login.counts().refused), (1, 1));
        }
    }
}

#[tokio::test]
async fn a_scope_that_is_refused_holds_back_no_other() {
    let login = AuthorizationServer::start().await.unwrap();
    login.allow_scopes(Some(vec!["read".into()]));
    for transport in transports() {
        let source =
            ClientCredentials::new(login.token_url(), "client", "secret").with_transport(transport);
        let cache = TokenCache::new(source);
        let error = cache.get(&TokenSpec::scopes(["write"])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidScope, "{error}");
        cache.get(&TokenSpec::scopes(["read"])).await.unwrap();
    }
}

#[tokio::test]
async fn nobody_listens_there() {
    let login = AuthorizationServer::start().await.unwrap();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", closed.local_addr().unwrap());
    drop(closed);
    for transport in transports() {
        let source = ClientCredentials::new(&url, "client", "secret").with_transport(transport);
        let cache = TokenCache::new(source);
        let error = cache.get(&TokenSpec::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network, "{error}");
        assert_eq!(cache.stats().token_requests, 3);
    }
    assert_eq!(login.counts().requests, 0);
}

#[tokio::test]
async fn a_transport_outlives_the_runtime_of_its_first_request() {
    for transport in transports() {
        let ask = move || {
            let transport = transport.clone();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async move {
                let login = AuthorizationServer::start().await.unwrap();
                let source = ClientCredentials::new(login.token_url(), "client", "secret")
                    .with_transport(transport);
                TokenCache::new(source)
                    .get(&TokenSpec::default())
                    .await
                    .map(drop)
            })
        };
        let outcome: Result<(), TokenError> = tokio::task::spawn_blocking(move || {
            ask()?;
            ask()
        })
        .await
        .unwrap();
        outcome.unwrap();
    }
}
