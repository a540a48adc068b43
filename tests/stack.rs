//! The layer among tower's own: nothing deadlocks, and no permit is lost or held for nothing.

mod support;

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Request, Response};
use support::{
    Answer, Answered, Api, Event, Source, cache, layer, millis, outcome, request, secs, send,
    settle, spec, tenant,
};
use tokio::sync::Semaphore;
use tokio::time::{Instant, advance, timeout};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt,
    limit::{ConcurrencyLimit, ConcurrencyLimitLayer},
    retry::Policy,
    util::BoxCloneService,
};
use tower_bearer::{Error, ErrorKind, TokenCache, TokenError, clock::Clock};

type Client = BoxCloneService<Request<String>, Response<Answered>, BoxError>;

/// Longer than anything here takes: a test that gets there hangs.
const HANGS: Duration = Duration::from_secs(3_600);

/// Where a request ends up in trouble.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    None,
    Refused,
    AlwaysRefused,
    FailingSource,
    BrokenConnection,
    DroppedAtOnce,
    DroppedDuringFetch,
    DroppedDuringSend,
    DroppedDuringReplay,
    NotSent,
}

const TROUBLES: [Trouble; 10] = [
    Trouble::None,
    Trouble::Refused,
    Trouble::AlwaysRefused,
    Trouble::FailingSource,
    Trouble::BrokenConnection,
    Trouble::DroppedAtOnce,
    Trouble::DroppedDuringFetch,
    Trouble::DroppedDuringSend,
    Trouble::DroppedDuringReplay,
    Trouble::NotSent,
];

/// Tries a failed request or a 401 once more.
#[derive(Clone, Copy)]
struct Once(u32);

impl<E> Policy<Request<String>, Response<Answered>, E> for Once {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<String>,
        result: &mut Result<Response<Answered>, E>,
    ) -> Option<Ready<()>> {
        let failed = result
            .as_ref()
            .map_or(true, |response| response.status() == 401);
        if self.0 == 0 || !failed {
            return None;
        }
        self.0 -= 1;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &Request<String>) -> Option<Request<String>> {
        Some(request.clone())
    }
}

/// One thing that stands above or below the layer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Nothing,
    Limit,
    Buffer,
    Shed,
    ShedLimit,
    Timeout,
    Retry,
}

const PARTS: [Part; 7] = [
    Part::Nothing,
    Part::Limit,
    Part::Buffer,
    Part::Shed,
    Part::ShedLimit,
    Part::Timeout,
    Part::Retry,
];

impl Part {
    fn around<S>(self, service: S) -> Client
    where
        S: Service<Request<String>, Response = Response<Answered>> + Clone + Send + 'static,
        S::Error: Into<BoxError> + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let builder = ServiceBuilder::new();
        match self {
            Self::Nothing => boxed(service),
            Self::Limit => boxed(builder.concurrency_limit(1).service(service)),
            Self::Buffer => boxed(builder.buffer(1).service(service)),
            Self::Shed => boxed(builder.load_shed().service(service)),
            Self::ShedLimit => boxed(builder.load_shed().concurrency_limit(1).service(service)),
            Self::Timeout => boxed(builder.timeout(secs(30)).service(service)),
            Self::Retry => boxed(builder.retry(Once(1)).service(service)),
        }
    }
}

fn boxed<S>(service: S) -> Client
where
    S: Service<Request<String>, Response = Response<Answered>> + Clone + Send + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send + 'static,
{
    BoxCloneService::new(service.map_err(Into::into))
}

