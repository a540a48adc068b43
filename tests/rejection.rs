//! What a 401 costs, and what comes of it.

mod support;

use http::{HeaderValue, Method, Request, header::AUTHORIZATION};
use support::{
    Answer, Api, ORIGIN, Source, Tag, cache, layer, millis, outcome, request, request_with, secs,
    send, settle, spec, tenant,
};
use tokio::{task::JoinSet, time::advance};
use tokio_test::{assert_pending, task};
use tower::Layer;
use tower_bearer::{ErrorKind, cache::EntryState, layer::Recovery, token::FetchReason};

/// A body that nobody can have twice.
struct OneWay;

#[tokio::test(start_paused = true)]
async fn a_late_401_for_an_old_token_costs_nothing() {
    let (source, api) = (Source::new(), Api::new().gated());
    let cache = cache(&source);
    cache.get(spec()).await.unwrap();
    let mut client = layer(&cache).layer(api.clone());
    api.answer([401]);
    let mut late = task::spawn(send(&mut client, request("/")).await);
    assert_pending!(late.poll());
    // Its 401 is on its way when the token is replaced.
    let newest = cache.refresh(spec()).await.unwrap();
    api.open(2);
    let response = late.await.unwrap();
    assert_eq!(outcome(&response), (200, Some("recovered")));
    assert_eq!(api.tokens(), ["token-1", "token-2"]);
    assert_eq!((source.fetches(), cache.stats().rejections), (2, 0));
    assert_eq!(
        cache.peek(spec()).unwrap().generation(),
        newest.generation()
    );
}

#[tokio::test(start_paused = true)]
async fn fifty_late_401s_cost_one_fetch() {
    let (source, api) = (Source::new(), Api::new().gated());
    let cache = cache(&source);
    cache.get(spec()).await.unwrap();
    api.revoke("token-1");
    let client = layer(&cache).layer(api.clone());
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let mut client = client.clone();
        calls.spawn(async move { outcome(&send(&mut client, request("/")).await.await.unwrap()) });
    }
    settle().await;
    assert_eq!(api.sends(), 50);
    api.open(100);
    assert_eq!(calls.join_all().await, [(200, Some("recovered")); 50]);
    assert_eq!((source.fetches(), api.sends()), (2, 100));
    let stats = cache.stats();
    assert_eq!(
        (
            stats.rejections,
            stats.replays,
            stats.rejection_limit_reached
        ),
        (1, 50, 0)
    );
    assert_eq!(source.requests()[1].reason(), FetchReason::Rejected);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_gives_the_same_token_again_causes_no_replay() {
    let source = Source::new().with_answer(Answer::Text("forever"));
    let api = Api::new();
    api.revoke("forever");
    let cache = cache(&source);
    let mut client = layer(&cache).layer(api.clone());
    for _ in 0..20 {
        let response = send(&mut client, request("/")).await.await.unwrap();
        let (status, recovery) = outcome(&response);
        assert_eq!(status, 401);
        assert!(matches!(
            recovery,
            Some("same_token" | "rejection_limit_reached")
        ));
        // It stays in service.
        assert_eq!(cache.peek(spec()).unwrap().expose(), "forever");
    }
    assert_eq!((api.sends(), cache.stats().replays), (20, 0));
    assert_eq!(source.fetches(), 6);

    // Until the source yields another.
    source.set_answer(Answer::Text("another"));
    advance(secs(31)).await;
    let response = send(&mut client, request("/")).await.await.unwrap();
    assert_eq!(outcome(&response), (200, Some("recovered")));
}

#[tokio::test(start_paused = true)]
async fn a_second_401_is_the_callers_after_exactly_two_sends() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    let mut client = layer(&cache).layer(api.clone());
    let response = send(&mut client, request("/refused")).await.await.unwrap();
    assert_eq!(outcome(&response), (401, Some("rejected_again")));
    assert_eq!(api.tokens(), ["token-1", "token-2"]);
    assert_eq!((source.fetches(), cache.stats().replays), (2, 1));
    // The second token was not taken out of service by the same request.
    assert_eq!(cache.peek(spec()).unwrap().expose(), "token-2");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_can_not_be_had_twice_leaves_the_401_and_the_token_goes() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    let mut client = layer(&cache).layer(api.clone());
    cache.get(spec()).await.unwrap();
    api.revoke("token-1");
    let source = source.gated();
    let response = send(&mut client, request_with("/", OneWay))
        .await
        .await
        .unwrap();
    assert_eq!(outcome(&response), (401, Some("not_replayable")));
    assert!(cache.peek(spec()).is_none());
    // The next one is on its way already.
    settle().await;
    assert_eq!((source.fetches(), api.sends()), (2, 1));
    source.open();
    let response = send(&mut client, request_with("/", OneWay))
        .await
        .await
        .unwrap();
    assert_eq!(outcome(&response), (200, None));
    assert_eq!(api.tokens(), ["token-1", "token-2"]);
}

