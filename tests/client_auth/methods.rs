//! Tests that each client authentication method obtains a token, and that invalid credentials do not.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use serde_json::Value;
use tower_bearer::{
    ErrorKind, Secret, TokenCache, TokenError, TokenSource, TokenSpec,
    credentials::{
        ClientAuth, ClientCredentials, SigningAlgorithm, SigningKey, TokenEndpoint, assertion,
    },
    source::TokenRequest,
    testing::{AuthMethod, AuthorizationServer},
    transport::Transport,
};

use super::{TempFile, start, transports, vector};

const SECRET: &str = "a secret of 32 bytes or more: é%+/";

async fn get_token(
    login: &AuthorizationServer,
    transport: Transport,
    auth: ClientAuth,
) -> Result<String, TokenError> {
    let source = ClientCredentials::from_endpoint(
        TokenEndpoint::new(login.token_url())
            .with_client("orders", auth)
            .with_transport(transport),
    );
    source.check()?;
    let cache = TokenCache::new(source);
    let token = cache.get(&TokenSpec::scopes(["read"])).await?;
    Ok(token.expose().to_owned())
}

async fn assert_authenticates(login: &AuthorizationServer, auth: &ClientAuth, method: AuthMethod) {
    for transport in transports() {
        let token = get_token(login, transport, auth.clone()).await.unwrap();
        assert!(login.is_valid(&token, Some("read")));
        let call = login.requests().pop().unwrap();
        assert_eq!(call.auth, method);
        assert_eq!(call.parameter("client_id"), Some("orders"));
        assert_eq!(call.parameter("client_secret"), None);
    }
}

async fn assert_rejected(login: &AuthorizationServer, auth: ClientAuth) {
    for transport in transports() {
        let refused = get_token(login, transport, auth.clone()).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidClient);
    }
}

#[tokio::test]
async fn secret_jwt_authenticates() {
    let login = start(AuthorizationServer::builder().with_client("orders", SECRET)).await;
    let auth = ClientAuth::secret_jwt(SECRET);
    assert_authenticates(&login, &auth, AuthMethod::SecretJwt).await;
    let wrong = Secret::new(SECRET.replace('a', "b"));
    assert_rejected(&login, ClientAuth::secret_jwt(wrong)).await;
}

#[tokio::test]
async fn private_key_jwt_authenticates_with_every_key_type() {
    let login = start(AuthorizationServer::builder().with_client("other", SECRET)).await;
    for (name, private, algorithm) in [
        ("rsa", "rsa.pkcs8.pem", None),
        ("rsa", "rsa.pkcs1.pem", Some(SigningAlgorithm::RS512)),
        ("rsa", "rsa.jwk.json", Some(SigningAlgorithm::PS384)),
        ("rsa", "rsa.jwk.json", None),
        ("p256", "p256.sec1.pem", None),
        ("p384", "p384.pkcs8.pem", None),
        ("ed25519", "ed25519.pkcs8.pem", None),
        ("ed25519", "ed25519.jwk.json", None),
    ] {
        let file = TempFile::new(&vector(private));
        let mut key = SigningKey::from_file(file.path()).unwrap();
        if let Some(algorithm) = algorithm {
            key = key.with_algorithm(algorithm);
        }
        let auth = ClientAuth::private_key_jwt(key);
        for public in ["public.pem", "public.jwk.json"] {
            let public = vector(&format!("{name}.{public}"));
            login.set_client_key("orders", &public).unwrap();
            assert_authenticates(&login, &auth, AuthMethod::PrivateKeyJwt).await;
        }
        let other = if name == "rsa" { "p256" } else { "rsa" };
        let other = vector(&format!("{other}.public.pem"));
        login.set_client_key("orders", &other).unwrap();
        assert_rejected(&login, auth).await;
    }
}

#[tokio::test]
async fn federated_assertion_authenticates_from_any_secret() {
    let login = AuthorizationServer::builder().with_client_assertion("orders", "by.another.issuer");
    let login = login.start().await.unwrap();
    let file = TempFile::new("by.another.issuer\n");
    for auth in [
        ClientAuth::assertion(Secret::new("by.another.issuer")),
        ClientAuth::assertion(Secret::from_file(file.path()).unwrap()),
        ClientAuth::assertion(Secret::from_fn(|| {
            Ok::<_, TokenError>("by.another.issuer".into())
        })),
        ClientAuth::assertion(assertion::from_fn(async |_| {
            Ok(Secret::new("by.another.issuer"))
        })),
    ] {
        assert_authenticates(&login, &auth, AuthMethod::PrivateKeyJwt).await;
    }
    let unknown = ClientAuth::assertion(Secret::new("by.unknown.issuer"));
    assert_rejected(&login, unknown).await;
}

#[tokio::test]
async fn assertion_error_is_returned() {
    let login = AuthorizationServer::start().await.unwrap();
    let auth = ClientAuth::assertion(assertion::from_fn(async |_| {
        Err(TokenError::new(ErrorKind::AccessDenied, "not for you"))
    }));
    let error = get_token(&login, Transport::reqwest(), auth);
    assert_eq!(error.await.unwrap_err().kind(), ErrorKind::AccessDenied);
    assert_eq!(login.counts().requests, 0);
}

