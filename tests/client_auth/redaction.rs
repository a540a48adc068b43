//! Tests that no secret, key or assertion appears in errors or `Debug` output.

use bytes::Bytes;
use http::{Response, StatusCode};
use proptest::prelude::*;
use tower_bearer::{
    Secret, TokenCache, TokenSource, TokenSpec,
    credentials::{ClientAuth, ClientCredentials, SigningKey, TokenEndpoint, assertion},
    source::TokenRequest,
    transport::Transport,
};

use super::vector;

/// Returns the output of a source, its cache and its errors when the provider echoes the request, encoded and decoded.
fn output_of(auth: &ClientAuth) -> String {
    let transport = Transport::from_fn(|request: http::Request<Bytes>| {
        let raw = String::from_utf8_lossy(request.body()).into_owned();
        let pairs: Vec<_> = form_urlencoded::parse(request.body())
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        let header = request.headers().get("authorization").cloned();
        let header = header.map(|value| value.to_str().unwrap().to_owned());
        let (pairs, header) = (pairs.join(" "), header.unwrap_or_default());
        let description = format!("{pairs} | {header} | {raw}");
        let body = serde_json::json!({"error": "invalid_client", "error_description": description});
        let mut answer = Response::new(Bytes::from(body.to_string()));
        *answer.status_mut() = StatusCode::UNAUTHORIZED;
        std::future::ready(Ok(answer))
    });
    let source = ClientCredentials::from_endpoint(
        TokenEndpoint::new("https://login.example/token")
            .with_client("orders", auth.clone())
            .with_transport(transport),
    );
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let request = TokenRequest::new(TokenSpec::default());
        let error = source.fetch(&request).await.unwrap_err();
        let cache = TokenCache::new(source.clone());
        let held = cache.get(&TokenSpec::default()).await.unwrap_err();
        let entries = cache.entries();
        format!("{error} {error:?} {held} {held:?} {source:?} {cache:?} {entries:?} {auth:?}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn secrets_are_redacted(secret in "[ -~é]{32,60}", form in 0..3) {
        let secret = secret.as_str();
        let auth = match form {
            0 => ClientAuth::basic(secret),
            1 => ClientAuth::post(secret),
            _ => ClientAuth::secret_jwt(secret),
        };
        let output = output_of(&auth);
        prop_assert!(!output.contains(secret.trim()), "{}", output);
    }

    #[test]
    fn given_assertions_are_redacted(text in "[A-Za-z0-9_-]{20,40}\\.[A-Za-z0-9_-]{20,40}\\.[A-Za-z0-9_-]{20,40}") {
        let given = Secret::new(text.clone());
        for auth in [
            ClientAuth::assertion(given.clone()),
            ClientAuth::assertion(assertion::from_fn(move |_| std::future::ready(Ok(given.clone())))),
        ] {
            let output = output_of(&auth);
            prop_assert!(!output.contains(&text), "{}", output);
        }
    }
}

#[test]
fn signed_assertions_are_redacted() {
    for name in ["rsa.pkcs8.pem", "p256.sec1.pem", "ed25519.pkcs8.pem"] {
        let key = SigningKey::from_pem(vector(name)).unwrap();
        let output = output_of(&ClientAuth::private_key_jwt(key));
        // The encoded form of the brace that begins a JWT header.
        assert!(output.contains("client_assertion"), "{output}");
        assert!(!output.contains("eyJ"), "{output}");
    }
}
