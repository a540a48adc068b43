//! Measures a hit, which is a request whose token is in the cache, and compares it with tower-http's fixed header, the cheapest
//! alternative.
//!
//! Every figure is net of a service that does nothing. The contenders take turns, round by round, so that a change of the
//! machine's speed affects all of them. `cargo bench --bench hit -- --once CONTENDER HEADERS REQUESTS` runs one
//! contender; `benches/instructions` counts instructions with it. Without `--bench`, as `cargo test` runs
//! it, each contender sends a few requests and no figures are printed.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    pin::pin,
    process::Command,
    sync::Barrier,
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use tower::{
    Layer, Service,
    retry::{Policy, RetryLayer},
};
use tower_bearer::{AuthLayer, NewToken, TokenCache, TokenSpec, source};
use tower_http::auth::AddAuthorizationLayer;

type Body = Full<Bytes>;

const REQUESTS: u32 = 10_000;
const ROUNDS: usize = 41;
const PROCESSES: usize = 11;
const TOKEN_LENGTH: usize = 1024;

/// Accepts every request and responds with 200.
#[derive(Clone)]
struct Nothing;

impl Service<Request<Body>> for Nothing {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        black_box(&request);
        ready(Ok(Response::new(())))
    }
}

/// The usual retry policy of an application: sends the request again after a 401.
#[derive(Clone)]
struct RetryOnUnauthorized;

impl<E> Policy<Request<Body>, Response<()>, E> for RetryOnUnauthorized {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Body>,
        result: &mut Result<Response<()>, E>,
    ) -> Option<Ready<()>> {
        let is_rejected =
            matches!(result, Ok(response) if response.status() == StatusCode::UNAUTHORIZED);
        is_rejected.then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        Some(request.clone())
    }
}

/// Makes the requests, which are the same for all contenders.
#[derive(Clone)]
struct Requests {
    uri: Uri,
    headers: HeaderMap,
}

impl Requests {
    fn with_headers(count: usize) -> Self {
        let names = [
            "accept",
            "content-type",
            "user-agent",
            "x-request-id",
            "traceparent",
        ];
        let value = |name| HeaderValue::from_str(&format!("some value of {name}")).unwrap();
        Self {
            uri: Uri::from_static("https://stock.example.com/v2/items/4711?fields=all"),
            headers: names
                .into_iter()
                .take(count)
                .map(|name| (HeaderName::from_static(name), value(name)))
                .collect(),
        }
    }

