//! What changes at the server while requests go on: a client's secret, and tokens by the hundred.

use std::{
    env, fs,
    path::PathBuf,
    process,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use tokio::{task::JoinSet, time};
use tower_bearer::{
    AuthLayer, Secret, TokenCache, TokenSpec,
    credentials::{ClientAuth, ClientCredentials},
};

use crate::{
    http_client::{HttpClient, KINDS},
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
            let Client { id, secret } = client.clone();
            let source =
                ClientCredentials::over(kind.transport(&site), &site.token_url, id, secret);
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
            let source = ClientCredentials::over(
                kind.transport(&site),
                &site.token_url,
                &client.id,
                Secret::from_file(&file.0).unwrap(),
            )
            .with_client_auth(ClientAuth::post());
            let layer = AuthLayer::new(TokenCache::new(source));
            let layer = layer.route(site.api_root(), TokenSpec::scopes(["read"]));
            let http = HttpClient::new(kind, &site, &layer.unwrap());

            for round in 0..4 {
                let mut requests = JoinSet::new();
                let mut pace = time::interval(Duration::from_millis(10));
                for number in 0..50 {
                    pace.tick().await;
                    let (http, url) = (http.clone(), site.api("read"));
                    requests.spawn(async move { http.post(&url, "body").await.unwrap().status });
                    if number == 25 {
                        // The next token is asked for with the new secret, and with no other.
                        let secret = format!("{SECRET} {round}");
                        file.hold(&secret);
                        site.change_secret(&client.id, &secret).await;
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
    }
}

/// A file that a secret is read from, and that goes with this.
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
