//! Tests the discovery of a provider by its issuer (RFC 8414): URLs, refreshes and invalid metadata.

use std::{
    sync::{Arc, Mutex, MutexGuard},
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

/// The delay that a busy machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(15);

async fn login() -> AuthorizationServer {
    AuthorizationServer::start().await.unwrap()
}

fn over(transport: Transport, issuer: &str) -> ClientCredentials {
    ClientCredentials::from_endpoint(
        TokenEndpoint::discover(issuer)
            .with_client("client", ClientAuth::basic("secret"))
            .with_transport(transport),
    )
}

fn of(issuer: &str) -> ClientCredentials {
    over(Transport::reqwest(), issuer)
}

async fn fetch_for(source: &ClientCredentials, spec: TokenSpec) -> Result<(), TokenError> {
    source.fetch(&TokenRequest::new(spec)).await.map(drop)
}

async fn fetch(source: &ClientCredentials) -> Result<(), TokenError> {
    fetch_for(source, TokenSpec::default()).await
}

/// Makes one attempt that must fail with this kind of error, and returns the message.
async fn fails(source: &ClientCredentials, kind: ErrorKind) -> String {
    let error = fetch(source).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}

fn transports() -> [Transport; 2] {
    [Transport::reqwest(), Transport::hyper()]
}

fn tenant(name: &str) -> TokenSpec {
    TokenSpec::default().with_tenant(name)
}

#[tokio::test]
async fn oauth_and_openid_metadata_are_found_at_every_path() {
    let login = login().await;
    for path in ["", "/acme", "/acme/v2.0"] {
        for (oauth, openid, requests) in [(true, true, 1), (true, false, 1), (false, true, 2)] {
            for transport in transports() {
                login.serve_metadata(oauth, openid);
                login.reset_counts();
                let source = over(transport, &format!("{}{path}", login.issuer()));
                for _ in 0..3 {
                    fetch(&source).await.unwrap();
                }
                assert_eq!(login.counts().issued, 3);
                let made = login.metadata_requests();
                assert_eq!(made, requests, "{path:?} {oauth} {openid}");
            }
        }
    }
}

/// Starts twenty fetches that wait for the same metadata, and returns their errors.
async fn crowd(login: &AuthorizationServer, source: &ClientCredentials) -> Vec<Option<ErrorKind>> {
    let hold = login.hold_metadata();
    let mut crowd = JoinSet::new();
    for _ in 0..20 {
        let source = source.clone();
        crowd.spawn(async move { fetch(&source).await.err().map(|error| error.kind()) });
    }
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    hold.release();
    crowd.join_all().await
}

#[tokio::test]
async fn concurrent_fetches_share_one_metadata_request() {
    let login = login().await;
    assert_eq!(crowd(&login, &of(&login.issuer())).await, [None; 20]);
    assert_eq!((login.metadata_requests(), login.counts().issued), (1, 20));
}

#[tokio::test]
async fn concurrent_fetches_share_one_metadata_error() {
    let login = login().await;
    login.metadata_fault_always(Fault::status(404));
    let source = of(&login.issuer());
    assert_eq!(crowd(&login, &source).await, [Some(ErrorKind::Refused); 20]);
    // Both URLs were requested once. The error is not cached: the next fetch requests them again.
    assert_eq!(login.metadata_requests(), 2);
    login.clear_metadata_faults();
    fetch(&source).await.unwrap();
}

#[tokio::test]
async fn each_tenant_has_its_own_issuer() {
    let login = login().await;
    let source = of(&format!("{}/{{tenant}}/v2.0", login.issuer()));
    for _ in 0..2 {
        for name in ["acme", "umbrella"] {
            fetch_for(&source, tenant(name)).await.unwrap();
        }
    }
    assert_eq!((login.metadata_requests(), login.counts().issued), (2, 4));
    let fixed = of(&login.issuer());
    for (source, spec, message) in [
        (&source, TokenSpec::default(), "issuer contains {tenant}"),
        (&fixed, tenant("acme"), "issuer does not contain {tenant}"),
        (&source, tenant("../x"), ""),
    ] {
        let error = fetch_for(source, spec).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains(message), "{error}");
    }
    assert_eq!(login.metadata_requests(), 2);
}

