//! Tests that each fault of the token endpoint ends within the deadline with the right kind of error.

use std::time::{Duration, Instant};

use tower_bearer::{
    ErrorKind, TokenCache, TokenSpec,
    credentials::ClientCredentials,
    testing::{AuthorizationServer, Fault},
    transport::Transport,
};

use crate::token_endpoint::transports;

/// Enough time for three attempts and the pauses between them.
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);
/// Extra time allowed for a busy machine.
const SLACK: Duration = Duration::from_secs(15);

/// The kind of the error, the number of requests, and the timeout of the fetch.
type Expected = (ErrorKind, u64, Duration);

/// Injects the fault into every request, over both transports. The second call gets the cached error.
async fn each(name: &str, fault: Fault, (kind, requests, limit): Expected) {
    for transport in transports() {
        let what = format!("{name} over {transport:?}");
        let login = AuthorizationServer::start().await.unwrap();
        login.fault_always(fault.clone());
        let cache = cache(&login, transport, limit);
        let started = Instant::now();
        let error = cache.get(&TokenSpec::default()).await.unwrap_err();
        assert!(started.elapsed() < limit + SLACK, "{what}");
        assert_eq!(error.kind(), kind, "{what}: {error}");
        assert_eq!(login.counts().requests, requests, "{what}: {error}");
        let again = cache.get(&TokenSpec::default()).await.unwrap_err();
        assert_eq!(again.kind(), kind, "{what}: {again}");
        assert!(again.retry_after().is_some(), "{what}: {again}");
        assert_eq!(login.counts().requests, requests, "{what}: {again}");
    }
}

fn cache(login: &AuthorizationServer, transport: Transport, timeout: Duration) -> TokenCache {
    let source =
        ClientCredentials::new(login.token_url(), "client", "secret").with_transport(transport);
    TokenCache::builder(source)
        .with_fetch_timeout(timeout)
        .build()
}

fn thrice(kind: ErrorKind) -> Expected {
    (kind, 3, LONG)
}

fn once(kind: ErrorKind) -> Expected {
    (kind, 1, LONG)
}

/// One request that times out.
const TIMED_OUT: Expected = (ErrorKind::Timeout, 1, SHORT);

#[tokio::test]
async fn silent_endpoint_times_out() {
    each("never", Fault::never(), TIMED_OUT).await;
    each("delay", Fault::delay(LONG), TIMED_OUT).await;
    each("drip", Fault::drip(SHORT / 2), TIMED_OUT).await;
}

#[tokio::test]
async fn transient_faults_are_tried_three_times() {
    each("500", Fault::status(500), thrice(ErrorKind::Unavailable)).await;
    each("503", Fault::status(503), thrice(ErrorKind::Unavailable)).await;
    let gateway = Fault::response(502, Some("text/html"), "<h1>Bad Gateway</h1>");
    each("502", gateway, thrice(ErrorKind::Unavailable)).await;
    each("drop", Fault::drop_connection(), thrice(ErrorKind::Network)).await;
}

#[tokio::test]
async fn retry_after_delays_retry_or_ends_the_fetch() {
    let busy = Fault::status(429).with_header("retry-after", "120");
    each("429", busy, once(ErrorKind::Throttled)).await;
    let down = Fault::status(503).with_header("retry-after", "120");
    each("503", down, once(ErrorKind::Unavailable)).await;
    for transport in transports() {
        let login = AuthorizationServer::start().await.unwrap();
        login.fault(Fault::status(503).with_header("retry-after", "1"));
        let started = Instant::now();
        let cache = cache(&login, transport, LONG);
        cache.get(&TokenSpec::default()).await.unwrap();
        assert!(started.elapsed() >= Duration::from_secs(1));
        assert_eq!(login.counts().requests, 2);
    }
}

#[tokio::test]
async fn malformed_response_is_not_retried() {
    let html = Fault::response(200, Some("text/html"), "<h1>Welcome</h1>");
    each("html", html, once(ErrorKind::Malformed)).await;
    let json = Fault::response(200, Some("application/json"), r#"{"access_token":7}"#);
    each("number", json, once(ErrorKind::Malformed)).await;
    let json = Fault::response(200, Some("application/json"), r#"{"access_token":"a\nb"}"#);
    each("line break", json, once(ErrorKind::Malformed)).await;
    each("huge", Fault::huge(2 << 20), once(ErrorKind::Malformed)).await;
    // The body is not read to its end.
    each("endless", Fault::huge(1 << 40), once(ErrorKind::Malformed)).await;
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let other = AuthorizationServer::start().await.unwrap();
    for status in [301, 302, 303, 307, 308] {
        let fault = Fault::status(status).with_header("location", other.token_url());
        each("redirect", fault, once(ErrorKind::Malformed)).await;
    }
    assert_eq!(other.counts().requests, 0);
}

#[tokio::test]
async fn transient_fault_costs_one_more_attempt() {
    for transport in transports() {
        for fault in [Fault::status(500), Fault::drop_connection()] {
            let login = AuthorizationServer::start().await.unwrap();
            login.fault(fault);
            let cache = cache(&login, transport.clone(), LONG);
            let token = cache.get(&TokenSpec::default()).await.unwrap();
            assert!(login.is_valid(token.expose(), None));
            let stats = cache.stats();
            assert_eq!((stats.fetches, stats.token_requests), (1, 2));
            assert_eq!(login.counts().requests, 2);
        }
    }
}

#[tokio::test]
async fn failed_refresh_keeps_the_valid_token() {
    for transport in transports() {
        let login = AuthorizationServer::start().await.unwrap();
        let cache = cache(&login, transport, LONG);
        let token = cache.get(&TokenSpec::default()).await.unwrap();
        login.fault_always(Fault::status(500));
        let error = cache.refresh(&TokenSpec::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let same = cache.get(&TokenSpec::default()).await.unwrap();
        assert_eq!(same.generation(), token.generation());
    }
}

#[tokio::test]
async fn very_long_token_is_accepted() {
    for transport in transports() {
        let login = AuthorizationServer::start().await.unwrap();
        login.token_length(100_000);
        let cache = cache(&login, transport, LONG);
        let token = cache.get(&TokenSpec::default()).await.unwrap();
        assert_eq!(token.expose().len(), 100_000);
        assert!(login.is_valid(token.expose(), None));
    }
}
