//! Tests the recovery from a 401: fetches, replays, and the rejection budget.

mod support;

use std::fmt::Debug;

use http::{HeaderMap, HeaderValue, Method, Request, Response, header::AUTHORIZATION};
use support::{
    Answer, Api, ApiBody, ORIGIN, Source, Tag, cache, layer, millis, outcome, request,
    request_with, secs, send, settle, spec, tenant,
};
use tokio::{task::JoinSet, time::advance};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service};
use tower_bearer::{
    AuthLayer, ErrorKind, TokenCache,
    cache::EntryState,
    layer::{Auth, Recovery, replay::ReplayPolicy},
    token::FetchReason,
};

type Outcome = (u16, Option<&'static str>);

const FINE: Outcome = (200, None);
const RECOVERED: Outcome = (200, Some("recovered"));
const NOT_REPLAYABLE: Outcome = (401, Some("not_replayable"));
const REJECTED_AGAIN: Outcome = (401, Some("rejected_again"));
const LIMIT_REACHED: Outcome = (401, Some("rejection_limit_reached"));

/// A body that cannot be cloned.
struct OneWay;

fn stage() -> (Source, Api, TokenCache, Auth<Api>) {
    stage_over(Api::new())
}

fn stage_over(api: Api) -> (Source, Api, TokenCache, Auth<Api>) {
    let source = Source::new();
    let cache = cache(&source);
    let client = layer(&cache).layer(api.clone());
    (source, api, cache, client)
}

async fn call<S, B>(client: &mut S, request: Request<B>) -> Outcome
where
    S: Service<Request<B>, Response = Response<ApiBody>, Error: Debug>,
{
    outcome(&send(client, request).await.await.unwrap())
}

async fn get<R>(client: &mut Auth<Api, R>, path: &str) -> Outcome
where
    R: ReplayPolicy<Request<String>>,
{
    call(client, request(path)).await
}

/// Returns a request with a spec that is not the route's.
fn own(path: &str) -> Request<String> {
    let mut request = request(path);
    request.extensions_mut().insert(tenant("own"));
    request
}

#[tokio::test(start_paused = true)]
async fn late_401_of_a_replaced_token_costs_no_fetch() {
    let (source, api, cache, mut client) = stage_over(Api::new().gated());
    cache.get(spec()).await.unwrap();
    api.answer([401]);
    let mut late = task::spawn(send(&mut client, request("/")).await);
    assert_pending!(late.poll());
    let newest = cache.refresh(spec()).await.unwrap();
    api.open(2);
    assert_eq!(outcome(&late.await.unwrap()), RECOVERED);
    assert_eq!(api.tokens(), ["token-1", "token-2"]);
    assert_eq!((source.fetches(), cache.stats().rejections), (2, 0));
    let current = cache.peek(spec()).unwrap();
    assert_eq!(current.generation(), newest.generation());
}

#[tokio::test(start_paused = true)]
async fn concurrent_401s_cost_one_fetch() {
    let (source, api, cache, client) = stage_over(Api::new().gated());
    cache.get(spec()).await.unwrap();
    api.revoke("token-1");
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let mut client = client.clone();
        calls.spawn(async move { get(&mut client, "/").await });
    }
    settle().await;
    assert_eq!(api.sends(), 50);
    api.open(100);
    assert_eq!(calls.join_all().await, [RECOVERED; 50]);
    assert_eq!((source.fetches(), api.sends()), (2, 100));
    let stats = cache.stats();
    assert_eq!((stats.rejections, stats.replays), (1, 50));
    assert_eq!(stats.rejection_limit_reached, 0);
    assert_eq!(source.requests()[1].reason(), FetchReason::Rejected);
}

#[tokio::test(start_paused = true)]
async fn same_token_again_is_not_replayed() {
    let (source, api, cache, mut client) = stage();
    source.set_answer(Answer::Text("forever"));
    api.revoke("forever");
    for _ in 0..20 {
        let (status, recovery) = get(&mut client, "/").await;
        assert_eq!(status, 401);
        let recovery = recovery.unwrap();
        assert!(["same_token", "rejection_limit_reached"].contains(&recovery));
        // The token stays in use.
        assert_eq!(cache.peek(spec()).unwrap().expose(), "forever");
    }
    assert_eq!((api.sends(), cache.stats().replays), (20, 0));
    assert_eq!(source.fetches(), 6);

    source.set_answer(Answer::Text("another"));
    advance(secs(31)).await;
    assert_eq!(get(&mut client, "/").await, RECOVERED);
}

