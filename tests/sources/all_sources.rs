//! Tests properties that all sources share: their `Debug` output contains no secret, and their source IDs are distinct.

use std::fmt::Debug;

use tower_bearer::{
    Secret, TokenCache, TokenSource, TokenSpec,
    credentials::{
        ClientAuth, ClientCredentials, JwtBearer, OnBehalfOf, RefreshToken, Saml2Bearer, Static,
        TokenEndpoint, TokenExchange, assertion,
    },
    source::SourceId,
    token::{Subject, TokenType},
};

use crate::{assert_distinct, silent};

const SECRET: &str = "hunter2";

fn endpoint() -> TokenEndpoint {
    TokenEndpoint::new("https://login.example/?key=hunter2")
        .with_client("orders", ClientAuth::basic(SECRET))
        .with_transport(silent())
        .with_extra("password", SECRET)
}

#[test]
fn debug_of_every_source_shows_no_secret() {
    let secret = || Secret::new(SECRET);
    let provider = TokenCache::new(Static::new(secret()));
    let spec = TokenSpec::default().with_subject(Subject::new(SECRET));
    let exchange = TokenExchange::new(endpoint());
    let sources: &[&dyn Debug] = &[
        &endpoint(),
        &ClientCredentials::from_endpoint(endpoint()),
        &RefreshToken::new(endpoint(), secret()),
        &JwtBearer::new(endpoint(), secret()),
        &Saml2Bearer::new(endpoint(), secret()),
        &OnBehalfOf::new(endpoint()),
        &exchange.with_actor(secret(), TokenType::JWT),
        &Static::new(secret()),
        &assertion::from_provider(provider, spec.clone()),
        &spec,
        &spec.subject(),
        #[cfg(feature = "password")]
        &tower_bearer::credentials::Password::new(endpoint(), SECRET, secret()),
    ];
    let outputs: Vec<_> = sources.iter().map(|source| format!("{source:?}")).collect();
    for output in &outputs {
        assert!(!output.contains(SECRET), "{output}");
    }
    assert!(outputs[1].contains("orders") && outputs[1].contains("login.example"));
}

#[test]
fn source_ids_differ_by_grant_and_client() {
    let secret = || Secret::new(SECRET);
    assert_distinct(&[
        ClientCredentials::from_endpoint(endpoint()).source_id(),
        RefreshToken::new(endpoint(), secret()).source_id(),
        JwtBearer::new(endpoint(), secret()).source_id(),
        Saml2Bearer::new(endpoint(), secret()).source_id(),
        OnBehalfOf::new(endpoint()).source_id(),
        TokenExchange::new(endpoint()).source_id(),
        Static::new(secret()).source_id(),
        #[cfg(feature = "password")]
        tower_bearer::credentials::Password::new(endpoint(), SECRET, secret()).source_id(),
        ClientCredentials::from_endpoint(
            TokenEndpoint::new("https://login.example/?key=hunter2").with_extra("password", SECRET),
        )
        .source_id(),
        ClientCredentials::from_endpoint(
            TokenEndpoint::discover("https://login.example")
                .with_client("orders", ClientAuth::basic(""))
                .with_transport(silent()),
        )
        .source_id(),
        JwtBearer::new(endpoint(), secret())
            .with_source_id(SourceId::new("robot"))
            .source_id(),
    ]);
}