#[tokio::test]
async fn issuer_with_an_extra_slash_is_a_configuration_error() {
    let login = login().await;
    let issuer = login.issuer();
    let error = fails(&of(&format!("{issuer}/")), ErrorKind::Configuration).await;
    for part in [&*issuer, "configure exactly this value", "/.well-known/"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(login.counts().requests, 0);
}

#[tokio::test]
async fn tls_discovery_requires_a_trusted_certificate() {
    let login = AuthorizationServer::builder().with_tls();
    let login = login.start().await.unwrap();
    let ca = login.ca_pem().unwrap();
    for transport in transports() {
        let source = over(transport.clone(), &login.issuer());
        fails(&source, ErrorKind::Network).await;
        let transport = transport.with_root_certificate_pem(ca.as_bytes()).unwrap();
        fetch(&over(transport, &login.issuer())).await.unwrap();
    }
}

#[tokio::test]
async fn invalid_metadata_errors_have_kind_and_remedy() {
    let html = Fault::response(200, Some("text/html"), "<h1>Welcome</h1>");
    let empty = Fault::response(200, Some("application/json"), "{}");
    let throttled = Fault::status(429).with_header("retry-after", "7");
    for (fault, kind, requests) in [
        (Fault::status(404), ErrorKind::Refused, 2),
        (Fault::status(401), ErrorKind::Refused, 2),
        (html, ErrorKind::Malformed, 2),
        (empty, ErrorKind::Malformed, 2),
        (Fault::status(500), ErrorKind::Unavailable, 2),
        (throttled, ErrorKind::Throttled, 1),
        (Fault::drop_connection(), ErrorKind::Network, 1),
        (Fault::huge(5 << 20), ErrorKind::Malformed, 2),
        (Fault::huge(1 << 40), ErrorKind::Malformed, 2),
    ] {
        for transport in transports() {
            let login = login().await;
            login.metadata_fault_always(fault.clone());
            let error = fetch(&over(transport, &login.issuer())).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{fault:?}: {error}");
            assert_eq!(login.metadata_requests(), requests, "{fault:?}: {error}");
            assert_eq!(login.counts().requests, 0);
            if kind == ErrorKind::Refused {
                let message = error.to_string();
                assert!(message.contains(&login.issuer()), "{message}");
                assert!(message.contains("token URL"), "{message}");
            }
            if kind == ErrorKind::Throttled {
                assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
            }
        }
    }
}

#[tokio::test]
async fn metadata_redirect_is_not_followed() {
    let (login, other) = (login().await, login().await);
    let location = format!("{}/.well-known/openid-configuration", other.issuer());
    login.metadata_fault_always(Fault::redirect(&location));
    for transport in transports() {
        let error = fails(&over(transport, &login.issuer()), ErrorKind::Malformed).await;
        assert!(error.contains("redirect"), "{error}");
    }
    assert_eq!(other.metadata_requests(), 0);
}

#[tokio::test]
async fn slow_metadata_ends_with_the_fetch_timeout() {
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
async fn invalid_client_error_lists_supported_methods() {
    let login = login().await;
    let endpoint =
        TokenEndpoint::discover(login.issuer()).with_client("client", ClientAuth::basic("wrong"));
    let source = ClientCredentials::from_endpoint(endpoint);
    let error = fails(&source, ErrorKind::InvalidClient).await;
    let methods = "client_secret_basic, client_secret_post";
    assert!(error.contains(methods), "{error}");
}

#[test]
fn check_rejects_invalid_issuers() {
    let issuers = "http://login.example https://login.example/?a=b https://login.example/#a \
                   https://user:pass@login.example https://{tenant}/ login.example";
    for issuer in issuers.split(' ') {
        let error = of(issuer).check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{issuer}");
    }
}

/// A provider without sockets, for paused time. Clones share their state.
#[derive(Clone)]
struct Provider(Arc<Mutex<ProviderState>>);

#[derive(Default)]
struct ProviderState {
    /// The endpoint in the metadata, or `None` if there is no metadata.
    endpoint: Option<&'static str>,
    /// The endpoint that issues tokens.
    issuing: &'static str,
    hangs: bool,
    documents: usize,
    last_request: String,
}

const ISSUER: &str = "https://login.example";
const FIRST: &str = "https://login.example/first";
const SECOND: &str = "https://other.example/second";
const MTLS: &str = "https://mtls.login.example/t";

impl Provider {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(ProviderState {
            endpoint: Some(FIRST),
            issuing: FIRST,
            ..ProviderState::default()
        })))
    }

    fn state(&self) -> MutexGuard<'_, ProviderState> {
        self.0.lock().unwrap()
    }

    fn transport(&self) -> Transport {
        let provider = self.clone();
        Transport::from_fn(move |request| provider.clone().answer(request))
    }

    fn source(&self) -> ClientCredentials {
        over(self.transport(), ISSUER)
    }

    fn move_to(&self, endpoint: &'static str) {
        let mut state = self.state();
        (state.endpoint, state.issuing) = (Some(endpoint), endpoint);
    }

    async fn answer(self, request: Request<Bytes>) -> Result<Response<Bytes>, TokenError> {
        let text = if request.uri().path().starts_with("/.well-known/oauth") {
            self.state().documents += 1;
            if self.state().hangs {
                std::future::pending::<()>().await;
            }
            self.state().endpoint.map(|endpoint| {
                format!(
                    r#"{{"issuer":"{ISSUER}","token_endpoint":"{endpoint}",
                        "mtls_endpoint_aliases":{{"token_endpoint":"{MTLS}"}}}}"#
                )
            })
        } else {
            let mut state = self.state();
            state.last_request = request.uri().to_string();
            let is_issuing = state.issuing == state.last_request;
            is_issuing.then(|| r#"{"access_token":"abc"}"#.to_owned())
        };
        let mut response = Response::new(Bytes::new());
        match text {
            Some(text) => *response.body_mut() = text.into(),
            None => *response.status_mut() = http::StatusCode::NOT_FOUND,
        }
        Ok(response)
    }

    fn assert_requests(&self, documents: usize, endpoint: &str) {
        let state = self.state();
        let requests = (state.documents, &*state.last_request);
        assert_eq!(requests, (documents, endpoint));
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn metadata_is_refreshed_daily() {
    let provider = Provider::new();
    let source = provider.source();
    fetch(&source).await.unwrap();
    time::advance(DAY - MINUTE).await;
    fetch(&source).await.unwrap();
    provider.assert_requests(1, FIRST);
    provider.move_to(SECOND);
    time::advance(MINUTE).await;
    fetch(&source).await.unwrap();
    provider.assert_requests(2, SECOND);
}

#[tokio::test(start_paused = true)]
async fn failed_metadata_refresh_keeps_the_old_metadata() {
    let provider = Provider::new();
    let source = provider.source();
    fetch(&source).await.unwrap();
    provider.state().endpoint = None;
    time::advance(DAY).await;
    for _ in 0..3 {
        fetch(&source).await.unwrap();
        provider.assert_requests(2, FIRST);
    }
    time::advance(5 * MINUTE).await;
    fetch(&source).await.unwrap();
    provider.assert_requests(3, FIRST);
}

#[tokio::test(start_paused = true)]
async fn hanging_metadata_refresh_delays_one_fetch_by_three_seconds() {
    let provider = Provider::new();
    let source = provider.source();
    fetch(&source).await.unwrap();
    provider.state().hangs = true;
    time::advance(DAY).await;
    let before = time::Instant::now();
    let (first, second) = tokio::join!(fetch(&source), async {
        fetch(&source).await.unwrap();
        before.elapsed()
    });
    first.unwrap();
    assert_eq!(second, Duration::ZERO);
    assert_eq!(before.elapsed(), Duration::from_secs(3));
    fetch(&source).await.unwrap();
    assert_eq!(before.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn moved_endpoint_refreshes_the_metadata_early() {
    let provider = Provider::new();
    let source = provider.source();
    fetch(&source).await.unwrap();
    provider.move_to(SECOND);
    // Metadata that is a few minutes old is not refreshed after an error.
    for _ in 0..2 {
        fails(&source, ErrorKind::Refused).await;
    }
    provider.assert_requests(1, FIRST);
    time::advance(5 * MINUTE).await;
    fetch(&source).await.unwrap();
    provider.assert_requests(2, SECOND);
}

#[tokio::test]
async fn mtls_alias_selects_the_mtls_endpoint() {
    let provider = Provider::new();
    provider.state().issuing = MTLS;
    let endpoint = TokenEndpoint::discover(ISSUER)
        .with_client("client", ClientAuth::none())
        .with_transport(provider.transport())
        .with_mtls_alias();
    let source = ClientCredentials::from_endpoint(endpoint);
    fetch(&source).await.unwrap();
    provider.assert_requests(1, MTLS);
}
