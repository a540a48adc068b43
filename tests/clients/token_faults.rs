//! Whatever the token endpoint does wrong ends in time, as the error that it is.

use std::time::{Duration, Instant};

use tower_bearer::{
    ErrorKind, TokenCache, TokenSpec,
    credentials::ClientCredentials,
    testing::{AuthorizationServer, Fault},
    transport::Transport,
};

use crate::token_endpoint::transports;

/// Long enough for three attempts and their pauses.
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);
/// What a busy machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(15);

/// What a fault comes to.
struct Expected {
    kind: ErrorKind,
    requests: u64,
    timeout: Duration,
}

/// The same fault for every request, over both transports; the second call gets the remembered error.
async fn each(name: &str, fault: Fault, expected: Expected) {
    for transport in transports() {
        let what = format!("{name} over {transport:?}");
        let login = AuthorizationServer::start().await.unwrap();
        login.fault_always(fault.clone());
        let cache = cache(&login, transport, expected.timeout);
        let started = Instant::now();
        let error = cache.get(&TokenSpec::default()).await.unwrap_err();
        assert!(started.elapsed() < expected.timeout + SLACK, "{what}");
        assert_eq!(error.kind(), expected.kind, "{what}: {error}");
        assert_eq!(
            login.counts().requests,
            expected.requests,
            "{what}: {error}"
        );
        let again = cache.get(&TokenSpec::default()).await.unwrap_err();
        assert_eq!(again.kind(), expected.kind, "{what}: {again}");
        assert!(again.retry_after().is_some(), "{what}: {again}");
        assert_eq!(
            login.counts().requests,
            expected.requests,
            "{what}: {again}"
        );
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
    let (requests, timeout) = (3, LONG);
    Expected {
        kind,
        requests,
        timeout,
    }
}

fn once(kind: ErrorKind) -> Expected {
    let (requests, timeout) = (1, LONG);
    Expected {
        kind,
        requests,
        timeout,
    }
}

/// One request, which the deadline ends.
fn in_vain() -> Expected {
    let (kind, requests, timeout) = (ErrorKind::Timeout, 1, SHORT);
    Expected {
        kind,
        requests,
        timeout,
    }
}

#[tokio::test]
async fn silence_ends_with_the_deadline() {
    each("never", Fault::never(), in_vain()).await;
    each("delay", Fault::delay(LONG), in_vain()).await;
    each("drip", Fault::drip(SHORT / 2), in_vain()).await;
}

#[tokio::test]
async fn what_may_pass_by_itself_is_tried_thrice() {
    each("500", Fault::status(500), thrice(ErrorKind::Unavailable)).await;
    each("503", Fault::status(503), thrice(ErrorKind::Unavailable)).await;
    let gateway = Fault::answer(502, Some("text/html"), "<h1>Bad Gateway</h1>");
    each("502", gateway, thrice(ErrorKind::Unavailable)).await;
    each("drop", Fault::drop_connection(), thrice(ErrorKind::Network)).await;
}

#[tokio::test]
async fn what_was_asked_for_is_waited_out_if_it_is_short_and_heeded_if_it_is_long() {
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
async fn nonsense_is_not_asked_for_again() {
    let html = Fault::answer(200, Some("text/html"), "<h1>Welcome</h1>");
    each("html", html, once(ErrorKind::Malformed)).await;
    let json = Fault::answer(200, Some("application/json"), r#"{"access_token":7}"#);
    each("number", json, once(ErrorKind::Malformed)).await;
    let json = Fault::answer(200, Some("application/json"), r#"{"access_token":"a\nb"}"#);
    each("line break", json, once(ErrorKind::Malformed)).await;
    each("huge", Fault::huge(2 << 20), once(ErrorKind::Malformed)).await;
}

#[tokio::test]
async fn a_body_of_a_terabyte_is_not_read_to_its_end() {
    each("endless", Fault::huge(1 << 40), once(ErrorKind::Malformed)).await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = AuthorizationServer::start().await.unwrap();
    for status in [301, 302, 303, 307, 308] {
        let fault = Fault::status(status).with_header("location", other.token_url());
        each("redirect", fault, once(ErrorKind::Malformed)).await;
    }
    assert_eq!(other.counts().requests, 0);
}

#[tokio::test]
async fn a_fault_that_passes_costs_one_more_attempt() {
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
async fn a_token_that_still_serves_is_not_displaced_by_a_failed_refresh() {
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
async fn a_very_long_token_is_a_token() {
    for transport in transports() {
        let login = AuthorizationServer::start().await.unwrap();
        login.token_length(100_000);
        let cache = cache(&login, transport, LONG);
        let token = cache.get(&TokenSpec::default()).await.unwrap();
        assert_eq!(token.expose().len(), 100_000);
        assert!(login.is_valid(token.expose(), None));
    }
}
