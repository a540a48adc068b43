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
    credentials::{
        ClientAuth, ClientCredentials, SigningAlgorithm, SigningKey, TokenEndpoint, assertion,
    },
    source::TokenRequest,
    testing::{AuthMethod, AuthorizationServer},
    transport::Transport,
};

use super::{TempFile, transports, vector};

const SECRET: &str = "a secret of 32 bytes or more: é%+/";

async fn ask(
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

async fn asking_gets(login: &AuthorizationServer, auth: &ClientAuth, method: AuthMethod) {
    for transport in transports() {
        let token = ask(login, transport, auth.clone()).await.unwrap();
        assert!(login.is_valid(&token, Some("read")));
        let call = login.requests().pop().unwrap();
        assert_eq!(call.auth, method);
        assert_eq!(call.parameter("client_id"), Some("orders"));
        assert_eq!(call.parameter("client_secret"), None);
    }
}

async fn is_refused(login: &AuthorizationServer, auth: ClientAuth) {
    for transport in transports() {
        let refused = ask(login, transport, auth.clone()).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidClient);
    }
}

#[tokio::test]
async fn an_assertion_signed_with_the_secret_gets_a_token() {
    let login = AuthorizationServer::builder().with_client("orders", SECRET);
    let login = login.start().await.unwrap();
    asking_gets(
        &login,
        &ClientAuth::secret_jwt(SECRET),
        AuthMethod::SecretJwt,
    )
    .await;
    let wrong = Secret::new(SECRET.replace('a', "b"));
    is_refused(&login, ClientAuth::secret_jwt(wrong)).await;
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
        is_refused(&login, auth).await;
    }
}

#[tokio::test]
async fn an_assertion_of_somebody_else_gets_a_token_from_wherever_it_comes() {
    let login = AuthorizationServer::builder().with_client_assertion("orders", "by.somebody.else");
    let login = login.start().await.unwrap();
    let file = TempFile::new("by.somebody.else\n");
    for auth in [
        ClientAuth::assertion(Secret::new("by.somebody.else")),
        ClientAuth::assertion(Secret::from_file(file.path()).unwrap()),
        ClientAuth::assertion(Secret::from_fn(|| {
            Ok::<_, TokenError>("by.somebody.else".into())
        })),
        ClientAuth::assertion(assertion::from_fn(async |_| {
            Ok(Secret::new("by.somebody.else"))
        })),
    ] {
        asking_gets(&login, &auth, AuthMethod::PrivateKeyJwt).await;
    }
    let unknown = ClientAuth::assertion(Secret::new("by.nobody.known"));
    is_refused(&login, unknown).await;
}

#[tokio::test]
async fn what_an_assertions_giver_fails_with_is_the_error() {
    let login = AuthorizationServer::start().await.unwrap();
    let auth = ClientAuth::assertion(assertion::from_fn(async |_| {
        Err(TokenError::new(ErrorKind::AccessDenied, "not for you"))
    }));
    let error = ask(&login, Transport::reqwest(), auth);
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
        let mut auth = ClientAuth::secret_jwt(SECRET);
        if let Some(audience) = audience {
            auth = auth.with_assertion_audience(audience);
        }
        let token = ask(&login, Transport::hyper(), auth).await;
        assert_eq!(token.is_ok(), good, "{token:?}");
    }
    let too_long = Duration::from_secs(3600);
    let auth = ClientAuth::secret_jwt(SECRET).with_assertion_lifetime(too_long);
    is_refused(&login, auth).await;
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
    let auth = ClientAuth::secret_jwt(SECRET).with_assertion_audience(login.issuer());
    ask(&login, catching, auth).await.unwrap();
    let line = seen.lock().unwrap().clone();
    let caught = || ClientAuth::assertion(Secret::new(line.as_str()));

    let other = TokenEndpoint::new(login.token_url()).with_client("stock", caught());
    let request = TokenRequest::new(TokenSpec::default());
    let refused = ClientCredentials::from_endpoint(other)
        .fetch(&request)
        .await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidClient);

    let token = ask(&login, Transport::reqwest(), caught());
    token.await.unwrap();
    is_refused(&login, caught()).await;
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
    let source = ClientCredentials::from_endpoint(
        TokenEndpoint::new("https://login.example/token")
            .with_client("orders", ClientAuth::secret_jwt(SECRET))
            .with_transport(transport),
    );
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
    for (auth, part) in [
        (ClientAuth::secret_jwt("too short"), "32 bytes"),
        (ClientAuth::mtls(), "with_client_identity_pem"),
        (
            ClientAuth::private_key_jwt(rsa().with_algorithm(SigningAlgorithm::ES256)),
            "ES256 is not for an RSA key",
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
            let error = ask(&login, transport, auth.clone()).await;
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
