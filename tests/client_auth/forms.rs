//! Every form of proof gets a token, and what is wrong with it gets none.

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
    credentials::{ClientAuth, ClientCredentials, SigningAlgorithm, SigningKey},
    source::TokenRequest,
    testing::{AuthMethod, AuthorizationServer},
    transport::Transport,
};

use super::{TempFile, transports, vector};

const SECRET: &str = "a secret of 32 bytes or more: é%+/";

async fn ask(
    login: &AuthorizationServer,
    transport: Transport,
    secret: impl Into<Secret>,
    auth: ClientAuth,
) -> Result<String, TokenError> {
    let source = ClientCredentials::over(transport, login.token_url(), "orders", secret)
        .with_client_auth(auth);
    source.check()?;
    let cache = TokenCache::new(source);
    let token = cache.get(&TokenSpec::scopes(["read"])).await?;
    Ok(token.expose().to_owned())
}

async fn asking_gets(login: &AuthorizationServer, auth: &ClientAuth, method: AuthMethod) {
    for transport in transports() {
        let secret = match method {
            AuthMethod::SecretJwt => Secret::new(SECRET),
            _ => Secret::none(),
        };
        let token = ask(login, transport, secret, auth.clone()).await.unwrap();
        assert!(login.is_valid(&token, Some("read")));
        let call = login.requests().pop().unwrap();
        assert_eq!(call.auth, method);
        assert_eq!(call.parameter("client_id"), Some("orders"));
        assert_eq!(call.parameter("client_secret"), None);
    }
}

async fn is_refused(login: &AuthorizationServer, secret: Secret, auth: ClientAuth) {
    for transport in transports() {
        let refused = ask(login, transport, secret.clone(), auth.clone()).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidClient);
    }
}

#[tokio::test]
async fn an_assertion_signed_with_the_secret_gets_a_token() {
    let login = AuthorizationServer::builder().with_client("orders", SECRET);
    let login = login.start().await.unwrap();
    asking_gets(&login, &ClientAuth::secret_jwt(), AuthMethod::SecretJwt).await;
    let wrong = Secret::new(SECRET.replace('a', "b"));
    is_refused(&login, wrong, ClientAuth::secret_jwt()).await;
}

#[tokio::test]
async fn an_assertion_signed_with_a_key_of_any_kind_gets_a_token() {
    let login = AuthorizationServer::builder().with_client("other", SECRET);
    let login = login.start().await.unwrap();
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
            asking_gets(&login, &auth, AuthMethod::PrivateKeyJwt).await;
        }
        let other = if name == "rsa" { "p256" } else { "rsa" };
        let other = vector(&format!("{other}.public.pem"));
        login.set_client_key("orders", &other).unwrap();
        is_refused(&login, Secret::none(), auth).await;
    }
}

#[tokio::test]
async fn an_assertion_of_somebody_else_gets_a_token_from_wherever_it_comes() {
    let login = AuthorizationServer::builder().with_client_assertion("orders", "by.somebody.else");
    let login = login.start().await.unwrap();
    let file = TempFile::new("by.somebody.else\n");
    for auth in [
        ClientAuth::assertion("by.somebody.else"),
        ClientAuth::assertion(Secret::from_file(file.path()).unwrap()),
        ClientAuth::assertion(Secret::from_fn(|| {
            Ok::<_, TokenError>("by.somebody.else".into())
        })),
        ClientAuth::assertion_from(async || Ok(Secret::new("by.somebody.else"))),
    ] {
        asking_gets(&login, &auth, AuthMethod::PrivateKeyJwt).await;
    }
    is_refused(
        &login,
        Secret::none(),
        ClientAuth::assertion("by.nobody.known"),
    )
    .await;
}

#[tokio::test]
async fn what_an_assertions_giver_fails_with_is_the_error() {
    let login = AuthorizationServer::start().await.unwrap();
    let auth = ClientAuth::assertion_from(async || {
        Err(TokenError::new(ErrorKind::AccessDenied, "not for you"))
    });
    let error = ask(&login, Transport::reqwest(), Secret::none(), auth);
    assert_eq!(error.await.unwrap_err().kind(), ErrorKind::AccessDenied);
    assert_eq!(login.counts().requests, 0);
}

#[tokio::test]
async fn the_audience_is_the_token_endpoint_unless_it_is_set() {
    let login = AuthorizationServer::builder().with_client("orders", SECRET);
    let login = login.start().await.unwrap();
    let issuer = login.issuer();
    for (audience, good) in [
        (Some(login.token_url()), true),
        (Some(issuer.clone()), true),
        (Some(format!("{issuer}/")), false),
        (Some("https://elsewhere.example".into()), false),
        (None, true),
    ] {
        let mut auth = ClientAuth::secret_jwt();
        if let Some(audience) = audience {
            auth = auth.with_assertion_audience(audience);
        }
        let token = ask(&login, Transport::hyper(), SECRET, auth).await;
        assert_eq!(token.is_ok(), good, "{token:?}");
    }
    let too_long = Duration::from_secs(3600);
    let auth = ClientAuth::secret_jwt().with_assertion_lifetime(too_long);
    is_refused(&login, Secret::new(SECRET), auth).await;
}

