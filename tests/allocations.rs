//! A hit allocates nothing beyond what the request itself needs.

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

/// Takes a request and answers 200.
#[derive(Clone)]
struct Nothing;

impl<B> Service<Request<B>> for Nothing {
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

fn warm_layer() -> AuthLayer {
    warm_layer_for(&spec())
}

fn warm_layer_for(kept: &TokenSpec) -> AuthLayer {
    AuthLayer::new(warm_cache(kept))
        .route("https://stock.example.com/v2", spec())
        .unwrap()
}

fn request() -> Request<Full<Bytes>> {
    Request::get("https://stock.example.com/v2/items")
        .header("accept", "application/json")
        .body(Full::new(Bytes::from_static(b"{}")))
        .unwrap()
}

/// As tonic's generated clients make it: a path, and no word on where.
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

/// What the request and its one more header need by themselves.
fn with_a_header_set_by_hand() -> u64 {
    let value = HeaderValue::from_static("Bearer t");
    allocations(|| {
        let mut request = request();
        request.headers_mut().insert(AUTHORIZATION, value.clone());
        send(&mut Nothing, request);
    })
}

#[test]
fn a_hit_on_a_route_allocates_nothing() {
    let mut service = warm_layer().without_replay().layer(Nothing);
    let ours = allocations(|| send(&mut service, request()));
    assert_eq!(ours, with_a_header_set_by_hand());
}

#[test]
fn a_hit_of_a_request_that_names_a_path_alone_allocates_nothing() {
    let layer = warm_layer().with_default_origin("https://stock.example.com");
    let layer = layer.unwrap().without_replay();
    let mut service = layer.layer(Nothing);
    let ours = allocations(|| send(&mut service, path_only()));
    let (made, made_with_path) = (
        allocations(|| drop(request())),
        allocations(|| drop(path_only())),
    );
    assert_eq!(ours, with_a_header_set_by_hand() + made_with_path - made);
    let fresh = allocations(|| send(&mut service.clone(), path_only()));
    assert_eq!(fresh, ours);
}

#[test]
fn a_hit_of_what_tonic_sends_allocates_nothing() {
    let of_tonic = || path_only().map(tonic::body::Body::new);
    let layer = warm_layer().with_default_origin("https://stock.example.com");
    let mut service = layer.unwrap().layer(Nothing);
    let ours = allocations(|| send(&mut service, of_tonic()));
    let value = HeaderValue::from_static("Bearer t");
    let by_hand = allocations(|| {
        let mut request = of_tonic();
        request.headers_mut().insert(AUTHORIZATION, value.clone());
        send(&mut Nothing, request);
    });
    assert_eq!(ours, by_hand);
}

#[test]
fn a_hit_by_a_requests_own_spec_allocates_nothing() {
    let with = |spec| {
        let mut request = request();
        request.extensions_mut().insert(spec);
        request
    };
    let kept = spec();
    let specs: [&dyn Fn() -> TokenSpec; 2] = [&|| kept.clone(), &spec];
    for own in specs {
        let mut service = warm_layer_for(&kept).without_replay().layer(Nothing);
        let ours = allocations(|| send(&mut service, with(own())));
        let made = allocations(|| drop(request()));
        let made_with_spec = allocations(|| drop(with(own())));
        assert_eq!(ours, with_a_header_set_by_hand() + made_with_spec - made);
    }
}

#[test]
fn a_hit_through_a_fresh_clone_allocates_nothing() {
    let service = warm_layer().without_replay().layer(Nothing);
    let ours = allocations(|| send(&mut service.clone(), request()));
    assert_eq!(ours, with_a_header_set_by_hand());
}

#[test]
fn keeping_a_request_for_a_replay_costs_a_copy_of_its_headers_and_no_more() {
    let mut service = warm_layer().layer(Nothing);
    let ours = allocations(|| send(&mut service, request()));
    let made = allocations(|| drop(request()));
    let made_and_copied = allocations(|| {
        let original = request();
        drop((original.clone(), original));
    });
    assert_eq!(ours, with_a_header_set_by_hand() + made_and_copied - made);
}

#[test]
fn a_body_that_can_not_be_had_twice_costs_no_copy() {
    struct Mine;
    let of_mine = || request().map(|_| Mine);
    let mut service = warm_layer().layer(Nothing);
    let ours = allocations(|| send(&mut service, of_mine()));
    assert_eq!(ours, with_a_header_set_by_hand());
}

#[test]
fn a_hit_in_the_cache_allocates_nothing() {
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
fn an_unlisted_origin_costs_nothing() {
    let elsewhere = || {
        let mut request = request();
        *request.uri_mut() = http::Uri::from_static("https://elsewhere.example.org/v2");
        request
    };
    let mut service = warm_layer().layer(Nothing);
    let ours = allocations(|| send(&mut service, elsewhere()));
    let bare = allocations(|| send(&mut Nothing, elsewhere()));
    assert_eq!(ours, bare);
}
