//! Describes a server that `tests/run` started: its endpoints, its API and its control API for tests.

use std::{env, fs};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tower_bearer::{Token, transport::Transport};

/// Contains a space, a colon, a percent sign, a plus sign and a slash.
pub(crate) const SECRET: &str = "a b:c%d+e/f";

#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) issuer: String,
    pub(crate) token_url: String,
    introspection_url: String,
    revocation_url: String,
    /// The origin of `/api/…`.
    origin: String,
    control: String,
    ca: Option<String>,
    /// The client for the test's own requests.
    http: reqwest::Client,
}

/// A client that a test registered.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) secret: String,
    /// The private key (PKCS#8 in PEM), or an empty string.
    pub(crate) key: String,
    /// Whether it can authenticate with a secret at the introspection endpoint.
    pub(crate) can_introspect: bool,
}

/// The tokens of a user who signed in.
pub(crate) struct Login {
    pub(crate) access_token: String,
    pub(crate) refresh_token: String,
}

impl Server {
    /// Returns oidc-provider, if it is running.
    pub(crate) fn oidc() -> Option<Self> {
        let issuer = address("TOWER_BEARER_OIDC")?;
        Some(Self::of_oidc(&issuer, &issuer, None))
    }

    /// Returns oidc-provider with an issuer that has a path.
    pub(crate) fn oidc_with_path() -> Option<Self> {
        let issuer = address("TOWER_BEARER_OIDC_PATH")?;
        let origin = address("TOWER_BEARER_OIDC")?;
        let site = Self::of_oidc(&issuer, &origin, None);
        Some(Self { origin, ..site })
    }

    /// Returns oidc-provider behind TLS.
    pub(crate) fn oidc_tls() -> Option<Self> {
        let issuer = address("TOWER_BEARER_OIDC_TLS")?;
        let control = address("TOWER_BEARER_OIDC")?;
        let ca = fs::read_to_string(address("TOWER_BEARER_CA")?).unwrap();
        Some(Self::of_oidc(&issuer, &control, Some(ca)))
    }

    pub(crate) fn oidc_and_django() -> Vec<Self> {
        Self::all([Self::oidc(), Self::django()])
    }

    pub(crate) fn oidc_plain_and_tls() -> Vec<Self> {
        Self::all([Self::oidc(), Self::oidc_tls()])
    }

    /// Returns these servers, or none if one is missing.
    pub(crate) fn all<const N: usize>(servers: [Option<Self>; N]) -> Vec<Self> {
        let all: Option<_> = servers.into_iter().collect();
        all.unwrap_or_default()
    }

    /// Returns django-oauth-toolkit, if it is running.
    pub(crate) fn django() -> Option<Self> {
        let issuer = address("TOWER_BEARER_DJANGO")?;
        let origin = issuer.trim_end_matches("/o").to_owned();
        Some(Self {
            token_url: format!("{issuer}/token/"),
            introspection_url: format!("{issuer}/introspect/"),
            revocation_url: format!("{issuer}/revoke_token/"),
            control: origin.clone(),
            origin,
            issuer,
            ca: None,
            http: http(None),
        })
    }

    fn of_oidc(issuer: &str, control: &str, ca: Option<String>) -> Self {
        Self {
            token_url: format!("{issuer}/token"),
            introspection_url: format!("{issuer}/token/introspection"),
            revocation_url: format!("{issuer}/token/revocation"),
            issuer: issuer.to_owned(),
            origin: issuer.to_owned(),
            control: control.to_owned(),
            http: http(ca.as_deref()),
            ca,
        }
    }

    /// Returns a URL of the API that requires this scope.
    pub(crate) fn api(&self, scope: &str) -> String {
        format!("{}/api/{scope}/items", self.origin)
    }

    pub(crate) fn api_root(&self) -> String {
        format!("{}/api", self.origin)
    }

    pub(crate) fn ca(&self) -> Option<&str> {
        self.ca.as_deref()
    }

    /// Adds the CA of the server to the transport.
    pub(crate) fn trusted(&self, transport: Transport) -> Transport {
        match &self.ca {
            Some(ca) => transport.with_root_certificate_pem(ca.as_bytes()).unwrap(),
            None => transport,
        }
    }

    /// Registers a client with a secret and this authentication method.
    pub(crate) async fn client(&self, auth: &str) -> Client {
        self.client_with(json!({ "auth": auth, "secret": SECRET }))
            .await
    }

