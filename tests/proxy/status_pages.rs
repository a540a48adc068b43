//! Its own pages.

use tower_bearer::testing::Fault;

use crate::support::Fixture;

#[tokio::test]
async fn health_is_200_once_it_serves() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.proxy.get("/-/health").await.status, 200);
    assert_eq!(
        fixture
            .proxy
            .send("HEAD", "/-/health", &[], b"")
            .await
            .status,
        200
    );
    let answer = fixture.proxy.send("POST", "/-/health", &[], b"x").await;
    assert_eq!(
        (answer.status, answer.header("allow")),
        (405, Some("GET, HEAD"))
    );
}

#[tokio::test]
async fn tokens_are_described_and_never_shown() {
    let fixture = Fixture::with("resource = ['urn:b', 'urn:a']", "").await;
    let empty = fixture.proxy.json("/-/tokens").await;
    assert_eq!(
        (&empty["entries"], &empty["tokens"]),
        (&0.into(), &serde_json::json!([]))
    );
    for _ in 0..3 {
        fixture.proxy.get("/api/x").await;
    }
    let page = fixture.proxy.get("/-/tokens").await;
    assert_eq!(page.header("content-type"), Some("application/json"));
    let shown = page.json();
    for (name, value) in [
        ("entries", 1),
        ("hits", 2),
        ("misses", 1),
        ("fetches", 1),
        ("fetch_failures", 0),
        ("rejections", 0),
        ("replays", 0),
    ] {
        assert_eq!(shown[name], value, "{name}: {shown}");
    }
    assert!(shown["bytes"].as_u64().unwrap() > 0);
    let token = &shown["tokens"][0];
    assert_eq!(token["scopes"], serde_json::json!(["read"]));
    assert_eq!(token["resource"], serde_json::json!(["urn:a", "urn:b"]));
    assert_eq!(
        (&token["state"], &token["from"]),
        (&"fresh".into(), &"provider".into())
    );
    assert!(token["tenant"].is_null() && token["last_error"].is_null());
    // The provider's word is an hour; the refresh is due five minutes before that, and up to one more.
    assert!(
        (3590..=3600).contains(&token["expires_in"].as_u64().unwrap()),
        "{token}"
    );
    assert!(
        (3230..=3300).contains(&token["refresh_in"].as_u64().unwrap()),
        "{token}"
    );
    assert!(token["generation"].as_u64().unwrap() > 0);
    let sent = fixture.api.requests()[0].token.clone().unwrap();
    assert!(!page.text().contains(&sent));
}

#[tokio::test]
async fn a_token_that_can_not_be_had_is_backing_off() {
    let fixture = Fixture::new().await;
    let refusal = r#"{"error":"invalid_scope"}"#;
    fixture
        .login
        .fault_always(Fault::answer(400, Some("application/json"), refusal));
    fixture.proxy.get("/api/x").await;
    let shown = fixture.proxy.json("/-/tokens").await;
    let token = &shown["tokens"][0];
    assert_eq!(token["state"], "backing_off");
    assert!(
        token["last_error"]
            .as_str()
            .unwrap()
            .starts_with("invalid_scope: "),
        "{token}"
    );
    for member in ["expires_in", "refresh_in", "generation", "from"] {
        assert!(token[member].is_null(), "{member}: {token}");
    }
    assert_eq!(
        (&shown["fetches"], &shown["fetch_failures"]),
        (&1.into(), &1.into())
    );
}

#[tokio::test]
async fn an_api_that_refuses_everything_is_a_storm() {
    let fixture = Fixture::new().await;
    fixture.api.always_unauthorized(true);
    for _ in 0..8 {
        assert_eq!(fixture.proxy.get("/api/x").await.status, 401);
    }
    let shown = fixture.proxy.json("/-/tokens").await;
    assert_eq!(shown["tokens"][0]["state"], "storm");
    assert_eq!(
        (&shown["rejections"], &shown["fetches"]),
        (&5.into(), &6.into())
    );
}

#[tokio::test]
async fn metrics_are_there_from_the_start_and_count() {
    let fixture = Fixture::new().await;
    let page = fixture.proxy.get("/-/metrics").await;
    assert!(
        page.header("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    let text = page.text();
    for name in [
        "hits_total",
        "misses_total",
        "fetches_total",
        "token_requests_total",
        "rejections_total",
        "replays_total",
        "storms_total",
        "evictions_total",
    ] {
        assert!(
            text.contains(&format!("# TYPE tower_bearer_{name} counter\n")),
            "{name}: {text}"
        );
    }
    for name in ["entries", "bytes"] {
        assert!(
            text.contains(&format!(
                "# TYPE tower_bearer_{name} gauge\ntower_bearer_{name} 0\n"
            )),
            "{name}: {text}"
        );
    }
    for name in ["fetch_seconds", "wait_seconds"] {
        assert!(
            text.contains(&format!("# TYPE tower_bearer_{name} histogram\n")),
            "{name}: {text}"
        );
        assert!(
            text.contains(&format!("tower_bearer_{name}_count 0\n")),
            "{name}: {text}"
        );
    }

    for _ in 0..3 {
        fixture.proxy.get("/api/x").await;
    }
    fixture.login.revoke_all();
    fixture.proxy.get("/api/x").await;
    let text = fixture.proxy.get("/-/metrics").await.text();
    for line in [
        // The request that met the 401 was served a token without waiting, too.
        "tower_bearer_hits_total{state=\"fresh\"} 3",
        "tower_bearer_fetches_total{outcome=\"ok\"} 2",
        "tower_bearer_token_requests_total 2",
        "tower_bearer_rejections_total 1",
        "tower_bearer_replays_total{outcome=\"recovered\"} 1",
        "tower_bearer_storms_total 0",
        "tower_bearer_entries 1",
        "tower_bearer_fetch_seconds_bucket{le=\"+Inf\"} 2",
        "tower_bearer_fetch_seconds_count 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}

#[tokio::test]
async fn the_two_pages_say_the_same() {
    let fixture = Fixture::new().await;
    for _ in 0..5 {
        fixture.proxy.get("/api/x").await;
    }
    let shown = fixture.proxy.json("/-/tokens").await;
    let text = fixture.proxy.get("/-/metrics").await.text();
    for (member, sample) in [
        ("hits", "tower_bearer_hits_total{state=\"fresh\"}"),
        ("misses", "tower_bearer_misses_total"),
        ("fetches", "tower_bearer_fetches_total{outcome=\"ok\"}"),
        ("bytes", "tower_bearer_bytes"),
    ] {
        let line = format!("{sample} {}", shown[member]);
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}
