//! Tests that a hit succeeds while every lock is held.

use std::{
    convert::Infallible,
    sync::mpsc,
    task::{Context, Waker},
    thread,
    time::Duration,
};

use http::{Request, Response};
use tower::{Layer, Service, util::BoxService};

use crate::{
    cache::TokenCache,
    layer::{AuthLayer, Error},
    source,
    token::{NewToken, TokenSpec},
};

type Client = BoxService<Request<()>, Response<()>, Error<Infallible>>;

fn warm() -> (TokenCache, AuthLayer, TokenSpec) {
    let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
    let spec = TokenSpec::scopes(["read"]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(cache.get(&spec)).unwrap();
    let layer = AuthLayer::new(cache.clone()).route("https://api.example.com", spec.clone());
    (cache, layer.unwrap(), spec)
}

fn client(layer: &AuthLayer) -> Client {
    let answer = async |_: Request<()>| Ok(Response::new(()));
    BoxService::new(layer.layer(tower::service_fn(answer)))
}

fn hit(client: &mut Client, spec: Option<&TokenSpec>) {
    let mut request = Request::get("https://api.example.com/x").body(()).unwrap();
    if let Some(spec) = spec {
        request.extensions_mut().insert(spec.clone());
    }
    let mut cx = Context::from_waker(Waker::noop());
    assert!(client.poll_ready(&mut cx).is_ready());
    assert!(client.call(request).as_mut().poll(&mut cx).is_ready());
}

/// Sends requests from a thread while the locks are held. A hit that takes a lock would block.
fn hits_pass(cache: &TokenCache, with_shards: bool, mut client: Client, spec: Option<TokenSpec>) {
    let (done, passed) = mpsc::channel();
    let mut worker = None;
    cache.with_locks_held(with_shards, || {
        // Dropped after the locks are released, because dropping a handle takes one.
        worker = Some(thread::spawn(move || {
            for _ in 0..10 {
                hit(&mut client, spec.as_ref());
            }
            done.send(()).unwrap();
            client
        }));
        let passed = passed.recv_timeout(Duration::from_secs(10));
        assert_eq!(passed, Ok(()), "a hit takes a lock");
    });
    drop(worker.map(thread::JoinHandle::join));
}

#[test]
fn hit_on_a_route_takes_no_lock() {
    let (cache, layer, _) = warm();
    let mut client = client(&layer);
    // The second request creates the memo of the handle.
    hit(&mut client, None);
    hit(&mut client, None);
    hits_pass(&cache, true, client, None);
}

#[test]
fn hit_by_own_spec_takes_only_a_shard_lock() {
    let (cache, layer, spec) = warm();
    let mut client = client(&layer);
    // The second request creates the memo of the handle.
    hit(&mut client, Some(&spec));
    hit(&mut client, Some(&spec));
    hits_pass(&cache, false, client, Some(spec));
}
