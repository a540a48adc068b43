//! Implements a scripted token source and a scripted client that record their calls.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod log;
pub(crate) mod walk;

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
use tokio::{sync::Semaphore, task::JoinSet, time};
use tokio_test::{
    assert_pending,
    task::{self, Spawn},
};
use tower::Service;
use tower_bearer::{
    AuthLayer, ErrorKind, NewToken, Token, TokenCache, TokenError, TokenSource, TokenSpec,
    cache::CacheBuilder, clock::Clock, layer::Recovery, source::TokenRequest,
};

/// The origin of the tests' requests.
pub(crate) const ORIGIN: &str = "https://api.example";
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The spec of the route to [`ORIGIN`].
pub(crate) fn spec() -> &'static TokenSpec {
    static SPEC: LazyLock<TokenSpec> = LazyLock::new(|| TokenSpec::scopes(["read"]));
    &SPEC
}

pub(crate) fn tenant(name: impl fmt::Display) -> TokenSpec {
    TokenSpec::default().with_tenant(name.to_string())
}

/// Returns the builder of a cache that uses Tokio's clock.
pub(crate) fn builder<S: TokenSource + Clone>(source: &S) -> CacheBuilder {
    TokenCache::builder(source.clone()).with_clock(Clock::tokio())
}

pub(crate) fn cache(source: &Source) -> TokenCache {
    builder(source).build()
}

/// Returns a future after its first poll, which did not complete it.
#[track_caller]
pub(crate) fn pending<F: Future<Output: fmt::Debug>>(future: F) -> Spawn<F> {
    let mut task = task::spawn(future);
    assert_pending!(task.poll());
    task
}

/// Spawns tasks that each get a token for [`spec`].
pub(crate) fn spawn_callers(
    cache: &TokenCache,
    number: usize,
) -> JoinSet<Result<Token, TokenError>> {
    let get = |cache: TokenCache| async move { cache.get(spec()).await };
    (0..number).map(|_| get(cache.clone())).collect()
}

pub(crate) fn layer(cache: &TokenCache) -> AuthLayer {
    AuthLayer::new(cache.clone())
        .route(ORIGIN, spec().clone())
        .unwrap()
}

pub(crate) fn request(path: &str) -> Request<String> {
    request_with(path, String::new())
}

pub(crate) fn request_with<B>(path: &str, body: B) -> Request<B> {
    Request::get(format!("{ORIGIN}{path}")).body(body).unwrap()
}

pub(crate) async fn send<S, B>(service: &mut S, request: Request<B>) -> S::Future
where
    S: Service<Request<B>>,
    S::Error: fmt::Debug,
{
    let ready = std::future::poll_fn(|cx| service.poll_ready(cx)).await;
    ready.expect("the service is not ready");
    service.call(request)
}

pub(crate) fn outcome<B>(response: &Response<B>) -> (u16, Option<&'static str>) {
    let recovery = response.extensions().get::<Recovery>();
    (response.status().as_u16(), recovery.map(Recovery::as_str))
}

pub(crate) fn fault(kind: ErrorKind) -> TokenError {
    TokenError::new(kind, format!("scripted: {kind}"))
}

/// Runs all tasks until they are idle, without advancing the time.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A gate that is open at first. Once it is closed, each permit lets one call through.
struct Gate {
    permits: Semaphore,
    closed: AtomicBool,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            permits: Semaphore::new(0),
            closed: AtomicBool::new(false),
        }
    }
}

impl Gate {
    async fn pass(&self) {
        if self.closed.load(SeqCst) {
            let permit = self.permits.acquire().await;
            permit.expect("the gate is never closed").forget();
        }
    }
}

#[derive(Clone)]
pub(crate) enum Answer {
    /// `token-N` for the Nth fetch, with this lifetime.
    Token(Option<Duration>),
    /// A token with this text, valid for an hour.
    Text(&'static str),
    /// `token-N` with this lifetime and refresh interval.
    RefreshIn(Duration, Duration),
    Fail(TokenError),
    /// A panic before the future exists.
    PanicAtOnce,
    /// A panic inside the future.
    Panic,
    Never,
}

impl Default for Answer {
    fn default() -> Self {
        Self::Token(Some(HOUR))
    }
}

impl Answer {
    pub(crate) fn fail(kind: ErrorKind) -> Self {
        Self::Fail(fault(kind))
    }
}

/// A scripted source. Clones share the script.
#[derive(Clone)]
pub(crate) struct Source(Arc<Script>);

#[derive(Default)]
struct Script {
    answer: Mutex<Answer>,
    next: Mutex<VecDeque<Answer>>,
    delay: Mutex<Duration>,
    gate: Gate,
    requests: Mutex<Vec<TokenRequest>>,
    completed: AtomicUsize,
    abandoned: AtomicUsize,
    running: AtomicUsize,
    max_running: AtomicUsize,
}

impl Source {
    /// Returns a source of tokens that are valid for an hour, without delay.
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn with_answer(self, answer: Answer) -> Self {
        self.set_answer(answer);
        self
    }

    pub(crate) fn with_lifetime(self, lifetime: Duration) -> Self {
        self.with_answer(Answer::Token(Some(lifetime)))
    }

