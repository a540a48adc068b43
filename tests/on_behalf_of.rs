//! Tests the on-behalf-of grant: each user gets their own token, and refresh tokens outlive the user token.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use proptest::{prelude::*, sample::select};
use tokio::{runtime::Runtime, task::JoinSet};
use tower_bearer::{
    ErrorKind, TokenCache, TokenSpec,
    credentials::{ClientAuth, OnBehalfOf, TokenEndpoint, TokenExchange},
    testing::{AuthorizationServer, Fault},
    token::Subject,
};

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
const SCOPES: [&str; 2] = ["read", "write"];

async fn login() -> AuthorizationServer {
    AuthorizationServer::start().await.unwrap()
}

fn endpoint(login: &AuthorizationServer) -> TokenEndpoint {
    TokenEndpoint::new(login.token_url()).with_client("client", ClientAuth::basic("secret"))
}

fn sign_in(login: &AuthorizationServer, user: &str) -> String {
    login.sign_in(user, "client", SCOPES).0
}

fn of(subject: &str, scope: &str) -> TokenSpec {
    TokenSpec::scopes([scope]).with_subject(Subject::new(subject))
}

#[tokio::test]
async fn request_carries_the_user_token_and_scopes() {
    let login = login().await;
    let alice = sign_in(&login, "alice");
    let cache = TokenCache::new(OnBehalfOf::new(endpoint(&login)));
    cache.get(&of(&alice, "read")).await.unwrap();
    let call = login.requests().pop().unwrap();
    for (name, value) in [
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("assertion", alice.as_str()),
        ("requested_token_use", "on_behalf_of"),
        ("scope", "read"),
    ] {
        assert_eq!(call.parameter(name), Some(value), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_users_get_their_own_tokens() {
    let login = login().await;
    let cache = TokenCache::new(OnBehalfOf::new(endpoint(&login)));
    let mut crowd = JoinSet::new();
    for i in 0..50 {
        let user = format!("user-{i}");
        let spec = of(&sign_in(&login, &user), "read");
        for _ in 0..4 {
            let (cache, login, spec, user) =
                (cache.clone(), login.clone(), spec.clone(), user.clone());
            crowd.spawn(async move {
                let token = cache.get(&spec).await.unwrap();
                assert_eq!(login.subject_of(token.expose()), Some(user));
            });
        }
    }
    crowd.join_all().await;
    assert_eq!(login.counts().issued, 50);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// "get", "refresh" or "reject", for a user and a scope.
    Use(&'static str, &'static str, &'static str),
    /// The user sends another token.
    SignIn(&'static str),
    EndSignIns,
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let users = || select(&USERS[..]);
    let uses = select(vec!["get", "get", "refresh", "reject"]);
    prop_oneof![
        12 => (uses, users(), select(&SCOPES[..]))
            .prop_map(|(how, user, scope)| Step::Use(how, user, scope)),
        2 => users().prop_map(Step::SignIn),
        1 => Just(Step::EndSignIns),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn users_never_receive_tokens_of_other_users(
        steps in prop::collection::vec(step(), 1..40),
        by_exchange in any::<bool>(),
        with_refresh_tokens in any::<bool>(),
    ) {
        Runtime::new().unwrap().block_on(async {
            let login = login().await;
            login.issue_refresh_tokens(with_refresh_tokens);
            let cache = if by_exchange {
                TokenCache::new(TokenExchange::new(endpoint(&login)))
            } else {
                TokenCache::new(OnBehalfOf::new(endpoint(&login)))
            };
            let mut user_tokens: HashMap<_, _> =
                USERS.iter().map(|user| (*user, sign_in(&login, user))).collect();
            for step in steps {
                match step {
                    Step::Use(how, user, scope) => {
                        let spec = of(&user_tokens[user], scope);
                        let token = match how {
                            "get" => cache.get(&spec).await.unwrap(),
                            "refresh" => cache.refresh(&spec).await.unwrap(),
                            _ => {
                                if let Some(token) = cache.peek(&spec) {
                                    cache.reject(&token);
                                }
                                continue;
                            }
                        };
                        assert_eq!(login.subject_of(token.expose()).as_deref(), Some(user));
                        assert_eq!(login.scopes_of(token.expose()).unwrap(), [scope]);
                    }
                    Step::SignIn(user) => {
                        user_tokens.insert(user, sign_in(&login, user));
                    }
                    Step::EndSignIns => login.revoke_refresh_tokens(),
                    Step::Clear => cache.clear(),
                }
            }
        });
    }
}

#[tokio::test]
async fn refresh_tokens_outlive_the_user_token() {
    let login = login().await;
    login.issue_refresh_tokens(true);
    login.set_lifetime(Some(Duration::from_secs(1)));
    let alice = sign_in(&login, "alice");
    login.set_lifetime(Some(Duration::from_secs(3600)));
    let cache = TokenCache::new(OnBehalfOf::new(endpoint(&login)));
    let spec = of(&alice, "read");
    cache.get(&spec).await.unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    while login.is_valid(&alice, None) {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Each refresh token is used once. The server revokes them all if one is used twice.
    for uses in 1..=5 {
        let token = cache.refresh(&spec).await.unwrap();
        assert_eq!(login.subject_of(token.expose()).as_deref(), Some("alice"));
        assert_eq!(login.refresh_token_uses(), uses);
    }
    // The expired user token cannot be used for another scope.
    let error = cache.get(&of(&alice, "write")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidGrant, "{error}");
    assert_eq!(login.counts().refused, 1);
}

#[tokio::test]
async fn disabled_refresh_tokens_are_not_used() {
    let login = login().await;
    login.issue_refresh_tokens(true);
    let alice = sign_in(&login, "alice");
    let source = OnBehalfOf::new(endpoint(&login)).without_refresh_tokens();
    let cache = TokenCache::new(source);
    let spec = of(&alice, "read");
    cache.get(&spec).await.unwrap();
    login.revoke(&alice);
    let error = cache.refresh(&spec).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidGrant, "{error}");
    assert_eq!(login.refresh_token_uses(), 0);
}

#[tokio::test]
async fn rejected_refresh_token_falls_back_to_the_user_token() {
    let login = login().await;
    login.issue_refresh_tokens(true);
    let alice = sign_in(&login, "alice");
    let cache = TokenCache::new(OnBehalfOf::new(endpoint(&login)));
    let spec = of(&alice, "read");
    cache.get(&spec).await.unwrap();
    login.revoke_refresh_tokens();
    cache.refresh(&spec).await.unwrap();
    assert_eq!(login.refresh_token_uses(), 1);
    // The response contained another refresh token, which is used next.
    login.revoke(&alice);
    cache.refresh(&spec).await.unwrap();
    assert_eq!(login.refresh_token_uses(), 2);
}

#[tokio::test]
async fn refresh_tokens_are_bounded() {
    let login = login().await;
    login.issue_refresh_tokens(true);
    let source = OnBehalfOf::new(endpoint(&login)).with_max_refresh_tokens(3);
    let cache = TokenCache::new(source.clone());
    for user in 0..20 {
        let spec = of(&sign_in(&login, &user.to_string()), "read");
        cache.get(&spec).await.unwrap();
        cache.refresh(&spec).await.unwrap();
    }
    let output = format!("{source:?}");
    let (_, count) = output.split_once("refresh_tokens: ").unwrap();
    let count: usize = count.trim_end_matches(" }").parse().unwrap();
    assert!((1..=3).contains(&count), "{output}");
}

#[tokio::test]
async fn interaction_required_reaches_the_caller() {
    let login = login().await;
    let alice = sign_in(&login, "alice");
    let claims = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    for (error, suberror) in [
        ("interaction_required", ""),
        ("invalid_grant", "consent_required"),
        ("invalid_grant", "basic_action"),
        ("mfa_required", ""),
    ] {
        let body = serde_json::json!({ "error": error, "suberror": suberror, "claims": claims });
        let json = Some("application/json");
        login.fault(Fault::response(400, json, body.to_string()));
        let cache = TokenCache::new(OnBehalfOf::new(endpoint(&login)));
        let error = cache.get(&of(&alice, "read")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InteractionRequired, "{error}");
        assert_eq!(error.claims(), Some(claims));
    }
}
