//! What many keys cost: a hit by a request's own spec among up to a million, an entry's memory, the bound, and two threads.
//!
//! A hit's figures are net of a service that does nothing and gets the very same requests, and the contenders take turns,
//! round by round, so that a machine whose speed drifts drifts for all of them. Rounds are short and many, so that most of
//! them pass undisturbed on a machine that does other things too.
//!
//! `cargo bench --bench scale -- PART` measures one part: `hits`, `handles`, `memory`, `bounds` or `threads`.
//! `cargo bench --bench scale -- --once CONTENDER KEYS REQUESTS` runs one contender and nothing else, to count its
//! instructions. Without `--bench`, as `cargo test` runs it, everything takes a short turn over few keys and nothing is
//! claimed.

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

/// How much of everything.
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

/// Takes a request and answers 200.
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
    /// The order in which they are visited: that of a linear congruential generator.
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

    /// The same keys in specs of its own, visited in another order.
    fn anew(&self, state: u64) -> Self {
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

/// A cache on a source that answers at once; how much it holds is for the caller to say.
fn cache() -> CacheBuilder {
    let text = "t".repeat(TOKEN_LENGTH);
    TokenCache::builder(source::from_fn(move |_| {
        let day = Duration::from_secs(24 * 3600);
        ready(NewToken::bearer(&text).map(|token| token.with_lifetime(day)))
    }))
}

fn roomy_cache(keys: usize) -> TokenCache {
    cache()
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
    let cache = roomy_cache(keys.specs.len());
    runtime().block_on(async {
        for spec in &keys.specs {
            cache.get(spec).await.unwrap();
        }
    });
    assert_eq!(cache.stats().entries, keys.specs.len() as u64);
    // The route's own.
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
    Kept,
    Built,
    /// The route's.
    None,
}

/// Sends so many requests, each for a key of its own.
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
                Specs::Kept => Some(keys.specs[i].clone()),
                Specs::Built => Some(spec(&keys.base, i)),
                Specs::None => None,
            };
            let mut request = Request::new(Full::new(Bytes::from_static(b"{}")));
            *request.uri_mut() = uri.clone();
            // One header of its own, as nearly every request has: the map of headers is there.
            request.headers_mut().insert(ACCEPT, accept.clone());
            if let Some(spec) = spec {
                request.extensions_mut().insert(spec);
            }
            assert!(service.poll_ready(&mut cx).is_ready());
            let future = pin!(service.call(black_box(request)));
            let Poll::Ready(result) = future.poll(&mut cx) else {
                panic!("it waits");
            };
            black_box(result.unwrap());
        }
    })
}

/// The cache alone.
fn gets(cache: TokenCache) -> Contender {
    Box::new(move |keys, count| {
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..count {
            let i = keys.next();
            let future = pin!(cache.get(&keys.specs[i]));
            let Poll::Ready(token) = future.poll(&mut cx) else {
                panic!("it waits");
            };
            black_box(token.unwrap());
        }
    })
}

/// Picks the spec and does nothing with it.
fn picks() -> Contender {
    Box::new(|keys, count| {
        for _ in 0..count {
            let i = keys.next();
            black_box(&keys.specs[i]);
        }
    })
}

/// Reads one word for each key, from memory as wide as a full cache's, each read waiting for the one before: what the
/// machine takes for going there at all, whatever stands there.
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

/// Whether this is a bench, and no test of one.
fn claimed() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

