//! Tests how the client authenticates, and discovery of the provider.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use tower_bearer::testing::{Api, AuthorizationServer, Fault, TokenCall};

use crate::support::{Proxy, config, login_with_secret, routed};
use crate::temp_folder::TempFolder;

const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/keys");

/// Returns the header of the client assertion.
fn head(call: &TokenCall) -> Value {
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    assert_eq!(call.parameter("client_assertion_type"), Some(kind));
    let assertion = call.parameter("client_assertion").unwrap();
    let head = assertion.split('.').next().unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).unwrap()).unwrap()
}

/// Returns the token request that these lines, in place of the secret's, cause. The API accepts the token.
async fn accepted(
    login: &AuthorizationServer,
    lines: &str,
    variables: &[(&str, &str)],
) -> TokenCall {
    let api = Api::start(login).await.unwrap();
    let text = config(login, &routed(&api, "")).replace("client_secret = 'secret'", lines);
    let proxy = Proxy::start_with(&text, variables).await;
    let answer = proxy.get("/a").await;
    assert_eq!(answer.status, 200, "{lines}: {answer:?}");
    login.requests().pop().unwrap()
}

#[tokio::test]
async fn secret_jwt_does_not_send_the_secret() {
    let secret = "a secret of more than 32 bytes, as it must be";
    let login = login_with_secret(secret).await;
    let lines = format!("client_secret = '{secret}'\nclient_auth = 'secret_jwt'");
    let call = accepted(&login, &lines, &[]).await;
    assert_eq!(head(&call)["alg"], "HS256");
    assert!(!format!("{:?} {:?}", call.form, call.headers).contains(secret));
}

#[tokio::test]
async fn private_key_is_read_from_each_location() {
    let read = |name: &str| std::fs::read_to_string(format!("{KEYS}/{name}")).unwrap();
    let file = |name: &str| format!("{{ file = '{KEYS}/{name}' }}");
    let pem = read("p256.pkcs8.pem");
    for (public, key, algorithm) in [
        ("p256", file("p256.sec1.pem"), "ES256"),
        ("p384", file("p384.pkcs8.pem"), "ES384"),
        ("rsa", file("rsa.pkcs1.pem"), "RS256"),
        (
            "rsa",
            file("rsa.pkcs8.pem") + "\nalgorithm = 'PS256'",
            "PS256",
        ),
        ("ed25519", file("ed25519.jwk.json"), "EdDSA"),
        ("p256", "{ env = 'PROXY_KEY' }".to_owned(), "ES256"),
        ("p256", format!("'''\n{pem}'''"), "ES256"),
    ] {
        let public = read(&format!("{public}.public.pem"));
        let login = AuthorizationServer::builder()
            .with_client_key("client", public)
            .start();
        let lines = format!("client_auth = 'private_key_jwt'\nkey_id = 'k1'\nprivate_key = {key}");
        let call = accepted(&login.await.unwrap(), &lines, &[("PROXY_KEY", &pem)]).await;
        let head = head(&call);
        assert_eq!(head["alg"], algorithm, "{key}");
        assert_eq!(head["kid"], "k1", "{key}");
    }
}

#[tokio::test]
async fn assertion_is_read_from_its_file() {
    let login = AuthorizationServer::builder().with_client_assertion("client", "first.of.it");
    let file = TempFolder::new("first.of.it\n");
    let path = file.path().display().to_string();
    let lines = format!("client_auth = 'assertion'\nassertion = {{ file = '{path}' }}");
    let call = accepted(&login.start().await.unwrap(), &lines, &[]).await;
    assert_eq!(call.parameter("client_assertion"), Some("first.of.it"));
}

#[tokio::test]
async fn certificate_authenticates_the_client() {
    let login = AuthorizationServer::builder()
        .with_mutual_tls()
        .start()
        .await
        .unwrap();
    let certificate = login.client_certificate("client").unwrap();
    let folder = TempFolder::new(&login.ca_pem().unwrap());
    std::fs::write(folder.sibling("client.pem"), certificate.certificate_pem()).unwrap();
    std::fs::write(folder.sibling("key.pem"), certificate.key_pem()).unwrap();
    let at = |name: &str| format!("{{ file = '{}' }}", folder.sibling(name).display());
    let lines = format!(
        "client_auth = 'mtls'\ncertificate = {}\nprivate_key = {}\nca = {}",
        at("client.pem"),
        at("key.pem"),
        at("file"),
    );
    let call = accepted(&login, &lines, &[]).await;
    assert_eq!(call.parameter("client_id"), Some("client"));
}

#[tokio::test]
async fn public_client_sends_only_its_id() {
    let login = AuthorizationServer::start().await.unwrap();
    let token = r#"{"access_token":"abc","token_type":"Bearer","expires_in":60}"#;
    login.fault_always(Fault::response(200, Some("application/json"), token));
    let api = Api::unprotected(&login).await.unwrap();
    let text = config(&login, &routed(&api, ""));
    let text = text.replace("client_secret = 'secret'", "client_auth = 'none'");
    let proxy = Proxy::start(&text).await;
    assert_eq!(proxy.get("/a").await.status, 200);
    assert_eq!(api.requests()[0].token.as_deref(), Some("abc"));
    let call = login.requests().pop().unwrap();
    assert_eq!(call.parameter("client_id"), Some("client"));
    assert!(
        call.parameter("client_secret").is_none() && !call.headers.contains_key("authorization")
    );
}

#[tokio::test]
async fn assertion_is_the_grant_of_other_sources() {
    for (name, parameter, grant) in [
        ("jwt_bearer", "assertion", "jwt-bearer"),
        ("token_exchange", "subject_token", "token-exchange"),
    ] {
        let login = AuthorizationServer::start().await.unwrap();
        let token = r#"{"access_token":"abc","token_type":"Bearer","issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}"#;
        login.fault_always(Fault::response(200, Some("application/json"), token));
        let api = Api::unprotected(&login).await.unwrap();
        let rest = format!("assertion = 'a.b.c'\n{}", routed(&api, ""));
        let text = config(&login, &rest).replace("client_credentials", name);
        let proxy = Proxy::start(&text).await;
        assert_eq!(proxy.get("/a").await.status, 200, "{name}");
        let call = login.requests().pop().unwrap();
        let grant = format!("urn:ietf:params:oauth:grant-type:{grant}");
        assert_eq!(call.parameter("grant_type"), Some(&*grant));
        assert_eq!(call.parameter(parameter), Some("a.b.c"));
    }
}

#[tokio::test]
async fn token_endpoint_is_discovered() {
    let login = AuthorizationServer::start().await.unwrap();
    let api = Api::start(&login).await.unwrap();
    let token_url = format!("token_url = '{}'", login.token_url());
    let issuer = format!("issuer = '{}'", login.issuer());
    let text = config(&login, &routed(&api, "")).replace(&token_url, &issuer);
    let proxy = Proxy::start(&text).await;
    assert_eq!(proxy.get("/a").await.status, 200);
    assert!(login.metadata_requests() > 0);
}
