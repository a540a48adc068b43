//! Tests the parameters of token requests: assertions, passwords, fixed tokens, resources and scopes.

use std::{
    future::ready,
    sync::atomic::{AtomicU32, Ordering},
    time::UNIX_EPOCH,
};

use tower_bearer::{
    ErrorKind, NewToken, Secret, TokenCache, TokenSource, TokenSpec,
    credentials::{
        ClientCredentials, JwtBearer, OnBehalfOf, RefreshToken, Saml2Bearer, Static, TokenEndpoint,
        assertion,
    },
    source,
    testing::Fault,
    token::Subject,
};

use crate::{
    endpoint, fails, fetch, last_call, login, silent, silent_endpoint, temp_file::TempFile, token,
};

fn spec() -> TokenSpec {
    TokenSpec::scopes(["read"])
}

#[tokio::test]
async fn jwt_bearer_sends_a_new_assertion_for_each_request() {
    let login = login().await;
    let url = login.token_url();
    login.trust_assertion(format!("1 for {url} and read"), "robot");
    login.trust_assertion(format!("2 for {url} and read"), "robot");
    let count = AtomicU32::new(1);
    let assertion = assertion::from_fn(move |request| {
        let count = count.fetch_add(1, Ordering::Relaxed);
        let scopes: Vec<_> = request.spec().iter_scopes().collect();
        let (audience, scopes) = (request.audience(), scopes.join(" "));
        ready(Ok(Secret::new(format!(
            "{count} for {audience} and {scopes}"
        ))))
    });
    let endpoint = TokenEndpoint::new(url);
    let cache = TokenCache::new(JwtBearer::new(endpoint, assertion));
    for _ in 0..2 {
        let token = cache.refresh(&spec()).await.unwrap();
        assert_eq!(login.subject_of(token.expose()).as_deref(), Some("robot"));
    }
    let call = last_call(&login);
    assert_eq!(call.parameter("client_id"), None);
    assert!(!call.headers.contains_key("authorization"));
    let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    assert_eq!(login.counts().of_grant(grant), 2);
}

#[tokio::test]
async fn assertion_comes_from_a_provider_or_a_file() {
    let login = login().await;
    login.trust_assertion("the cluster's", "pod");
    let cluster = TokenCache::new(source::from_fn(async |_| NewToken::bearer("the cluster's")));
    let provided = assertion::from_provider(cluster, TokenSpec::default());
    let file = TempFile::new("the cluster's\n");
    let read = Secret::from_file(file.path()).unwrap();
    for source in [
        JwtBearer::new(endpoint(&login), provided),
        JwtBearer::new(endpoint(&login), read),
    ] {
        let token = token(source, &spec()).await;
        assert_eq!(login.subject_of(&token).as_deref(), Some("pod"));
    }
}

#[tokio::test]
async fn untrusted_assertion_is_an_invalid_grant() {
    let login = login().await;
    let source = JwtBearer::new(endpoint(&login), Secret::new("unknown"));
    fails(&source, spec(), ErrorKind::InvalidGrant).await;
}

#[tokio::test]
async fn saml_assertion_is_base64url_without_padding() {
    let login = login().await;
    // Standard base64 encodes this with plus, slash and padding.
    let xml = "<saml:Assertion>\u{3ff}\u{7fe}~~?>é</saml:Assertion> ";
    login.trust_assertion(xml, "alice");
    let source = Saml2Bearer::new(endpoint(&login), Secret::new(xml));
    let token = token(source, &spec()).await;
    assert_eq!(login.subject_of(&token).as_deref(), Some("alice"));
    let call = last_call(&login);
    let sent = call.parameter("assertion").unwrap();
    assert!(!sent.contains(['+', '/', '=', '\n']), "{sent}");
}

#[cfg(feature = "password")]
#[tokio::test]
async fn password_grant_signs_in() {
    use tower_bearer::{credentials::Password, testing::AuthorizationServer};
    let login = AuthorizationServer::builder().with_user("robot", "correct horse & more");
    let login = login.start().await.unwrap();
    let source = |password: &str| Password::new(endpoint(&login), "robot", password);
    let token = token(source("correct horse & more"), &spec()).await;
    assert_eq!(login.subject_of(&token).as_deref(), Some("robot"));
    fails(&source("wrong"), spec(), ErrorKind::InvalidGrant).await;
    let other = Password::new(endpoint(&login), "other", "a");
    assert_ne!(source("a").source_id(), other.source_id());
}

