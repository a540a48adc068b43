//! Tests token exchange (RFC 8693): subjects, actors and token types.

use tower_bearer::{
    ErrorKind::{Configuration, Malformed, Refused},
    Secret, TokenCache, TokenSource, TokenSpec,
    credentials::{ClientCredentials, TokenEndpoint, TokenExchange, assertion},
    source::SourceId,
    testing::Fault,
    token::{Subject, TokenType},
};

use crate::{assert_distinct, endpoint, fails, fetch, last_call, login, silent_endpoint};

fn of(subject: &str) -> TokenSpec {
    TokenSpec::scopes(["read"])
        .with_audience("stock")
        .with_subject(Subject::new(subject))
}

#[tokio::test]
async fn actor_token_comes_from_its_own_cache() {
    let login = login().await;
    let actor_cache = TokenCache::new(ClientCredentials::from_endpoint(endpoint(&login)));
    let actor = assertion::from_provider(actor_cache, TokenSpec::default());
    let source = TokenExchange::new(endpoint(&login)).with_actor(actor, TokenType::ACCESS_TOKEN);
    // The source ID is known because those of the client and of the actor are.
    assert!(source.source_id().is_some());
    let cache = TokenCache::new(source);
    for user in ["alice", "bob"] {
        let (access, _) = login.sign_in(user, "client", ["read"]);
        let token = cache.get(&of(&access)).await.unwrap();
        assert_eq!(login.subject_of(token.expose()).as_deref(), Some(user));
        assert_eq!(login.actor_of(token.expose()).as_deref(), Some("client"));
    }
    assert_eq!(login.counts().of_grant("client_credentials"), 1);
    let call = last_call(&login);
    for (name, value) in [
        ("subject_token_type", TokenType::ACCESS_TOKEN.as_str()),
        ("actor_token_type", TokenType::ACCESS_TOKEN.as_str()),
        ("audience", "stock"),
        ("scope", "read"),
    ] {
        assert_eq!(call.parameter(name), Some(value), "{name}");
    }
    assert_eq!(call.parameter("requested_token_type"), None);
}

#[tokio::test]
async fn fixed_subject_is_exchanged_without_a_client() {
    let login = login().await;
    login.trust_assertion("the cluster's", "pod");
    let endpoint = TokenEndpoint::new(login.token_url());
    let source = TokenExchange::new(endpoint)
        .with_subject(Secret::new("the cluster's"), TokenType::JWT)
        .with_requested_token_type(TokenType::ACCESS_TOKEN);
    assert!(source.source_id().is_some());
    let cache = TokenCache::new(source);
    let token = cache.get(&TokenSpec::default()).await.unwrap();
    assert_eq!(login.subject_of(token.expose()).as_deref(), Some("pod"));
    assert_eq!(login.actor_of(token.expose()), None);
    let call = last_call(&login);
    let kind = call.parameter("subject_token_type");
    assert_eq!(kind, Some(TokenType::JWT.as_str()));
    // A source with a fixed subject rejects a spec with a subject.
    let error = cache.get(&of("alice's")).await.unwrap_err();
    assert_eq!(error.kind(), Configuration, "{error}");
    assert_eq!(login.counts().requests, 1);
}

#[tokio::test]
async fn other_issued_token_types_are_malformed() {
    let login = login().await;
    let (access, _) = login.sign_in("alice", "client", ["read"]);
    let source = TokenExchange::new(endpoint(&login));
    // The server answers with the token type N_A for a token that is not a bearer token.
    let identity = source.clone();
    let identity = identity.with_requested_token_type(TokenType::ID_TOKEN);
    let error = fails(&identity, of(&access), Malformed).await;
    assert!(error.contains("N_A"), "{error}");
    // The response claims to contain a bearer token, of a type that was not requested.
    let other = TokenType::new("urn:x");
    for issued in [TokenType::REFRESH_TOKEN, TokenType::SAML2, other] {
        let issued = issued.as_str();
        let body = format!(
            r#"{{"access_token":"abc","token_type":"Bearer","issued_token_type":"{issued}"}}"#
        );
        login.fault(Fault::response(200, Some("application/json"), body));
        let error = fails(&source, of(&access), Malformed).await;
        assert!(error.contains("issued_token_type"), "{error}");
    }
    // Some servers omit the type.
    login.fault(Fault::response(200, None, r#"{"access_token":"abc"}"#));
    fetch(&source, of(&access)).await.unwrap();
}

#[tokio::test]
async fn unusable_token_types_are_not_requested() {
    let endpoint = silent_endpoint();
    for kind in [TokenType::REFRESH_TOKEN, TokenType::SAML1, TokenType::SAML2] {
        let source = TokenExchange::new(endpoint.clone()).with_requested_token_type(kind);
        fails(&source, of("a"), Configuration).await;
    }
    let source = TokenExchange::new(endpoint);
    let error = fails(&source, TokenSpec::default(), Configuration).await;
    assert!(error.contains("no subject"), "{error}");
}

#[tokio::test]
async fn untrusted_subject_is_refused() {
    let login = login().await;
    let source = TokenExchange::new(endpoint(&login));
    let error = fails(&source, of("unknown"), Refused).await;
    assert!(error.contains("token is invalid"), "{error}");
    assert!(!error.contains("unknown"), "{error}");
}

#[test]
fn source_id_contains_subject_actor_and_type() {
    let endpoint = silent_endpoint();
    let plain = || TokenExchange::new(endpoint.clone());
    let a = || Secret::new("a");
    let b = Secret::new("b");
    let (jwt, id_token) = (TokenType::JWT, TokenType::ID_TOKEN);
    assert_distinct(&[
        plain().source_id(),
        plain().with_subject(a(), jwt.clone()).source_id(),
        plain().with_subject(a(), id_token).source_id(),
        plain().with_subject(b, jwt.clone()).source_id(),
        plain().with_actor(a(), jwt.clone()).source_id(),
        plain().with_requested_token_type(jwt.clone()).source_id(),
        plain().with_source_id(SourceId::new("x")).source_id(),
    ]);
    let unknown = assertion::from_fn(async |_| Ok(Secret::new("a")));
    let source = plain().with_actor(unknown, jwt);
    assert!(source.source_id().is_none());
}