    pub(crate) fn with_delay(self, delay: Duration) -> Self {
        *lock(&self.0.delay) = delay;
        self
    }

    /// Makes each fetch wait for [`Self::open`].
    pub(crate) fn gated(self) -> Self {
        self.0.gate.closed.store(true, SeqCst);
        self
    }

    pub(crate) fn set_answer(&self, answer: Answer) {
        *lock(&self.0.answer) = answer;
    }

    /// Appends a result to those of the next fetches.
    pub(crate) fn push_answer(&self, answer: Answer) {
        lock(&self.0.next).push_back(answer);
    }

    /// Removes the results that were not used yet.
    pub(crate) fn clear_answers(&self) {
        lock(&self.0.next).clear();
    }

    /// Lets one fetch complete.
    pub(crate) fn open(&self) {
        self.0.gate.permits.add_permits(1);
    }

    /// Lets one fetch complete, and runs all tasks until they are idle.
    pub(crate) async fn release(&self) {
        self.open();
        settle().await;
    }

    pub(crate) fn fetches(&self) -> usize {
        lock(&self.0.requests).len()
    }

    pub(crate) fn requests(&self) -> Vec<TokenRequest> {
        lock(&self.0.requests).clone()
    }

    /// Returns the number of completed fetches.
    pub(crate) fn completed(&self) -> usize {
        self.0.completed.load(SeqCst)
    }

    /// Returns the number of fetches whose futures were dropped before completion.
    pub(crate) fn abandoned(&self) -> usize {
        self.0.abandoned.load(SeqCst)
    }

    pub(crate) fn max_concurrent(&self) -> usize {
        self.0.max_running.load(SeqCst)
    }
}

/// Counts a fetch as completed or abandoned on drop.
struct RunningFetch {
    script: Arc<Script>,
    is_completed: bool,
}

impl Drop for RunningFetch {
    fn drop(&mut self) {
        self.script.running.fetch_sub(1, SeqCst);
        let counter = match self.is_completed {
            true => &self.script.completed,
            false => &self.script.abandoned,
        };
        counter.fetch_add(1, SeqCst);
    }
}

impl TokenSource for Source {
    fn fetch(
        &self,
        request: &TokenRequest,
    ) -> impl Future<Output = Result<NewToken, TokenError>> + Send {
        let script = Arc::clone(&self.0);
        let number = {
            let mut requests = lock(&script.requests);
            requests.push(request.clone());
            requests.len()
        };
        let next = lock(&script.next).pop_front();
        let answer = next.unwrap_or_else(|| lock(&script.answer).clone());
        let delay = *lock(&script.delay);
        let panics = matches!(answer, Answer::PanicAtOnce);
        assert!(!panics, "scripted: no future");
        async move {
            let running = script.running.fetch_add(1, SeqCst) + 1;
            script.max_running.fetch_max(running, SeqCst);
            let mut fetch = RunningFetch {
                script: Arc::clone(&script),
                is_completed: false,
            };
            if !delay.is_zero() {
                time::sleep(delay).await;
            }
            script.gate.pass().await;
            let token = NewToken::bearer(&format!("token-{number}"))?;
            let result = match answer {
                Answer::Token(Some(lifetime)) => Ok(token.with_lifetime(lifetime)),
                Answer::Token(None) => Ok(token),
                Answer::Text(text) => Ok(NewToken::bearer(text)?.with_lifetime(HOUR)),
                Answer::RefreshIn(lifetime, after) => {
                    Ok(token.with_lifetime(lifetime).with_refresh_in(after))
                }
                Answer::Fail(error) => Err(error),
                Answer::Panic | Answer::PanicAtOnce => panic!("scripted: in the future"),
                Answer::Never => std::future::pending().await,
            };
            fetch.is_completed = true;
            result
        }
    }
}

/// A scripted client that records its requests. It panics if it is called without being ready.
pub(crate) struct Api {
    shared: Arc<ApiScript>,
    ready: bool,
}

type Respond = dyn FnMut(&RecordedRequest) -> u16 + Send;

#[derive(Default)]
struct ApiScript {
    requests: Mutex<Vec<RecordedRequest>>,
    next: Mutex<VecDeque<u16>>,
    respond: Mutex<Option<Box<Respond>>>,
    revoked: Mutex<HashSet<String>>,
    gate: Gate,
    unready: Mutex<VecDeque<bool>>,
    events: Mutex<Vec<Event>>,
    called_unready: AtomicUsize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    PolledReady,
    Called,
    FutureDropped,
    BodyDropped,
}

#[derive(Clone, Debug)]
pub(crate) struct RecordedRequest {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) tag: Option<Tag>,
}

/// An extension that is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag(pub(crate) u32);

impl RecordedRequest {
    /// Returns the values of the `Authorization` headers.
    pub(crate) fn authorization(&self) -> Vec<&str> {
        let values = self.headers.get_all(AUTHORIZATION);
        values.iter().map(|value| value.to_str().unwrap()).collect()
    }