#[tokio::test]
async fn static_token_file_is_reloaded() {
    let file = TempFile::new("first\n");
    let cache = TokenCache::new(Static::new(Secret::from_file(file.path()).unwrap()));
    assert_eq!(cache.get(&spec()).await.unwrap().expose(), "first");
    file.write("second\n");
    assert_eq!(cache.refresh(&spec()).await.unwrap().expose(), "second");
    fails(&Static::new("line\nbreak"), spec(), ErrorKind::Malformed).await;
}

#[tokio::test]
async fn resources_and_scopes_are_sent_unchanged() {
    let login = login().await;
    // Microsoft: the resource ends with a slash, and another one separates the scope.
    let doubled = "https://stock.example//.default";
    let spec = TokenSpec::scopes([doubled])
        .with_resource("https://one.example/")
        .with_resource("https://two.example")
        .with_audience("stock");
    let source = ClientCredentials::from_endpoint(endpoint(&login));
    token(source, &spec).await;
    let call = last_call(&login);
    assert_eq!(call.parameter("scope"), Some(doubled));
    assert_eq!(call.parameter("audience"), Some("stock"));
    let mut resources = call.form;
    resources.retain(|(name, _)| name == "resource");
    let resources: Vec<_> = resources.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(resources, ["https://one.example/", "https://two.example"]);
}

