//! The whole way of a token: fetched, used, known to the server, revoked, replaced unseen.

use tower_bearer::{AuthLayer, TokenCache, TokenSource, TokenSpec, transport::Transport};

use crate::{
    http_client::{HttpClient, KINDS},
    site::{Client, Site},
};

pub(crate) const CLIENT_CREDENTIALS: &str = "client_credentials";

/// Goes the whole way over each HTTP client, with a source over the transport of the same make.
///
/// The tokens have the scope `read`, belong to `client`, and count as this grant. `asking` may ask the server about them.
pub(crate) async fn goes_round<S: TokenSource>(
    site: &Site,
    (client, asking): (&str, &Client),
    (grant, spec): (&str, &TokenSpec),
    source: impl Fn(Transport) -> S,
) {
    let granted = async || site.count(client, "granted", grant).await;
    for kind in KINDS {
        let before = granted().await;
        let cache = TokenCache::new(source(kind.transport(site)));
        let layer = AuthLayer::new(cache.clone());
        let layer = layer.route(site.api_root(), spec.clone()).unwrap();
        let http = HttpClient::new(kind, site, &layer);

        let answer = http.post(&site.api("read"), "first").await.unwrap();
        assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");
        assert_eq!(answer.claims["client_id"], client);
        assert_eq!(answer.claims["body"], "first");
        let first = cache.get(spec).await.unwrap();
        let claims = site.introspect(asking, &first).await.unwrap();
        assert_eq!(claims["client_id"], client);
        assert_eq!(granted().await, before + 1, "{kind:?}");

        assert!(site.revoke(client).await >= 1);
        assert_eq!(site.introspect(asking, &first).await, None);
        let answer = http.post(&site.api("read"), "second").await.unwrap();
        assert_eq!(answer.outcome(), (200, "recovered"), "{kind:?}");
        assert_eq!(answer.claims["body"], "second");
        let second = cache.get(spec).await.unwrap();
        assert_ne!(first.expose(), second.expose());
        assert!(site.introspect(asking, &second).await.is_some());
        assert_eq!(granted().await, before + 2, "{kind:?}");
    }
}

/// [`goes_round`] for clients with a secret, which ask the server about their own tokens.
pub(crate) async fn own_tokens_go_round<S: TokenSource>(
    site: &Site,
    client: &Client,
    source: impl Fn(Transport) -> S,
) {
    let spec = TokenSpec::scopes(["read"]);
    goes_round(
        site,
        (&client.id, client),
        (CLIENT_CREDENTIALS, &spec),
        source,
    )
    .await;
}