#[tokio::test(start_paused = true)]
async fn second_401_is_returned_after_two_sends() {
    let (source, api, cache, mut client) = stage();
    assert_eq!(get(&mut client, "/refused").await, REJECTED_AGAIN);
    assert_eq!(api.tokens(), ["token-1", "token-2"]);
    assert_eq!((source.fetches(), cache.stats().replays), (2, 1));
    // The same request did not reject the second token.
    assert_eq!(cache.peek(spec()).unwrap().expose(), "token-2");
}

#[tokio::test(start_paused = true)]
async fn unreplayable_401_rejects_the_token_and_fetches_another() {
    async fn check<R, B>(arrange: fn(AuthLayer) -> AuthLayer<R>, body: fn() -> B)
    where
        R: ReplayPolicy<Request<B>>,
        B: 'static,
    {
        let (source, api, cache, _) = stage();
        let mut client = arrange(layer(&cache)).layer(api.clone());
        cache.get(spec()).await.unwrap();
        api.revoke("token-1");
        let source = source.gated();
        let rejected = call(&mut client, request_with("/", body())).await;
        assert_eq!(rejected, NOT_REPLAYABLE);
        assert!(cache.peek(spec()).is_none());
        // The fetch for the next request has been started.
        settle().await;
        assert_eq!((source.fetches(), api.sends()), (2, 1));
        source.open();
        assert_eq!(call(&mut client, request_with("/", body())).await, FINE);
        assert_eq!(api.tokens(), ["token-1", "token-2"]);
        assert_eq!((source.fetches(), cache.stats().replays), (2, 0));
    }
    check(|layer| layer, || OneWay).await;
    check(AuthLayer::without_replay, String::new).await;
}

