//! Checks that a hit allocates only what the request itself needs.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use http_body_util::Full;
use tower::{Layer, Service};
use tower_bearer::{AuthLayer, NewToken, TokenCache, TokenSpec, source};

/// A service that responds 200 without allocating.
#[derive(Clone)]
struct Respond200;

impl<B> Service<Request<B>> for Respond200 {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(Response::new(())))
    }
}

fn spec() -> TokenSpec {
    TokenSpec::scopes(["api://stock/.default"])
}

fn warm_cache(spec: &TokenSpec) -> TokenCache {
    let cache = TokenCache::new(source::from_fn(async |_| {
        NewToken::bearer(&"t".repeat(1024))
    }));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(cache.get(spec)).unwrap();
    cache
}

/// Returns a layer whose cache has a token for the spec.
fn warm_layer(cached: &TokenSpec) -> AuthLayer {
    AuthLayer::new(warm_cache(cached))
        .route("https://stock.example.com/v2", spec())
        .unwrap()
}

fn request() -> Request<Full<Bytes>> {
    Request::get("https://stock.example.com/v2/items")
        .header("accept", "application/json")
        .body(Full::new(Bytes::from_static(b"{}")))
        .unwrap()
}

/// Returns a request like those of tonic's generated clients, which have no scheme and authority.
fn path_only() -> Request<Full<Bytes>> {
    let mut request = request();
    *request.uri_mut() = http::Uri::from_static("/v2/stock.Items/Find");
    request
}

fn send<S, B>(service: &mut S, request: Request<B>)
where
    S: Service<Request<B>>,
    S::Error: std::fmt::Debug,
{
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let future = pin!(service.call(request));
    let Poll::Ready(response) = future.poll(&mut cx) else {
        panic!("a hit does not wait");
    };
    assert!(response.is_ok());
}

fn allocations(mut act: impl FnMut()) -> u64 {
    act();
    act();
    let counted = allocation_counter::measure(|| (0..100).for_each(|_| act()));
    counted.count_total
}

/// Returns the allocations of a request to which the caller adds the header.
fn with_header<B>(request: impl Fn() -> Request<B>) -> u64 {
    let value = HeaderValue::from_static("Bearer t");
    allocations(|| {
        let mut request = request();
        request.headers_mut().insert(AUTHORIZATION, value.clone());
        send(&mut Respond200, request);
    })
}

/// Returns the bytes that one handle keeps after it has sent three requests on each of the routes.
fn kept_by_a_handle(routes: usize) -> i64 {
    let cache = warm_cache(&spec());
    let origin = |route: usize| format!("https://api{route}.example.com");
    let layer = (0..routes).fold(AuthLayer::new(cache), |layer, route| {
        layer.route(origin(route), spec()).unwrap()
    });
    let service = layer.without_replay().layer(Respond200);
    let all = |handle: &mut _| {
        for route in (0..routes).cycle().take(3 * routes) {
            let body = Full::<Bytes>::default();
            send(handle, Request::get(origin(route)).body(body).unwrap());
        }
    };
    // The slots of the routes are looked up once for all handles.
    all(&mut service.clone());
    let mut handle = None;
    let counted = allocation_counter::measure(|| {
        all(handle.insert(service.clone()));
    });
    counted.bytes_current
}

#[test]
fn memory_of_a_handle_is_independent_of_the_routes() {
    let of_eight = kept_by_a_handle(8);
    assert!(of_eight > 1024, "the memo holds no copy of a header");
    assert_eq!(kept_by_a_handle(1_000), of_eight);
}

#[test]
fn hit_on_a_route_allocates_nothing() {
    let mut service = warm_layer(&spec()).without_replay().layer(Respond200);
    let ours = allocations(|| send(&mut service, request()));
    assert_eq!(ours, with_header(request));
    let of_new_clones = allocations(|| send(&mut service.clone(), request()));
    assert_eq!(of_new_clones, ours);
}

#[test]
fn hit_by_the_default_origin_allocates_nothing() {
    let layer = warm_layer(&spec()).with_default_origin("https://stock.example.com");
    let layer = layer.unwrap().without_replay();
    let mut service = layer.layer(Respond200);
    let ours = allocations(|| send(&mut service, path_only()));
    assert_eq!(ours, with_header(path_only));
    let of_new_clones = allocations(|| send(&mut service.clone(), path_only()));
    assert_eq!(of_new_clones, ours);
}

#[test]
fn hit_of_a_tonic_request_allocates_nothing() {
    let of_tonic = || path_only().map(tonic::body::Body::new);
    let layer = warm_layer(&spec()).with_default_origin("https://stock.example.com");
    let mut service = layer.unwrap().layer(Respond200);
    let ours = allocations(|| send(&mut service, of_tonic()));
    assert_eq!(ours, with_header(of_tonic));
}

#[test]
fn hit_by_the_spec_of_a_request_allocates_nothing() {
    let shared = spec();
    let specs: [&dyn Fn() -> TokenSpec; 2] = [&|| shared.clone(), &spec];
    for spec in specs {
        let with_spec = || {
            let mut request = request();
            request.extensions_mut().insert(spec());
            request
        };
        let layer = warm_layer(&shared).without_replay();
        let mut service = layer.layer(Respond200);
        let ours = allocations(|| send(&mut service, with_spec()));
        assert_eq!(ours, with_header(with_spec));
    }
}

#[test]
fn kept_request_costs_a_copy_of_its_headers() {
    let mut service = warm_layer(&spec()).layer(Respond200);
    let ours = allocations(|| send(&mut service, request()));
    let made = allocations(|| drop(request()));
    let made_and_copied = allocations(|| {
        let original = request();
        drop((original.clone(), original));
    });
    assert_eq!(ours, with_header(request) + made_and_copied - made);
}

#[test]
fn body_that_can_not_be_cloned_costs_no_copy() {
    struct Custom;
    let of_custom = || request().map(|_| Custom);
    let mut service = warm_layer(&spec()).layer(Respond200);
    let ours = allocations(|| send(&mut service, of_custom()));
    assert_eq!(ours, with_header(of_custom));
}

#[test]
fn hit_in_the_cache_allocates_nothing() {
    let cache = warm_cache(&spec());
    let spec = spec();
    let mut cx = Context::from_waker(Waker::noop());
    let counted = allocations(|| {
        let got = pin!(cache.get(&spec));
        assert!(got.poll(&mut cx).is_ready());
    });
    assert_eq!(counted, 0);
}

#[test]
fn unlisted_origin_allocates_nothing() {
    let elsewhere = || {
        let mut request = request();
        *request.uri_mut() = http::Uri::from_static("https://elsewhere.example.org/v2");
        request
    };
    let mut service = warm_layer(&spec()).layer(Respond200);
    let ours = allocations(|| send(&mut service, elsewhere()));
    let bare = allocations(|| send(&mut Respond200, elsewhere()));
    assert_eq!(ours, bare);
}
