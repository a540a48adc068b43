//! Tests tokens of service accounts, on behalf of users, and from token exchange.

use serde_json::json;
use tower_bearer::{
    ErrorKind, Secret, TokenCache, TokenSpec,
    credentials::{
        ClientAuth, ClientCredentials, JwtBearer, OnBehalfOf, SigningKey, TokenEndpoint,
        TokenExchange,
        assertion::{self, Signed},
    },
    token::{Subject, TokenType},
    transport::Transport,
};

use crate::{
    http_client::{HttpClient, KINDS, Kind},
    jwt_signing::{about_itself, rs256},
    lifecycle::{JWT_BEARER, Lifecycle, TOKEN_EXCHANGE},
    server::{Client, SECRET, Server},
};

/// Users sign in at the `portal`, another client than the service.
struct Fixture {
    site: Server,
    portal: Client,
    service: Client,
}

impl Fixture {
    async fn new() -> Option<Self> {
        let site = Server::oidc()?;
        let portal = site.client("client_secret_basic").await;
        let service = site.client("client_secret_basic").await;
        Some(Self {
            site,
            portal,
            service,
        })
    }

    fn endpoint(&self, transport: Transport) -> TokenEndpoint {
        let Client { id, secret, .. } = self.service.clone();
        TokenEndpoint::new(&self.site.token_url)
            .with_client(id, ClientAuth::basic(secret))
            .with_transport(transport)
    }

    /// Returns the user's token.
    async fn user(&self, name: &str) -> String {
        let login = self.site.sign_in(&self.portal, name, "read");
        login.await.access_token
    }

    fn round(&self, grant: &'static str) -> Lifecycle<'_> {
        Lifecycle::of(&self.site, &self.service).with_grant(grant)
    }
}

#[tokio::test]
async fn service_account_signs_for_itself_or_a_user() {
    let Some(site) = Server::oidc() else { return };
    let words = json!({ "auth": "client_secret_basic", "secret": SECRET, "algorithm": "RS256" });
    let account = site.client_with(words).await;
    let signed = || {
        Signed::new(
            SigningKey::from_pem(&account.key).unwrap(),
            account.id.as_str(),
        )
    };
    for (assertion, whose) in [
        (signed(), account.id.as_str()),
        (signed().with_audience(&site.issuer), account.id.as_str()),
        (signed().with_subject("ada").with_scopes_inside(), "ada"),
    ] {
        let source = async |transport| {
            let (id, secret) = (&account.id, account.secret.as_str());
            let endpoint = TokenEndpoint::new(&site.token_url)
                .with_client(id, ClientAuth::basic(secret))
                .with_transport(transport);
            JwtBearer::new(endpoint, assertion.clone())
        };
        let round = Lifecycle::of(&site, &account).with_grant(JWT_BEARER);
        for claims in round.check(source).await {
            assert_eq!(claims["sub"], whose);
        }
    }
}

#[tokio::test]
async fn service_account_file_gets_a_token() {
    let Some(site) = Server::oidc() else { return };
    let words = json!({ "auth": "none", "algorithm": "RS256" });
    let account = site.client_with(words).await;
    let file = json!({
        "type": "service_account",
        "client_email": account.id,
        "private_key": account.key,
        "token_uri": site.token_url,
    });
    // The request has no client authentication.
    let source =
        async |transport| JwtBearer::service_account(transport, &file.to_string()).unwrap();
    let round = Lifecycle::of(&site, &account).with_grant(JWT_BEARER);
    for claims in round.check(source).await {
        assert_eq!(claims["sub"], account.id.as_str());
    }
}

#[tokio::test]
async fn externally_signed_grant_is_accepted_once() {
    let Some(site) = Server::oidc() else { return };
    let words = json!({ "auth": "client_secret_basic", "secret": SECRET, "algorithm": "RS256" });
    let account = site.client_with(words).await;
    let text = rs256(&account.key, &about_itself(&account.id, &site.token_url));
    let fetch = async |kind: Kind| {
        let (id, secret) = (&account.id, account.secret.as_str());
        let endpoint = TokenEndpoint::new(&site.token_url)
            .with_client(id, ClientAuth::basic(secret))
            .with_transport(kind.transport(&site));
        let source = JwtBearer::new(endpoint, Secret::new(text.as_str()));
        TokenCache::new(source)
            .get(&TokenSpec::scopes(["read"]))
            .await
    };
    fetch(Kind::Reqwest).await.unwrap();
    let error = fetch(Kind::Hyper).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidGrant, "{error}");
}

#[tokio::test]
async fn user_token_is_exchanged_on_behalf_of_the_user() {
    let Some(scene) = Fixture::new().await else {
        return;
    };
    let ada = scene.user("ada").await;
    let spec = TokenSpec::scopes(["read"]).with_subject(Subject::new(ada.as_str()));
    let source = async |transport| OnBehalfOf::new(scene.endpoint(transport));
    let seen = scene.round(JWT_BEARER).with_spec(spec).check(source).await;
    for claims in seen {
        assert_eq!(claims["sub"], "ada");
        assert_eq!(claims["act"]["sub"], scene.service.id.as_str());
    }
}

