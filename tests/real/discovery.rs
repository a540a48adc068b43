//! Providers that are found by their issuers.

use tower_bearer::{
    ErrorKind, TokenCache, TokenSpec,
    credentials::{ClientAuth, ClientCredentials, TokenEndpoint},
};

use crate::{http_client::KINDS, round::Round, site::Site};

#[tokio::test]
async fn each_providers_token_endpoint_is_found_by_its_issuer() {
    let (Some(oidc), Some(path), Some(tls), Some(django)) = (
        Site::oidc(),
        Site::oidc_with_path(),
        Site::oidc_tls(),
        Site::django(),
    ) else {
        return;
    };
    // Two of them have a path, which RFC 8414 puts behind the well-known one.
    for site in [oidc, path, tls, django] {
        let client = site.client("client_secret_basic").await;
        let source = async |transport| {
            let (id, secret) = (&client.id, client.secret.as_str());
            ClientCredentials::from_endpoint(
                TokenEndpoint::discover(&site.issuer)
                    .with_client(id, ClientAuth::basic(secret))
                    .with_transport(transport),
            )
        };
        Round::of(&site, &client).go(source).await;
    }
}

#[tokio::test]
async fn a_provider_that_goes_by_another_name_is_refused() {
    let Some(site) = Site::oidc() else { return };
    let client = site.client("client_secret_basic").await;
    for kind in KINDS {
        for issuer in [
            site.issuer.replace("127.0.0.1", "localhost"),
            format!("{}/nobody", site.issuer),
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
    let granted = site.count(&client.id, "granted", crate::round::CLIENT_CREDENTIALS);
    assert_eq!(granted.await, 0);
}
