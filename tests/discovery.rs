//! A provider by its issuer: where its metadata are looked for, when they are fetched, and what is never done with them.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use tokio::{task::JoinSet, time};
use tower_bearer::{
    ErrorKind, TokenCache, TokenError, TokenSource, TokenSpec,
    credentials::{ClientAuth, ClientCredentials, TokenEndpoint},
    source::TokenRequest,
    testing::{AuthorizationServer, Fault},
    transport::Transport,
};

/// What a busy machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(15);

async fn login() -> AuthorizationServer {
    AuthorizationServer::start().await.unwrap()
}

fn over(transport: Transport, issuer: &str) -> ClientCredentials {
    ClientCredentials::at(TokenEndpoint::discover_over(
        transport, issuer, "client", "secret",
    ))
}

fn of(issuer: &str) -> ClientCredentials {
    over(Transport::reqwest(), issuer)
}

async fn fetch(source: &ClientCredentials, spec: TokenSpec) -> Result<(), TokenError> {
    source.fetch(&TokenRequest::new(spec)).await.map(drop)
}

async fn ask(source: &ClientCredentials) -> Result<(), TokenError> {
    fetch(source, TokenSpec::default()).await
}

fn tenant(name: &str) -> TokenSpec {
    TokenSpec::default().with_tenant(name)
}

