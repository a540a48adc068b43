//! Tests the proxy between curl and oidc-provider, which `tests/run` starts.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use tokio::{net::TcpListener, process::Command, time::timeout};

use crate::{
    server::{Client, SECRET, Server},
    support::{LIMIT, Proxy, Response, assert_line, upstream},
    temp_folder::TempFolder,
};

const GRANT: &str = "client_credentials";

/// The provider, a client of it, and a proxy that authenticates as this client.
struct OidcProxy {
    site: Server,
    client: Client,
    proxy: Proxy,
}

impl OidcProxy {
    async fn with_secret() -> Option<Self> {
        let site = Server::oidc()?;
        let client = site.client("client_secret_basic").await;
        let credential = format!("client_secret = '{SECRET}'");
        Some(Self::of(site, client, &credential).await)
    }

    async fn with_key() -> Option<Self> {
        let site = Server::oidc()?;
        let words = json!({ "auth": "private_key_jwt", "algorithm": "ES256" });
        let client = site.client_with(words).await;
        let key = client.key.trim();
        let credential = format!("client_auth = 'private_key_jwt'\nprivate_key = '''\n{key}\n'''");
        Some(Self::of(site, client, &credential).await)
    }

    async fn of(site: Server, client: Client, credential: &str) -> Self {
        let config = config(&site, &site.issuer, &client, credential);
        let proxy = Proxy::start_with(&config, &[("RUST_LOG", "trace")]).await;
        Self {
            site,
            client,
            proxy,
        }
    }

    async fn curl(&self, arguments: &[&str]) -> Response {
        curl(&self.proxy, "/site/api/read/items", arguments).await
    }

    async fn page(&self, name: &str) -> Response {
        curl(&self.proxy, &format!("/-/{name}"), &[]).await
    }

    async fn granted(&self) -> u64 {
        self.site.count(&self.client.id, "granted", GRANT).await
    }

    /// Returns the client's valid tokens.
    async fn tokens(&self) -> Vec<String> {
        let words = json!({ "client": self.client.id });
        let made = self.site.call("tokens", words).await;
        serde_json::from_value(made["tokens"].clone()).unwrap()
    }

    /// Asserts that the API accepted the client's token, and returns the claims.
    fn assert_served(&self, answer: &Response) -> Value {
        assert_eq!(answer.status, 200, "{answer:?} {}", self.proxy.log());
        let claims = answer.json();
        assert_eq!(claims["client_id"], self.client.id.as_str());
        assert_eq!(claims["scope"], "read");
        claims
    }
}

/// Returns a configuration with this issuer, in which `/site` leads to the API.
fn config(site: &Server, issuer: &str, client: &Client, credential: &str) -> String {
    format!(
        "[source]\ntype = 'client_credentials'\nissuer = '{issuer}'\nclient_id = '{id}'\n{credential}\n\
         [[route]]\nurl = '{api}'\nscopes = ['read']\n{upstream}",
        id = client.id,
        api = site.api_root(),
        upstream = upstream("/site", site.api_root().trim_end_matches("/api")),
    )
}

/// Calls the proxy with curl.
async fn curl(proxy: &Proxy, path: &str, arguments: &[&str]) -> Response {
    let mut curl = Command::new("curl");
    // Without a user's configuration or another proxy; prints the unchanged head and body.
    curl.args(["--disable", "--noproxy", "*", "--silent", "--show-error"])
        .args(["--include", "--raw", "--max-time", "20"])
        .args(arguments)
        .arg(format!("http://{}{path}", proxy.address))
        .kill_on_drop(true);
    let output = timeout(LIMIT, curl.output()).await.unwrap();
    let output =
        output.expect("curl can't be started: install it (on Debian: apt-get install curl)");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors} {}", proxy.log());
    Response::parse(&output.stdout)
}

/// Returns 32 KiB that text processing would change: different line ends, a zero, non-ASCII letters, trailing spaces.
fn body() -> String {
    let unit = "line\r\nline\nline\r\0 é+%20&=  \n";
    let mut body = unit.repeat((32 << 10) / unit.len());
    body.push_str(&" ".repeat((32 << 10) - body.len()));
    body
}

fn body_file() -> (TempFolder, PathBuf) {
    let folder = TempFolder::new("");
    let path = folder.sibling("body");
    fs::write(&path, body()).unwrap();
    (folder, path)
}

#[tokio::test]
async fn revocation_is_invisible_to_curl() {
    let (Some(basic), Some(key)) = (OidcProxy::with_secret().await, OidcProxy::with_key().await)
    else {
        return;
    };
    for oidc in [basic, key] {
        for expected in 1..=3 {
            oidc.assert_served(&oidc.curl(&[]).await);
            oidc.assert_served(&oidc.curl(&[]).await);
            assert_eq!(oidc.granted().await, expected);
            assert_eq!(oidc.site.revoke(&oidc.client.id).await, 1);
        }
        let page = oidc.page("tokens").await.json();
        assert_eq!(page["replays"], 2, "{page}");
    }
}

