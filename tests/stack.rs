//! Tests the layer in combination with tower's middleware: no deadlocks, and no lost or unused permits.

mod support;

use std::{
    convert::Infallible,
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Request, Response};
use support::{
    Answer, Api, ApiBody, Event, Source, cache, layer, millis, outcome, request, secs, send,
    settle, spec, tenant,
};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, advance, sleep, timeout};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt,
    layer::util::Identity,
    limit::{ConcurrencyLimit, ConcurrencyLimitLayer},
    retry::Policy,
    util::BoxCloneService,
};
use tower_bearer::{ErrorKind, TokenCache, TokenError, clock::Clock, layer::Error};

type Client = BoxCloneService<Request<String>, Response<ApiBody>, BoxError>;

/// A time limit that only a deadlock reaches.
const DEADLOCK_LIMIT: Duration = Duration::from_secs(3_600);

async fn ends<T>(case: &str, future: impl Future<Output = T>) -> T {
    let output = timeout(DEADLOCK_LIMIT, future).await;
    output.unwrap_or_else(|_| panic!("{case}: deadlock"))
}

/// Sends a request of another user of the client, which must succeed within a second.
async fn gets_through<S, B>(client: &mut S, path: &str)
where
    S: Service<Request<String>, Response = Response<B>, Error: Debug>,
{
    let response = timeout(secs(1), async { send(client, request(path)).await.await });
    let response = response.await.expect("the permit is held");
    assert_eq!(response.unwrap().status(), 200);
}

/// The way in which a request fails.
#[derive(Clone, Copy, Debug)]
enum Failure {
    None,
    Rejected,
    AlwaysRejected,
    FailingSource,
    BrokenConnection,
    DroppedAtOnce,
    DroppedDuringFetch,
    DroppedDuringSend,
    DroppedDuringReplay,
    NotSent,
}

const FAILURES: [Failure; 10] = [
    Failure::None,
    Failure::Rejected,
    Failure::AlwaysRejected,
    Failure::FailingSource,
    Failure::BrokenConnection,
    Failure::DroppedAtOnce,
    Failure::DroppedDuringFetch,
    Failure::DroppedDuringSend,
    Failure::DroppedDuringReplay,
    Failure::NotSent,
];

/// Retries a request once, after this time, if there was an error, a 401 or a 503.
#[derive(Clone, Copy)]
struct Once(Option<Duration>);

const ONCE: Once = Once(Some(Duration::ZERO));

impl<E> Policy<Request<String>, Response<ApiBody>, E> for Once {
    type Future = Sleep;

    fn retry(
        &mut self,
        _: &mut Request<String>,
        result: &mut Result<Response<ApiBody>, E>,
    ) -> Option<Sleep> {
        let status = result
            .as_ref()
            .map_or(503, |response| response.status().as_u16());
        let failed = [401, 503].contains(&status);
        self.0.take_if(|_| failed).map(sleep)
    }

    fn clone_request(&mut self, request: &Request<String>) -> Option<Request<String>> {
        Some(request.clone())
    }
}

