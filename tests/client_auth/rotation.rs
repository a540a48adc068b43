//! Tests secrets, keys and assertions that are replaced while the program runs.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::time::{self, Instant};
use tower_bearer::{
    ErrorKind, Secret, TokenCache, TokenError, TokenSource, TokenSpec,
    clock::Clock,
    credentials::{ClientAuth, ClientCredentials, SigningKey, TokenEndpoint},
    source::TokenRequest,
    testing::AuthorizationServer,
    transport::Transport,
};

use super::{TempFile, start, transports, vector};

const URL: &str = "https://login.example/token";

/// A counter that is read and reset at once. A clone is the same counter.
#[derive(Clone, Default)]
struct Count(Arc<AtomicU32>);

impl Count {
    fn increment(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    fn take(&self) -> u32 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// A client secret that a test can replace. It counts its reads.
#[derive(Clone)]
struct ReplaceableSecret {
    value: Arc<Mutex<&'static str>>,
    reads: Count,
}

impl ReplaceableSecret {
    fn new(value: &'static str) -> Self {
        let (value, reads) = (Arc::new(Mutex::new(value)), Count::default());
        Self { value, reads }
    }

    fn set(&self, value: &'static str) {
        *self.value.lock().unwrap() = value;
    }

    fn secret(&self) -> Secret {
        let this = self.clone();
        Secret::from_fn(move || {
            this.reads.increment();
            Ok::<_, TokenError>((*this.value.lock().unwrap()).to_owned())
        })
    }
}

/// Returns a provider that accepts one secret, and the count of its requests. It calls the closure for each of them.
fn provider(
    accepted: &'static str,
    on_arrival: impl Fn() + Send + Sync + 'static,
) -> (Transport, Count) {
    let requests = Count::default();
    let count = requests.clone();
    let transport = Transport::from_fn(move |request: http::Request<Bytes>| {
        count.increment();
        on_arrival();
        let mut answer = Response::new(Bytes::from(r#"{"access_token":"abc"}"#));
        if !request.body().ends_with(format!("={accepted}").as_bytes()) {
            *answer.status_mut() = StatusCode::UNAUTHORIZED;
            *answer.body_mut() = r#"{"error":"invalid_client"}"#.into();
        }
        std::future::ready(Ok(answer))
    });
    (transport, requests)
}

fn request() -> TokenRequest {
    TokenRequest::new(TokenSpec::default())
}

fn cache(source: ClientCredentials) -> TokenCache {
    let builder = TokenCache::builder(source);
    builder.with_clock(Clock::tokio()).build()
}

fn source(transport: Transport, secret: Secret) -> ClientCredentials {
    ClientCredentials::from_endpoint(
        TokenEndpoint::new(URL)
            .with_client("orders", ClientAuth::post(secret))
            .with_transport(transport),
    )
}

#[tokio::test]
async fn secret_replaced_during_the_request_is_retried_immediately() {
    let secret = ReplaceableSecret::new("old");
    let rotating = secret.clone();
    let (transport, requests) = provider("new", move || rotating.set("new"));
    let source = source(transport, secret.secret());
    source.fetch(&request()).await.unwrap();
    assert_eq!(requests.take(), 2);
}

#[tokio::test]
async fn unchanged_secret_is_tried_once() {
    let secret = ReplaceableSecret::new("old");
    let (transport, requests) = provider("new", || {});
    let source = source(transport, secret.secret());
    let error = source.fetch(&request()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidClient);
    assert_eq!(requests.take(), 1);
    assert!(!source.credential_changed(&error));
    secret.set("new");
    assert!(source.credential_changed(&error));
    // The error of another source says nothing about this one.
    assert!(!source.credential_changed(&TokenError::new(ErrorKind::InvalidClient, "no")));
}

#[tokio::test]
async fn secret_that_changes_on_every_read_is_tried_twice() {
    let (transport, requests) = provider("never", || {});
    let number = Count::default();
    let secret = Secret::from_fn(move || Ok::<_, TokenError>(number.increment().to_string()));
    let source = source(transport, secret);
    assert!(source.fetch(&request()).await.is_err());
    assert_eq!(requests.take(), 2);
}

#[tokio::test]
async fn unreadable_secret_returns_the_provider_error() {
    let file = TempFile::new("old");
    let path = file.path().to_owned();
    let (transport, _) = provider("new", move || std::fs::remove_file(&path).unwrap());
    let source = source(transport, Secret::from_file(file.path()).unwrap());
    let error = source.fetch(&request()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidClient);
}

#[tokio::test(start_paused = true)]
async fn secret_change_ends_the_invalid_client_back_off() {
    let secret = ReplaceableSecret::new("old");
    let (transport, requests) = provider("new", || {});
    let cache = cache(source(transport, secret.secret()));
    let specs = ["a", "b"].map(|scope| TokenSpec::scopes([scope]));
    // The client is refused until the back-off has its maximum length.
    for _ in 0..8 {
        let error = cache.get(&specs[0]).await.unwrap_err();
        time::advance(error.retry_after().unwrap_or(Duration::from_secs(60))).await;
    }
    let error = cache.get(&specs[0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidClient);
    let error = cache.get(&specs[0]).await.unwrap_err();
    let wait = error.retry_after().unwrap();
    assert!(wait > Duration::from_secs(20), "{error:?}");

    time::advance(Duration::from_secs(1)).await;
    secret.reads.take();
    requests.take();
    // The secret is read once a second, for any number of requests.
    for _ in 0..2 {
        for _ in 0..100 {
            assert!(cache.get(&specs[1]).await.is_err());
        }
        assert_eq!((secret.reads.take(), requests.take()), (1, 0));
        time::advance(Duration::from_secs(1)).await;
    }
    secret.set("new");
    cache.get(&specs[1]).await.unwrap();
    cache.get(&specs[0]).await.unwrap();
    assert_eq!(requests.take(), 2);

    // A hit does not read the secret.
    secret.reads.take();
    for _ in 0..100 {
        cache.get(&specs[0]).await.unwrap();
    }
    assert_eq!(secret.reads.take(), 0);
}

#[tokio::test(start_paused = true)]
async fn secret_change_does_not_end_other_back_offs() {
    let (secret, requests) = (ReplaceableSecret::new("old"), Count::default());
    let count = requests.clone();
    let transport = Transport::from_fn(move |_| {
        count.increment();
        let mut answer = Response::new(Bytes::new());
        *answer.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        std::future::ready(Ok(answer))
    });
    let cache = cache(source(transport, secret.secret()));
    assert!(cache.get(&TokenSpec::default()).await.is_err());
    secret.set("new");
    secret.reads.take();
    assert!(cache.get(&TokenSpec::default()).await.is_err());
    assert_eq!((requests.take(), secret.reads.take()), (1, 0));
}

/// A source that panics in `credential_changed`.
struct Panicking;

impl TokenSource for Panicking {
    async fn fetch(&self, _: &TokenRequest) -> Result<tower_bearer::NewToken, TokenError> {
        Err(TokenError::new(ErrorKind::InvalidClient, "no"))
    }

    fn credential_changed(&self, _: &TokenError) -> bool {
        panic!("on purpose")
    }
}

#[tokio::test]
async fn panic_in_credential_changed_counts_as_unchanged() {
    let cache = TokenCache::new(Panicking);
    for _ in 0..3 {
        let error = cache.get(&TokenSpec::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidClient);
    }
}

#[tokio::test]
async fn key_and_assertion_files_are_reloaded() {
    let (first_key, second_key) = (vector("p256.public.pem"), vector("rsa.public.pem"));
    let login = AuthorizationServer::builder().with_client_key("orders", &*first_key);
    let login = start(login.with_client_assertion("federated", "first.of.two")).await;
    for transport in transports() {
        let key = TempFile::new(&vector("p256.sec1.pem"));
        let assertion = TempFile::new("first.of.two");
        login.set_client_key("orders", &first_key).unwrap();
        login.set_client_assertion("federated", "first.of.two");
        let signing = ClientAuth::private_key_jwt(SigningKey::from_file(key.path()).unwrap());
        let federated = ClientAuth::assertion(Secret::from_file(assertion.path()).unwrap());
        let caches = [("orders", signing), ("federated", federated)].map(|(id, auth)| {
            let endpoint = TokenEndpoint::new(login.token_url())
                .with_client(id, auth)
                .with_transport(transport.clone());
            TokenCache::new(ClientCredentials::from_endpoint(endpoint))
        });
        let spec = TokenSpec::default();
        for cache in &caches {
            cache.get(&spec).await.unwrap();
        }
        login.set_client_key("orders", &second_key).unwrap();
        login.set_client_assertion("federated", "second.of.two");
        for cache in &caches {
            assert!(cache.refresh(&spec).await.is_err());
        }
        key.write(&vector("rsa.jwk.json"));
        assertion.write("second.of.two");
        for cache in &caches {
            // This is the first check during the back-off, so it ends immediately.
            cache.refresh(&spec).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_the_secret_rotates() {
    let [first, second] = transports().map(|transport| tokio::spawn(rotations(transport)));
    first.await.unwrap();
    second.await.unwrap();
}

/// Sends a hundred requests a second for eight seconds. The accepted secret changes every two seconds, the file half a
/// second later, and in between a fetch for another spec is refused.
async fn rotations(transport: Transport) {
    let login = AuthorizationServer::builder().with_client("orders", "secret-0");
    let login = start(login.with_lifetime(Duration::from_secs(6))).await;
    // The refresh is due early, so that a refused refresh can be repeated while the token is valid.
    login.set_refresh_in(Some(Duration::from_secs(2)));
    let file = TempFile::new("secret-0");
    let secret = Secret::from_file(file.path()).unwrap();
    let source =
        ClientCredentials::new(login.token_url(), "orders", secret).with_transport(transport);
    let cache = TokenCache::new(source);
    let scopes = ["a", "b", "c", "d"].map(|scope| TokenSpec::scopes([scope]));

    let start = Instant::now();
    let mut ticks = time::interval(Duration::from_millis(10));
    let (mut known, mut written, mut requests) = (0, 0, 0);
    while start.elapsed() < Duration::from_secs(8) {
        ticks.tick().await;
        let now = start.elapsed();
        let number = now.as_millis() / 2000;
        if number > known {
            login.set_client_secret("orders", format!("secret-{number}"));
            let refused = cache.refresh(&TokenSpec::scopes(["e"])).await;
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidClient);
            known = number;
        }
        if known > written && now.as_millis() % 2000 > 500 {
            file.write(&format!("secret-{known}"));
            written = known;
        }
        let token = cache.get(&scopes[requests % scopes.len()]).await;
        assert!(token.is_ok(), "after {now:?}: {token:?}");
        requests += 1;
    }
    let counts = login.counts();
    assert!(requests > 400 && written == 3, "{requests} {written}");
    // Each of four tokens was replaced at least twice.
    assert!(counts.issued >= 12 && counts.refused >= 3, "{counts:?}");
}