#[tokio::test]
async fn assertion_audience_defaults_to_the_token_endpoint() {
    let login = start(AuthorizationServer::builder().with_client("orders", SECRET)).await;
    let issuer = login.issuer();
    for (audience, good) in [
        (Some(login.token_url()), true),
        (Some(issuer.clone()), true),
        (Some(format!("{issuer}/")), false),
        (Some("https://elsewhere.example".into()), false),
        (None, true),
    ] {
        let mut auth = ClientAuth::secret_jwt(SECRET);
        if let Some(audience) = audience {
            auth = auth.with_assertion_audience(audience);
        }
        let token = get_token(&login, Transport::hyper(), auth).await;
        assert_eq!(token.is_ok(), good, "{token:?}");
    }
    let too_long = Duration::from_secs(3600);
    let auth = ClientAuth::secret_jwt(SECRET).with_assertion_lifetime(too_long);
    assert_rejected(&login, auth).await;
}

#[tokio::test]
async fn assertion_ids_are_unique() {
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let recorded = seen.clone();
    let transport = recording_transport(move |assertion| {
        let id = claims(&assertion)["jti"].as_str().unwrap().to_owned();
        recorded.lock().unwrap().insert(id);
    });
    let key = SigningKey::from_pem(vector("ed25519.pkcs8.pem")).unwrap();
    let source = ClientCredentials::from_endpoint(
        TokenEndpoint::new("https://login.example/token")
            .with_client("orders", ClientAuth::private_key_jwt(key))
            .with_transport(transport),
    );
    let request = TokenRequest::new(TokenSpec::default());
    for _ in 0..10_000 {
        source.fetch(&request).await.unwrap();
    }
    assert_eq!(seen.lock().unwrap().len(), 10_000);
}

#[tokio::test]
async fn replayed_assertion_is_rejected() {
    let login = AuthorizationServer::builder().with_client("orders", SECRET);
    let login = start(login.with_client("stock", SECRET)).await;
    let seen = Arc::new(Mutex::new(String::new()));
    let recorded = seen.clone();
    let transport = recording_transport(move |assertion| *recorded.lock().unwrap() = assertion);
    let auth = ClientAuth::secret_jwt(SECRET).with_assertion_audience(login.issuer());
    get_token(&login, transport, auth).await.unwrap();
    let line = seen.lock().unwrap().clone();
    let recorded_assertion = || ClientAuth::assertion(Secret::new(line.as_str()));

    let other = TokenEndpoint::new(login.token_url()).with_client("stock", recorded_assertion());
    let request = TokenRequest::new(TokenSpec::default());
    let refused = ClientCredentials::from_endpoint(other)
        .fetch(&request)
        .await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidClient);

    let token = get_token(&login, Transport::reqwest(), recorded_assertion());
    token.await.unwrap();
    assert_rejected(&login, recorded_assertion()).await;
}

#[tokio::test]
async fn each_attempt_signs_a_new_assertion() {
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let recorded = seen.clone();
    let transport = Transport::from_fn(move |request: http::Request<Bytes>| {
        let mut recorded = recorded.lock().unwrap();
        assert!(recorded.insert(request.into_body()), "a repeated assertion");
        let mut answer = Response::new(Bytes::from(r#"{"access_token":"abc"}"#));
        if recorded.len() < 3 {
            *answer.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        }
        std::future::ready(Ok(answer))
    });
    let source = ClientCredentials::from_endpoint(
        TokenEndpoint::new("https://login.example/token")
            .with_client("orders", ClientAuth::secret_jwt(SECRET))
            .with_transport(transport),
    );
    let cache = TokenCache::new(source);
    cache.get(&TokenSpec::default()).await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn invalid_client_auth_is_reported_before_sending() {
    let login = AuthorizationServer::start().await.unwrap();
    let rsa = || SigningKey::from_pem(vector("rsa.pkcs8.pem")).unwrap();
    let long = Duration::from_secs(60);
    for (auth, part) in [
        (ClientAuth::secret_jwt("too short"), "32 bytes"),
        (ClientAuth::mtls(), "with_client_identity_pem"),
        (
            ClientAuth::private_key_jwt(rsa().with_algorithm(SigningAlgorithm::ES256)),
            "ES256 does not work with an RSA key",
        ),
        (
            ClientAuth::post("a").with_assertion_audience("https://login.example"),
            "client_secret_post signs no assertion",
        ),
        (
            ClientAuth::none().with_assertion_lifetime(long),
            "choose secret_jwt or private_key_jwt",
        ),
    ] {
        for transport in transports() {
            let error = get_token(&login, transport, auth.clone()).await;
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.to_string().contains(part), "{error}");
        }
    }
    assert_eq!(login.counts().requests, 0);
}

/// Returns a transport that reports each client assertion and responds with a token.
fn recording_transport(report: impl Fn(String) + Send + Sync + 'static) -> Transport {
    Transport::from_fn(move |request: http::Request<Bytes>| {
        let mut form = form_urlencoded::parse(request.body());
        let assertion = form.find(|(name, _)| name == "client_assertion");
        report(assertion.unwrap().1.into_owned());
        let answer = Bytes::from(r#"{"access_token":"abc"}"#);
        std::future::ready(Ok(Response::new(answer)))
    })
}

fn claims(line: &str) -> Value {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let claims = line.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}
