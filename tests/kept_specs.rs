//! A spec that a program keeps finds its token by itself: never another one than the cache would give, and for no longer.

mod support;

use std::{collections::HashMap, ops::Range};

use http::Request;
use support::{
    Answer, Api, HOUR, PLACE, Source, cache, layer, outcome, request, secs, send, settle, tenant,
};
use tokio::time::advance;
use tokio_test::{assert_pending, task};
use tower::Layer;
use tower_bearer::{TokenCache, TokenSpec};

fn request_for(spec: &TokenSpec) -> Request<String> {
    let mut request = request("/");
    request.extensions_mut().insert(spec.clone());
    request
}

/// A cache for so many, and nearly all of them there. The first that come are the last to go, used or not; who comes now is not.
async fn full_cache(source: &Source, max_entries: usize) -> TokenCache {
    let cache = TokenCache::builder(source.clone())
        .with_max_entries(max_entries)
        .build();
    others_come(&cache, 0..max_entries * 10).await;
    cache
}

async fn others_come(cache: &TokenCache, others: Range<usize>) {
    for other in others {
        cache.get(&tenant(other)).await.unwrap();
    }
}

async fn text(cache: &TokenCache, spec: &TokenSpec) -> String {
    cache.get(spec).await.unwrap().expose().to_owned()
}

#[tokio::test(start_paused = true)]
async fn it_gets_the_token_in_service_and_none_from_before() {
    let source = Source::new();
    let cache = cache(&source);
    let kept = tenant("acme");
    assert_eq!(text(&cache, &kept).await, "token-1");
    assert_eq!(text(&cache, &kept).await, "token-1");
    cache.refresh(&kept).await.unwrap();
    assert_eq!(text(&cache, &kept).await, "token-2");
    cache.reject(&cache.peek(&kept).unwrap());
    assert_eq!(text(&cache, &kept).await, "token-3");
    cache.remove(&kept);
    assert_eq!(text(&cache, &kept).await, "token-4");
    cache.clear();
    assert_eq!(text(&cache, &kept).await, "token-5");
    assert_eq!(source.fetches(), 5);
    assert_eq!(cache.stats().hits, 2);
}

#[tokio::test(start_paused = true)]
async fn it_is_refreshed_ahead_of_its_end_and_never_gets_an_expired_token() {
    let source = Source::new().usually(Answer::Token(Some(HOUR)));
    let cache = cache(&source);
    let kept = tenant("acme");
    text(&cache, &kept).await;
    advance(HOUR - secs(60)).await;
    assert_eq!(text(&cache, &kept).await, "token-1");
    settle().await;
    assert_eq!(text(&cache, &kept).await, "token-2");
    advance(HOUR).await;
    assert_eq!(text(&cache, &kept).await, "token-3");
}

