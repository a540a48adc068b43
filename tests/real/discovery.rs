//! Tests discovery of token endpoints by their issuers.

use tower_bearer::{
    ErrorKind, TokenCache, TokenSpec,
    credentials::{ClientAuth, ClientCredentials, TokenEndpoint},
};

use crate::{http_client::KINDS, lifecycle::Lifecycle, server::Server};

#[tokio::test]
async fn each_token_endpoint_is_discovered() {
    // Two of the issuers have a path, which RFC 8414 §3.1 puts after the well-known path.
    for site in Server::all([
        Server::oidc(),
        Server::oidc_with_path(),
        Server::oidc_tls(),
        Server::django(),
    ]) {
        let client = site.client("client_secret_basic").await;
        let source = async |transport| {
            let (id, secret) = (&client.id, client.secret.as_str());
            ClientCredentials::from_endpoint(
                TokenEndpoint::discover(&site.issuer)
                    .with_client(id, ClientAuth::basic(secret))
                    .with_transport(transport),
            )
        };
        Lifecycle::of(&site, &client).check(source).await;
    }
}

#[tokio::test]
async fn mismatched_issuer_is_rejected() {
    let Some(site) = Server::oidc() else { return };
    let client = site.client("client_secret_basic").await;
    for kind in KINDS {
        for issuer in [
            site.issuer.replace("127.0.0.1", "localhost"),
            format!("{}/unknown", site.issuer),
        ] {
            let (id, secret) = (&client.id, client.secret.as_str());
            let endpoint = TokenEndpoint::discover(issuer)
                .with_client(id, ClientAuth::basic(secret))
                .with_transport(kind.transport(&site));
            let cache = TokenCache::new(ClientCredentials::from_endpoint(endpoint));
            let error = cache.get(&TokenSpec::default()).await.unwrap_err();
            assert_ne!(error.kind(), ErrorKind::Network, "{error}");
        }
    }
    let granted = site.count(&client.id, "granted", crate::lifecycle::CLIENT_CREDENTIALS);
    assert_eq!(granted.await, 0);
}