    fn next(&self) -> Request<Body> {
        let mut request = Request::new(Full::new(Bytes::from_static(b"{}")));
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// Sends the given number of requests.
type Contender = Box<dyn FnMut(&Requests, u32) + Send>;

fn contender<S>(mut service: S) -> Contender
where
    S: Service<Request<Body>, Response = Response<()>> + Send + 'static,
    S::Error: std::fmt::Debug,
{
    Box::new(move |requests, count| {
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..count {
            let request = black_box(requests.next());
            assert!(service.poll_ready(&mut cx).is_ready());
            let future = pin!(service.call(request));
            let Poll::Ready(result) = future.poll(&mut cx) else {
                panic!("the token is not available");
            };
            black_box(result.unwrap());
        }
    })
}

fn token() -> String {
    "t".repeat(TOKEN_LENGTH)
}

/// Returns a layer whose cache has the token.
fn warm_layer() -> AuthLayer {
    let source = source::from_fn(async |_| {
        Ok(NewToken::bearer(&token())?.with_lifetime(Duration::from_secs(24 * 3600)))
    });
    let spec = TokenSpec::scopes(["api://stock/.default"]);
    let cache = TokenCache::new(source);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(cache.get(&spec)).unwrap();
    AuthLayer::new(cache)
        .route("https://stock.example.com", spec)
        .unwrap()
}

const NAMES: [&str; 5] = ["nothing", "static", "retry_static", "hit", "hit_replay"];

fn make(name: &str) -> Contender {
    let fixed = AddAuthorizationLayer::bearer(&token());
    match name {
        "nothing" => contender(Nothing),
        "static" => contender(fixed.layer(Nothing)),
        "retry_static" => {
            contender(RetryLayer::new(RetryOnUnauthorized).layer(fixed.layer(Nothing)))
        }
        "hit" => contender(warm_layer().without_replay().layer(Nothing)),
        "hit_replay" => contender(warm_layer().layer(Nothing)),
        other => panic!("unknown contender {other}: expected one of {NAMES:?}"),
    }
}

fn nanos_per_request(elapsed: Duration) -> f64 {
    elapsed.as_nanos() as f64 / f64::from(REQUESTS)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the nanoseconds per request of each contender in each round. The contenders take turns.
fn rounds(requests: &Requests) -> Vec<[f64; NAMES.len()]> {
    let mut contenders = NAMES.map(make);
    for contender in &mut contenders {
        contender(requests, REQUESTS);
    }
    (0..ROUNDS)
        .map(|_| {
            let mut round = [0.0; NAMES.len()];
            for (nanos, contender) in round.iter_mut().zip(&mut contenders) {
                let start = Instant::now();
                contender(requests, REQUESTS);
                *nanos = nanos_per_request(start.elapsed());
            }
            round
        })
        .collect()
}

/// Returns the nanoseconds per request of a thread while `count` threads run, each with its own contender.
fn threads(count: usize, make: &dyn Fn() -> Contender, requests: &Requests) -> f64 {
    let barrier = Barrier::new(count);
    let mut contenders: Vec<_> = (0..count).map(|_| make()).collect();
    thread::scope(|scope| {
        let workers: Vec<_> = contenders
            .iter_mut()
            .map(|contender| {
                let barrier = &barrier;
                scope.spawn(move || {
                    contender(requests, REQUESTS / 10);
                    barrier.wait();
                    let start = Instant::now();
                    contender(requests, REQUESTS);
                    nanos_per_request(start.elapsed())
                })
            })
            .collect();
        let each = workers.into_iter().map(|worker| worker.join().unwrap());
        each.sum::<f64>() / count as f64
    })
}

/// Returns the time per request with two threads divided by the time with one, net of a service that does nothing: for a hit,
/// and for the fixed header.
fn two_threads(requests: &Requests) -> (f64, f64) {
    let layer = warm_layer().without_replay();
    let hit = || contender(layer.layer(Nothing));
    let (mut hits, mut fixed) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let net = |make: &dyn Fn() -> Contender, count| {
            threads(count, make, requests) - threads(count, &|| contender(Nothing), requests)
        };
        hits.push(net(&hit, 2) / net(&hit, 1));
        let header = AddAuthorizationLayer::bearer(&token());
        let fixed_header = || contender(header.layer(Nothing));
        fixed.push(net(&fixed_header, 2) / net(&fixed_header, 1));
    }
    (median(hits), median(fixed))
}

fn allocations(name: &str, requests: &Requests) -> f64 {
    let mut contender = make(name);
    contender(requests, 10);
    let allocated = allocation_counter::measure(|| contender(requests, 1_000));
    allocated.count_total as f64 / 1_000.0
}

fn figure(name: &str, value: f64) {
    println!("figure {name} {value:.3}");
}

/// Measures and prints all figures in this process.
fn measure() {
    for (suffix, headers) in [("bare", 0), ("5_headers", 5)] {
        let requests = Requests::with_headers(headers);
        let rounds = rounds(&requests);
        let of =
            |value: &dyn Fn(&[f64; NAMES.len()]) -> f64| median(rounds.iter().map(value).collect());
        for (i, name) in NAMES.iter().enumerate().skip(1) {
            figure(&format!("net_ns_{name}_{suffix}"), of(&|r| r[i] - r[0]));
        }
        // A ratio of medians: in a median of ratios, a round with a very small divisor would have too much weight.
        let ratio =
            |ours: usize, theirs: usize| of(&|r| r[ours] - r[0]) / of(&|r| r[theirs] - r[0]);
        figure(&format!("hit_ratio_{suffix}"), ratio(3, 1));
        figure(&format!("hit_replay_ratio_{suffix}"), ratio(4, 2));
    }
    let bare = Requests::with_headers(0);
    let (hit, fixed) = two_threads(&bare);
    figure("hit_two_threads_ratio", hit);
    figure("static_two_threads_ratio", fixed);
    let extra = |ours, theirs| allocations(ours, &bare) - allocations(theirs, &bare);
    figure("hit_extra_allocs", extra("hit", "static"));
    figure(
        "hit_replay_extra_allocs",
        extra("hit_replay", "retry_static"),
    );
}

/// Measures in several processes and prints the medians, because the memory layout of a process changes a ratio by up to 20 %.
fn measure_in_processes() {
    let mut figures: Vec<(String, Vec<f64>)> = Vec::new();
    for _ in 0..PROCESSES {
        let program = std::env::current_exe().unwrap();
        let output = Command::new(program).arg("--process").output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let mut words = line.split(' ').skip(1);
            let name = words.next().unwrap().to_owned();
            let value = words.next().unwrap().parse().unwrap();
            match figures.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(value),
                None => figures.push((name, vec![value])),
            }
        }
    }
    println!("medians over {PROCESSES} processes of {ROUNDS} rounds each");
    for (name, values) in figures {
        figure(&name, median(values));
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let is_given = |name: &str| arguments.iter().any(|argument| argument == name);
    if let Some(at) = arguments.iter().position(|argument| argument == "--once") {
        let number = |i: usize| arguments[at + i].parse().unwrap();
        make(&arguments[at + 1])(&Requests::with_headers(number(2)), number(3) as u32);
    } else if is_given("--process") {
        measure();
    } else if is_given("--bench") {
        measure_in_processes();
    } else {
        for name in NAMES {
            make(name)(&Requests::with_headers(5), 1_000);
        }
    }
}
