//! Measures a cache with up to a million entries: hits with the request's own spec, short-lived handles, memory per entry, the
//! bounds on entries and bytes, and the speedup by a second thread.
//!
//! The figures of a hit are net of a service that does nothing with the same requests. The contenders take turns, round by
//! round, so that a change of the machine's speed affects all of them. The rounds are short and many, so that other programs
//! disturb only a few of them.
//!
//! `cargo bench --bench scale -- PART` measures one part: `hits`, `handles`, `memory`, `bounds` or `threads`.
//! `cargo bench --bench scale -- --once CONTENDER KEYS REQUESTS` runs one contender, to count its
//! instructions. Without `--bench`, as `cargo test` runs it, the run is short and prints no figures.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    pin::pin,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header::ACCEPT};
use http_body_util::Full;
use tokio::runtime::{self, Runtime};
use tower::{Layer, Service};
use tower_bearer::{AuthLayer, NewToken, TokenCache, TokenSpec, cache::CacheBuilder, source};

type Body = Full<Bytes>;

const SCOPE: &str = "api://stock/.default";
const TOKEN_LENGTH: usize = 1024;

/// The sizes of a run.
struct Extent {
    keys: &'static [usize],
    requests: u32,
    rounds: usize,
    live_handles: [usize; 2],
    entries_weighed: usize,
    bound: usize,
    turn: Duration,
}

const FULL: Extent = Extent {
    keys: &[1, 1_000, 100_000, 1_000_000],
    requests: 1_000,
    rounds: 501,
    live_handles: [100, 20_000],
    entries_weighed: 100_000,
    bound: 10_000,
    turn: Duration::from_millis(20),
};

const SHORT: Extent = Extent {
    keys: &[1, 100],
    requests: 100,
    rounds: 1,
    live_handles: [1, 10],
    entries_weighed: 100,
    bound: 100,
    turn: Duration::from_millis(1),
};

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

/// The specs of a program with many tenants.
#[derive(Clone)]
struct Keys {
    base: TokenSpec,
    specs: Vec<TokenSpec>,
    /// The state of a linear congruential generator, which chooses the next key.
    state: u64,
}

impl Keys {
    fn new(count: usize) -> Self {
        let base = TokenSpec::scopes([SCOPE]);
        let spec = |i| spec(&base, i);
        Self {
            specs: (0..count).map(spec).collect(),
            state: 1,
            base,
        }
    }

    fn next(&mut self) -> usize {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // The upper half of the product is a number below the count.
        ((u128::from(self.state) * self.specs.len() as u128) >> 64) as usize
    }

    /// Returns the same keys as new specs, visited in the order that `state` determines.
    fn rebuilt(&self, state: u64) -> Self {
        let mut keys = Self::new(self.specs.len());
        keys.state = state;
        keys
    }
}

fn tenant(i: usize) -> String {
    format!("tenant-{i}")
}

fn spec(base: &TokenSpec, i: usize) -> TokenSpec {
    base.clone().with_tenant(tenant(i))
}

/// Returns the builder of a cache whose source returns a token immediately.
fn cache_builder() -> CacheBuilder {
    let text = "t".repeat(TOKEN_LENGTH);
    TokenCache::builder(source::from_fn(move |_| {
        let day = Duration::from_secs(24 * 3600);
        ready(NewToken::bearer(&text).map(|token| token.with_lifetime(day)))
    }))
}

/// Returns a cache that evicts none of so many entries.
fn unbounded_cache(keys: usize) -> TokenCache {
    cache_builder()
        .with_max_entries(keys * 2)
        .with_max_bytes(1 << 40)
        .build()
}