    /// Registers a client with these parameters of the control API.
    pub(crate) async fn client_with(&self, words: Value) -> Client {
        let secret = words["secret"].as_str().unwrap_or_default().to_owned();
        let auth = words["auth"].as_str().unwrap_or_default();
        let can_introspect = matches!(auth, "client_secret_basic" | "client_secret_post" | "any");
        let made = self.call("client", words).await;
        Client {
            id: text(&made["id"]),
            secret,
            key: made["key"].as_str().unwrap_or_default().to_owned(),
            can_introspect,
        }
    }

    /// Signs a user in at this client.
    pub(crate) async fn sign_in(&self, client: &Client, account: &str, scope: &str) -> Login {
        let words = json!({ "client": client.id, "account": account, "scope": scope });
        let made = self.call("login", words).await;
        Login {
            access_token: text(&made["accessToken"]),
            refresh_token: text(&made["refreshToken"]),
        }
    }

    /// Creates a user with this password, and returns the name.
    #[cfg(feature = "password")]
    pub(crate) async fn person(&self, client: &Client, password: &str) -> String {
        let account = format!("person-of-{}", client.id);
        let words = json!({ "account": account, "password": password });
        self.call("person", words).await;
        account
    }

    /// Replaces the client's key, and returns the new private key.
    pub(crate) async fn change_key(&self, client: &str, algorithm: &str) -> String {
        let words = json!({ "client": client, "algorithm": algorithm });
        text(&self.call("key", words).await["key"])
    }

    /// Replaces the client's secret.
    pub(crate) async fn change_secret(&self, client: &str, secret: &str) {
        let words = json!({ "client": client, "secret": secret });
        self.call("secret", words).await;
    }

    /// Revokes the client's access tokens, and returns their number.
    pub(crate) async fn revoke(&self, client: &str) -> u64 {
        let done = self.call("revoke", json!({ "client": client })).await;
        done["revoked"].as_u64().unwrap()
    }

    /// Counts the client's token requests with this grant and outcome.
    pub(crate) async fn count(&self, client: &str, outcome: &str, grant: &str) -> u64 {
        let counts = self.call("counts", json!({ "client": client })).await;
        counts[format!("{outcome} {grant}")].as_u64().unwrap_or(0)
    }

    /// Introspects the token (RFC 7662). Returns its claims if it is active.
    pub(crate) async fn introspect(&self, asking: &Client, token: &Token) -> Option<Value> {
        let answer = self.ask(&self.introspection_url, asking, token).await;
        let claims: Value = serde_json::from_str(&answer).unwrap();
        claims["active"].as_bool().unwrap().then_some(claims)
    }

    /// Revokes the token as its client (RFC 7009).
    pub(crate) async fn revoke_token(&self, client: &Client, token: &Token) {
        self.ask(&self.revocation_url, client, token).await;
    }

    async fn ask(&self, url: &str, asking: &Client, token: &Token) -> String {
        let encode =
            |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!("{}:{}", encode(&asking.id), encode(&asking.secret));
        let form = format!("token={}", encode(token.expose()));
        let answer = self
            .http
            .post(url)
            .header("authorization", format!("Basic {}", STANDARD.encode(pair)))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form)
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        answer.text().await.unwrap()
    }

    pub(crate) async fn call(&self, name: &str, words: Value) -> Value {
        let answer = self
            .http
            .post(format!("{}/control/{name}", self.control))
            .body(words.to_string())
            .send()
            .await
            .unwrap();
        let (status, body) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{name}: {body}");
        serde_json::from_str(&body).unwrap()
    }
}

fn http(ca: Option<&str>) -> reqwest::Client {
    let ca = ca.map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()).unwrap());
    let client = reqwest::Client::builder().tls_certs_only(ca).build();
    client.unwrap()
}

/// Reads a variable that `tests/run` sets. Without it, the test is skipped with a message.
pub(crate) fn address(variable: &str) -> Option<String> {
    let value = env::var(variable).ok();
    if value.is_none() {
        let under_run = env::var_os("TOWER_BEARER_REAL").is_some();
        assert!(!under_run, "tests/run did not set {variable}");
        eprintln!("skipped: {variable} is not set; tests/run starts the servers and sets it");
    }
    value
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