async fn exercise(above: Part, below: Part, hit: bool, trouble: Trouble) {
    let case = format!(
        "{above:?} above, {below:?} below, {} {trouble:?}",
        if hit { "hit" } else { "miss" }
    );
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    if hit {
        cache.get(spec()).await.unwrap();
    }
    let mut client = above.around(layer(&cache).layer(below.around(api.clone())));
    let mut other = client.clone();
    let mut call = request("/");
    match trouble {
        Trouble::None | Trouble::DroppedAtOnce => {}
        Trouble::Refused => api.answer([401]),
        Trouble::AlwaysRefused => *call.uri_mut() = request("/refused").into_parts().0.uri,
        Trouble::FailingSource => {
            cache.clear();
            source.henceforth(Answer::fail(ErrorKind::AccessDenied));
        }
        Trouble::BrokenConnection => api.answer([0]),
        Trouble::DroppedDuringFetch => {
            cache.clear();
            source.clone().gated();
        }
        Trouble::DroppedDuringSend => {
            api.clone().gated();
        }
        Trouble::DroppedDuringReplay => {
            api.answer([401]);
            api.clone().gated();
            api.open(1);
        }
        Trouble::NotSent => {
            *call.uri_mut() = "https://elsewhere.example/".parse().unwrap();
            call.extensions_mut().insert(tenant("own"));
        }
    }
    let response = timeout(HANGS, send(&mut client, call))
        .await
        .unwrap_or_else(|_| panic!("{case}: it hangs"));
    match trouble {
        Trouble::DroppedAtOnce => drop(response),
        Trouble::DroppedDuringFetch | Trouble::DroppedDuringSend | Trouble::DroppedDuringReplay => {
            let mut response = task::spawn(response);
            for _ in 0..20 {
                assert_pending!(response.poll(), "{}", case);
                settle().await;
            }
            drop(response);
        }
        _ => {
            let outcome = timeout(HANGS, response)
                .await
                .unwrap_or_else(|_| panic!("{case}: it hangs"));
            let retried = Part::Retry == above || Part::Retry == below;
            match (trouble, outcome) {
                (Trouble::None | Trouble::Refused, Ok(response)) => {
                    assert_eq!(response.status(), 200, "{case}");
                }
                (Trouble::BrokenConnection, Ok(response)) if retried => {
                    assert_eq!(response.status(), 200, "{case}");
                }
                (Trouble::BrokenConnection, Err(_)) if !retried => {}
                (Trouble::AlwaysRefused, Ok(response)) => {
                    assert_eq!(response.status(), 401, "{case}");
                }
                (Trouble::FailingSource | Trouble::NotSent, Err(error)) => {
                    assert!(is_ours(&*error), "{case}: {error}");
                }
                (_, Ok(response)) => panic!("{case}: {}", response.status()),
                (_, Err(error)) => panic!("{case}: {error}"),
            }
        }
    }
    // Afterwards, with the first handle idle, another one is served; and so is the first.
    source.henceforth(Answer::Text("afterwards"));
    for _ in 0..10 {
        source.open();
    }
    api.open(1_000);
    advance(secs(120)).await;
    settle().await;
    for client in [&mut other, &mut client] {
        let served = timeout(HANGS, async { send(client, request("/")).await.await });
        let served = served
            .await
            .unwrap_or_else(|_| panic!("{case}: a permit is lost"));
        let served = served.unwrap_or_else(|error| panic!("{case}: afterwards {error}"));
        assert_eq!(served.status(), 200, "{case}");
    }
    assert_eq!(api.called_unready(), 0, "{case}");
}

/// Whether it is the layer's own error, perhaps inside another.
fn is_ours(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<TokenError>() || error.source().is_some_and(is_ours)
}