fn runtime() -> Runtime {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn filled(keys: &Keys) -> TokenCache {
    let cache = unbounded_cache(keys.specs.len());
    runtime().block_on(async {
        for spec in &keys.specs {
            cache.get(spec).await.unwrap();
        }
    });
    assert_eq!(cache.stats().entries, keys.specs.len() as u64);
    // The token of the route is cached in addition.
    runtime().block_on(cache.get(&keys.base)).unwrap();
    cache
}

fn layer(cache: &TokenCache) -> AuthLayer {
    AuthLayer::new(cache.clone())
        .route("https://stock.example.com", TokenSpec::scopes([SCOPE]))
        .unwrap()
}

/// Where the spec of a request comes from.
#[derive(Clone, Copy)]
enum Specs {
    /// The request gets a clone of an existing spec.
    Reused,
    /// A spec is built for the request.
    Built,
    /// The request has no spec, so that its route's applies.
    Route,
}

/// Sends the given number of requests, each for the next key.
type Contender = Box<dyn FnMut(&mut Keys, u32) + Send>;

fn sends<S>(mut service: S, specs: Specs) -> Contender
where
    S: Service<Request<Body>, Response = Response<()>> + Send + 'static,
    S::Error: std::fmt::Debug,
{
    let uri = Uri::from_static("https://stock.example.com/v2/items/4711?fields=all");
    let accept = HeaderValue::from_static("application/json");
    Box::new(move |keys, count| {
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..count {
            let i = keys.next();
            let spec = match specs {
                Specs::Reused => Some(keys.specs[i].clone()),
                Specs::Built => Some(spec(&keys.base, i)),
                Specs::Route => None,
            };
            let mut request = Request::new(Full::new(Bytes::from_static(b"{}")));
            *request.uri_mut() = uri.clone();
            // Nearly every request has a header, so the allocation of the header map is not counted as the layer's.
            request.headers_mut().insert(ACCEPT, accept.clone());
            if let Some(spec) = spec {
                request.extensions_mut().insert(spec);
            }
            assert!(service.poll_ready(&mut cx).is_ready());
            let future = pin!(service.call(black_box(request)));
            let Poll::Ready(result) = future.poll(&mut cx) else {
                panic!("the token is not available");
            };
            black_box(result.unwrap());
        }
    })
}

/// Gets tokens from the cache, without the layer.
fn gets(cache: TokenCache) -> Contender {
    Box::new(move |keys, count| {
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..count {
            let i = keys.next();
            let future = pin!(cache.get(&keys.specs[i]));
            let Poll::Ready(token) = future.poll(&mut cx) else {
                panic!("the token is not available");
            };
            black_box(token.unwrap());
        }
    })
}

/// Chooses the next spec and does nothing with it.
fn picks() -> Contender {
    Box::new(|keys, count| {
        for _ in 0..count {
            let i = keys.next();
            black_box(&keys.specs[i]);
        }
    })
}

/// Reads one word per key, from as much memory as a full cache uses. Each read depends on the one before. This is the latency
/// of the machine's memory, which is a lower bound for any lookup.
fn cold_reads(count: usize) -> Contender {
    const WORDS: usize = 200;
    let mut memory = vec![1u64; count * WORDS];
    Box::new(move |keys, count| {
        let mut last = 0;
        for _ in 0..count {
            let i = keys.next() * WORDS + last as usize;
            last = memory[i] - 1;
            memory[i] = 1;
        }
        black_box(last);
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns `true` under `cargo bench`, and `false` under `cargo test`, which only checks that the bench runs.
fn is_bench() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

fn figure(name: &str, value: f64) {
    if is_bench() {
        println!("figure {name} {value:.3}");
    }
}

const NAMES: [&str; 10] = [
    "nothing",
    "hit",
    "hit_replay",
    "nothing_plain",
    "hit_route",
    "nothing_built",
    "hit_built",
    "pick",
    "get",
    "cold_read",
];

fn make(name: &str, cache: &TokenCache) -> Contender {
    let layer = layer(cache);
    match name {
        "nothing" => sends(Nothing, Specs::Reused),
        "hit" => sends(layer.without_replay().layer(Nothing), Specs::Reused),
        "hit_replay" => sends(layer.layer(Nothing), Specs::Reused),
        "nothing_plain" => sends(Nothing, Specs::Route),
        "hit_route" => sends(layer.without_replay().layer(Nothing), Specs::Route),
        "nothing_built" => sends(Nothing, Specs::Built),
        "hit_built" => sends(layer.without_replay().layer(Nothing), Specs::Built),
        "pick" => picks(),
        "get" => gets(cache.clone()),
        "cold_read" => cold_reads(cache.stats().entries as usize),
        other => panic!("unknown contender {other}: expected one of {NAMES:?}"),
    }
}

/// Returns the nanoseconds per request of each contender in each round, after a round to warm up. The contenders take turns.
fn rounds<const N: usize>(
    extent: &Extent,
    keys: &mut Keys,
    mut contenders: [Contender; N],
) -> Vec<[f64; N]> {
    for contender in &mut contenders {
        contender(keys, extent.requests);
    }
    (0..extent.rounds)
        .map(|_| {
            contenders.each_mut().map(|contender| {
                let start = Instant::now();
                contender(keys, extent.requests);
                start.elapsed().as_nanos() as f64 / f64::from(extent.requests)
            })
        })
        .collect()
}

/// Measures a hit in a cache with `count` entries.
fn hits(extent: &Extent, count: usize) {
    let mut keys = Keys::new(count);
    let cache = filled(&keys);
    let contenders = NAMES.map(|name| make(name, &cache));
    let rounds = rounds(extent, &mut keys, contenders);
    let of = |name| NAMES.iter().position(|one| *one == name).unwrap();
    // The extra time of one contender over the other.
    let net = |this, that| {
        let (this, that) = (of(this), of(that));
        median(rounds.iter().map(|r| r[this] - r[that]).collect())
    };
    figure(&format!("spec_hit_ns_{count}"), net("hit", "nothing"));
    figure(
        &format!("spec_hit_replay_ns_{count}"),
        net("hit_replay", "nothing"),
    );
    figure(
        &format!("spec_hit_ns_{count}_built"),
        net("hit_built", "nothing_built"),
    );
    figure(
        &format!("spec_build_ns_{count}"),
        net("nothing_built", "nothing"),
    );
    // A hit without a lookup in the map.
    figure(
        &format!("route_hit_ns_{count}"),
        net("hit_route", "nothing_plain"),
    );
    figure(&format!("get_hit_ns_{count}"), net("get", "pick"));
    figure(&format!("cold_read_ns_{count}"), net("cold_read", "pick"));
    assert_eq!(
        cache.stats().misses,
        count as u64 + 1,
        "a request was not a hit"
    );
}

/// Clones the service, sends three requests with the clone and drops it, the given number of times.
///
/// One request is not enough: a handle allocates its own state on its second one, and uses it from then on.
fn short_lived<S>(service: S) -> Contender
where
    S: Service<Request<Body>, Response = Response<()>> + Clone + Send + 'static,
    S::Error: std::fmt::Debug,
{
    Box::new(move |keys, count| {
        for _ in 0..count {
            sends(service.clone(), Specs::Route)(keys, 3);
        }
    })
}

/// Compares the cost of a short-lived handle while many other used handles are alive with its cost while few are.
///
/// The two groups of live handles have a cache each, so that neither counts towards the other.
fn handles(extent: &Extent) {
    let mut keys = Keys::new(1);
    let services = extent
        .live_handles
        .map(|_| layer(&filled(&keys)).without_replay().layer(Nothing));
    let mut live = Vec::new();
    for (service, count) in services.iter().zip(extent.live_handles) {
        for _ in 0..count {
            let mut handle = sends(service.clone(), Specs::Route);
            handle(&mut keys, 3);
            live.push(handle);
        }
    }
    let [few, many] = services.map(short_lived);
    let rounds = rounds(extent, &mut keys, [short_lived(Nothing), few, many]);
    // A ratio of medians: in a median of ratios, a round with a very small divisor would have too much weight.
    let net = |i: usize| median(rounds.iter().map(|r| r[i] - r[0]).collect());
    let (few, many) = (net(1), net(2));
    figure("handle_drop_ns_few_live", few);
    figure("handle_drop_ns_many_live", many);
    figure("handle_drop_ratio", many / few);
    assert_eq!(live.len(), extent.live_handles.iter().sum::<usize>());
}

/// Returns the bytes that a full cache has allocated per entry, without the text of the token and the strings in its spec.
///
/// This counts every allocation that is alive after the cache was filled, with the size requested from the allocator: the map
/// with its spare capacity, slots, specs, tokens, reference counts, and the length stored in front of the token's text.
fn bytes_per_entry(entries: usize) -> f64 {
    let runtime = runtime();
    let base = TokenSpec::scopes([SCOPE]);
    // The runtime and the first fetch allocate memory that is never freed.
    runtime.block_on(unbounded_cache(1).get(&base)).unwrap();
    let mut cache = None;
    let allocated = allocation_counter::measure(|| {
        let cache = cache.insert(unbounded_cache(entries));
        runtime.block_on(async {
            for i in 0..entries {
                cache.get(&spec(&base, i)).await.unwrap();
            }
        });
    });
    let texts: usize = (0..entries).map(|i| SCOPE.len() + tenant(i).len()).sum();
    let texts = texts + entries * TOKEN_LENGTH;
    (allocated.bytes_current as f64 - texts as f64) / entries as f64
}

/// Fetches tokens for `keys` keys, and returns the largest size of the cache relative to its bounds: entries, and bytes as the
/// cache counts them.
fn overshoot(cache: &TokenCache, keys: usize, max_entries: usize, max_bytes: u64) -> (f64, f64) {
    let base = TokenSpec::scopes([SCOPE]);
    let mut most = (0, 0);
    runtime().block_on(async {
        for i in 0..keys {
            cache.get(&spec(&base, i)).await.unwrap();
            if i % 16 == 0 {
                let stats = cache.stats();
                most = (most.0.max(stats.entries), most.1.max(stats.bytes));
            }
        }
    });
    (
        most.0 as f64 / max_entries as f64,
        most.1 as f64 / max_bytes as f64,
    )
}

fn bounds(bound: usize) {
    let build = |max_entries, max_bytes| {
        cache_builder()
            .with_max_entries(max_entries)
            .with_max_bytes(max_bytes)
            .build()
    };
    let by_entries = build(bound, 1 << 40);
    figure(
        "bound_entries_overshoot",
        overshoot(&by_entries, bound * 10, bound, 1 << 40).0,
    );
    let max_bytes = (bound * TOKEN_LENGTH) as u64;
    let mut by_bytes = None;
    let mut most = 0.0;
    let allocated = allocation_counter::measure(|| {
        let cache = by_bytes.insert(build(bound * 100, max_bytes));
        most = overshoot(cache, bound * 10, bound * 100, max_bytes).1;
    });
    figure("bound_bytes_overshoot", most);
    // The bytes at the end, as the allocator counts them.
    figure(
        "bound_bytes_allocated",
        allocated.bytes_current as f64 / max_bytes as f64,
    );
}

/// Returns the requests per second of all threads together. Each thread has its own handle and specs.
fn throughput(threads: Vec<(&mut Contender, &mut Keys)>, turn: Duration) -> f64 {
    const BATCH: u32 = 100;
    let barrier = Barrier::new(threads.len() + 1);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = threads
            .into_iter()
            .map(|(contender, keys)| {
                let (barrier, stop) = (&barrier, &stop);
                scope.spawn(move || {
                    barrier.wait();
                    let start = Instant::now();
                    let mut sent = 0u32;
                    while !stop.load(Relaxed) {
                        contender(keys, BATCH);
                        sent += BATCH;
                    }
                    f64::from(sent) / start.elapsed().as_secs_f64()
                })
            })
            .collect();
        barrier.wait();
        thread::sleep(turn);
        stop.store(true, Relaxed);
        workers.into_iter().map(|w| w.join().unwrap()).sum()
    })
}

/// Measures the speedup by a second thread: of requests with specs, of the same requests without a token, and of the cache
/// without the layer.
fn two_threads(extent: &Extent) {
    let count = extent.keys[1];
    let mut keys = [Keys::new(count), Keys::new(count).rebuilt(1 << 40)];
    let cache = filled(&keys[0]);
    let service = layer(&cache).without_replay().layer(Nothing);
    let contenders: [(&str, &dyn Fn() -> Contender); 3] = [
        ("two_thread_speedup", &|| {
            sends(service.clone(), Specs::Reused)
        }),
        ("nothing_two_thread_speedup", &|| {
            sends(Nothing, Specs::Reused)
        }),
        ("get_two_thread_speedup", &|| gets(cache.clone())),
    ];
    let mut speedups = contenders.map(|_| Vec::new());
    for _ in 0..extent.rounds.div_ceil(2) {
        for ((_, make), speedups) in contenders.iter().zip(&mut speedups) {
            let [a, b] = &mut keys;
            let (mut first, mut second) = (make(), make());
            let one = throughput(vec![(&mut first, &mut *a)], extent.turn);
            let both = vec![(&mut first, a), (&mut second, b)];
            speedups.push(throughput(both, extent.turn) / one);
        }
    }
    // A service that does nothing is not twice as fast with two threads either, so the speedup is compared with that.
    let [ours, nothing, _] = &speedups;
    let to_nothing = ours.iter().zip(nothing).map(|(ours, most)| ours / most);
    figure(
        "two_thread_speedup_to_nothing",
        median(to_nothing.collect()),
    );
    for ((name, _), speedups) in contenders.iter().zip(speedups) {
        figure(name, median(speedups));
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--once") {
        let number = |i: usize| arguments[at + i].parse::<usize>().unwrap();
        let mut keys = Keys::new(number(2));
        make(&arguments[at + 1], &filled(&keys))(&mut keys, number(3) as u32);
        return;
    }
    let extent = if is_bench() { FULL } else { SHORT };
    let parts: Vec<_> = arguments
        .iter()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let is_selected = |part: &str| parts.is_empty() || parts.iter().any(|one| *one == part);
    if is_selected("hits") {
        for &count in extent.keys {
            hits(&extent, count);
        }
    }
    if is_selected("handles") {
        handles(&extent);
    }
    if is_selected("memory") {
        figure(
            "bytes_per_entry_beyond_token",
            bytes_per_entry(extent.entries_weighed),
        );
    }
    if is_selected("bounds") {
        bounds(extent.bound);
    }
    if is_selected("threads") {
        two_threads(&extent);
    }
}
