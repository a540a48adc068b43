//! Tests the responses that the proxy creates for failed requests.

use tokio::net::TcpListener;
use tower_bearer::testing::{AuthorizationServer, Fault};

use crate::support::{CannedUpstream, Fixture, Proxy, config, oauth_error, upstream};

#[tokio::test]
async fn provider_errors_have_their_kind() {
    for (fault, kind) in [
        (oauth_error(400, "invalid_client"), "invalid_client"),
        (Fault::status(401), "invalid_client"),
        (
            oauth_error(400, "unauthorized_client"),
            "unauthorized_client",
        ),
        (oauth_error(400, "invalid_grant"), "invalid_grant"),
        (oauth_error(400, "invalid_scope"), "invalid_scope"),
        (oauth_error(400, "invalid_target"), "invalid_target"),
        (oauth_error(400, "access_denied"), "access_denied"),
        (oauth_error(400, "something_else"), "refused"),
        (Fault::status(418), "refused"),
        (
            oauth_error(400, "interaction_required"),
            "interaction_required",
        ),
        (Fault::status(429), "throttled"),
        (Fault::status(503), "unavailable"),
        (oauth_error(400, "temporarily_unavailable"), "unavailable"),
        (oauth_error(400, "server_error"), "unavailable"),
        (
            Fault::response(200, Some("application/json"), "no JSON"),
            "malformed",
        ),
        (Fault::drop_connection(), "network"),
    ] {
        let fixture = Fixture::new().await;
        fixture.login.fault_always(fault);
        fixture.proxy.get("/api/x").await.assert_problem(502, kind);
        assert_eq!(fixture.api.counts().requests, 0, "{kind}");
    }
}

#[tokio::test]
async fn silent_provider_is_a_timeout() {
    let login = AuthorizationServer::start().await.unwrap();
    login.fault_always(Fault::never());
    let rest = format!(
        "fetch_timeout = '200ms'\n[[route]]\nurl = 'http://127.0.0.1:9'\n{}",
        upstream("/a", "http://127.0.0.1:9")
    );
    let proxy = Proxy::start(&config(&login, &rest)).await;
    let answer = proxy.get("/a").await;
    answer.assert_problem(502, "timeout");
}

#[tokio::test]
async fn retry_after_is_in_the_body_and_the_header() {
    let fixture = Fixture::new().await;
    let busy = Fault::status(429).with_header("retry-after", "30");
    fixture.login.fault_always(busy);
    for _ in 0..2 {
        let answer = fixture.proxy.get("/api/x").await;
        let seconds = answer.problem()["retry_after"].as_u64().unwrap();
        // The delay has up to 10 % jitter.
        assert!((29..=33).contains(&seconds), "{seconds}");
        assert_eq!(answer.header("retry-after"), Some(&*seconds.to_string()));
    }
    assert_eq!(fixture.login.counts().requests, 1);
}

#[tokio::test]
async fn problem_without_a_delay_has_no_retry_after() {
    let fixture = Fixture::new().await;
    fixture.login.fault(oauth_error(400, "access_denied"));
    let answer = fixture.proxy.get("/api/x").await;
    assert_eq!(answer.header("retry-after"), None);
    assert_eq!(answer.problem().get("retry_after"), None);
}

#[tokio::test]
async fn unreachable_upstream_is_502() {
    let login = AuthorizationServer::start().await.unwrap();
    // A port on which no server listens any more.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    // One closes the connection, and one does not speak HTTP.
    let silent = CannedUpstream::start("").await;
    let mute = CannedUpstream::start("mumble\r\n\r\n").await;
    let rest = upstream("/closed", &closed)
        + &upstream("/silent", &silent.url)
        + &upstream("/mute", &mute.url);
    let proxy = Proxy::start(&config(&login, &rest)).await;
    for path in ["/closed", "/silent", "/mute/x"] {
        proxy.get(path).await.assert_problem(502, "upstream");
    }
}

#[tokio::test]
async fn upstream_502_passes_unchanged() {
    let fixture = Fixture::new().await;
    let fault = Fault::response(502, Some("text/html"), "<h1>Bad Gateway</h1>");
    fixture.api.fault(fault);
    let answer = fixture.proxy.get("/api/x").await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.header("content-type"), Some("text/html"));
}