#[tokio::test]
async fn upload_is_replayed_whole_after_a_revocation() {
    let Some(oidc) = OidcProxy::with_secret().await else {
        return;
    };
    let (_folder, path) = body_file();
    let data = format!("@{}", path.display());
    oidc.assert_served(&oidc.curl(&[]).await);
    oidc.site.revoke(&oidc.client.id).await;
    for arguments in [
        &["--data-binary", &data][..],
        // A body of unknown length.
        &[
            "--header",
            "Transfer-Encoding: chunked",
            "--data-binary",
            &data,
        ],
        &["--http2-prior-knowledge", "--data-binary", &data],
    ] {
        let answer = oidc.curl(arguments).await;
        let claims = oidc.assert_served(&answer);
        assert_eq!(claims["method"], "POST");
        assert!(claims["body"] == body(), "{arguments:?}");
        oidc.site.revoke(&oidc.client.id).await;
    }
    let page = oidc.page("tokens").await.json();
    assert_eq!(page["replays"], 3, "{page}");
}

#[tokio::test]
async fn callers_authorization_passes_without_a_fetch() {
    let Some(oidc) = OidcProxy::with_secret().await else {
        return;
    };
    let portal = oidc.site.client("client_secret_basic").await;
    let login = oidc.site.sign_in(&portal, "bob", "read").await;
    let own = format!("Authorization: Bearer {}", login.access_token);
    let answer = oidc.curl(&["--header", &own]).await;
    assert_eq!((answer.status, &answer.json()["sub"]), (200, &"bob".into()));
    // The 401 of its own token is returned to curl.
    oidc.site.revoke(&portal.id).await;
    let answer = oidc.curl(&["--header", &own]).await;
    assert_eq!(answer.status, 401);
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(challenge.contains("invalid_token"), "{challenge}");
    assert_eq!(oidc.granted().await, 0);
}

#[tokio::test]
async fn wrong_secret_is_invalid_client() {
    let Some(site) = Server::oidc() else { return };
    let client = site.client("client_secret_basic").await;
    let oidc = OidcProxy::of(site, client, "client_secret = 'hunter2'").await;
    for _ in 0..2 {
        let answer = oidc.curl(&[]).await;
        answer.assert_problem(502, "invalid_client");
        assert!(!answer.text().contains("hunter2"), "{answer:?}");
    }
    // The provider was contacted once.
    let refused = oidc.site.count(&oidc.client.id, "invalid_client", GRANT);
    assert_eq!(refused.await, 1);
    assert!(!oidc.proxy.log().contains("hunter2"));
}

#[tokio::test]
async fn unreachable_provider_is_a_network_error() {
    let Some(site) = Server::oidc() else { return };
    let client = site.client("client_secret_basic").await;
    // A port on which no server listens any more.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let unreachable = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let credential = format!("client_secret = '{SECRET}'");
    let proxy = Proxy::start(&config(&site, &unreachable, &client, &credential)).await;
    let answer = curl(&proxy, "/site/api/read/items", &[]).await;
    answer.assert_problem(502, "network");
    assert_eq!(curl(&proxy, "/-/health", &[]).await.status, 200);
}

#[tokio::test]
async fn pages_show_counts_and_no_secret() {
    let (Some(basic), Some(key)) = (OidcProxy::with_secret().await, OidcProxy::with_key().await)
    else {
        return;
    };
    for oidc in [basic, key] {
        let mut secrets = Vec::new();
        for _ in 0..3 {
            oidc.assert_served(&oidc.curl(&[]).await);
        }
        secrets.extend(oidc.tokens().await);
        oidc.site.revoke(&oidc.client.id).await;
        oidc.assert_served(&oidc.curl(&[]).await);
        secrets.extend(oidc.tokens().await);
        assert_eq!(secrets.len(), 2);

        let tokens = oidc.page("tokens").await;
        let page = tokens.json();
        assert_eq!(page["tokens"].as_array().unwrap().len(), 1, "{page}");
        let token = &page["tokens"][0];
        assert_eq!(token["scopes"], json!(["read"]));
        assert_eq!(token["state"], "fresh");
        assert!(token["expires_in"].as_u64().unwrap() <= 600, "{token}");

        let metrics = oidc.page("metrics").await;
        for line in [
            "tower_bearer_hits_total{state=\"fresh\"} 3",
            "tower_bearer_fetches_total{outcome=\"ok\"} 2",
            "tower_bearer_token_requests_total 2",
            "tower_bearer_rejections_total 1",
            "tower_bearer_replays_total{outcome=\"recovered\"} 1",
            "tower_bearer_entries 1",
        ] {
            assert_line(&metrics.text(), line);
        }

        secrets.push(SECRET.to_owned());
        secrets.extend(oidc.client.key.lines().nth(1).map(str::to_owned));
        let log = oidc.proxy.log();
        assert!(log.contains("TRACE") && log.contains("tower_bearer"));
        for text in [tokens.text(), metrics.text(), log] {
            for secret in &secrets {
                assert!(!text.contains(secret.as_str()), "{text}");
            }
        }
    }
}
