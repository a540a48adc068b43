//! Tests the pages that the proxy serves itself.

use serde_json::{Value, json};

use crate::support::{Fixture, assert_line, oauth_error};

#[tokio::test]
async fn health_is_200() {
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
async fn tokens_page_describes_tokens_without_showing_them() {
    let fixture = Fixture::with("resource = ['urn:b', 'urn:a']", "").await;
    let empty = fixture.proxy.json("/-/tokens").await;
    assert_eq!(empty["entries"], 0);
    assert_eq!(empty["tokens"], json!([]));
    for _ in 0..3 {
        fixture.proxy.get("/api/x").await;
    }
    let page = fixture.proxy.get("/-/tokens").await;
    assert_eq!(page.header("content-type"), Some("application/json"));
    let page_json = page.json();
    for (name, value) in [
        ("entries", 1),
        ("hits", 2),
        ("misses", 1),
        ("fetches", 1),
        ("fetch_failures", 0),
        ("rejections", 0),
        ("replays", 0),
    ] {
        assert_eq!(page_json[name], value, "{name}: {page_json}");
    }
    assert!(page_json["bytes"].as_u64().unwrap() > 0);
    let token = &page_json["tokens"][0];
    for (name, value) in [
        ("scopes", json!(["read"])),
        ("resource", json!(["urn:a", "urn:b"])),
        ("state", "fresh".into()),
        ("from", "provider".into()),
        ("tenant", Value::Null),
        ("last_error", Value::Null),
    ] {
        assert_eq!(token[name], value, "{name}: {token}");
    }
    // The lifetime is an hour. The refresh is due five to six minutes earlier.
    for (name, range) in [("expires_in", 3590..=3600), ("refresh_in", 3230..=3300)] {
        assert!(range.contains(&token[name].as_u64().unwrap()), "{token}");
    }
    assert!(token["generation"].as_u64().unwrap() > 0);
    let sent = fixture.api.requests()[0].token.clone().unwrap();
    assert!(!page.text().contains(&sent));
}

#[tokio::test]
async fn failed_fetch_is_shown_as_backing_off() {
    let fixture = Fixture::new().await;
    let refusal = oauth_error(400, "invalid_scope");
    fixture.login.fault_always(refusal);
    fixture.proxy.get("/api/x").await;
    let page_json = fixture.proxy.json("/-/tokens").await;
    let token = &page_json["tokens"][0];
    assert_eq!(token["state"], "backing_off");
    let error = token["last_error"].as_str().unwrap();
    assert!(error.starts_with("invalid_scope: "), "{error}");
    for member in ["expires_in", "refresh_in", "generation", "from"] {
        assert!(token[member].is_null(), "{member}: {token}");
    }
    assert_eq!(page_json["fetches"], 1);
    assert_eq!(page_json["fetch_failures"], 1);
}

#[tokio::test]
async fn reached_rejection_limit_is_shown_as_storm() {
    let fixture = Fixture::new().await;
    fixture.api.always_unauthorized(true);
    for _ in 0..8 {
        assert_eq!(fixture.proxy.get("/api/x").await.status, 401);
    }
    let page_json = fixture.proxy.json("/-/tokens").await;
    assert_eq!(page_json["tokens"][0]["state"], "storm");
    assert_eq!(page_json["rejections"], 5);
    assert_eq!(page_json["fetches"], 6);
}

#[tokio::test]
async fn metrics_start_at_zero_and_count() {
    let fixture = Fixture::new().await;
    let page = fixture.proxy.get("/-/metrics").await;
    let content_type = page.header("content-type").unwrap();
    assert!(content_type.starts_with("text/plain; version=0.0.4"));
    let text = page.text();
    let assert_has = |line: &str| assert!(text.contains(line), "{line}: {text}");
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
        assert_has(&format!("# TYPE tower_bearer_{name} counter\n"));
    }
    for name in ["entries", "bytes"] {
        let sample = format!("tower_bearer_{name} 0\n");
        assert_has(&format!("# TYPE tower_bearer_{name} gauge\n{sample}"));
    }
    for name in ["fetch_seconds", "wait_seconds"] {
        assert_has(&format!("# TYPE tower_bearer_{name} histogram\n"));
        assert_has(&format!("tower_bearer_{name}_count 0\n"));
    }

    for _ in 0..3 {
        fixture.proxy.get("/api/x").await;
    }
    fixture.login.revoke_all();
    fixture.proxy.get("/api/x").await;
    let text = fixture.proxy.get("/-/metrics").await.text();
    for line in [
        // The rejected request was a hit, too.
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
        assert_line(&text, line);
    }
    let page = fixture.proxy.json("/-/tokens").await;
    for (member, sample) in [
        ("hits", "tower_bearer_hits_total{state=\"fresh\"}"),
        ("misses", "tower_bearer_misses_total"),
        ("fetches", "tower_bearer_fetches_total{outcome=\"ok\"}"),
        ("bytes", "tower_bearer_bytes"),
    ] {
        assert_line(&text, &format!("{sample} {}", page[member]));
    }
}