#[tokio::test]
async fn microsoft_v1_request_has_a_resource_and_no_scope() {
    let login = login().await;
    let end = UNIX_EPOCH.elapsed().unwrap().as_secs() + 600;
    // Version 1 of the endpoint returns strings only, and an absolute expiry.
    let answer = format!(r#"{{"token_type":"Bearer","expires_on":"{end}","access_token":"abc"}}"#);
    login.fault(Fault::response(200, Some("application/json"), answer));
    let spec = TokenSpec::default().with_resource("https://graph.example/");
    let cache = TokenCache::new(ClientCredentials::from_endpoint(endpoint(&login)));
    let token = cache.get(&spec).await.unwrap();
    let lifetime = token.lifetime().as_secs();
    assert!((570..=600).contains(&lifetime), "{lifetime}");
    let call = last_call(&login);
    assert_eq!(call.parameter("resource"), Some("https://graph.example/"));
    assert_eq!(call.parameter("scope"), None);
}

#[tokio::test]
async fn subject_is_never_ignored() {
    let endpoint = silent_endpoint;
    let spec = spec().with_subject(Subject::new("alice's"));
    let a = || Secret::new("a");
    let client_credentials = ClientCredentials::from_endpoint(endpoint());
    let kind = ErrorKind::Configuration;
    for error in [
        fails(&client_credentials, spec.clone(), kind).await,
        fails(&RefreshToken::new(endpoint(), "r"), spec.clone(), kind).await,
        fails(&JwtBearer::new(endpoint(), a()), spec.clone(), kind).await,
        fails(&Saml2Bearer::new(endpoint(), a()), spec.clone(), kind).await,
        fails(&Static::new("t"), spec.clone(), kind).await,
    ] {
        assert!(error.contains("subject"), "{error}");
    }
    let error = fails(&OnBehalfOf::new(endpoint()), TokenSpec::default(), kind).await;
    assert!(error.contains("with_subject"), "{error}");
}

#[tokio::test]
async fn extra_parameters_cannot_repeat_the_grant() {
    let endpoint = |name: &str| silent_endpoint().with_extra(name, "x");
    let refresh = RefreshToken::new(endpoint("refresh_token"), "r");
    let jwt = |name| JwtBearer::new(endpoint(name), Secret::new("a"));
    let repeating = spec().with_extra("assertion", "b");
    let kind = ErrorKind::Configuration;
    for error in [
        fails(&refresh, spec(), kind).await,
        fails(&jwt("assertion"), spec(), kind).await,
        fails(&jwt("x"), repeating, kind).await,
    ] {
        assert!(error.contains("sets the parameter"), "{error}");
    }
}

#[cfg(feature = "jwt")]
mod signed {
    use std::sync::{Arc, Mutex};

    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    use bytes::Bytes;
    use serde_json::{Value, json};
    use tower_bearer::{
        credentials::{SigningKey, assertion::Signed},
        transport::Transport,
    };

    use super::*;

    const PEM: &str = include_str!("../vectors/keys/rsa.pkcs8.pem");

    /// Returns a provider that accepts every assertion, and records their headers and claims.
    fn provider() -> (Transport, Arc<Mutex<Vec<[Value; 2]>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let recorded = seen.clone();
        let transport = Transport::from_fn(move |request: http::Request<Bytes>| {
            let form = form_urlencoded::parse(request.body());
            let mut assertions = form.filter(|(name, _)| name == "assertion");
            let jwt = assertions.next().unwrap().1;
            let [header, claims, _] = jwt.split('.').collect::<Vec<_>>()[..] else {
                panic!("{jwt} does not have three parts");
            };
            let part = |text: &str| {
                let json = BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
                serde_json::from_slice(&json).unwrap()
            };
            recorded.lock().unwrap().push([part(header), part(claims)]);
            let answer = Bytes::from(r#"{"access_token":"abc"}"#);
            ready(Ok(http::Response::new(answer)))
        });
        (transport, seen)
    }

    #[tokio::test]
    async fn service_account_assertion_contains_the_scopes() {
        let (transport, seen) = provider();
        let json = json!({
            "type": "service_account", "client_email": "robot@project", "private_key_id": "k1",
            "private_key": PEM, "token_uri": "https://oauth2.example/token", "universe_domain": "x",
        });
        let source = JwtBearer::service_account(transport, &json.to_string()).unwrap();
        assert!(source.source_id().is_some());
        assert!(!format!("{source:?}").contains("PRIVATE"));
        let spec = TokenSpec::scopes(["https://a.example/b", "c"]);
        for _ in 0..2 {
            fetch(&source, spec.clone()).await.unwrap();
        }
        let seen = seen.lock().unwrap();
        let [header, claims] = &seen[0];
        assert_eq!(header["alg"], "RS256");
        assert_eq!(header["kid"], "k1");
        for (name, value) in [
            ("iss", json!("robot@project")),
            ("aud", json!("https://oauth2.example/token")),
            ("scope", json!("c https://a.example/b")),
            ("sub", Value::Null),
        ] {
            assert_eq!(claims[name], value, "{name}");
        }
        let lifetime = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert!(lifetime <= 3600);
        assert_ne!(seen[0][1]["jti"], seen[1][1]["jti"]);
    }

    #[tokio::test]
    async fn signer_can_name_another_subject() {
        let (transport, seen) = provider();
        let endpoint = silent_endpoint().with_transport(transport);
        let signed = || Signed::new(SigningKey::from_pem(PEM).unwrap(), "robot");
        let other = signed().with_subject("alice").with_audience("here");
        let [default, other] =
            [signed(), other].map(|assertion| JwtBearer::new(endpoint.clone(), assertion));
        assert_ne!(default.source_id(), other.source_id());
        for source in [default, other] {
            fetch(&source, spec()).await.unwrap();
        }
        let seen = seen.lock().unwrap();
        let ([_, default], [_, other]) = (&seen[0], &seen[1]);
        assert_eq!(default["sub"], "robot");
        assert_eq!(default["scope"], Value::Null);
        assert_eq!(default["aud"], "https://login.example/");
        assert_eq!(other["sub"], "alice");
        assert_eq!(other["aud"], "here");
    }

    #[test]
    fn service_account_errors_echo_nothing() {
        for json in [
            "hunter2".to_owned(),
            json!({ "type": "authorized_user", "private_key": "hunter2" }).to_string(),
            json!({ "type": "service_account", "private_key": "hunter2" }).to_string(),
            json!({
                "type": "service_account", "private_key": "hunter2", "client_email": "a",
                "token_uri": "https://a.example/",
            })
            .to_string(),
        ] {
            let error = JwtBearer::service_account(silent(), &json).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