/// A middleware outside or inside of the layer.
type Part = (&'static str, fn(Client) -> Client);

const PARTS: [Part; 7] = [
    ("nothing", |inner| inner),
    ("limit", |inner| boxed(ConcurrencyLimit::new(inner, 1))),
    ("buffer", |inner| boxed(stack().buffer(1).service(inner))),
    ("shed", |inner| boxed(stack().load_shed().service(inner))),
    ("shed and limit", |inner| {
        boxed(stack().load_shed().concurrency_limit(1).service(inner))
    }),
    ("timeout", |inner| {
        boxed(stack().timeout(secs(30)).service(inner))
    }),
    (RETRY, |inner| boxed(stack().retry(ONCE).service(inner))),
];

const RETRY: &str = "retry";

fn stack() -> ServiceBuilder<Identity> {
    ServiceBuilder::new()
}

fn boxed<S>(service: S) -> Client
where
    S: Service<Request<String>, Response = Response<ApiBody>> + Clone + Send + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send + 'static,
{
    BoxCloneService::new(service.map_err(Into::into))
}

async fn exercise((above, over): Part, (below, under): Part, hit: bool, failure: Failure) {
    let case = format!("{above} above, {below} below, hit: {hit}, {failure:?}");
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    if hit {
        cache.get(spec()).await.unwrap();
    }
    let inner = under(boxed(api.clone()));
    let mut client = over(boxed(layer(&cache).layer(inner)));
    let mut other = client.clone();
    let mut call = request("/");
    match failure {
        Failure::None | Failure::DroppedAtOnce => {}
        Failure::Rejected => api.answer([401]),
        Failure::AlwaysRejected => *call.uri_mut() = request("/refused").into_parts().0.uri,
        Failure::FailingSource => {
            cache.clear();
            source.set_answer(Answer::fail(ErrorKind::AccessDenied));
        }
        Failure::BrokenConnection => api.answer([0]),
        Failure::DroppedDuringFetch => {
            cache.clear();
            source.clone().gated();
        }
        Failure::DroppedDuringSend => {
            api.clone().gated();
        }
        Failure::DroppedDuringReplay => {
            api.answer([401]);
            api.clone().gated();
            api.open(1);
        }
        Failure::NotSent => {
            *call.uri_mut() = "https://elsewhere.example/".parse().unwrap();
            call.extensions_mut().insert(tenant("own"));
        }
    }
    let response = ends(&case, send(&mut client, call)).await;
    match failure {
        Failure::DroppedAtOnce => drop(response),
        Failure::DroppedDuringFetch | Failure::DroppedDuringSend | Failure::DroppedDuringReplay => {
            let mut response = task::spawn(response);
            for _ in 0..20 {
                assert_pending!(response.poll(), "{}", case);
                settle().await;
            }
            drop(response);
        }
        _ => {
            let outcome = ends(&case, response).await;
            let retried = [above, below].contains(&RETRY);
            let status = match failure {
                Failure::BrokenConnection if !retried => None,
                Failure::FailingSource | Failure::NotSent => None,
                Failure::AlwaysRejected => Some(401),
                _ => Some(200),
            };
            match (status, outcome.map(|response| response.status())) {
                (Some(expected), Ok(status)) => assert_eq!(status, expected, "{case}"),
                (None, Err(error)) => {
                    let ours = !matches!(failure, Failure::BrokenConnection);
                    assert_eq!(is_ours(&*error), ours, "{case}: {error}");
                }
                (_, outcome) => panic!("{case}: {outcome:?}"),
            }
        }
    }
    // Afterwards, both handles can send a request.
    source.set_answer(Answer::Text("afterwards"));
    for _ in 0..10 {
        source.open();
    }
    api.open(1_000);
    advance(secs(120)).await;
    settle().await;
    for client in [&mut other, &mut client] {
        let served = ends(&case, async { send(client, request("/")).await.await }).await;
        let served = served.unwrap_or_else(|error| panic!("{case}: afterwards {error}"));
        assert_eq!(served.status(), 200, "{case}");
    }
    assert_eq!(api.called_unready(), 0, "{case}");
}

/// Returns true if the error or one of its causes is a token error.
fn is_ours(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<TokenError>() || error.source().is_some_and(is_ours)
}

#[tokio::test(start_paused = true)]
async fn no_stack_deadlocks_or_loses_a_permit() {
    for above in PARTS {
        for below in PARTS {
            for hit in [true, false] {
                for failure in FAILURES {
                    exercise(above, below, hit, failure).await;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn first_fetch_holds_no_permit() {
    let (source, api) = (Source::new().gated(), Api::new());
    let cache = cache(&source);
    let limited = ConcurrencyLimit::new(api.clone(), 1);
    let mut client = layer(&cache).layer(limited.clone());
    let mut user = limited.clone();
    let mut response = task::spawn(send(&mut client, request("/")).await);
    assert_pending!(response.poll());
    settle().await;
    assert_eq!((source.fetches(), api.sends()), (1, 0));
    // Another user of the same client can send requests meanwhile.
    for _ in 0..3 {
        gets_through(&mut user, "/user").await;
    }
    // The token arrives while the other user holds the permit: the request waits for it.
    let user = send(&mut user, request("/user")).await;
    source.open();
    settle().await;
    assert_pending!(response.poll());
    drop(user);
    assert_eq!(outcome(&assert_ready_ok!(response.poll())), (200, None));
}

#[tokio::test(start_paused = true)]
async fn recovery_fetch_holds_no_permit() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    cache.get(spec()).await.unwrap();
    let source = source.gated();
    api.answer([401]);
    let limited = ConcurrencyLimit::new(api.clone(), 1);
    let mut client = layer(&cache).layer(limited.clone());
    let mut user = limited.clone();
    let mut response = task::spawn(send(&mut client, request("/")).await);
    assert_pending!(response.poll());
    gets_through(&mut user, "/user").await;
    source.open();
    settle().await;
    let response = assert_ready_ok!(response.poll());
    assert_eq!(outcome(&response), (200, Some("recovered")));
}

#[tokio::test(start_paused = true)]
async fn refused_request_releases_its_permit() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    let mut client = layer(&cache).layer(ConcurrencyLimit::new(api, 1));
    let mut other = client.clone();
    let mut elsewhere = request("/");
    *elsewhere.uri_mut() = "https://elsewhere.example/".parse().unwrap();
    elsewhere.extensions_mut().insert(tenant("own"));
    send(&mut client, elsewhere).await.await.unwrap_err();
    gets_through(&mut other, "/").await;
}

#[tokio::test(start_paused = true)]
async fn source_can_share_the_limited_client() {
    let api = Api::new();
    let limited = ConcurrencyLimit::new(api.clone(), 1);
    let through = limited.clone();
    let source = tower_bearer::source::from_fn(move |token_request| {
        let mut through = through.clone();
        async move {
            send(&mut through, request("/token")).await.await.unwrap();
            let text = format!("token-{}", token_request.reason().as_str());
            tower_bearer::NewToken::bearer(&text)
        }
    });
    let cache = TokenCache::new(source);
    let mut client = layer(&cache).layer(limited);
    for status in [200, 401] {
        api.respond_with(move |seen| match seen.uri.path() {
            "/" if seen.token() == "token-missing" => status,
            _ => 200,
        });
        let answer = async { send(&mut client, request("/")).await.await };
        assert_eq!(ends("shared", answer).await.unwrap().status(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn source_blocked_by_the_first_401_ends_with_its_deadline() {
    // A client with one connection, which a response occupies until its body is dropped.
    let connection = Arc::new(Semaphore::new(1));
    let answered = Arc::new(AtomicUsize::new(0));
    let client = {
        let connection = Arc::clone(&connection);
        tower::service_fn(move |_: Request<String>| {
            let (connection, answered) = (Arc::clone(&connection), Arc::clone(&answered));
            async move {
                let permit = connection.acquire_owned().await.unwrap();
                let mut response = Response::new(permit);
                if answered.fetch_add(1, SeqCst) == 0 {
                    *response.status_mut() = http::StatusCode::UNAUTHORIZED;
                }
                Ok::<_, Infallible>(response)
            }
        })
    };
    let fetches = AtomicUsize::new(0);
    let source = tower_bearer::source::from_fn(move |_| {
        let number = fetches.fetch_add(1, SeqCst);
        let connection = Arc::clone(&connection);
        async move {
            drop(connection.acquire().await);
            tower_bearer::NewToken::bearer(&format!("token-{number}"))
        }
    });
    let cache = TokenCache::builder(source)
        .with_clock(Clock::tokio())
        .build();
    let mut client = layer(&cache).layer(client);
    let start = Instant::now();
    let response = send(&mut client, request("/")).await.await.unwrap();
    assert_eq!(outcome(&response), (401, Some("no_token")));
    assert_eq!(start.elapsed().as_secs(), 10);
    drop(response);
    advance(secs(2)).await;
    let response = send(&mut client, request("/")).await.await.unwrap();
    assert_eq!(outcome(&response), (200, None));
}

#[tokio::test(start_paused = true)]
async fn first_response_is_dropped_before_the_second_poll_ready() {
    for available in [true, false] {
        let (source, api) = (Source::new(), Api::new().gated());
        let cache = cache(&source);
        cache.get(spec()).await.unwrap();
        let mut client = layer(&cache).layer(api.clone());
        api.answer([401]);
        let mut response = task::spawn(send(&mut client, request("/")).await);
        assert_pending!(response.poll());
        if available {
            cache.refresh(spec()).await.unwrap();
        }
        api.open(2);
        assert_eq!(outcome(&response.await.unwrap()), (200, Some("recovered")));
        let events = api.events();
        let mut polled = events.iter();
        let again = polled.rposition(|event| *event == Event::PolledReady);
        let again = again.unwrap();
        assert_eq!(events[..2], [Event::PolledReady, Event::Called]);
        let mut between = events[2..again].to_vec();
        between.sort_by_key(|event| *event as u8);
        let dropped = [Event::FutureDropped, Event::BodyDropped];
        assert_eq!(between, dropped, "available: {available}");
        assert_eq!(events[again + 1], Event::Called);
    }
}

#[tokio::test(start_paused = true)]
async fn second_poll_ready_error_is_returned() {
    for cold in [true, false] {
        let (source, api) = (Source::new(), Api::new());
        let cache = cache(&source);
        if !cold {
            cache.get(spec()).await.unwrap();
            api.answer([401]);
        }
        api.set_ready_errors([false, true]);
        let mut client = layer(&cache).layer(api.clone());
        let error = send(&mut client, request("/")).await.await.unwrap_err();
        let Error::Inner(error) = error else {
            panic!("{error}");
        };
        assert_eq!(error.0, "scripted: not ready");
        let response = send(&mut client, request("/")).await.await.unwrap();
        assert_eq!(outcome(&response), (200, None));
    }
}

#[tokio::test(start_paused = true)]
async fn pending_client_wakes_the_caller() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    let limited = ConcurrencyLimit::new(api, 1);
    let held = send(&mut limited.clone(), request("/user")).await;
    let mut client = layer(&cache).layer(limited);
    let mut sending = task::spawn(send(&mut client, request("/")));
    assert_pending!(sending.poll());
    drop(held);
    assert!(sending.is_woken());
    drop(assert_ready!(sending.poll()));
}

#[tokio::test(start_paused = true)]
async fn client_error_keeps_the_token() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    let mut client = layer(&cache).layer(api.clone());
    for _ in 0..3 {
        api.answer([0]);
        let error = send(&mut client, request("/")).await.await.unwrap_err();
        assert_eq!(error.into_inner().unwrap().0, "scripted: broken connection");
    }
    assert_eq!((source.fetches(), cache.stats().rejections), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn outer_retry_uses_the_current_token_on_each_attempt() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    let retry = ServiceBuilder::new().retry(ONCE);
    let mut client = retry.layer(layer(&cache)).service(api.clone());
    api.answer([401, 401]);
    let response = send(&mut client, request("/")).await.await.unwrap();
    assert_eq!(outcome(&response), (200, None));
    // The layer replaces the rejected token before its replay; the second attempt starts with the new one.
    assert_eq!(api.tokens(), ["token-1", "token-2", "token-2"]);

    api.answer([0]);
    let before = api.sends();
    cache.refresh(spec()).await.unwrap();
    let response = send(&mut client, request("/")).await.await.unwrap();
    assert_eq!(outcome(&response), (200, None));
    assert_eq!(api.tokens()[before..], ["token-3", "token-3"]);
}

#[tokio::test(start_paused = true)]
async fn outer_retry_replaces_an_expired_token() {
    let source = Source::new().with_lifetime(secs(100));
    let api = Api::new();
    let cache = cache(&source);
    let mut client = ServiceBuilder::new()
        .retry(Once(Some(secs(100))))
        .layer(layer(&cache))
        .service(api.clone());
    api.answer([503]);
    let response = send(&mut client, request("/")).await.await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(api.tokens(), ["token-1", "token-2"]);
}

#[tokio::test(start_paused = true)]
async fn outer_timeout_does_not_cancel_the_fetch() {
    let source = Source::new().with_delay(millis(100));
    let api = Api::new();
    let cache = cache(&source);
    let mut client = ServiceBuilder::new()
        .timeout(millis(40))
        .layer(layer(&cache))
        .service(api.clone());
    let error = send(&mut client, request("/")).await.await.unwrap_err();
    assert!(error.is::<tower::timeout::error::Elapsed>());
    advance(millis(70)).await;
    settle().await;
    let response = send(&mut client, request("/")).await.await.unwrap();
    assert_eq!(outcome(&response), (200, None));
    assert_eq!((source.fetches(), api.sends()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn token_expired_before_readiness_is_not_sent() {
    let source = Source::new().with_lifetime(secs(100));
    let api = Api::new();
    let cache = cache(&source);
    let limited = ConcurrencyLimit::new(api.clone(), 1);
    let mut client = layer(&cache).layer(limited.clone());
    let response = send(&mut client, request("/")).await;
    let user = send(&mut limited.clone(), request("/user")).await;
    let mut response = task::spawn(response);
    for _ in 0..3 {
        assert_pending!(response.poll());
        settle().await;
    }
    assert_eq!(source.fetches(), 1);
    advance(secs(95)).await;
    drop(user);
    assert_eq!(outcome(&response.await.unwrap()), (200, None));
    assert_eq!(api.requests().last().unwrap().token(), "token-2");
}

#[tokio::test(start_paused = true)]
async fn hundred_callers_share_one_permit() {
    let (source, api) = (Source::new().with_delay(millis(100)), Api::new());
    let cache = cache(&source);
    let client = layer(&cache).layer(ConcurrencyLimitLayer::new(1).layer(api.clone()));
    let mut calls = tokio::task::JoinSet::new();
    let start = Instant::now();
    for number in 0..100 {
        let mut client = client.clone();
        calls.spawn(async move {
            let mut response = task::spawn(send(&mut client, request("/")).await);
            if number % 3 == 0 {
                // A third of the callers is cancelled.
                let _ = response.poll();
                return Ok::<_, Infallible>(());
            }
            drop(client);
            assert_eq!(response.await.unwrap().status(), 200);
            Ok(())
        });
    }
    timeout(DEADLOCK_LIMIT, calls.join_all())
        .await
        .expect("deadlock");
    assert_eq!(source.fetches(), 1);
    assert!(start.elapsed() < millis(110), "{:?}", start.elapsed());
}
