//! A token source and a client that do as they are told, and tell what was asked of them.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod log;

use std::{
    any::Any,
    collections::{HashSet, VecDeque},
    fmt,
    pin::Pin,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Method, Request, Response, Uri, Version, header::AUTHORIZATION};
use tokio::{sync::Semaphore, time};
use tower::Service;
use tower_bearer::{
    AuthLayer, ErrorKind, NewToken, TokenCache, TokenError, TokenSource, TokenSpec, clock::Clock,
    layer::Recovery, source::TokenRequest,
};

/// Where the tests' requests go.
pub(crate) const PLACE: &str = "https://api.example";
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The spec of the route to [`PLACE`].
pub(crate) fn spec() -> &'static TokenSpec {
    static SPEC: LazyLock<TokenSpec> = LazyLock::new(|| TokenSpec::scopes(["read"]));
    &SPEC
}

pub(crate) fn tenant(name: impl fmt::Display) -> TokenSpec {
    TokenSpec::default().with_tenant(name.to_string())
}

/// A cache on Tokio's time.
pub(crate) fn cache(source: &Source) -> TokenCache {
    TokenCache::builder(source.clone())
        .with_clock(Clock::tokio())
        .build()
}

pub(crate) fn layer(cache: &TokenCache) -> AuthLayer {
    AuthLayer::new(cache.clone())
        .route(PLACE, spec().clone())
        .unwrap()
}

pub(crate) fn request(path: &str) -> Request<String> {
    request_with(path, String::new())
}

pub(crate) fn request_with<B>(path: &str, body: B) -> Request<B> {
    Request::get(format!("{PLACE}{path}")).body(body).unwrap()
}

/// Waits until the service is ready, and calls it.
pub(crate) async fn send<S, B>(service: &mut S, request: Request<B>) -> S::Future
where
    S: Service<Request<B>>,
    S::Error: fmt::Debug,
{
    let ready = std::future::poll_fn(|cx| service.poll_ready(cx)).await;
    ready.expect("the service is not ready");
    service.call(request)
}

/// The status that the caller got, and what is said to have been done.
pub(crate) fn outcome<B>(response: &Response<B>) -> (u16, Option<&'static str>) {
    let recovery = response.extensions().get::<Recovery>();
    (response.status().as_u16(), recovery.map(Recovery::as_str))
}

pub(crate) fn fault(kind: ErrorKind) -> TokenError {
    TokenError::new(kind, format!("scripted: {kind}"))
}

/// Lets all tasks run until none has anything to do, without any time passing.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a fetch comes to.
#[derive(Clone)]
pub(crate) enum Answer {
    /// A token of its own, `token-N` for the Nth fetch, with this lifetime.
    Token(Option<Duration>),
    /// A token with this text, for an hour.
    Text(&'static str),
    /// A token of its own with a refresh point.
    RefreshIn(Duration, Duration),
    Fail(TokenError),
    /// A panic before the future exists.
    PanicAtOnce,
    /// A panic inside the future.
    Panic,
    Never,
}

impl Answer {
    pub(crate) fn fail(kind: ErrorKind) -> Self {
        Self::Fail(fault(kind))
    }
}

/// A source that answers by script. A clone is the same source.
#[derive(Clone)]
pub(crate) struct Source(Arc<Script>);

struct Script {
    usual: Mutex<Answer>,
    next: Mutex<VecDeque<Answer>>,
    delay: Mutex<Duration>,
    gate: Semaphore,
    gated: AtomicBool,
    asked: Mutex<Vec<TokenRequest>>,
    answered: AtomicUsize,
    abandoned: AtomicUsize,
    running: AtomicUsize,
    most_running: AtomicUsize,
}

impl Source {
    /// Tokens for an hour, at once.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Script {
            usual: Mutex::new(Answer::Token(Some(HOUR))),
            next: Mutex::default(),
            delay: Mutex::default(),
            gate: Semaphore::new(0),
            gated: AtomicBool::new(false),
            asked: Mutex::default(),
            answered: AtomicUsize::new(0),
            abandoned: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
        }))
    }

    pub(crate) fn usually(self, answer: Answer) -> Self {
        self.henceforth(answer);
        self
    }

    pub(crate) fn lasting(self, lifetime: Duration) -> Self {
        self.usually(Answer::Token(Some(lifetime)))
    }

    /// Each fetch takes this long.
    pub(crate) fn taking(self, delay: Duration) -> Self {
        *lock(&self.0.delay) = delay;
        self
    }

    /// Each fetch waits to be let through.
    pub(crate) fn gated(self) -> Self {
        self.0.gated.store(true, SeqCst);
        self
    }

    pub(crate) fn henceforth(&self, answer: Answer) {
        *lock(&self.0.usual) = answer;
    }

    /// The next fetch that has no answer of its own yet comes to this.
    pub(crate) fn then(&self, answer: Answer) {
        lock(&self.0.next).push_back(answer);
    }

    /// Takes back the answers of fetches that nobody has asked for yet.
    pub(crate) fn forget_answers(&self) {
        lock(&self.0.next).clear();
    }

    /// Lets one gated fetch through.
    pub(crate) fn open(&self) {
        self.0.gate.add_permits(1);
    }

    /// How often it was asked.
    pub(crate) fn fetches(&self) -> usize {
        lock(&self.0.asked).len()
    }

    pub(crate) fn asked(&self) -> Vec<TokenRequest> {
        lock(&self.0.asked).clone()
    }

    /// Fetches that came to an end of their own.
    pub(crate) fn answered(&self) -> usize {
        self.0.answered.load(SeqCst)
    }

    /// Fetches whose futures were dropped before their end.
    pub(crate) fn abandoned(&self) -> usize {
        self.0.abandoned.load(SeqCst)
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.0.most_running.load(SeqCst)
    }
}