#[tokio::test(start_paused = true)]
async fn no_stack_deadlocks_or_loses_a_permit() {
    for above in PARTS {
        for below in PARTS {
            for hit in [true, false] {
                for trouble in TROUBLES {
                    exercise(above, below, hit, trouble).await;
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
    // Another user of the same client gets through meanwhile, again and again.
    for _ in 0..3 {
        let through = timeout(secs(1), async {
            send(&mut user, request("/user")).await.await
        });
        assert_eq!(
            through.await.expect("the permit is held").unwrap().status(),
            200
        );
    }
    // And while it has the permit, the token may come: the request waits for its turn.
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
    let through = timeout(secs(1), async {
        send(&mut user, request("/user")).await.await
    });
    assert_eq!(
        through.await.expect("the permit is held").unwrap().status(),
        200
    );
    source.open();
    settle().await;
    assert_eq!(
        outcome(&assert_ready_ok!(response.poll())),
        (200, Some("recovered"))
    );
}

#[tokio::test(start_paused = true)]
async fn refused_request_releases_its_permit() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    let mut client = layer(&cache).layer(ConcurrencyLimit::new(api, 1));
    let mut other = client.clone();
    let mut elsewhere = Request::get("https://elsewhere.example/")
        .body(String::new())
        .unwrap();
    elsewhere.extensions_mut().insert(tenant("own"));
    send(&mut client, elsewhere).await.await.unwrap_err();
    let served = timeout(secs(1), async {
        send(&mut other, request("/")).await.await
    });
    assert_eq!(
        served.await.expect("the permit is held").unwrap().status(),
        200
    );
}

#[tokio::test(start_paused = true)]
async fn source_can_share_the_limited_client() {
    let api = Api::new();
    let limited = ConcurrencyLimit::new(api.clone(), 1);
    let through = limited.clone();
    let source = tower_bearer::source::from_fn(move |request| {
        let mut through = through.clone();
        async move {
            let ask = Request::get("https://login.example/token")
                .body(String::new())
                .unwrap();
            send(&mut through, ask).await.await.unwrap();
            let text = format!("token-{}", request.reason().as_str());
            tower_bearer::NewToken::bearer(&text)
        }
    });
    let cache = TokenCache::new(source);
    let mut client = layer(&cache).layer(limited);
    for status in [200, 401] {
        api.choose(move |seen| match seen.uri.path() {
            "/" if seen.token() == "token-missing" => status,
            _ => 200,
        });
        let answer = timeout(HANGS, async { send(&mut client, request("/")).await.await });
        assert_eq!(answer.await.expect("it hangs").unwrap().status(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn source_blocked_by_the_first_401_ends_with_its_deadline() {
    // A client with one connection, which a response keeps until its body is dropped.
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
    for at_hand in [true, false] {
        let (source, api) = (Source::new(), Api::new().gated());
        let cache = cache(&source);
        cache.get(spec()).await.unwrap();
        let mut client = layer(&cache).layer(api.clone());
        api.answer([401]);
        let mut response = task::spawn(send(&mut client, request("/")).await);
        assert_pending!(response.poll());
        if at_hand {
            cache.refresh(spec()).await.unwrap();
        }
        api.open(2);
        assert_eq!(outcome(&response.await.unwrap()), (200, Some("recovered")));
        let events = api.events();
        let again = events
            .iter()
            .rposition(|event| *event == Event::PolledReady)
            .unwrap();
        assert_eq!(events[..2], [Event::PolledReady, Event::Called]);
        let mut between = events[2..again].to_vec();
        between.sort_by_key(|event| *event as u8);
        assert_eq!(
            between,
            [Event::FutureDropped, Event::BodyDropped],
            "at hand: {at_hand}"
        );
        assert_eq!(events[again + 1], Event::Called);
    }
}

#[tokio::test(start_paused = true)]
async fn second_poll_ready_error_is_returned() {
    for (cold, polls) in [(true, vec![false, true]), (false, vec![false, true])] {
        let (source, api) = (Source::new(), Api::new());
        let cache = cache(&source);
        if !cold {
            cache.get(spec()).await.unwrap();
            api.answer([401]);
        }
        api.fail_when_polled(polls);
        let mut client = layer(&cache).layer(api.clone());
        let error = send(&mut client, request("/")).await.await.unwrap_err();
        let Error::Inner(error) = error else {
            panic!("{error}");
        };
        assert_eq!(error.0, "scripted: not ready");
        assert_eq!(
            outcome(&send(&mut client, request("/")).await.await.unwrap()),
            (200, None)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn pending_client_wakes_the_caller() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    let limited = ConcurrencyLimit::new(api, 1);
    let _held = send(&mut limited.clone(), request("/user")).await;
    let mut client = layer(&cache).layer(limited);
    let mut sending = task::spawn(send(&mut client, request("/")));
    assert_pending!(sending.poll());
    drop(_held);
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
    let retry = ServiceBuilder::new().retry(Once(1));
    let mut client = retry.layer(layer(&cache)).service(api.clone());
    api.answer([401, 401]);
    let response = send(&mut client, request("/")).await.await.unwrap();
    assert_eq!(outcome(&response), (200, None));
    // Each try's refused token is replaced before its replay; the second try begins with the newest.
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
    /// Waits longer than the token serves before it tries again.
    #[derive(Clone)]
    struct Patient(u32);
    impl<E> Policy<Request<String>, Response<Answered>, E> for Patient {
        type Future = tokio::time::Sleep;
        fn retry(
            &mut self,
            _: &mut Request<String>,
            result: &mut Result<Response<Answered>, E>,
        ) -> Option<Self::Future> {
            let again = result
                .as_ref()
                .is_ok_and(|response| response.status() == 503)
                && self.0 > 0;
            self.0 = self.0.saturating_sub(1);
            again.then(|| tokio::time::sleep(secs(100)))
        }
        fn clone_request(&mut self, request: &Request<String>) -> Option<Request<String>> {
            Some(request.clone())
        }
    }
    let source = Source::new().lasting(secs(100));
    let api = Api::new();
    let cache = cache(&source);
    let mut client = ServiceBuilder::new()
        .retry(Patient(1))
        .layer(layer(&cache))
        .service(api.clone());
    api.answer([503]);
    let response = send(&mut client, request("/")).await.await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(api.tokens(), ["token-1", "token-2"]);
}

#[tokio::test(start_paused = true)]
async fn outer_timeout_does_not_cancel_the_fetch() {
    let source = Source::new().taking(millis(100));
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
    assert_eq!(
        outcome(&send(&mut client, request("/")).await.await.unwrap()),
        (200, None)
    );
    assert_eq!((source.fetches(), api.sends()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn token_expired_before_readiness_is_not_sent() {
    let source = Source::new().lasting(secs(100));
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
    assert_eq!(api.seen().last().unwrap().token(), "token-2");
}

#[tokio::test(start_paused = true)]
async fn hundred_callers_share_one_permit() {
    let (source, api) = (Source::new().taking(millis(100)), Api::new());
    let cache = cache(&source);
    let client = layer(&cache).layer(ConcurrencyLimitLayer::new(1).layer(api.clone()));
    let mut calls = tokio::task::JoinSet::new();
    let start = Instant::now();
    for number in 0..100 {
        let mut client = client.clone();
        calls.spawn(async move {
            let mut response = task::spawn(send(&mut client, request("/")).await);
            if number % 3 == 0 {
                // A third of them give up half way.
                let _ = response.poll();
                return Ok::<_, Infallible>(());
            }
            drop(client);
            assert_eq!(response.await.unwrap().status(), 200);
            Ok(())
        });
    }
    timeout(HANGS, calls.join_all()).await.expect("it hangs");
    assert_eq!(source.fetches(), 1);
    assert!(start.elapsed() < millis(110), "{:?}", start.elapsed());
}