    /// Returns the only bearer token.
    pub(crate) fn token(&self) -> &str {
        let [value] = self.authorization()[..] else {
            panic!(
                "expected one Authorization header: {:?}",
                self.authorization()
            );
        };
        value.strip_prefix("Bearer ").unwrap()
    }
}

impl Api {
    /// Responds 401 to a revoked token and on paths that start with `/refused`, otherwise 200.
    pub(crate) fn new() -> Self {
        Self {
            shared: Arc::default(),
            ready: false,
        }
    }

    /// Makes each response wait for [`Self::open`].
    pub(crate) fn gated(self) -> Self {
        self.shared.gate.closed.store(true, SeqCst);
        self
    }

    pub(crate) fn open(&self, answers: usize) {
        self.shared.gate.permits.add_permits(answers);
    }

    /// Sets the statuses of the next responses.
    pub(crate) fn answer(&self, statuses: impl IntoIterator<Item = u16>) {
        lock(&self.shared.next).extend(statuses);
    }

    pub(crate) fn respond_with(
        &self,
        respond: impl FnMut(&RecordedRequest) -> u16 + Send + 'static,
    ) {
        *lock(&self.shared.respond) = Some(Box::new(respond));
    }

    pub(crate) fn revoke(&self, token: impl Into<String>) {
        lock(&self.shared.revoked).insert(token.into());
    }

    /// Sets the results of the next calls of `poll_ready`: `true` is an error.
    pub(crate) fn set_ready_errors(&self, polls: impl IntoIterator<Item = bool>) {
        lock(&self.shared.unready).extend(polls);
    }

    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        lock(&self.shared.requests).clone()
    }

    pub(crate) fn sends(&self) -> usize {
        lock(&self.shared.requests).len()
    }

    pub(crate) fn tokens(&self) -> Vec<String> {
        let requests = self.requests();
        let tokens = requests.iter().map(RecordedRequest::token);
        tokens.map(str::to_owned).collect()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        lock(&self.shared.events).clone()
    }

    pub(crate) fn called_unready(&self) -> usize {
        self.shared.called_unready.load(SeqCst)
    }
}

impl Clone for Api {
    /// Returns a client that is not ready.
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            ready: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ApiError(pub(crate) &'static str);

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ApiError {}

/// A response body that records its drop.
pub(crate) struct ApiBody(Arc<ApiScript>);

impl fmt::Debug for ApiBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiBody")
    }
}

impl Drop for ApiBody {
    fn drop(&mut self) {
        lock(&self.0.events).push(Event::BodyDropped);
    }
}

/// A response future that records its drop.
pub(crate) struct ApiFuture {
    work: Pin<Box<dyn Future<Output = Result<Response<ApiBody>, ApiError>> + Send>>,
    shared: Arc<ApiScript>,
}

impl Future for ApiFuture {
    type Output = Result<Response<ApiBody>, ApiError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.work.as_mut().poll(cx)
    }
}

impl Drop for ApiFuture {
    fn drop(&mut self) {
        lock(&self.shared.events).push(Event::FutureDropped);
    }
}

impl<B: 'static> Service<Request<B>> for Api {
    type Response = Response<ApiBody>;
    type Error = ApiError;
    type Future = ApiFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ApiError>> {
        lock(&self.shared.events).push(Event::PolledReady);
        if lock(&self.shared.unready).pop_front().unwrap_or(false) {
            return Poll::Ready(Err(ApiError("scripted: not ready")));
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ApiFuture {
        let shared = Arc::clone(&self.shared);
        if !std::mem::take(&mut self.ready) {
            shared.called_unready.fetch_add(1, SeqCst);
            panic!("called without being polled ready");
        }
        lock(&shared.events).push(Event::Called);
        let (parts, body) = request.into_parts();
        let request = RecordedRequest {
            method: parts.method,
            uri: parts.uri,
            version: parts.version,
            headers: parts.headers,
            body: bytes_of(&body),
            tag: parts.extensions.get().cloned(),
        };
        lock(&shared.requests).push(request.clone());
        let status = shared.status(&request);
        let work = Arc::clone(&shared);
        let work = Box::pin(async move {
            work.gate.pass().await;
            if status == 0 {
                return Err(ApiError("scripted: broken connection"));
            }
            let mut response = Response::new(ApiBody(work));
            *response.status_mut() = status.try_into().unwrap();
            Ok(response)
        });
        ApiFuture { work, shared }
    }
}

impl ApiScript {
    fn status(&self, request: &RecordedRequest) -> u16 {
        if let Some(status) = lock(&self.next).pop_front() {
            return status;
        }
        let is_revoked =
            |value: &&str| lock(&self.revoked).contains(value.trim_start_matches("Bearer "));
        if request.authorization().iter().any(is_revoked) {
            return 401;
        }
        match &mut *lock(&self.respond) {
            Some(respond) => respond(request),
            None if request.uri.path().starts_with("/refused") => 401,
            None => 200,
        }
    }
}

fn bytes_of(body: &dyn Any) -> Vec<u8> {
    if let Some(text) = body.downcast_ref::<String>() {
        return text.clone().into_bytes();
    }
    body.downcast_ref::<Vec<u8>>().cloned().unwrap_or_default()
}