#[tokio::test]
async fn refresh_token_outlives_the_users_token() {
    let Some(scene) = Fixture::new().await else {
        return;
    };
    for kind in KINDS {
        let cache = TokenCache::new(OnBehalfOf::new(scene.endpoint(kind.transport(&scene.site))));
        let specs = [specs_of(&scene, "ada").await, specs_of(&scene, "bob").await];
        for (name, spec) in &specs {
            assert_eq!(
                sub(&scene, kind, &cache, spec).await,
                (200, name.to_string())
            );
        }
        // Revokes the users' tokens, and those that the service got for them.
        scene.site.revoke(&scene.portal.id).await;
        scene.site.revoke(&scene.service.id).await;
        for (name, spec) in &specs {
            assert_eq!(
                sub(&scene, kind, &cache, spec).await,
                (200, name.to_string())
            );
        }
        // Without refresh tokens, the revoked user token is an error.
        let source = OnBehalfOf::new(scene.endpoint(kind.transport(&scene.site)));
        let cache = TokenCache::new(source.without_refresh_tokens());
        let error = cache.get(&specs[0].1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidGrant, "{error}");
    }
}

async fn specs_of(scene: &Fixture, name: &'static str) -> (&'static str, TokenSpec) {
    let subject = Subject::new(scene.user(name).await);
    let spec = TokenSpec::scopes(["read", "offline_access"]).with_subject(subject);
    (name, spec)
}

/// Returns the status, and the subject of the token that the API received.
async fn sub(scene: &Fixture, kind: Kind, cache: &TokenCache, spec: &TokenSpec) -> (u16, String) {
    let http = HttpClient::new(kind, &scene.site, cache, spec.clone());
    let answer = http.post(&scene.site.api("read"), "body").await.unwrap();
    let sub = answer.claims["sub"].as_str().unwrap_or_default().to_owned();
    (answer.status, sub)
}

#[tokio::test]
async fn token_exchange_sends_actor_and_audience() {
    let Some(scene) = Fixture::new().await else {
        return;
    };
    let ada = scene.user("ada").await;
    let spec = TokenSpec::scopes(["read"])
        .with_audience("stock")
        .with_subject(Subject::new(ada.as_str()));
    let source = async |transport: Transport| {
        let Client { id, secret, .. } = scene.service.clone();
        let url = &scene.site.token_url;
        // The actor's token belongs to another client, so that it is not revoked with the exchanged ones.
        let robot = scene.site.client("client_secret_basic").await;
        let own =
            ClientCredentials::new(url, robot.id, robot.secret).with_transport(transport.clone());
        let own = assertion::from_provider(TokenCache::new(own), TokenSpec::scopes(["read"]));
        TokenExchange::new(
            TokenEndpoint::new(url)
                .with_client(id, ClientAuth::basic(secret))
                .with_transport(transport),
        )
        .with_actor(own, TokenType::ACCESS_TOKEN)
    };
    let seen = scene
        .round(TOKEN_EXCHANGE)
        .with_spec(spec)
        .check(source)
        .await;
    for claims in seen {
        assert_eq!(claims["sub"], "ada");
        assert_eq!(claims["for"], "stock");
        let actor = claims["act"]["sub"].as_str().unwrap();
        assert!(
            actor.starts_with("client-") && actor != scene.service.id,
            "{actor}"
        );
    }
}

#[tokio::test]
async fn token_exchange_sends_the_resource() {
    let Some(scene) = Fixture::new().await else {
        return;
    };
    let ada = scene.user("ada").await;
    let spec = TokenSpec::scopes(["read"])
        .with_resource("urn:stock")
        .with_subject(Subject::new(ada.as_str()));
    let source = async |transport| TokenExchange::new(scene.endpoint(transport));
    let seen = scene
        .round(TOKEN_EXCHANGE)
        .with_spec(spec)
        .check(source)
        .await;
    assert!(
        seen.iter().all(|claims| claims["aud"] == "urn:stock"),
        "{seen:?}"
    );
}

#[tokio::test]
async fn token_of_another_type_is_not_sent() {
    let Some(scene) = Fixture::new().await else {
        return;
    };
    for kind in KINDS {
        let ada = scene.user("ada").await;
        let spec = TokenSpec::scopes(["read"]).with_subject(Subject::new(ada.as_str()));
        let source = TokenExchange::new(scene.endpoint(kind.transport(&scene.site)))
            .with_requested_token_type(TokenType::JWT);
        // RFC 8693 §2.2.1: the token type is `N_A`.
        let error = TokenCache::new(source).get(&spec).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(error.to_string().contains("N_A"), "{error}");
    }
}

#[tokio::test]
async fn revoked_user_token_is_rejected_and_redacted() {
    let Some(scene) = Fixture::new().await else {
        return;
    };
    for kind in KINDS {
        let ada = scene.user("ada").await;
        scene.site.revoke(&scene.portal.id).await;
        let spec = TokenSpec::scopes(["read"]).with_subject(Subject::new(ada.as_str()));
        let endpoint = || scene.endpoint(kind.transport(&scene.site));
        let exchange = TokenCache::new(TokenExchange::new(endpoint()));
        let behalf = TokenCache::new(OnBehalfOf::new(endpoint()));
        for cache in [exchange, behalf] {
            let error = cache.get(&spec).await.unwrap_err();
            assert!(!format!("{error} {error:?}").contains(&ada), "{error:?}");
            assert!(!error.is_retryable(), "{error}");
        }
    }
}