#[tokio::test(start_paused = true)]
async fn first_401_is_returned_if_no_token_can_be_fetched() {
    let (source, api, cache, mut client) = stage();
    cache.get(spec()).await.unwrap();
    source.set_answer(Answer::fail(ErrorKind::InvalidGrant));
    let response = send(&mut client, request("/refused")).await.await.unwrap();
    assert_eq!(outcome(&response), (401, Some("no_token")));
    let Some(Recovery::NoToken(error)) = response.extensions().get() else {
        panic!("{:?}", response.extensions());
    };
    assert_eq!(error.kind(), ErrorKind::InvalidGrant);
    assert_eq!((source.fetches(), api.sends()), (2, 1));
    // The next caller gets the remembered error, and the rejected token is not sent again.
    let error = send(&mut client, request("/")).await.await.unwrap_err();
    assert_eq!(error.token().unwrap().kind(), ErrorKind::InvalidGrant);
    assert_eq!((source.fetches(), api.sends()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn replay_differs_from_the_request_only_in_its_token() {
    let (_, api, cache, mut client) = stage();
    for cold in [true, false] {
        if cold {
            cache.clear();
        }
        api.answer([401]);
        let body: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let mut request = Request::builder()
            .method(Method::PATCH)
            .uri(format!("{ORIGIN}/a%20b/../c?x=1&x=2"))
            .header("x-many", "one")
            .header("accept", "a/b")
            .header("x-many", "two")
            .header("x-bytes", HeaderValue::from_bytes(b"\xff\xfe").unwrap())
            .extension(Tag(7))
            .body(body.clone())
            .unwrap();
        *request.version_mut() = http::Version::HTTP_2;
        assert_eq!(call(&mut client, request).await, RECOVERED);
        let seen = api.requests();
        let [first, second] = &seen[seen.len() - 2..] else {
            panic!("{}", seen.len());
        };
        assert_eq!((&first.method, &first.uri), (&second.method, &second.uri));
        assert_eq!(first.version, second.version);
        assert!(first.body == body && second.body == body);
        assert_eq!((&first.tag, &second.tag), (&Some(Tag(7)), &first.tag));
        assert_ne!(first.token(), second.token());
        let others = |headers: &HeaderMap| {
            let mut headers = headers.clone();
            assert!(headers.remove(AUTHORIZATION).is_some());
            headers
        };
        assert_eq!(others(&first.headers), others(&second.headers));
        let many: Vec<_> = second.headers.get_all("x-many").iter().collect();
        assert_eq!(many, ["one", "two"]);
        assert!(second.headers[AUTHORIZATION].is_sensitive());
    }
}

#[tokio::test(start_paused = true)]
async fn authorization_of_the_caller_is_kept_and_its_401_returned() {
    let (source, api, cache, mut client) = stage();
    let authorized = |mut request: Request<String>| {
        let headers = request.headers_mut();
        headers.append(AUTHORIZATION, HeaderValue::from_static("Basic b25l"));
        headers.append("x-other", HeaderValue::from_static("between"));
        headers.append(AUTHORIZATION, HeaderValue::from_static("Digest two"));
        request
    };
    // No token is fetched for it, also not for a spec of the request.
    for request in [request("/refused"), own("/refused")] {
        assert_eq!(call(&mut client, authorized(request)).await, (401, None));
    }
    assert_eq!((source.fetches(), cache.stats().fetches), (0, 0));
    // Nor is a cached token sent.
    for _ in 0..3 {
        assert_eq!(get(&mut client, "/").await, FINE);
        let request = authorized(request("/refused"));
        assert_eq!(call(&mut client, request).await, (401, None));
    }
    let mut seen = api.requests();
    seen.retain(|seen| seen.uri.path() == "/refused");
    assert_eq!(seen.len(), 5);
    for seen in seen {
        assert_eq!(seen.authorization(), ["Basic b25l", "Digest two"]);
        assert_eq!(seen.headers.get_all("x-other").iter().count(), 1);
    }
    assert_eq!((source.fetches(), cache.stats().rejections), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn unlisted_origin_gets_no_token_and_rejects_none() {
    let (source, api, cache, mut client) = stage();
    cache.get(spec()).await.unwrap();
    for uri in [
        "https://api.example.evil/refused",
        "https://api.example:8443/refused",
        "http://api.example/refused",
    ] {
        let request = |body: &str| Request::get(uri).body(body.to_owned()).unwrap();
        assert_eq!(call(&mut client, request("")).await, (401, None), "{uri}");
        let seen = api.requests().pop().unwrap();
        assert!(seen.authorization().is_empty(), "{uri}");
        // A request with a spec of its own is not sent.
        let mut own = request("");
        own.extensions_mut().insert(tenant("own"));
        let error = send(&mut client, own).await.await.unwrap_err();
        let kind = error.token().unwrap().kind();
        assert_eq!(kind, ErrorKind::Configuration, "{uri}");
    }
    assert_eq!((source.fetches(), api.sends()), (1, 3));
    assert_eq!(cache.stats().rejections, 0);
}

#[tokio::test(start_paused = true)]
async fn constant_401s_cost_five_fetches_then_one_every_15_s() {
    let (source, api, cache, mut client) = stage();
    let mut passed = 0;
    for _ in 0..100 {
        match get(&mut client, "/refused").await {
            REJECTED_AGAIN => assert_eq!(passed, 0),
            LIMIT_REACHED => passed += 1,
            other => panic!("{other:?}"),
        }
        // Another endpoint with the same spec accepts the token all the while.
        assert_eq!(get(&mut client, "/healthy").await, FINE);
    }
    // The first token, and five more.
    assert_eq!((source.fetches(), passed), (6, 95));
    assert_eq!(cache.entries()[0].state, EntryState::RejectionLimitReached);
    assert_eq!(cache.stats().rejection_limit_reached, 95);

    for second in 1..=600 {
        advance(secs(1)).await;
        assert_eq!(get(&mut client, "/refused").await.0, 401);
        assert_eq!(source.fetches() - 6, second / 15, "after {second} s");
    }
    // Other keys are not affected.
    api.answer([401]);
    assert_eq!(call(&mut client, own("/healthy")).await, RECOVERED);
}

#[tokio::test(start_paused = true)]
async fn constant_401s_without_replay_cost_five_fetches() {
    let (source, _, _, mut client) = stage();
    for _ in 0..100 {
        let rejected = call(&mut client, request_with("/refused", OneWay)).await;
        assert_eq!(rejected.0, 401);
        assert_eq!(get(&mut client, "/healthy").await, FINE);
    }
    // The first token, and five more.
    assert_eq!(source.fetches(), 6);
}

#[tokio::test(start_paused = true)]
async fn revocation_every_second_is_always_recovered() {
    let (source, api, cache, mut client) = stage();
    get(&mut client, "/").await;
    for second in 1..=3_600 {
        api.revoke(format!("token-{second}"));
        assert_eq!(get(&mut client, "/").await, RECOVERED, "after {second} s");
        advance(secs(1)).await;
    }
    assert_eq!(source.fetches(), 3_601);
    assert_eq!(cache.stats().rejection_limit_reached, 0);
}

#[tokio::test(start_paused = true)]
async fn revocation_is_recovered_if_the_first_caller_is_cancelled() {
    let (source, api, cache, mut client) = stage();
    get(&mut client.clone(), "/").await;
    let source = source.gated();
    for second in 1..=60 {
        api.revoke(format!("token-{second}"));
        let mut first = task::spawn(send(&mut client.clone(), request("/")).await);
        let mut second = task::spawn(send(&mut client, request("/")).await);
        assert_pending!(first.poll());
        assert_pending!(second.poll());
        settle().await;
        drop(first);
        source.open();
        assert_eq!(outcome(&second.await.unwrap()), RECOVERED);
        advance(secs(1)).await;
    }
    assert_eq!(cache.stats().rejection_limit_reached, 0);
}

#[tokio::test(start_paused = true)]
async fn revocation_every_15_s_is_recovered_without_replay() {
    let (_, api, cache, _) = stage();
    let mut client = layer(&cache).without_replay().layer(api.clone());
    get(&mut client, "/").await;
    for round in 1..=240 {
        api.revoke(format!("token-{round}"));
        assert_eq!(get(&mut client, "/").await, NOT_REPLAYABLE);
        assert_eq!(get(&mut client, "/").await, FINE, "in round {round}");
        advance(secs(15)).await;
    }
    assert_eq!(cache.stats().rejection_limit_reached, 0);
}

#[tokio::test(start_paused = true)]
async fn rejection_of_a_requests_own_spec_keeps_the_routes_token() {
    let (source, api, cache, mut client) = stage();
    let of_route = cache.get(spec()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(call(&mut client, own("/")).await, FINE);
    }
    api.revoke("token-2");
    assert_eq!(call(&mut client, own("/")).await, RECOVERED);
    assert_eq!(cache.peek(&tenant("own")).unwrap().expose(), "token-3");
    let current = cache.peek(spec()).unwrap();
    assert_eq!(current.generation(), of_route.generation());
    let sent = ["token-2", "token-2", "token-2", "token-2", "token-3"];
    assert_eq!(api.tokens(), sent);
    assert_eq!((source.fetches(), cache.stats().rejections), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn reject_has_no_effect_on_a_newer_token() {
    let (_, _, cache, _) = stage();
    let first = cache.get(spec()).await.unwrap();
    assert!(cache.reject(&first));
    assert!(!cache.reject(&first));
    let second = cache.get(spec()).await.unwrap();
    assert!(!cache.reject(&first));
    let current = cache.peek(spec()).unwrap();
    assert_eq!(current.generation(), second.generation());
    // Nor if the entry was removed meanwhile.
    cache.remove(spec());
    let third = cache.get(spec()).await.unwrap();
    assert!(!cache.reject(&first) && !cache.reject(&second));
    assert!(cache.reject(&third));
    assert_eq!(cache.stats().rejections, 2);
}

#[tokio::test(start_paused = true)]
async fn rejection_during_a_background_refresh_waits_for_it() {
    let (source, api, _, mut client) = stage();
    // The token is stale after 75 s and expired after 90 s.
    source.set_answer(Answer::Token(Some(secs(100))));
    get(&mut client, "/").await;
    let source = source.gated();
    advance(secs(80)).await;
    get(&mut client, "/").await;
    settle().await;
    api.revoke("token-1");
    let mut rejected = task::spawn(send(&mut client, request("/")).await);
    assert_pending!(rejected.poll());
    advance(millis(10)).await;
    source.open();
    assert_eq!(outcome(&rejected.await.unwrap()), RECOVERED);
    assert_eq!(source.fetches(), 2);
}