#[tokio::test(start_paused = true)]
async fn its_refusal_is_recovered_from() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    let mut client = layer(&cache).layer(api.clone());
    let kept = tenant("acme");
    for _ in 0..2 {
        let response = send(&mut client, request_for(&kept)).await.await.unwrap();
        assert_eq!(outcome(&response), (200, None));
    }
    api.revoke("token-1");
    let response = send(&mut client, request_for(&kept)).await.await.unwrap();
    assert_eq!(outcome(&response), (200, Some("recovered")));
    assert_eq!(api.tokens(), ["token-1", "token-1", "token-1", "token-2"]);
    let stats = cache.stats();
    assert_eq!((stats.fetches, stats.rejections, stats.replays), (2, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn two_caches_that_are_asked_with_it_each_give_their_own_token() {
    let sources = [Source::new(), Source::new()];
    let caches = [cache(&sources[0]), cache(&sources[1])];
    let kept = tenant("acme");
    let mut generations = Vec::new();
    for cache in &caches {
        generations.push(cache.get(&kept).await.unwrap().generation());
    }
    assert_ne!(generations[0], generations[1]);
    for _ in 0..3 {
        for (cache, generation) in caches.iter().zip(&generations) {
            assert_eq!(cache.get(&kept).await.unwrap().generation(), *generation);
        }
    }
    // The one forgets its token; the other keeps its own.
    caches[1].remove(&kept);
    assert_eq!(
        caches[0].get(&kept).await.unwrap().generation(),
        generations[0]
    );
    assert_ne!(
        caches[1].get(&kept).await.unwrap().generation(),
        generations[1]
    );
    let mut clients = caches
        .each_ref()
        .map(|cache| layer(cache).layer(Api::new()));
    for client in &mut clients {
        send(client, request_for(&kept)).await.await.unwrap();
    }
    assert_eq!([sources[0].fetches(), sources[1].fetches()], [1, 2]);
}

/// Its hits go past the map, which must hear of them all the same.
#[tokio::test(start_paused = true)]
async fn it_stays_while_others_come_and_go() {
    let source = Source::new();
    let cache = full_cache(&source, 100).await;
    let kept = tenant("acme");
    let mut client = layer(&cache).layer(Api::new());
    for other in 1_000..2_000 {
        cache.get(&tenant(other)).await.unwrap();
        send(&mut client, request_for(&kept)).await.await.unwrap();
        cache.get(&kept).await.unwrap();
    }
    assert!(cache.stats().evictions > 1_500);
    assert_eq!(source.fetches(), 2_001, "it was fetched again");
}

#[tokio::test(start_paused = true)]
async fn where_it_was_evicted_it_is_fetched_again() {
    let source = Source::new();
    let cache = full_cache(&source, 10).await;
    let kept = tenant("acme");
    assert_eq!(text(&cache, &kept).await, "token-101");
    others_come(&cache, 100..200).await;
    assert!(cache.peek(&kept).is_none(), "it was not evicted");
    assert_eq!(text(&cache, &kept).await, "token-202");
}

#[tokio::test(start_paused = true)]
async fn an_equal_one_that_is_built_anew_gets_the_same_token() {
    let source = Source::new();
    let cache = cache(&source);
    let kept = tenant("acme");
    assert_eq!(text(&cache, &kept).await, "token-1");
    assert_eq!(text(&cache, &tenant("acme")).await, "token-1");
    drop(kept);
    assert_eq!(text(&cache, &tenant("acme")).await, "token-1");
}

/// Nothing keeps the slot of a request that is under way.
#[tokio::test(start_paused = true)]
async fn its_refusal_is_recovered_from_when_its_token_was_evicted_meanwhile() {
    let (source, api) = (Source::new(), Api::new().gated());
    let cache = full_cache(&source, 10).await;
    let kept = tenant("acme");
    let mut client = layer(&cache).layer(api.clone());
    api.revoke("token-101");
    let mut late = task::spawn(send(&mut client, request_for(&kept)).await);
    assert_pending!(late.poll());
    settle().await;
    assert_pending!(late.poll());
    assert_eq!(api.sends(), 1);
    others_come(&cache, 100..200).await;
    assert!(cache.peek(&kept).is_none(), "it was not evicted");
    api.open(2);
    assert_eq!(outcome(&late.await.unwrap()), (200, Some("recovered")));
    assert_eq!(api.tokens(), ["token-101", "token-202"]);
    let stats = cache.stats();
    assert_eq!(
        (stats.fetches, stats.rejections, stats.replays),
        (202, 0, 1)
    );
}

/// As threads have that each keep their own.
#[tokio::test(start_paused = true)]
async fn equal_ones_that_are_kept_apart_never_get_what_is_out_of_service() {
    let (source, api) = (Source::new(), Api::new());
    let cache = cache(&source);
    let kept: Vec<TokenSpec> = (0..4).map(|_| tenant("acme")).collect();
    let client = || layer(&cache).layer(api.clone());
    let mut clients: Vec<_> = kept.iter().map(|_| client()).collect();
    let mut refused = 0;
    for turn in 0..200 {
        for i in 0..kept.len() {
            // Each comes first once in a while.
            let i = (turn + i) % kept.len();
            let sent = send(&mut clients[i], request_for(&kept[i])).await;
            assert_eq!(sent.await.unwrap().status(), 200);
            let newest = format!("token-{}", source.fetches());
            assert_eq!(api.tokens().last(), Some(&newest));
        }
        match turn % 41 {
            10 => {
                cache.refresh(&kept[0]).await.unwrap();
            }
            20 => {
                api.revoke(cache.peek(&kept[1]).unwrap().expose());
                refused += 1;
            }
            30 => {
                cache.remove(&kept[2]);
            }
            _ => {}
        }
    }
    let stats = cache.stats();
    assert_eq!((stats.rejections, stats.replays), (refused, refused));
    // The first, and one for each of what happened.
    assert_eq!(source.fetches() as u64, 1 + 3 * refused);
}

#[tokio::test(start_paused = true)]
async fn it_shows_nobody_the_token_that_hangs_on_it() {
    let cache = cache(&Source::new());
    let kept = tenant("acme");
    let token = text(&cache, &kept).await;
    let shown = format!("{kept:?} {:?}", cache.entries());
    assert!(shown.contains("acme") && !shown.contains(&token), "{shown}");
}

/// A spec is a key, of a program's own maps too, and looks like one to lints.
#[test]
fn it_is_a_key_as_before() {
    let mut map = HashMap::new();
    map.insert(tenant("acme"), PLACE);
    assert_eq!(map.get(&tenant("acme")), Some(&PLACE));
}