fn figure(name: &str, value: f64) {
    if claimed() {
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
        "nothing" => sends(Nothing, Specs::Kept),
        "hit" => sends(layer.without_replay().layer(Nothing), Specs::Kept),
        "hit_replay" => sends(layer.layer(Nothing), Specs::Kept),
        "nothing_plain" => sends(Nothing, Specs::None),
        "hit_route" => sends(layer.without_replay().layer(Nothing), Specs::None),
        "nothing_built" => sends(Nothing, Specs::Built),
        "hit_built" => sends(layer.without_replay().layer(Nothing), Specs::Built),
        "pick" => picks(),
        "get" => gets(cache.clone()),
        "cold_read" => cold_reads(cache.stats().entries as usize),
        other => panic!("no contender {other}: one of {NAMES:?}"),
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

/// A hit among so many keys.
fn hits(extent: &Extent, count: usize) {
    let mut keys = Keys::new(count);
    let cache = filled(&keys);
    let contenders = NAMES.map(|name| make(name, &cache));
    let rounds = rounds(extent, &mut keys, contenders);
    let of = |name| NAMES.iter().position(|one| *one == name).unwrap();
    // What this contender takes beyond that one.
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
    // What is left of a hit when nothing is looked up.
    figure(
        &format!("route_hit_ns_{count}"),
        net("hit_route", "nothing_plain"),
    );
    figure(&format!("get_hit_ns_{count}"), net("get", "pick"));
    figure(&format!("cold_read_ns_{count}"), net("cold_read", "pick"));
    assert_eq!(cache.stats().misses, count as u64 + 1, "a hit waited");
}

/// Clones a service, sends three requests with the clone and drops it, once for each request that is asked for.
///
/// One request is not enough: a handle allocates its own state on its second one, and uses it from then on.
fn short_lived<S>(service: S) -> Contender
where
    S: Service<Request<Body>, Response = Response<()>> + Clone + Send + 'static,
    S::Error: std::fmt::Debug,
{
    Box::new(move |keys, count| {
        for _ in 0..count {
            sends(service.clone(), Specs::None)(keys, 3);
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
            let mut handle = sends(service.clone(), Specs::None);
            handle(&mut keys, 3);
            live.push(handle);
        }
    }
    let [few, many] = services.map(short_lived);
    let rounds = rounds(extent, &mut keys, [short_lived(Nothing), few, many]);
    // Of medians: a round in which the smaller one was lucky would weigh too much in a median of ratios.
    let net = |i: usize| median(rounds.iter().map(|r| r[i] - r[0]).collect());
    let (few, many) = (net(1), net(2));
    figure("handle_drop_ns_few_live", few);
    figure("handle_drop_ns_many_live", many);
    figure("handle_drop_ratio", many / few);
    assert_eq!(live.len(), extent.live_handles.iter().sum::<usize>());
}

/// What a full cache has allocated for each entry, beyond the text of the token and the texts in its spec.
///
/// Everything that is there once the filling is done is counted, with the sizes that were asked of the allocator: the
/// map and what it has in reserve, slots, specs, tokens, their reference counts, and the word before the token's text.
fn bytes_per_entry(entries: usize) -> f64 {
    let runtime = runtime();
    let base = TokenSpec::scopes([SCOPE]);
    // What a runtime and a first fetch keep for good.
    runtime.block_on(roomy_cache(1).get(&base)).unwrap();
    let mut cache = None;
    let counted = allocation_counter::measure(|| {
        let cache = cache.insert(roomy_cache(entries));
        runtime.block_on(async {
            for i in 0..entries {
                cache.get(&spec(&base, i)).await.unwrap();
            }
        });
    });
    let texts: usize = (0..entries).map(|i| SCOPE.len() + tenant(i).len()).sum();
    let texts = texts + entries * TOKEN_LENGTH;
    (counted.bytes_current as f64 - texts as f64) / entries as f64
}

/// The most that a cache held, of what it may hold, while ten times as much went in: entries, and bytes by its own count.
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
        cache()
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
    let counted = allocation_counter::measure(|| {
        let cache = by_bytes.insert(build(bound * 100, max_bytes));
        most = overshoot(cache, bound * 10, bound * 100, max_bytes).1;
    });
    figure("bound_bytes_overshoot", most);
    // What the allocator says of it, at the end.
    figure(
        "bound_bytes_allocated",
        counted.bytes_current as f64 / max_bytes as f64,
    );
}

/// Requests per second of so many threads together, each with a handle and specs of its own.
fn throughput(threads: Vec<(&mut Contender, &mut Keys)>, turn: Duration) -> f64 {
    const BATCH: u32 = 100;
    let barrier = Barrier::new(threads.len() + 1);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = threads
            .into_iter()
            .map(|(contender, keys)| {
                let (barrier, over) = (&barrier, &over);
                scope.spawn(move || {
                    barrier.wait();
                    let start = Instant::now();
                    let mut sent = 0u32;
                    while !over.load(Relaxed) {
                        contender(keys, BATCH);
                        sent += BATCH;
                    }
                    f64::from(sent) / start.elapsed().as_secs_f64()
                })
            })
            .collect();
        barrier.wait();
        thread::sleep(turn);
        over.store(true, Relaxed);
        workers.into_iter().map(|w| w.join().unwrap()).sum()
    })
}

/// The throughput of two threads to that of one: of requests with specs, of those alone without a token, of the cache alone.
fn two_threads(extent: &Extent) {
    let count = extent.keys[1];
    let mut keys = [Keys::new(count), Keys::new(count).anew(1 << 40)];
    let cache = filled(&keys[0]);
    let service = layer(&cache).without_replay().layer(Nothing);
    let contenders: [(&str, &dyn Fn() -> Contender); 3] = [
        ("two_thread_speedup", &|| {
            sends(service.clone(), Specs::Kept)
        }),
        ("nothing_two_thread_speedup", &|| {
            sends(Nothing, Specs::Kept)
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
    // What the machine itself gives to a second thread: a service that does nothing is not twice as fast either.
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
    let extent = if claimed() { FULL } else { SHORT };
    let parts: Vec<_> = arguments
        .iter()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|one| *one == part);
    if wanted("hits") {
        for &count in extent.keys {
            hits(&extent, count);
        }
    }
    if wanted("handles") {
        handles(&extent);
    }
    if wanted("memory") {
        figure(
            "bytes_per_entry_beyond_token",
            bytes_per_entry(extent.entries_weighed),
        );
    }
    if wanted("bounds") {
        bounds(extent.bound);
    }
    if wanted("threads") {
        two_threads(&extent);
    }
}