#[tokio::test(start_paused = true)]
async fn without_replay_nothing_is_sent_twice_and_the_token_goes_all_the_same() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    let mut client = layer(&cache).without_replay().layer(api.clone());
    cache.get(spec()).await.unwrap();
    api.revoke("token-1");
    let response = send(&mut client, request("/")).await.await.unwrap();
    assert_eq!(outcome(&response), (401, Some("not_replayable")));
    assert!(cache.peek(spec()).is_none());
    let response = send(&mut client, request("/")).await.await.unwrap();
    assert_eq!(outcome(&response), (200, None));
    assert_eq!(api.tokens(), ["token-1", "token-2"]);
    assert_eq!((source.fetches(), cache.stats().replays), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn when_no_other_token_can_be_had_the_first_401_is_the_callers() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    let mut client = layer(&cache).layer(api.clone());
    cache.get(spec()).await.unwrap();
    source.set_answer(Answer::fail(ErrorKind::InvalidGrant));
    let response = send(&mut client, request("/refused")).await.await.unwrap();
    assert_eq!(outcome(&response), (401, Some("no_token")));
    let Some(Recovery::NoToken(error)) = response.extensions().get() else {
        panic!("{:?}", response.extensions());
    };
    assert_eq!(error.kind(), ErrorKind::InvalidGrant);
    assert_eq!((source.fetches(), api.sends()), (2, 1));
    // The rejected token is not sent again; the next caller gets the remembered error, and nothing is sent.
    let error = send(&mut client, request("/")).await.await.unwrap_err();
    assert_eq!(error.token().unwrap().kind(), ErrorKind::InvalidGrant);
    assert_eq!((source.fetches(), api.sends()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_replay_is_the_same_request_with_another_token() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    let mut client = layer(&cache).layer(api.clone());
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
        let response = send(&mut client, request).await.await.unwrap();
        assert_eq!(outcome(&response), (200, Some("recovered")));
        let seen = api.requests();
        let [first, second] = &seen[seen.len() - 2..] else {
            panic!("{}", seen.len());
        };
        assert_eq!((&first.method, &first.uri), (&second.method, &second.uri));
        assert_eq!(first.version, second.version);
        assert!(first.body == body && second.body == body);
        assert_eq!((&first.tag, &second.tag), (&Some(Tag(7)), &Some(Tag(7))));
        assert_ne!(first.token(), second.token());
        let others = |headers: &http::HeaderMap| {
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
async fn the_callers_own_authorization_lines_arrive_in_order_and_their_401_passes() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    let mut client = layer(&cache).layer(api.clone());
    let own = || {
        let mut request = request("/refused");
        let headers = request.headers_mut();
        headers.append(AUTHORIZATION, HeaderValue::from_static("Basic b25l"));
        headers.append("x-other", HeaderValue::from_static("between"));
        headers.append(AUTHORIZATION, HeaderValue::from_static("Digest two"));
        request
    };
    // With an empty cache nothing is fetched for it.
    let response = send(&mut client, own()).await.await.unwrap();
    assert_eq!(outcome(&response), (401, None));
    assert_eq!((source.fetches(), cache.stats().fetches), (0, 0));
    // With a token at hand, on a handle that has a copy of it, nothing changes.
    for _ in 0..3 {
        let response = send(&mut client, request("/")).await.await.unwrap();
        assert_eq!(outcome(&response), (200, None));
        let response = send(&mut client, own()).await.await.unwrap();
        assert_eq!(outcome(&response), (401, None));
    }
    let theirs: Vec<_> = api
        .requests()
        .into_iter()
        .filter(|seen| seen.uri.path() == "/refused")
        .collect();
    assert_eq!(theirs.len(), 4);
    for seen in theirs {
        assert_eq!(seen.authorization(), ["Basic b25l", "Digest two"]);
        assert_eq!(seen.headers.get_all("x-other").iter().count(), 1);
    }
    assert_eq!((source.fetches(), cache.stats().rejections), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_callers_own_authorization_wins_over_its_own_spec() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    let mut client = layer(&cache).layer(api.clone());
    let mut request = request("/refused");
    request.extensions_mut().insert(tenant("own"));
    request
        .headers_mut()
        .insert(AUTHORIZATION, HeaderValue::from_static("Basic b25l"));
    let response = send(&mut client, request).await.await.unwrap();
    assert_eq!(outcome(&response), (401, None));
    assert_eq!(api.requests()[0].authorization(), ["Basic b25l"]);
    assert_eq!(source.fetches(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_401_from_an_unlisted_origin_is_nothing_to_us() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    let mut client = layer(&cache).layer(api.clone());
    cache.get(spec()).await.unwrap();
    for uri in [
        "https://api.example.evil/refused",
        "https://api.example:8443/refused",
        "http://api.example/refused",
    ] {
        let elsewhere = Request::get(uri).body(String::new()).unwrap();
        let response = send(&mut client, elsewhere).await.await.unwrap();
        assert_eq!(outcome(&response), (401, None), "{uri}");
        assert!(
            api.requests().last().unwrap().authorization().is_empty(),
            "{uri}"
        );
    }
    assert_eq!(
        (source.fetches(), cache.stats().rejections, api.sends()),
        (1, 0, 3)
    );
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_always_answers_401_costs_five_fetches_and_one_more_each_15_seconds() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    let mut client = layer(&cache).layer(api.clone());
    let mut passed = 0;
    for _ in 0..100 {
        let response = send(&mut client, request("/refused")).await.await.unwrap();
        match outcome(&response) {
            (401, Some("rejected_again")) => assert_eq!(passed, 0),
            (401, Some("rejection_limit_reached")) => passed += 1,
            other => panic!("{other:?}"),
        }
        // The healthy endpoint of the same key is served all the while.
        let response = send(&mut client, request("/healthy")).await.await.unwrap();
        assert_eq!(outcome(&response), (200, None));
    }
    // The first token, and five more.
    assert_eq!((source.fetches(), passed), (6, 95));
    assert_eq!(cache.entries()[0].state, EntryState::RejectionLimitReached);
    assert_eq!(cache.stats().rejection_limit_reached, 95);

    let before = source.fetches();
    for second in 1..=600 {
        advance(secs(1)).await;
        let response = send(&mut client, request("/refused")).await.await.unwrap();
        assert_eq!(response.status(), 401);
        assert_eq!(source.fetches() - before, second / 15, "after {second} s");
    }
    // Other keys are not affected.
    let mut other = request("/healthy");
    other.extensions_mut().insert(tenant("other"));
    api.answer([401]);
    let response = send(&mut client, other).await.await.unwrap();
    assert_eq!(outcome(&response), (200, Some("recovered")));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_always_answers_401_to_what_can_not_be_sent_twice_is_bounded_too() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    let mut client = layer(&cache).layer(api.clone());
    for _ in 0..100 {
        let response = send(&mut client, request_with("/refused", OneWay))
            .await
            .await
            .unwrap();
        assert_eq!(response.status(), 401);
        let response = send(&mut client, request("/healthy")).await.await.unwrap();
        assert_eq!(outcome(&response), (200, None));
    }
    // The first token, and five more.
    assert_eq!(source.fetches(), 6);
}

#[tokio::test(start_paused = true)]
async fn real_revocations_every_second_for_an_hour_always_recover() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    let mut client = layer(&cache).layer(api.clone());
    send(&mut client, request("/")).await.await.unwrap();
    for second in 1..=3_600 {
        api.revoke(format!("token-{second}"));
        let response = send(&mut client, request("/")).await.await.unwrap();
        assert_eq!(
            outcome(&response),
            (200, Some("recovered")),
            "after {second} s"
        );
        advance(secs(1)).await;
    }
    assert_eq!(source.fetches(), 3_601);
    assert_eq!(cache.stats().rejection_limit_reached, 0);
}

#[tokio::test(start_paused = true)]
async fn real_revocations_recover_though_whoever_noticed_them_first_goes_away() {
    let source = Source::new();
    let api = Api::new();
    let cache = cache(&source);
    let client = layer(&cache).layer(api.clone());
    send(&mut client.clone(), request("/")).await.await.unwrap();
    let source = source.gated();
    for second in 1..=60 {
        api.revoke(format!("token-{second}"));
        let mut first = task::spawn(send(&mut client.clone(), request("/")).await);
        let mut second = task::spawn(send(&mut client.clone(), request("/")).await);
        assert_pending!(first.poll());
        assert_pending!(second.poll());
        settle().await;
        drop(first);
        source.open();
        let response = second.await.unwrap();
        assert_eq!(outcome(&response), (200, Some("recovered")));
        advance(secs(1)).await;
    }
    assert_eq!(cache.stats().rejection_limit_reached, 0);
}

#[tokio::test(start_paused = true)]
async fn real_revocations_recover_without_replay_too() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    let mut client = layer(&cache).without_replay().layer(api.clone());
    send(&mut client, request("/")).await.await.unwrap();
    for round in 1..=240 {
        api.revoke(format!("token-{round}"));
        let response = send(&mut client, request("/")).await.await.unwrap();
        assert_eq!(outcome(&response), (401, Some("not_replayable")));
        let response = send(&mut client, request("/")).await.await.unwrap();
        assert_eq!(outcome(&response), (200, None), "in round {round}");
        advance(secs(15)).await;
    }
    assert_eq!(cache.stats().rejection_limit_reached, 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_with_its_own_spec_loses_its_own_token_and_not_the_routes() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    let mut client = layer(&cache).layer(api.clone());
    let routes = cache.get(spec()).await.unwrap();
    let own = || {
        let mut request = request("/");
        request.extensions_mut().insert(tenant("own"));
        request
    };
    for _ in 0..3 {
        send(&mut client, own()).await.await.unwrap();
    }
    api.revoke("token-2");
    let response = send(&mut client, own()).await.await.unwrap();
    assert_eq!(outcome(&response), (200, Some("recovered")));
    assert_eq!(cache.peek(&tenant("own")).unwrap().expose(), "token-3");
    assert_eq!(
        cache.peek(spec()).unwrap().generation(),
        routes.generation()
    );
    assert_eq!(
        api.tokens(),
        ["token-2", "token-2", "token-2", "token-2", "token-3"]
    );
    assert_eq!((source.fetches(), cache.stats().rejections), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_spec_of_ones_own_with_an_unlisted_origin_is_an_error_and_nothing_is_sent() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    let mut client = layer(&cache).layer(api.clone());
    let mut request = Request::get("https://elsewhere.example/")
        .body(String::new())
        .unwrap();
    request.extensions_mut().insert(tenant("own"));
    let error = send(&mut client, request).await.await.unwrap_err();
    assert_eq!(error.token().unwrap().kind(), ErrorKind::Configuration);
    assert_eq!((source.fetches(), api.sends()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn rejecting_by_hand_compares_generations() {
    let source = Source::new();
    let cache = cache(&source);
    let first = cache.get(spec()).await.unwrap();
    assert!(cache.reject(&first));
    assert!(!cache.reject(&first));
    let second = cache.get(spec()).await.unwrap();
    assert!(!cache.reject(&first));
    assert_eq!(
        cache.peek(spec()).unwrap().generation(),
        second.generation()
    );
    // Removed and fetched anew, it is still not the one that was sent.
    cache.remove(spec());
    let third = cache.get(spec()).await.unwrap();
    assert!(!cache.reject(&first) && !cache.reject(&second));
    assert!(cache.reject(&third));
    assert_eq!(cache.stats().rejections, 2);
}

#[tokio::test(start_paused = true)]
async fn a_401_during_a_background_refresh_waits_for_that_refresh() {
    // Stale at 75 s, at its end at 90 s.
    let source = Source::new().with_lifetime(secs(100));
    let api = Api::new();
    let cache = cache(&source);
    let mut client = layer(&cache).layer(api.clone());
    send(&mut client, request("/")).await.await.unwrap();
    let source = source.gated();
    advance(secs(80)).await;
    send(&mut client, request("/")).await.await.unwrap();
    settle().await;
    api.revoke("token-1");
    let mut refused = task::spawn(send(&mut client, request("/")).await);
    assert_pending!(refused.poll());
    advance(millis(10)).await;
    source.open();
    assert_eq!(outcome(&refused.await.unwrap()), (200, Some("recovered")));
    assert_eq!(source.fetches(), 2);
}
