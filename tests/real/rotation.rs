//! What changes at the server while requests go on: a client's secret, and tokens by the hundred.

use std::{
    env, fs,
    path::PathBuf,
    process,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use serde_json::json;
use tokio::{task::JoinSet, time};
use tower_bearer::{
    AuthLayer, ErrorKind, Secret, TokenCache, TokenSpec,
    credentials::{ClientAuth, ClientCredentials, SigningKey, TokenEndpoint},
};

use crate::{
    http_client::{HttpClient, KINDS, Kind},
    round::CLIENT_CREDENTIALS,
    site::{Client, SECRET, Site},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_callers_of_a_revoked_token_cost_one_fetch() {
    let (Some(oidc), Some(django)) = (Site::oidc(), Site::django()) else {
        return;
    };
    for site in [oidc, django] {
        for kind in KINDS {
            let client = site.client("client_secret_basic").await;
            let Client { id, secret, .. } = client.clone();
            let source = ClientCredentials::new(&site.token_url, id, secret)
                .with_transport(kind.transport(&site));
            let cache = TokenCache::new(source);
            let layer = AuthLayer::new(cache.clone());
            let layer = layer.route(site.api_root(), TokenSpec::scopes(["read"]));
            let http = HttpClient::new(kind, &site, &layer.unwrap());
            for round in 1..=2 {
                let mut crowd = JoinSet::new();
                for number in 0..100 {
                    let (http, url) = (http.clone(), site.api("read"));
                    crowd.spawn(async move {
                        let body = number.to_string();
                        let answer = http.post(&url, &body).await.unwrap();
                        assert_eq!((answer.status, &answer.claims["body"]), (200, &body.into()));
                    });
                }
                crowd.join_all().await;
                let granted = site.count(&client.id, "granted", CLIENT_CREDENTIALS).await;
                assert_eq!(granted, round, "{kind:?}");
                site.revoke(&client.id).await;
            }
            assert_eq!(cache.stats().rejections, 1, "{kind:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_may_change_while_a_hundred_requests_a_second_go_on() {
    let (Some(oidc), Some(django)) = (Site::oidc(), Site::django()) else {
        return;
    };
    for site in [oidc, django] {
        for kind in KINDS {
            let client = site.client("client_secret_post").await;
            let file = SecretFile::new(&client.secret);
            let secret = Secret::from_file(&file.0).unwrap();
            let source = ClientCredentials::from_endpoint(
                TokenEndpoint::new(&site.token_url)
                    .with_client(&client.id, ClientAuth::post(secret))
                    .with_transport(kind.transport(&site)),
            );
            requests_go_on(
                &site,
                kind,
                &client,
                TokenCache::new(source),
                async |round| {
                    let secret = format!("{SECRET} {round}");
                    file.hold(&secret);
                    site.change_secret(&client.id, &secret).await;
                },
            )
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_may_change_while_a_hundred_requests_a_second_go_on() {
    let Some(site) = Site::oidc() else { return };
    for kind in KINDS {
        let words = json!({ "auth": "private_key_jwt", "algorithm": "ES256" });
        let client = site.client_with(words).await;
        let file = SecretFile::new(&client.key);
        let key = SigningKey::from_file(&file.0).unwrap();
        let source = ClientCredentials::from_endpoint(
            TokenEndpoint::new(&site.token_url)
                .with_client(&client.id, ClientAuth::private_key_jwt(key))
                .with_transport(kind.transport(&site)),
        );
        requests_go_on(&site, kind, &client, TokenCache::new(source), async |_| {
            file.hold(&site.change_key(&client.id, "ES256").await);
        })
        .await;
    }
}

/// Sends a hundred requests a second, and in the middle of each half second changes what the client proves itself with: the
/// next token is asked for with the new one alone, and no request fails.
async fn requests_go_on(
    site: &Site,
    kind: Kind,
    client: &Client,
    cache: TokenCache,
    change: impl AsyncFn(u32),
) {
    let spec = TokenSpec::scopes(["read"]);
    let layer = AuthLayer::new(cache.clone());
    let layer = layer.route(site.api_root(), spec.clone());
    let http = HttpClient::new(kind, site, &layer.unwrap());
    // Before anything changes: else the first token might be asked for while it does.
    cache.get(&spec).await.unwrap();
    for round in 0..4 {
        let mut requests = JoinSet::new();
        let mut pace = time::interval(Duration::from_millis(10));
        for number in 0..50 {
            pace.tick().await;
            let (http, url) = (http.clone(), site.api("read"));
            requests.spawn(async move { http.post(&url, "body").await.unwrap().status });
            if number == 25 {
                change(round).await;
                site.revoke(&client.id).await;
            }
        }
        // A request that met two revocations would be refused twice.
        let all = requests.join_all().await;
        assert_eq!(all, [200; 50], "{kind:?}");
    }
    let count = |outcome| site.count(&client.id, outcome, CLIENT_CREDENTIALS);
    assert_eq!(count("invalid_client").await, 0, "{kind:?}");
    assert_eq!(count("granted").await, 5, "{kind:?}");
}

#[tokio::test]
async fn a_secret_that_comes_late_ends_the_wait_after_the_refusal() {
    let (Some(oidc), Some(django)) = (Site::oidc(), Site::django()) else {
        return;
    };
    for site in [oidc, django] {
        for kind in KINDS {
            let client = site.client("client_secret_basic").await;
            let file = SecretFile::new(&client.secret);
            let secret = Secret::from_file(&file.0).unwrap();
            let source = ClientCredentials::new(&site.token_url, &client.id, secret)
                .with_transport(kind.transport(&site));
            let cache = TokenCache::new(source);
            let spec = TokenSpec::scopes(["read"]);
            let layer = AuthLayer::new(cache.clone());
            let layer = layer.route(site.api_root(), spec.clone());
            let http = HttpClient::new(kind, &site, &layer.unwrap());
            cache.get(&spec).await.unwrap();

            // The server has the new one, and the client still the old one.
            let next = format!("{SECRET} of tomorrow");
            site.change_secret(&client.id, &next).await;
            let error = cache.refresh(&spec).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidClient, "{error}");
            let answer = http.post(&site.api("read"), "body").await.unwrap();
            assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");

            file.hold(&next);
            site.revoke(&client.id).await;
            let answer = http.post(&site.api("read"), "body").await.unwrap();
            assert_eq!(answer.outcome(), (200, "recovered"), "{kind:?}");
        }
    }
}

/// A file that a secret or key is read from, and that goes with this.
struct SecretFile(PathBuf);

impl SecretFile {
    fn new(secret: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "tower-bearer-real-{}-{}",
            process::id(),
            COUNT.fetch_add(1, Relaxed)
        );
        let file = Self(env::temp_dir().join(name));
        file.hold(secret);
        file
    }

    /// In one step, as whoever mounts secrets does it: nobody reads the half of one.
    fn hold(&self, secret: &str) {
        let next = self.0.with_extension("next");
        fs::write(&next, secret).unwrap();
        fs::rename(next, &self.0).unwrap();
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