/// Notices a fetch whose future is dropped.
struct Underway(Arc<Script>, bool);

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
        let ended = if self.1 {
            &self.0.answered
        } else {
            &self.0.abandoned
        };
        ended.fetch_add(1, SeqCst);
    }
}

impl TokenSource for Source {
    fn fetch(
        &self,
        request: &TokenRequest,
    ) -> impl Future<Output = Result<NewToken, TokenError>> + Send {
        let script = Arc::clone(&self.0);
        let number = {
            let mut asked = lock(&script.asked);
            asked.push(request.clone());
            asked.len()
        };
        let own = lock(&script.next).pop_front();
        let answer = own.unwrap_or_else(|| lock(&script.usual).clone());
        let delay = *lock(&script.delay);
        assert!(
            !matches!(answer, Answer::PanicAtOnce),
            "scripted: no future"
        );
        async move {
            let running = script.running.fetch_add(1, SeqCst) + 1;
            script.most_running.fetch_max(running, SeqCst);
            let mut underway = Underway(Arc::clone(&script), false);
            if !delay.is_zero() {
                time::sleep(delay).await;
            }
            if script.gated.load(SeqCst) {
                script
                    .gate
                    .acquire()
                    .await
                    .expect("the gate is never closed")
                    .forget();
            }
            let own = NewToken::bearer(&format!("token-{number}"))?;
            let result = match answer {
                Answer::Token(Some(lifetime)) => Ok(own.with_lifetime(lifetime)),
                Answer::Token(None) => Ok(own),
                Answer::Text(text) => Ok(NewToken::bearer(text)?.with_lifetime(HOUR)),
                Answer::RefreshIn(lifetime, after) => {
                    Ok(own.with_lifetime(lifetime).with_refresh_in(after))
                }
                Answer::Fail(error) => Err(error),
                Answer::Panic | Answer::PanicAtOnce => panic!("scripted: in the future"),
                Answer::Never => std::future::pending().await,
            };
            underway.1 = true;
            result
        }
    }
}

/// A client that records what it is given and answers by script. It panics if it is called without being ready.
pub(crate) struct Api {
    shared: Arc<ApiScript>,
    ready: bool,
}

type Choose = dyn FnMut(&Seen) -> u16 + Send;

struct ApiScript {
    seen: Mutex<Vec<Seen>>,
    next: Mutex<VecDeque<u16>>,
    choose: Mutex<Box<Choose>>,
    revoked: Mutex<HashSet<String>>,
    gate: Semaphore,
    gated: AtomicBool,
    unready: Mutex<VecDeque<bool>>,
    events: Mutex<Vec<Event>>,
    called_unready: AtomicUsize,
}

/// What happened to the client, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    PolledReady,
    Called,
    FutureDropped,
    BodyDropped,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) mark: Option<Mark>,
}

/// An extension to find again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark(pub(crate) u32);

impl Seen {
    /// The values of its `Authorization` lines.
    pub(crate) fn authorization(&self) -> Vec<&str> {
        let values = self.headers.get_all(AUTHORIZATION);
        values.iter().map(|value| value.to_str().unwrap()).collect()
    }

    /// The one token that it bears.
    pub(crate) fn token(&self) -> &str {
        let [value] = self.authorization()[..] else {
            panic!("not one Authorization line: {:?}", self.authorization());
        };
        value.strip_prefix("Bearer ").unwrap()
    }
}

impl Api {
    /// 200 for all, but 401 for a revoked token, and for every path that starts with `/refused`.
    pub(crate) fn new() -> Self {
        let shared = ApiScript {
            seen: Mutex::default(),
            next: Mutex::default(),
            choose: Mutex::new(Box::new(|seen| {
                if seen.uri.path().starts_with("/refused") {
                    401
                } else {
                    200
                }
            })),
            revoked: Mutex::default(),
            gate: Semaphore::new(0),
            gated: AtomicBool::new(false),
            unready: Mutex::default(),
            events: Mutex::default(),
            called_unready: AtomicUsize::new(0),
        };
        Self {
            shared: Arc::new(shared),
            ready: false,
        }
    }

