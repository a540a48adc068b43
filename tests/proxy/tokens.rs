//! Tests which requests get a token, and what happens after a 401.

use tower_bearer::testing::{Api, AuthorizationServer};

use crate::support::{Fixture, Proxy, config, login_with_secret, oauth_error, routed, upstream};

#[tokio::test]
async fn request_on_a_route_gets_its_token() {
    let fixture = Fixture::new().await;
    for _ in 0..3 {
        assert_eq!(fixture.proxy.get("/api/orders").await.status, 200);
    }
    assert_eq!(fixture.login.counts().requests, 1);
    let token = fixture.api.requests()[0].token.clone().unwrap();
    assert!(fixture.login.is_valid(&token, Some("read")));
}

#[tokio::test]
async fn callers_authorization_passes_without_a_fetch() {
    let fixture = Fixture::new().await;
    for (headers, value) in [
        (&[("Authorization", "Basic abc")][..], "Basic abc"),
        (
            &[
                ("authorization", "Bearer mine"),
                ("x-token-scope", "anything"),
                ("x-token-resource", "no uri"),
            ],
            "Bearer mine",
        ),
        (
            &[
                ("Authorization", "x"),
                ("x-token-scope", "a"),
                ("x-token-scope", "b"),
            ],
            "x",
        ),
        (&[("Authorization", "")], ""),
    ] {
        let answer = fixture.proxy.get_with("/api/x", headers).await;
        // The API rejects it, and its response passes unchanged.
        assert_eq!(answer.status, 401);
        let seen = fixture.api.requests().pop().unwrap();
        assert_eq!(seen.headers["authorization"], value);
        let mut names = seen.headers.keys().map(|name| name.as_str());
        assert!(names.all(|name| !name.starts_with("x-token-")));
    }
    assert_eq!(fixture.login.counts().requests, 0);
    assert_eq!(fixture.api.counts().requests, 4);
    let page = fixture.proxy.json("/-/tokens").await;
    for name in ["fetches", "hits", "misses"] {
        assert_eq!(page[name], 0, "{name}");
    }
}

#[tokio::test]
async fn upstream_without_a_route_gets_no_token() {
    let route = "[[route]]\nurl = 'https://other.example'\n".to_owned();
    let rest = |api: &Api| route + &upstream("/a", &api.url());
    let Fixture { login, api, proxy } = Fixture::unprotected(rest).await;
    assert_eq!(proxy.get("/a/x").await.status, 200);
    assert_eq!(api.counts().without_token, 1);
    assert_eq!(login.counts().requests, 0);
}

#[tokio::test]
async fn route_path_covers_whole_segments_below_it() {
    let rest = |api: &Api| {
        let route = format!("[[route]]\nurl = '{}'\n", api.url_of("/v2"));
        route + &upstream("/a", &api.url())
    };
    let fixture = Fixture::unprotected(rest).await;
    for (path, with_token) in [
        ("/a/v2", true),
        ("/a/v2/x", true),
        ("/a/v20", false),
        ("/a/x", false),
    ] {
        fixture.proxy.get(path).await;
        let seen = fixture.api.requests().pop().unwrap();
        assert_eq!(seen.token.is_some(), with_token, "{path}");
    }
}

#[tokio::test]
async fn revoked_token_is_replaced() {
    let fixture = Fixture::new().await;
    let body = vec![b'x'; 64 << 10];
    for (method, body) in [("GET", &b""[..]), ("POST", b"small"), ("PUT", &body)] {
        let answer = fixture.proxy.send(method, "/api/x", &[], body).await;
        assert_eq!(answer.status, 200);
        fixture.login.revoke_all();
        let answer = fixture.proxy.send(method, "/api/x", &[], body).await;
        assert_eq!((answer.status, &*answer.body), (200, body), "{method}");
    }
    assert_eq!(fixture.proxy.json("/-/tokens").await["replays"], 3);
}

#[tokio::test]
async fn body_beyond_the_limit_is_not_replayed() {
    let fixture = Fixture::with("", "replay_limit = '1KiB'").await;
    assert_eq!(fixture.proxy.get("/api/x").await.status, 200);
    for (length, status) in [(1024, 200), (1025, 401)] {
        fixture.login.revoke_all();
        let body = vec![b'x'; length];
        let answer = fixture.proxy.send("POST", "/api/x", &[], &body).await;
        assert_eq!(answer.status, status, "{length}");
    }
    // The rejected token was dropped nevertheless.
    assert_eq!(fixture.proxy.get("/api/x").await.status, 200);
}

#[tokio::test]
async fn failed_refresh_returns_the_apis_401() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.proxy.get("/api/x").await.status, 200);
    fixture.login.revoke_all();
    let refusal = oauth_error(400, "unauthorized_client");
    fixture.login.fault_always(refusal);
    let answer = fixture.proxy.get("/api/x").await;
    assert_eq!(answer.status, 401);
    let challenge = "Bearer error=\"invalid_token\"";
    assert_eq!(answer.header("www-authenticate"), Some(challenge));
    let content_type = answer.header("content-type");
    assert_ne!(content_type, Some("application/problem+json"));
}

#[tokio::test]
async fn challenge_gets_only_scopes_that_the_route_allows() {
    let login = AuthorizationServer::start().await.unwrap();
    let api = Api::builder(&login)
        .with_required_scope("/admin", "read admin")
        .with_required_scope("/root", "read root")
        .start()
        .await
        .unwrap();
    let rest = routed(&api, "scopes = ['read']\nallow_scopes = ['admin']");
    let proxy = Proxy::start(&config(&login, &rest)).await;
    assert_eq!(proxy.get("/a/admin").await.status, 200);
    assert_eq!(proxy.get("/a/root").await.status, 403);
    for call in login.requests() {
        assert!(!call.parameter("scope").unwrap().contains("root"));
    }
}

#[tokio::test]
async fn log_contains_no_token_or_secret() {
    let login = login_with_secret("hunter2").await;
    let api = Api::start(&login).await.unwrap();
    let text = config(&login, &routed(&api, ""));
    let text = text.replace("'secret'", "{ env = 'PROXY_SECRET' }");
    let variables = [("RUST_LOG", "trace"), ("PROXY_SECRET", "hunter2")];
    let proxy = Proxy::start_with(&text, &variables).await;
    for _ in 0..2 {
        assert_eq!(proxy.get("/a/x").await.status, 200);
        login.revoke_all();
    }
    let callers = [("Authorization", "Bearer callers-own")];
    assert_eq!(proxy.get_with("/a/x", &callers).await.status, 401);
    let log = proxy.log();
    assert!(log.contains("token fetched"), "{log}");
    let calls = api.requests().into_iter();
    let mut secrets: Vec<_> = calls.filter_map(|call| call.token).collect();
    assert!(secrets.len() >= 3);
    secrets.push("hunter2".into());
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret} is in the log");
    }
}