#[tokio::test]
async fn either_standard_is_found_with_a_path_and_without_over_both_transports() {
    let login = login().await;
    for path in ["", "/acme", "/acme/v2.0"] {
        for (oauth, openid, requests) in [(true, true, 1), (true, false, 1), (false, true, 2)] {
            for transport in [Transport::reqwest(), Transport::hyper()] {
                login.serve_metadata(oauth, openid);
                login.reset_counts();
                let source = over(transport, &format!("{}{path}", login.issuer()));
                for _ in 0..3 {
                    ask(&source).await.unwrap();
                }
                assert_eq!(login.counts().issued, 3);
                assert_eq!(
                    login.metadata_requests(),
                    requests,
                    "{path:?} {oauth} {openid}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_crowd_asks_once() {
    let login = login().await;
    let cache = TokenCache::new(of(&login.issuer()));
    let hold = login.hold_metadata();
    let mut crowd = JoinSet::new();
    for i in 0..20 {
        let cache = cache.clone();
        let spec = TokenSpec::scopes([format!("scope-{i}")]);
        crowd.spawn(async move { cache.get(&spec).await.map(drop) });
    }
    tokio::task::yield_now().await;
    hold.release();
    for outcome in crowd.join_all().await {
        outcome.unwrap();
    }
    assert_eq!((login.metadata_requests(), login.counts().issued), (1, 20));
}

#[tokio::test]
async fn a_crowd_shares_a_failure() {
    let login = login().await;
    login.metadata_fault_always(Fault::status(404));
    let source = of(&login.issuer());
    let hold = login.hold_metadata();
    let mut crowd = JoinSet::new();
    for _ in 0..20 {
        let source = source.clone();
        crowd.spawn(async move { ask(&source).await.unwrap_err() });
    }
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    hold.release();
    for error in crowd.join_all().await {
        assert_eq!(error.kind(), ErrorKind::Refused);
    }
    // Both places, once. Nothing latches: the next one asks again.
    assert_eq!(login.metadata_requests(), 2);
    login.clear_metadata_faults();
    ask(&source).await.unwrap();
}

#[tokio::test]
async fn each_tenant_has_an_issuer_of_its_own() {
    let login = login().await;
    let source = of(&format!("{}/{{tenant}}/v2.0", login.issuer()));
    for _ in 0..2 {
        for name in ["acme", "umbrella"] {
            fetch(&source, tenant(name)).await.unwrap();
        }
    }
    assert_eq!((login.metadata_requests(), login.counts().issued), (2, 4));
    let error = ask(&source).await.unwrap_err();
    assert!(
        error.to_string().contains("issuer contains {tenant}"),
        "{error}"
    );
    let error = fetch(&of(&login.issuer()), tenant("acme"))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("issuer does not contain {tenant}"),
        "{error}"
    );
    let error = fetch(&source, tenant("../x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert_eq!(login.metadata_requests(), 2);
}

#[tokio::test]
async fn an_issuer_that_differs_by_a_slash_is_told_with_the_right_one() {
    let login = login().await;
    let error = ask(&of(&format!("{}/", login.issuer()))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let shown = error.to_string();
    assert!(
        shown.contains(&login.issuer()) && shown.contains("exactly this value"),
        "{shown}"
    );
    assert!(shown.contains("/.well-known/"), "{shown}");
    assert_eq!(login.counts().requests, 0);
}

#[tokio::test]
async fn a_tls_provider_is_discovered_by_those_who_trust_it() {
    let login = AuthorizationServer::builder()
        .with_tls()
        .start()
        .await
        .unwrap();
    let ca = login.ca_pem().unwrap();
    for transport in [Transport::reqwest(), Transport::hyper()] {
        let error = ask(&over(transport.clone(), &login.issuer()))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network, "{error}");
        let transport = transport.with_root_certificate_pem(ca.as_bytes()).unwrap();
        ask(&over(transport, &login.issuer())).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_no_metadata_is_told_with_the_address_and_a_remedy() {
    let html = Fault::answer(200, Some("text/html"), "<h1>Welcome</h1>");
    let empty = Fault::answer(200, Some("application/json"), "{}");
    for (fault, kind, requests) in [
        (Fault::status(404), ErrorKind::Refused, 2),
        (Fault::status(401), ErrorKind::Refused, 2),
        (html, ErrorKind::Malformed, 2),
        (empty, ErrorKind::Malformed, 2),
        (Fault::status(500), ErrorKind::Unavailable, 2),
        (
            Fault::status(429).with_header("retry-after", "7"),
            ErrorKind::Throttled,
            1,
        ),
        (Fault::drop_connection(), ErrorKind::Network, 1),
        (Fault::huge(5 << 20), ErrorKind::Malformed, 2),
        (Fault::huge(1 << 40), ErrorKind::Malformed, 2),
    ] {
        for transport in [Transport::reqwest(), Transport::hyper()] {
            let login = login().await;
            login.metadata_fault_always(fault.clone());
            let error = ask(&over(transport, &login.issuer())).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{fault:?}: {error}");
            assert_eq!(login.metadata_requests(), requests, "{fault:?}: {error}");
            assert_eq!(login.counts().requests, 0);
            let shown = error.to_string();
            if kind == ErrorKind::Refused {
                assert!(
                    shown.contains(&login.issuer()) && shown.contains("token URL"),
                    "{shown}"
                );
            }
            if kind == ErrorKind::Throttled {
                assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
            }
        }
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (login, other) = (login().await, login().await);
    login.metadata_fault_always(Fault::redirect(&format!(
        "{}/.well-known/openid-configuration",
        other.issuer()
    )));
    for transport in [Transport::reqwest(), Transport::hyper()] {
        let error = ask(&over(transport, &login.issuer())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(error.to_string().contains("redirect"), "{error}");
    }
    assert_eq!(other.metadata_requests(), 0);
}

#[tokio::test]
async fn silence_and_dripping_end_with_the_deadline() {
    let limit = Duration::from_millis(300);
    for fault in [Fault::never(), Fault::drip(limit / 2)] {
        let login = login().await;
        login.metadata_fault_always(fault);
        let cache = TokenCache::builder(of(&login.issuer()))
            .with_fetch_timeout(limit)
            .build();
        let started = Instant::now();
        let error = cache.get(&TokenSpec::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(started.elapsed() < limit + SLACK);
    }
}

#[tokio::test]
async fn a_refused_client_learns_what_the_provider_admits() {
    let login = login().await;
    let endpoint = TokenEndpoint::discover(login.issuer(), "client", "wrong");
    let error = ask(&ClientCredentials::at(endpoint)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidClient);
    let shown = error.to_string();
    assert!(
        shown.contains("client_secret_basic, client_secret_post"),
        "{shown}"
    );
}

#[test]
fn an_issuer_that_can_be_none_is_told_at_once() {
    for issuer in [
        "http://login.example",
        "https://login.example/?a=b",
        "https://login.example/#a",
        "https://user:pass@login.example",
        "https://{tenant}/",
        "login.example",
    ] {
        let error = of(issuer).check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{issuer}");
    }
}

/// A provider without sockets, for paused time.
#[derive(Clone)]
struct Provider(Arc<Script>);

struct Script {
    /// What its document says; none: there is none.
    endpoint: Mutex<Option<&'static str>>,
    /// Where tokens are given out.
    open: Mutex<&'static str>,
    hangs: Mutex<bool>,
    documents: AtomicUsize,
    token_requests: Mutex<Vec<String>>,
}

const ISSUER: &str = "https://login.example";
const FIRST: &str = "https://login.example/first";
const SECOND: &str = "https://other.example/second";

impl Provider {
    fn new() -> Self {
        Self(Arc::new(Script {
            endpoint: Mutex::new(Some(FIRST)),
            open: Mutex::new(FIRST),
            hangs: Mutex::new(false),
            documents: AtomicUsize::new(0),
            token_requests: Mutex::default(),
        }))
    }

    fn source(&self) -> ClientCredentials {
        let provider = self.clone();
        over(
            Transport::from_fn(move |request| provider.clone().answer(request)),
            ISSUER,
        )
    }

    async fn answer(self, request: Request<Bytes>) -> Result<Response<Bytes>, TokenError> {
        let script = &self.0;
        let text = if request.uri().path().starts_with("/.well-known/oauth") {
            script.documents.fetch_add(1, SeqCst);
            if *script.hangs.lock().unwrap() {
                std::future::pending::<()>().await;
            }
            let endpoint = *script.endpoint.lock().unwrap();
            endpoint.map(|endpoint| {
                format!(
                    r#"{{"issuer":"{ISSUER}","token_endpoint":"{endpoint}",
                        "mtls_endpoint_aliases":{{"token_endpoint":"https://mtls.login.example/t"}}}}"#
                )
            })
        } else {
            let uri = request.uri().to_string();
            let open = *script.open.lock().unwrap() == uri;
            script.token_requests.lock().unwrap().push(uri);
            open.then(|| r#"{"access_token":"abc"}"#.to_owned())
        };
        let mut response = Response::new(Bytes::from(text.clone().unwrap_or_default()));
        if text.is_none() {
            *response.status_mut() = http::StatusCode::NOT_FOUND;
        }
        Ok(response)
    }

    fn documents(&self) -> usize {
        self.0.documents.load(SeqCst)
    }

    fn last_asked(&self) -> String {
        self.0
            .token_requests
            .lock()
            .unwrap()
            .last()
            .unwrap()
            .clone()
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn metadata_are_fetched_anew_once_a_day() {
    let provider = Provider::new();
    let source = provider.source();
    ask(&source).await.unwrap();
    time::advance(DAY - MINUTE).await;
    ask(&source).await.unwrap();
    assert_eq!(provider.documents(), 1);
    *provider.0.endpoint.lock().unwrap() = Some(SECOND);
    *provider.0.open.lock().unwrap() = SECOND;
    time::advance(MINUTE).await;
    ask(&source).await.unwrap();
    assert_eq!(
        (provider.documents(), provider.last_asked().as_str()),
        (2, SECOND)
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_keeps_what_is_known_and_pauses() {
    let provider = Provider::new();
    let source = provider.source();
    ask(&source).await.unwrap();
    *provider.0.endpoint.lock().unwrap() = None;
    time::advance(DAY).await;
    for _ in 0..3 {
        ask(&source).await.unwrap();
        assert_eq!(
            (provider.documents(), provider.last_asked().as_str()),
            (2, FIRST)
        );
    }
    time::advance(5 * MINUTE).await;
    ask(&source).await.unwrap();
    assert_eq!(provider.documents(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_hangs_holds_up_one_fetch_for_three_seconds() {
    let provider = Provider::new();
    let source = provider.source();
    ask(&source).await.unwrap();
    *provider.0.hangs.lock().unwrap() = true;
    time::advance(DAY).await;
    let before = time::Instant::now();
    let (first, second) = tokio::join!(ask(&source), async {
        ask(&source).await.unwrap();
        before.elapsed()
    });
    first.unwrap();
    assert_eq!(second, Duration::ZERO);
    assert_eq!(before.elapsed(), Duration::from_secs(3));
    ask(&source).await.unwrap();
    assert_eq!(before.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_has_moved_is_looked_for_before_the_day_is_over() {
    let provider = Provider::new();
    let source = provider.source();
    ask(&source).await.unwrap();
    *provider.0.endpoint.lock().unwrap() = Some(SECOND);
    *provider.0.open.lock().unwrap() = SECOND;
    // Quite new metadata are believed.
    for _ in 0..2 {
        assert_eq!(ask(&source).await.unwrap_err().kind(), ErrorKind::Refused);
    }
    assert_eq!(provider.documents(), 1);
    time::advance(5 * MINUTE).await;
    ask(&source).await.unwrap();
    assert_eq!(
        (provider.documents(), provider.last_asked().as_str()),
        (2, SECOND)
    );
}

#[tokio::test]
async fn a_client_with_a_certificate_goes_to_the_address_for_such() {
    let provider = Provider::new();
    *provider.0.open.lock().unwrap() = "https://mtls.login.example/t";
    let transport = {
        let provider = provider.clone();
        Transport::from_fn(move |request| provider.clone().answer(request))
    };
    let endpoint = TokenEndpoint::discover_over(transport, ISSUER, "client", "")
        .with_client_auth(ClientAuth::none())
        .with_mtls_alias();
    ask(&ClientCredentials::at(endpoint)).await.unwrap();
    assert_eq!(provider.last_asked(), "https://mtls.login.example/t");
}