    /// Each answer waits to be let through.
    pub(crate) fn gated(self) -> Self {
        self.shared.gated.store(true, SeqCst);
        self
    }

    pub(crate) fn open(&self, answers: usize) {
        self.shared.gate.add_permits(answers);
    }

    /// The next answers' statuses, whatever they would be.
    pub(crate) fn answer(&self, statuses: impl IntoIterator<Item = u16>) {
        lock(&self.shared.next).extend(statuses);
    }

    pub(crate) fn choose(&self, choose: impl FnMut(&Seen) -> u16 + Send + 'static) {
        *lock(&self.shared.choose) = Box::new(choose);
    }

    pub(crate) fn revoke(&self, token: impl Into<String>) {
        lock(&self.shared.revoked).insert(token.into());
    }

    /// What becomes of the next times it is polled ready: an error for `true`.
    pub(crate) fn fail_when_polled(&self, polls: impl IntoIterator<Item = bool>) {
        lock(&self.shared.unready).extend(polls);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    pub(crate) fn sends(&self) -> usize {
        lock(&self.shared.seen).len()
    }

    /// The tokens of all requests, in order.
    pub(crate) fn tokens(&self) -> Vec<String> {
        self.seen()
            .iter()
            .map(|seen| seen.token().to_owned())
            .collect()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        lock(&self.shared.events).clone()
    }

    /// How often it was called without having been polled ready.
    pub(crate) fn called_unready(&self) -> usize {
        self.shared.called_unready.load(SeqCst)
    }
}

impl Clone for Api {
    /// A clone must be polled ready for itself.
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            ready: false,
        }
    }
}

/// The client's own error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ApiError(pub(crate) &'static str);

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ApiError {}

/// A response's body, which tells when it is dropped.
pub(crate) struct Answered(Arc<ApiScript>);

impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answered")
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        lock(&self.0.events).push(Event::BodyDropped);
    }
}

/// The client's future, which tells when it is dropped.
pub(crate) struct Sending {
    work: Pin<Box<dyn Future<Output = Result<Response<Answered>, ApiError>> + Send>>,
    shared: Arc<ApiScript>,
}

impl Future for Sending {
    type Output = Result<Response<Answered>, ApiError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.work.as_mut().poll(cx)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        lock(&self.shared.events).push(Event::FutureDropped);
    }
}

impl<B: 'static> Service<Request<B>> for Api {
    type Response = Response<Answered>;
    type Error = ApiError;
    type Future = Sending;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ApiError>> {
        lock(&self.shared.events).push(Event::PolledReady);
        if lock(&self.shared.unready).pop_front().unwrap_or(false) {
            return Poll::Ready(Err(ApiError("scripted: not ready")));
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Sending {
        let shared = Arc::clone(&self.shared);
        if !std::mem::take(&mut self.ready) {
            shared.called_unready.fetch_add(1, SeqCst);
            panic!("called without being polled ready");
        }
        lock(&shared.events).push(Event::Called);
        let (parts, body) = request.into_parts();
        let seen = Seen {
            method: parts.method,
            uri: parts.uri,
            version: parts.version,
            headers: parts.headers,
            body: bytes_of(&body),
            mark: parts.extensions.get().cloned(),
        };
        lock(&shared.seen).push(seen.clone());
        let status = shared.status(&seen);
        let work = Arc::clone(&shared);
        let work = Box::pin(async move {
            if work.gated.load(SeqCst) {
                work.gate
                    .acquire()
                    .await
                    .expect("the gate is never closed")
                    .forget();
            }
            if status == 0 {
                return Err(ApiError("scripted: broken connection"));
            }
            let mut response = Response::new(Answered(work));
            *response.status_mut() = status.try_into().unwrap();
            Ok(response)
        });
        Sending { work, shared }
    }
}

impl ApiScript {
    fn status(&self, seen: &Seen) -> u16 {
        if let Some(status) = lock(&self.next).pop_front() {
            return status;
        }
        let revoked = lock(&self.revoked);
        let tokens = seen.authorization();
        if tokens
            .iter()
            .any(|value| revoked.contains(value.trim_start_matches("Bearer ")))
        {
            return 401;
        }
        drop(revoked);
        (lock(&self.choose))(seen)
    }
}

fn bytes_of(body: &dyn Any) -> Vec<u8> {
    if let Some(text) = body.downcast_ref::<String>() {
        return text.clone().into_bytes();
    }
    body.downcast_ref::<Vec<u8>>().cloned().unwrap_or_default()
}