#[tokio::test]
async fn ten_thousand_assertions_have_ten_thousand_ids() {
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let kept = seen.clone();
    let transport = Transport::from_fn(move |request: http::Request<Bytes>| {
        let body = request.into_body();
        let mut form = form_urlencoded::parse(&body);
        let (_, line) = form.find(|(name, _)| name == "client_assertion").unwrap();
        kept.lock()
            .unwrap()
            .insert(claims(&line)["jti"].as_str().unwrap().to_owned());
        std::future::ready(Ok(Response::new(Bytes::from(r#"{"access_token":"abc"}"#))))
    });
    let key = SigningKey::from_pem(vector("ed25519.pkcs8.pem")).unwrap();
    let source = ClientCredentials::over(
        transport,
        "https://login.example/token",
        "orders",
        Secret::none(),
    )
    .with_client_auth(ClientAuth::private_key_jwt(key));
    let request = TokenRequest::new(TokenSpec::default());
    for _ in 0..10_000 {
        source.fetch(&request).await.unwrap();
    }
    assert_eq!(seen.lock().unwrap().len(), 10_000);
}

#[tokio::test]
async fn an_assertion_that_was_used_is_refused_and_one_for_another_client_too() {
    let login = AuthorizationServer::builder()
        .with_client("orders", SECRET)
        .with_client("stock", SECRET)
        .start()
        .await
        .unwrap();
    let seen = Arc::new(Mutex::new(String::new()));
    let kept = seen.clone();
    let catching = Transport::from_fn(move |request: http::Request<Bytes>| {
        let body = request.into_body();
        let mut form = form_urlencoded::parse(&body);
        let (_, line) = form.find(|(name, _)| name == "client_assertion").unwrap();
        *kept.lock().unwrap() = line.into_owned();
        std::future::ready(Ok(Response::new(Bytes::from(r#"{"access_token":"abc"}"#))))
    });
    let auth = ClientAuth::secret_jwt().with_assertion_audience(login.issuer());
    ask(&login, catching, SECRET, auth).await.unwrap();
    let line = seen.lock().unwrap().clone();
    let caught = || ClientAuth::assertion(line.as_str());

    let other = ClientCredentials::new(login.token_url(), "stock", Secret::none());
    let request = TokenRequest::new(TokenSpec::default());
    let refused = other.with_client_auth(caught()).fetch(&request).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidClient);

    let token = ask(&login, Transport::reqwest(), Secret::none(), caught());
    token.await.unwrap();
    is_refused(&login, Secret::none(), caught()).await;
}

#[tokio::test]
async fn an_assertion_is_made_anew_for_each_attempt_of_a_fetch() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = seen.clone();
    let transport = Transport::from_fn(move |request: http::Request<Bytes>| {
        let mut kept = kept.lock().unwrap();
        kept.push(request.into_body());
        let status = if kept.len() < 3 { 503 } else { 200 };
        let mut answer = Response::new(Bytes::from(r#"{"access_token":"abc"}"#));
        *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
        std::future::ready(Ok(answer))
    });
    let source =
        ClientCredentials::over(transport, "https://login.example/token", "orders", SECRET)
            .with_client_auth(ClientAuth::secret_jwt());
    TokenCache::new(source)
        .get(&TokenSpec::default())
        .await
        .unwrap();
    let distinct: HashSet<_> = seen.lock().unwrap().drain(..).collect();
    assert_eq!(distinct.len(), 3);
}

#[tokio::test]
async fn what_cannot_work_is_told_before_anything_is_sent() {
    let login = AuthorizationServer::start().await.unwrap();
    let rsa = || SigningKey::from_pem(vector("rsa.pkcs8.pem")).unwrap();
    let long = Duration::from_secs(60);
    for (secret, auth, part) in [
        (Secret::none(), ClientAuth::basic(), "no secret"),
        (Secret::none(), ClientAuth::post(), "no secret"),
        (Secret::none(), ClientAuth::secret_jwt(), "no secret"),
        (
            Secret::new("too short"),
            ClientAuth::secret_jwt(),
            "32 bytes",
        ),
        (
            Secret::none(),
            ClientAuth::assertion(Secret::none()),
            "no secret",
        ),
        (
            Secret::none(),
            ClientAuth::mtls(),
            "with_client_identity_pem",
        ),
        (
            Secret::none(),
            ClientAuth::private_key_jwt(rsa().with_algorithm(SigningAlgorithm::ES256)),
            "ES256 does not work with an RSA key",
        ),
        (
            Secret::new("a"),
            ClientAuth::post().with_assertion_audience("https://login.example"),
            "client_secret_post signs none",
        ),
        (
            Secret::none(),
            ClientAuth::none().with_assertion_lifetime(long),
            "leave them out",
        ),
    ] {
        for transport in transports() {
            let error = ask(&login, transport, secret.clone(), auth.clone()).await;
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.to_string().contains(part), "{error}");
        }
    }
    assert_eq!(login.counts().requests, 0);
}

fn claims(line: &str) -> Value {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let claims = line.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}
