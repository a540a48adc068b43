//! Tests challenges that require claims, scopes or a step-up, and layers with a custom classifier or replay predicate.

mod support;

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use proptest::prelude::*;
use support::{Answer, ORIGIN, Source, cache, outcome, request, secs, send, settle, spec, tenant};
use tokio::{sync::Semaphore, task::JoinSet, time::advance};
use tokio_test::{assert_pending, task};
use tower::{Layer, util::BoxCloneService};
use tower_bearer::{
    AuthLayer, ErrorKind, Route, TokenCache, TokenSpec,
    layer::{
        Auth, Recovery, Verdict,
        replay::{ReplayBody, ReplayPolicy},
    },
    token::FetchReason,
};

type Outcome = (u16, Option<&'static str>);
/// The scopes and the claims of a token request.
type Asked = (String, Option<String>);
type Boxed = BoxCloneService<Request<String>, Response<()>, Infallible>;

const FINE: Outcome = (200, None);
const RECOVERED: Outcome = (200, Some("recovered"));

/// An API that knows which claims and scopes each token was requested with.
///
/// `/claims/x` requires the claims `{"x":1}`, `/scope/x+y` the scopes `x` and `y`, `/greedy` a new scope each time, `/step-up` a
/// user, and `/status/x` responds with that status. Revoked tokens are rejected.
#[derive(Clone)]
struct Api(Arc<Inside>);

struct Inside {
    source: Source,
    /// The numbers of the tokens that were sent.
    tokens: Mutex<Vec<usize>>,
    revoked: Mutex<Vec<usize>>,
    gate: Semaphore,
    is_gated: AtomicBool,
}

impl Api {
    fn new(source: &Source) -> Self {
        Self(Arc::new(Inside {
            source: source.clone(),
            tokens: Mutex::default(),
            revoked: Mutex::default(),
            gate: Semaphore::new(0),
            is_gated: AtomicBool::new(false),
        }))
    }

    /// Makes each response wait for [`Self::open`].
    fn close(&self) {
        self.0.is_gated.store(true, SeqCst);
    }

    fn open(&self, responses: usize) {
        self.0.gate.add_permits(responses);
    }

    fn revoke(&self, token: usize) {
        self.0.revoked.lock().unwrap().push(token);
    }

    fn tokens(&self) -> Vec<usize> {
        self.0.tokens.lock().unwrap().clone()
    }

    fn service(&self) -> Boxed {
        let api = self.clone();
        Boxed::new(tower::service_fn(move |request: Request<String>| {
            let api = api.clone();
            // The response is chosen when the request arrives.
            let response = api.respond(&request);
            async move {
                if api.0.is_gated.load(SeqCst) {
                    api.0.gate.acquire().await.unwrap().forget();
                }
                Ok(response)
            }
        }))
    }

    fn respond(&self, request: &Request<String>) -> Response<()> {
        let header = request.headers()[AUTHORIZATION].to_str().unwrap();
        let token = header.strip_prefix("Bearer token-").unwrap();
        let token: usize = token.parse().unwrap();
        let sends = {
            let mut tokens = self.0.tokens.lock().unwrap();
            tokens.push(token);
            tokens.len()
        };
        if self.0.revoked.lock().unwrap().contains(&token) {
            return challenge(401, "error=\"invalid_token\"");
        }
        let asked = &self.0.source.requests()[token - 1];
        let scopes: Vec<_> = asked.spec().iter_scopes().collect();
        let mut parts = request.uri().path().splitn(3, '/').skip(1);
        let (kind, name) = (parts.next().unwrap(), parts.next().unwrap_or_default());
        match kind {
            "claims" if asked.claims() != Some(&claims(name)) => {
                let claims = STANDARD.encode(claims(name));
                let parameters = format!("error=\"insufficient_claims\", claims=\"{claims}\"");
                challenge(401, &parameters)
            }
            "scope" if !name.split('+').all(|scope| scopes.contains(&scope)) => {
                scope_challenge(&name.replace('+', " "))
            }
            "greedy" => scope_challenge(&format!("new-{sends}")),
            "step-up" => challenge(
                401,
                "error=\"insufficient_user_authentication\", acr_values=\"gold\", max_age=\"5\"",
            ),
            "status" => status(name.parse().unwrap()),
            _ => Response::new(()),
        }
    }
}

fn claims(name: &str) -> String {
    format!("{{\"{name}\":1}}")
}

fn status(status: u16) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status.try_into().unwrap();
    response
}

fn challenge(code: u16, parameters: &str) -> Response<()> {
    let mut response = status(code);
    let value = format!("Bearer {parameters}").parse().unwrap();
    response.headers_mut().insert(WWW_AUTHENTICATE, value);
    response
}

fn scope_challenge(scopes: &str) -> Response<()> {
    let parameters = format!("error=\"insufficient_scope\", scope=\"{scopes}\"");
    challenge(403, &parameters)
}

/// Returns a layer whose route allows these scopes in addition.
fn layer<const N: usize>(cache: &TokenCache, allowed: [&str; N]) -> AuthLayer {
    let route = Route::new(ORIGIN, spec().clone()).with_allowed_scopes(allowed);
    AuthLayer::new(cache.clone()).with_route(route).unwrap()
}

/// Returns a client whose route allows two more scopes.
fn stage() -> (Source, Api, TokenCache, Auth<Boxed>) {
    stage_allowing(["write", "delete"])
}

fn stage_allowing<const N: usize>(allowed: [&str; N]) -> (Source, Api, TokenCache, Auth<Boxed>) {
    let source = Source::new();
    let api = Api::new(&source);
    let cache = cache(&source);
    let client = layer(&cache, allowed).layer(api.service());
    (source, api, cache, client)
}

async fn call<R>(client: &mut Auth<Boxed, R>, request: Request<String>) -> Response<()>
where
    R: ReplayPolicy<Request<String>>,
{
    send(client, request).await.await.unwrap()
}

async fn get<R: ReplayPolicy<Request<String>>>(client: &mut Auth<Boxed, R>, path: &str) -> Outcome {
    outcome(&call(client, request(path)).await)
}

/// Sends a request with a spec of its own.
async fn get_as(client: &mut Auth<Boxed>, path: &str, own: TokenSpec) -> Outcome {
    let mut request = request(path);
    request.extensions_mut().insert(own);
    outcome(&call(client, request).await)
}

/// Returns the token requests so far.
fn asked(source: &Source) -> Vec<Asked> {
    let asked = source.requests();
    let each = asked.iter().map(|request| {
        let scopes: Vec<_> = request.spec().iter_scopes().collect();
        (scopes.join(" "), request.claims().map(str::to_owned))
    });
    each.collect()
}

fn plain(scopes: &str) -> Asked {
    (scopes.to_owned(), None)
}

fn with_claims(name: &str) -> Asked {
    ("read".to_owned(), Some(claims(name)))
}

/// Sends 50 concurrent requests with the first token. The responses arrive once all were sent.
async fn crowd(client: &Auth<Boxed>, api: &Api, path: &'static str) -> Vec<Outcome> {
    api.close();
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let mut client = client.clone();
        calls.spawn(async move { get(&mut client, path).await });
    }
    settle().await;
    assert_eq!(api.tokens(), [1; 51]);
    api.open(1_000);
    calls.join_all().await
}

#[tokio::test(start_paused = true)]
async fn required_claims_are_sent_with_all_later_fetches() {
    let (source, api, cache, mut client) = stage();
    let mut other = client.clone();
    assert_eq!(get(&mut other, "/").await, FINE);
    assert_eq!(get(&mut client, "/claims/a").await, RECOVERED);
    assert_eq!(asked(&source), [plain("read"), with_claims("a")]);
    assert_eq!(source.requests()[1].reason(), FetchReason::Rejected);
    assert_eq!(cache.stats().rejections, 1);
    // Other handles use the token too.
    assert_eq!(get(&mut other, "/").await, FINE);
    assert_eq!(get(&mut other, "/claims/a").await, FINE);
    assert_eq!(api.tokens(), [1, 1, 2, 2, 2]);
    // An expired and a rejected token are replaced with the same claims.
    advance(secs(3600)).await;
    assert_eq!(get(&mut other, "/").await, FINE);
    api.revoke(3);
    assert_eq!(get(&mut client, "/").await, RECOVERED);
    assert_eq!(asked(&source)[2..], [with_claims("a"), with_claims("a")]);
    // Other claims replace them.
    assert_eq!(get(&mut client, "/claims/b").await, RECOVERED);
    assert_eq!(asked(&source)[4..], [with_claims("b")]);
}

#[tokio::test(start_paused = true)]
async fn claims_are_dropped_if_the_provider_refuses_them() {
    let refusals = [
        ErrorKind::InvalidGrant,
        ErrorKind::InvalidScope,
        ErrorKind::AccessDenied,
        ErrorKind::InteractionRequired,
    ];
    // Without the claims, the next token is fetched at once. After an outage, the claims are requested again.
    let refusals = refusals.map(|kind| (kind, 0, "/", plain("read")));
    let outage = (ErrorKind::Timeout, 2, "/claims/a", with_claims("a"));
    for (kind, pause, path, last) in refusals.into_iter().chain([outage]) {
        let (source, _, _, mut client) = stage();
        assert_eq!(get(&mut client, "/").await, FINE);
        source.push_answer(Answer::fail(kind));
        let failed = get(&mut client, "/claims/a").await;
        assert_eq!(failed, (401, Some("no_token")), "{kind}");
        advance(secs(pause)).await;
        assert_eq!(get(&mut client, path).await, FINE, "{kind}");
        let expected = [plain("read"), with_claims("a"), last];
        assert_eq!(asked(&source), expected, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn claims_that_are_always_refused_cost_ten_fetches() {
    let (source, _, _, mut client) = stage();
    for _ in 0..50 {
        assert_eq!(get(&mut client, "/").await.0, 200);
        source.push_answer(Answer::fail(ErrorKind::AccessDenied));
        assert_eq!(get(&mut client, "/claims/a").await.0, 401);
        source.clear_answers();
    }
    // The first, and five times one with claims and one without.
    assert_eq!(source.fetches(), 11);
    let limited = get(&mut client, "/claims/a").await;
    assert_eq!(limited, (401, Some("rejection_limit_reached")));
}

#[tokio::test(start_paused = true)]
async fn late_claims_are_sent_only_if_no_other_token_has_arrived() {
    for is_replaced in [false, true] {
        let (source, api, cache, mut client) = stage();
        api.close();
        let token = cache.get(spec()).await.unwrap();
        let mut late = task::spawn(send(&mut client, request("/claims/a")).await);
        assert_pending!(late.poll());
        // Another caller rejects the token without claims, or replaces it.
        if is_replaced {
            cache.refresh(spec()).await.unwrap();
        } else {
            assert!(cache.reject(&token));
        }
        api.open(2);
        let (expected, second, rejections) = match is_replaced {
            false => (RECOVERED, with_claims("a"), 1),
            // The challenge for the newer token is returned.
            true => ((401, Some("unsatisfiable")), plain("read"), 0),
        };
        assert_eq!(outcome(&late.await.unwrap()), expected);
        assert_eq!(asked(&source), [plain("read"), second]);
        assert_eq!(cache.stats().rejections, rejections);
        assert_eq!(api.tokens(), [1, 2]);
        assert_eq!(cache.peek(spec()).unwrap().expose(), "token-2");
    }
}

#[tokio::test(start_paused = true)]
async fn claims_are_fetched_also_without_a_replay() {
    let (source, api, cache, _) = stage();
    let mut client = layer(&cache, []).without_replay().layer(api.service());
    let rejected = get(&mut client, "/claims/a").await;
    assert_eq!(rejected, (401, Some("not_replayable")));
    assert_eq!(get(&mut client, "/claims/a").await, FINE);
    assert_eq!(asked(&source), [plain("read"), with_claims("a")]);
}

#[tokio::test(start_paused = true)]
async fn concurrent_challenges_cost_one_fetch() {
    for (path, rejections) in [("/claims/a", 1), ("/scope/write", 0)] {
        let (source, api, cache, mut client) = stage();
        get(&mut client, "/").await;
        let outcomes = crowd(&client, &api, path).await;
        assert_eq!(outcomes, [RECOVERED; 50], "{path}");
        assert_eq!((source.fetches(), api.tokens().len()), (2, 101), "{path}");
        let stats = cache.stats();
        assert_eq!((stats.rejections, stats.replays), (rejections, 50));
        assert_eq!(stats.rejection_limit_reached, 0, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn fetch_in_progress_does_not_satisfy_a_challenge() {
    // The refresh has not got the claims, so its caller also gets the token that has. A wider spec is another entry.
    for (path, refreshed) in [("/claims/a", "token-3"), ("/scope/write", "token-2")] {
        let (source, api, cache, mut client) = stage();
        api.close();
        cache.get(spec()).await.unwrap();
        let source = source.gated();
        let mut challenged = task::spawn(send(&mut client, request(path)).await);
        assert_pending!(challenged.poll());
        let refresh = {
            let cache = cache.clone();
            tokio::spawn(async move { cache.refresh(spec()).await })
        };
        settle().await;
        assert_eq!(source.fetches(), 2);
        api.open(2);
        assert_pending!(challenged.poll());
        source.open();
        source.open();
        let response = challenged.await.unwrap();
        assert_eq!(outcome(&response), RECOVERED, "{path}");
        assert_eq!(api.tokens(), [1, 3], "{path}");
        assert_eq!(source.fetches(), 3, "{path}");
        let token = refresh.await.unwrap().unwrap();
        assert_eq!(token.expose(), refreshed, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn challenges_do_not_affect_other_specs() {
    let (source, _, _, mut client) = stage();
    assert_eq!(get(&mut client, "/scope/write").await, RECOVERED);
    assert_eq!(get(&mut client, "/claims/a").await, RECOVERED);
    assert_eq!(get_as(&mut client, "/", tenant("other")).await, FINE);
    let last = source.requests().pop().unwrap();
    assert_eq!((last.spec(), last.claims()), (&tenant("other"), None));
}

#[tokio::test(start_paused = true)]
async fn clear_drops_claims_and_keeps_the_scopes_of_routes() {
    let (source, _, cache, mut client) = stage();
    assert_eq!(get(&mut client, "/claims/a").await, RECOVERED);
    assert_eq!(get(&mut client, "/scope/write").await, RECOVERED);
    cache.clear();
    assert_eq!(get(&mut client, "/").await, FINE);
    assert_eq!(asked(&source).pop(), Some(plain("read write")));
    assert_eq!(get_as(&mut client, "/", spec().clone()).await, FINE);
    assert_eq!(asked(&source).pop(), Some(plain("read")));
}

#[tokio::test(start_paused = true)]
async fn required_scopes_add_up() {
    let (source, api, cache, mut client) = stage();
    assert_eq!(get(&mut client, "/scope/write").await, RECOVERED);
    assert_eq!(source.requests()[1].reason(), FetchReason::Missing);
    // The next request is sent with the wider token at once.
    assert_eq!(get(&mut client, "/scope/write").await, FINE);
    assert_eq!(get(&mut client, "/").await, FINE);
    assert_eq!(api.tokens(), [1, 2, 2, 2]);
    assert_eq!(get(&mut client, "/scope/delete").await, RECOVERED);
    advance(secs(3600)).await;
    assert_eq!(get(&mut client, "/scope/write+delete").await, FINE);
    let widest = "delete read write";
    let expected = ["read", "read write", widest, widest];
    assert_eq!(asked(&source), expected.map(plain));
    assert_eq!(cache.stats().rejections, 0);
}

#[tokio::test(start_paused = true)]
async fn wider_token_is_used_by_the_whole_route() {
    let (source, api, cache, _) = stage();
    let other_origin = "https://other.example";
    let layer = layer(&cache, ["*"]).route(other_origin, spec().clone());
    let layer = layer.unwrap();
    let mut client = layer.layer(api.service());
    let mut others = [
        client.clone(),
        layer.layer(api.service()),
        layer.clone().layer(api.service()),
    ];
    let mut outside = [
        layer.layer(api.service()),
        support::layer(&cache).layer(api.service()),
    ];
    let other_route = || Request::get(other_origin).body(String::new()).unwrap();
    // From its second request on, a handle has a copy of the narrow token.
    for _ in 0..3 {
        for handle in [&mut client].into_iter().chain(&mut others) {
            assert_eq!(get(handle, "/").await, FINE);
        }
        call(&mut outside[0], other_route()).await;
        get(&mut outside[1], "/").await;
    }
    assert_eq!(api.tokens(), [1; 18]);
    assert_eq!(get(&mut client, "/scope/write").await, RECOVERED);
    for _ in 0..3 {
        for handle in [&mut client].into_iter().chain(&mut others) {
            assert_eq!(get(handle, "/scope/write").await, FINE);
        }
    }
    assert_eq!(api.tokens()[18..], [[1].as_slice(), &[2; 13]].concat());
    // Another route, another layer and a request's own spec have the narrow token as before.
    for _ in 0..3 {
        call(&mut outside[0], other_route()).await;
        get(&mut outside[1], "/").await;
        get_as(&mut client, "/", spec().clone()).await;
    }
    assert_eq!(api.tokens()[32..], [1; 9]);
    assert_eq!(asked(&source), ["read", "read write"].map(plain));
}

#[tokio::test(start_paused = true)]
async fn scopes_that_the_route_does_not_allow_are_unsatisfiable() {
    let (source, _, _, mut client) = stage();
    for (path, required) in [
        ("/scope/admin", ["admin"].as_slice()),
        ("/scope/write+admin", &["write", "admin"]),
    ] {
        for _ in 0..10 {
            let response = call(&mut client, request(path)).await;
            assert_eq!(outcome(&response), (403, Some("unsatisfiable")), "{path}");
            let Some(Recovery::Unsatisfiable(Verdict::ScopesRequired(scopes))) =
                response.extensions().get()
            else {
                panic!("{:?}", response.extensions());
            };
            assert_eq!(scopes, required);
        }
    }
    // Also for a request's own spec. Without allowed scopes, the provider is never asked for more.
    for _ in 0..10 {
        let refused = get_as(&mut client, "/scope/admin", tenant("own")).await;
        assert_eq!(refused, (403, Some("unsatisfiable")));
    }
    assert_eq!(asked(&source), ["read", ""].map(plain));
    let (source, _, _, mut client) = stage_allowing([]);
    let refused = get(&mut client, "/scope/write").await;
    assert_eq!(refused, (403, Some("unsatisfiable")));
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn narrow_token_is_used_until_the_wider_one_arrives() {
    let (source, api, cache, mut client) = stage();
    get(&mut client, "/").await;
    let source = source.gated();
    let mut other = client.clone();
    let mut wider = task::spawn(send(&mut client, request("/scope/write")).await);
    assert_pending!(wider.poll());
    settle().await;
    assert_eq!(source.fetches(), 2);
    for _ in 0..3 {
        assert_eq!(get(&mut other, "/").await, FINE);
    }
    assert_eq!(cache.peek(spec()).unwrap().expose(), "token-1");
    source.open();
    assert_eq!(outcome(&wider.await.unwrap()), RECOVERED);
    assert_eq!(get(&mut other, "/").await, FINE);
    assert_eq!(api.tokens(), [1, 1, 1, 1, 1, 2, 2]);
    // The narrow token is still cached.
    assert_eq!(cache.peek(spec()).unwrap().expose(), "token-1");
}

#[tokio::test(start_paused = true)]
async fn refused_scopes_leave_the_narrow_token_in_use() {
    let (source, api, cache, mut client) = stage();
    get(&mut client, "/").await;
    source.set_answer(Answer::fail(ErrorKind::InvalidScope));
    // The wider spec backs off. Repeated challenges cost no fetch, and do not use up the rejection budget.
    for _ in 0..20 {
        let response = call(&mut client, request("/scope/write")).await;
        assert_eq!(outcome(&response), (403, Some("no_token")));
        let Some(Recovery::NoToken(error)) = response.extensions().get() else {
            panic!("{:?}", response.extensions());
        };
        assert_eq!(error.kind(), ErrorKind::InvalidScope);
        assert_eq!(get(&mut client, "/").await, FINE);
    }
    assert_eq!(asked(&source), ["read", "read write"].map(plain));
    assert_eq!(api.tokens(), [1; 41]);
    assert_eq!(cache.stats().rejection_limit_reached, 0);
    // The narrow spec does not back off.
    source.set_answer(Answer::default());
    api.revoke(1);
    assert_eq!(get(&mut client, "/").await, RECOVERED);
    let refused = get(&mut client, "/scope/write").await;
    assert_eq!(refused, (403, Some("no_token")));
    // After the back-off, the provider is asked again.
    advance(secs(1)).await;
    assert_eq!(get(&mut client, "/scope/write").await, RECOVERED);
    assert_eq!(get(&mut client, "/scope/write").await, FINE);
    assert_eq!(asked(&source)[2..], ["read", "read write"].map(plain));
}

#[tokio::test(start_paused = true)]
async fn concurrent_scope_challenges_spend_one_rejection() {
    let (source, api, _, mut client) = stage();
    get(&mut client, "/").await;
    source.set_answer(Answer::fail(ErrorKind::InvalidScope));
    // Nothing is refunded, because no replay is accepted.
    let outcomes = crowd(&client, &api, "/scope/write").await;
    assert_eq!(outcomes, [(403, Some("no_token")); 50]);
    // Each of these differs from the challenge before, and four rejections are left.
    for path in ["/scope/delete", "/scope/write"].repeat(2) {
        assert_eq!(get(&mut client, path).await, (403, Some("no_token")));
    }
    let limited = get(&mut client, "/scope/delete").await;
    assert_eq!(limited, (403, Some("rejection_limit_reached")));
    let expected = ["read", "read write", "delete read"];
    assert_eq!(asked(&source), expected.map(plain));
}

#[tokio::test(start_paused = true)]
async fn accepted_replays_refund_scope_challenges() {
    let (source, api, cache, mut client) = stage_allowing(["*"]);
    for number in 0..20 {
        let path = format!("/scope/s{number}");
        let own = get_as(&mut client, &path, tenant("own")).await;
        assert_eq!(own, RECOVERED, "{path}");
    }
    assert_eq!((source.fetches(), api.tokens().len()), (21, 40));
    assert_eq!(cache.stats().rejection_limit_reached, 0);
}

#[tokio::test(start_paused = true)]
async fn late_scope_challenge_is_replayed_with_the_wider_token() {
    let (source, api, _, mut client) = stage();
    get(&mut client, "/").await;
    api.close();
    let mut other = client.clone();
    let mut first = task::spawn(send(&mut client, request("/scope/write")).await);
    let mut late = task::spawn(send(&mut other, request("/scope/write")).await);
    assert_pending!(first.poll());
    assert_pending!(late.poll());
    // Two challenges and the first replay.
    api.open(3);
    assert_eq!(outcome(&first.await.unwrap()), RECOVERED);
    api.open(1);
    assert_eq!(outcome(&late.await.unwrap()), RECOVERED);
    assert_eq!(api.tokens(), [1, 1, 1, 2, 2]);
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn concurrent_challenges_for_different_scopes_add_up_later() {
    let (source, api, _, mut client) = stage();
    get(&mut client, "/").await;
    api.close();
    let mut other = client.clone();
    let mut write = task::spawn(send(&mut client, request("/scope/write")).await);
    let mut delete = task::spawn(send(&mut other, request("/scope/delete")).await);
    assert_pending!(write.poll());
    assert_pending!(delete.poll());
    api.open(100);
    assert_pending!(write.poll());
    assert_pending!(delete.poll());
    // Each is replayed with its own scopes. The route has those of the first token that was used.
    assert_eq!(outcome(&write.await.unwrap()), RECOVERED);
    assert_eq!(outcome(&delete.await.unwrap()), RECOVERED);
    assert_eq!(get(&mut client, "/scope/write").await, FINE);
    assert_eq!(get(&mut client, "/scope/delete").await, RECOVERED);
    assert_eq!(get(&mut other, "/scope/write+delete").await, FINE);
    let expected = ["read", "read write", "delete read", "delete read write"];
    assert_eq!(asked(&source), expected.map(plain));
    assert_eq!(api.tokens(), [1, 1, 1, 2, 3, 2, 2, 4, 4]);
}

#[tokio::test(start_paused = true)]
async fn older_token_with_the_required_scopes_is_used() {
    let (source, api, cache, mut client) = stage();
    let wider = spec().clone().with_scopes(["write"]);
    cache.get(&wider).await.unwrap();
    for (request_spec, expected) in [(Some(spec()), [2, 1]), (None, [2, 1])] {
        let before = api.tokens().len();
        let answer = match request_spec {
            Some(spec) => get_as(&mut client, "/scope/write", spec.clone()).await,
            None => get(&mut client, "/scope/write").await,
        };
        assert_eq!(answer, RECOVERED);
        assert_eq!(api.tokens()[before..], expected);
    }
    assert_eq!(get(&mut client, "/scope/write").await, FINE);
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn requests_own_spec_is_challenged_each_time() {
    let (source, api, cache, mut client) = stage();
    for _ in 0..10 {
        let own = get_as(&mut client, "/scope/write", tenant("own")).await;
        assert_eq!(own, RECOVERED);
    }
    assert_eq!(api.tokens(), [1, 2].repeat(10));
    assert_eq!(get_as(&mut client, "/", tenant("own")).await, FINE);
    // The route and other specs of the tenant are not widened.
    assert_eq!(get(&mut client, "/").await, FINE);
    assert_eq!(asked(&source), ["", "write", "read"].map(plain));
    assert!(source.requests()[1].spec().tenant() == Some("own"));
    assert_eq!(api.tokens()[20..], [1, 3]);
    let stats = cache.stats();
    assert_eq!((stats.rejections, stats.rejection_limit_reached), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn unreplayable_challenge_widens_the_route() {
    let (source, api, cache, _) = stage();
    let layer = layer(&cache, ["write"]).without_replay();
    let mut client = layer.layer(api.service());
    // The first challenge starts the fetch. The second one finds its token.
    for _ in 0..2 {
        let challenged = get(&mut client, "/scope/write").await;
        assert_eq!(challenged, (403, Some("not_replayable")));
        settle().await;
    }
    assert_eq!(get(&mut client, "/scope/write").await, FINE);
    assert_eq!(api.tokens(), [1, 1, 2]);
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn new_scopes_are_limited_by_the_rejection_budget() {
    let (source, api, _, mut client) = stage_allowing(["*"]);
    let mut limited = 0;
    for number in 0..50 {
        match get_as(&mut client, "/greedy", tenant("own")).await {
            // The replay is challenged too.
            (403, Some("unsatisfiable")) => assert!(number < 5),
            (403, Some("rejection_limit_reached")) => limited += 1,
            other => panic!("{other:?}"),
        }
        assert_eq!(get_as(&mut client, "/", tenant("own")).await, FINE);
    }
    assert_eq!((source.fetches(), limited), (6, 45));
    for second in 1..=60 {
        advance(secs(1)).await;
        let own = get_as(&mut client, "/greedy", tenant("own")).await;
        assert_eq!(own.0, 403);
        assert_eq!(source.fetches() - 6, second / 15, "after {second} s");
    }
    // Rejections of the token use the same budget.
    api.revoke(1);
    let limited = get_as(&mut client, "/", tenant("own")).await;
    assert_eq!(limited, (401, Some("rejection_limit_reached")));
    advance(secs(15)).await;
    assert_eq!(get_as(&mut client, "/", tenant("own")).await, RECOVERED);
}

#[tokio::test(start_paused = true)]
async fn wider_spec_inherits_the_required_claims() {
    let (source, _, _, mut client) = stage();
    assert_eq!(get(&mut client, "/claims/a").await, RECOVERED);
    assert_eq!(get(&mut client, "/scope/write").await, RECOVERED);
    let wider = ("read write".to_owned(), Some(claims("a")));
    assert_eq!(asked(&source)[2..], [wider]);
    assert_eq!(get(&mut client, "/claims/a").await, FINE);
}

#[tokio::test(start_paused = true)]
async fn api_that_always_requires_another_scope_spends_one_budget() {
    let (source, _, _, mut client) = stage_allowing(["*"]);
    for attempt in 1..=20 {
        let refused = get(&mut client, "/greedy").await;
        let expected = match attempt {
            1..=5 => "unsatisfiable",
            _ => "rejection_limit_reached",
        };
        assert_eq!(refused, (403, Some(expected)), "attempt {attempt}");
        assert_eq!(get(&mut client, "/").await, FINE);
    }
    assert_eq!(source.fetches(), 6);
}

#[tokio::test(start_paused = true)]
async fn route_gets_at_most_64_more_scopes() {
    let (source, _, _, mut client) = stage_allowing(["*"]);
    for _ in 0..100 {
        let refused = get(&mut client, "/greedy").await;
        assert_eq!(refused, (403, Some("unsatisfiable")));
        assert_eq!(get(&mut client, "/").await, FINE);
        advance(secs(15)).await;
    }
    assert_eq!(source.fetches(), 65);
    let last = source.requests().pop().unwrap();
    assert_eq!(last.spec().iter_scopes().count(), 65);
}

#[tokio::test(start_paused = true)]
async fn challenge_for_more_than_64_scopes_is_unsatisfiable() {
    for own in [false, true] {
        let (source, _, _, mut client) = stage_allowing(["*"]);
        for (count, fetches, expected) in
            [(65, 1, (403, Some("unsatisfiable"))), (64, 2, RECOVERED)]
        {
            let scopes: Vec<_> = (0..count).map(|number| format!("s{number}")).collect();
            let path = format!("/scope/{}", scopes.join("+"));
            let answer = match own {
                true => get_as(&mut client, &path, tenant("own")).await,
                false => get(&mut client, &path).await,
            };
            assert_eq!((answer, source.fetches()), (expected, fetches));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn scopes_that_a_token_was_requested_with_are_unsatisfiable() {
    let (source, _, cache, _) = stage();
    let strict =
        tower::service_fn(async |_: Request<String>| Ok::<_, Infallible>(scope_challenge("write")));
    let mut client = layer(&cache, ["write"]).layer(Boxed::new(strict));
    for _ in 0..20 {
        let refused = get(&mut client, "/").await;
        assert_eq!(refused, (403, Some("unsatisfiable")));
    }
    assert_eq!(asked(&source), ["read", "read write"].map(plain));
}

#[tokio::test(start_paused = true)]
async fn step_up_challenge_is_unsatisfiable_and_costs_no_fetch() {
    let (source, _, cache, mut client) = stage();
    for _ in 0..20 {
        let response = call(&mut client, request("/step-up")).await;
        assert_eq!(outcome(&response), (401, Some("unsatisfiable")));
        let Some(Recovery::Unsatisfiable(verdict)) = response.extensions().get() else {
            panic!("{:?}", response.extensions());
        };
        let step_up = Verdict::StepUp {
            acr_values: Some("gold".into()),
            max_age: Some(Duration::from_secs(5)),
        };
        assert_eq!(verdict, &step_up);
    }
    assert_eq!((source.fetches(), cache.stats().rejections), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn custom_classifier_precedes_the_default_one() {
    let (source, api, cache, _) = stage();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&calls);
    let classifier = move |status: StatusCode, _: &HeaderMap| {
        recorded.lock().unwrap().push(status.as_u16());
        match status.as_u16() {
            419 => Some(Verdict::Rejected),
            403 => Some(Verdict::Pass),
            _ => None,
        }
    };
    let layer = layer(&cache, ["write"]).with_classifier(classifier);
    let mut client = layer.layer(api.service());
    // The response to the replay is classified too.
    let rejected = get(&mut client, "/status/419").await;
    assert_eq!(rejected, (419, Some("rejected_again")));
    assert_eq!(api.tokens(), [1, 2]);
    assert_eq!(get(&mut client, "/scope/write").await, (403, None));
    // Without a verdict of the custom one, the default classifier decides.
    api.revoke(2);
    assert_eq!(get(&mut client, "/").await, RECOVERED);
    assert_eq!(get(&mut client, "/status/500").await, (500, None));
    assert_eq!(source.fetches(), 3);
    assert_eq!(calls.lock().unwrap()[..], [419, 419, 403, 401, 200, 500]);
}

#[tokio::test(start_paused = true)]
async fn custom_classifier_cannot_require_invalid_scopes() {
    let (source, api, cache, _) = stage();
    let classifier = |status: StatusCode, _: &HeaderMap| match status.as_u16() {
        460 => Some(Verdict::ClaimsRequired("{}".into())),
        461 => Some(Verdict::ScopesRequired(vec![
            "no scope".into(),
            "caf\u{e9}".into(),
        ])),
        462 => Some(Verdict::ScopesRequired(Vec::new())),
        _ => None,
    };
    let layer = layer(&cache, ["*"]).with_classifier(classifier);
    let mut client = layer.layer(api.service());
    get(&mut client, "/status/460").await;
    let with_claims = ("read".to_owned(), Some("{}".to_owned()));
    assert_eq!(asked(&source), [plain("read"), with_claims]);
    for path in ["/status/461", "/status/462"] {
        let refused = get(&mut client, path).await;
        assert_eq!(refused.1, Some("unsatisfiable"), "{path}");
    }
    assert_eq!(source.fetches(), 2);
    assert_eq!(get(&mut client, "/").await, FINE);
}

#[tokio::test(start_paused = true)]
async fn replay_predicate_decides_for_each_request() {
    let (source, api, cache, _) = stage();
    let predicate = |method: &Method, headers: &HeaderMap| {
        method.is_idempotent() || headers.contains_key("idempotency-key")
    };
    let layer = layer(&cache, []).with_replay_when(predicate);
    let mut client = layer.layer(api.service());
    let post = |key: Option<&str>| {
        let mut request = request("/");
        *request.method_mut() = Method::POST;
        if let Some(key) = key {
            let headers = request.headers_mut();
            headers.insert("idempotency-key", key.parse().unwrap());
        }
        request
    };
    for (revoked, request, expected) in [
        (1, request("/"), RECOVERED),
        (2, post(None), (401, Some("not_replayable"))),
        (3, post(Some("7")), RECOVERED),
    ] {
        get(&mut client, "/").await;
        api.revoke(revoked);
        assert_eq!(outcome(&call(&mut client, request).await), expected);
        // The token is replaced also without a replay.
        assert_eq!(get(&mut client, "/").await, FINE);
    }
    assert_eq!(source.fetches(), 4);
}

#[tokio::test(start_paused = true)]
async fn replay_predicate_and_body_buffer_combine_in_any_order() {
    type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
    async fn sends<R>(layer: AuthLayer<R>, method: Method) -> usize
    where
        R: ReplayPolicy<Request<Body>>,
    {
        let sends = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sends);
        let rejecting = tower::service_fn(move |request: Request<Body>| {
            let count = Arc::clone(&count);
            async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(body, "abc");
                count.fetch_add(1, SeqCst);
                Ok::<_, Infallible>(status(401))
            }
        });
        let body = Full::new(Bytes::from("abc")).map_err(|never| match never {});
        let mut request = support::request_with("/", body.boxed_unsync());
        *request.method_mut() = method;
        let response = send(&mut layer.layer(rejecting), request).await.await;
        assert_eq!(response.unwrap().status(), 401);
        sends.load(SeqCst)
    }
    let predicate = |method: &Method, _: &HeaderMap| method.is_idempotent();
    let wrap = |body: ReplayBody<Body>| -> Body { body.boxed_unsync() };
    for (method, expected) in [(Method::PUT, 2), (Method::POST, 1)] {
        let layer = || layer(&cache(&Source::new()), []);
        let buffer_first = layer()
            .with_body_buffer(9, wrap)
            .with_replay_when(predicate);
        assert_eq!(sends(buffer_first, method.clone()).await, expected);
        let buffer_last = layer()
            .with_replay_when(predicate)
            .with_body_buffer(9, wrap);
        assert_eq!(sends(buffer_last, method).await, expected);
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A request to this path, with its own spec if there is one.
    Send(&'static str, Option<TokenSpec>),
    Revoke,
    FailNext(ErrorKind),
    Pass(u64),
}

const WRITE: &str = "/scope/write";

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let path = prop_oneof![
        3 => Just("/"),
        2 => prop::sample::select(vec!["/claims/c0", "/claims/c1"]),
        2 => Just(WRITE),
        1 => Just("/scope/admin"),
        1 => Just("/step-up"),
    ];
    let own = prop::sample::select(vec![None, Some(tenant(0)), Some(tenant(1))]);
    let kind = prop_oneof![
        Just(ErrorKind::InvalidScope),
        Just(ErrorKind::InvalidGrant),
        Just(ErrorKind::Timeout),
        Just(ErrorKind::InvalidClient),
    ];
    let step = prop_oneof![
        8 => (path, own).prop_map(|(path, own)| Step::Send(path, own)),
        1 => Just(Step::Revoke),
        1 => kind.prop_map(Step::FailNext),
        2 => (0..2_000u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_challenges_get_the_right_tokens_at_bounded_cost(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(play(steps));
    }
}

async fn play(steps: Vec<Step>) {
    let (source, api, cache, mut client) = stage();
    let (mut passed, mut failures, mut is_widened) = (0, 0, false);
    for step in steps {
        match step {
            Step::Send(path, own) => {
                let (fetches, sends) = (source.fetches(), api.tokens().len());
                let mut request = request(path);
                if let Some(own) = own.clone() {
                    request.extensions_mut().insert(own);
                };
                let sent = send(&mut client, request).await.await;
                settle().await;
                let tokens = api.tokens().split_off(sends);
                assert!(tokens.len() <= 2, "{tokens:?}");
                let route = spec().clone();
                let narrow = own.clone().unwrap_or_else(|| match is_widened {
                    true => route.with_scopes(["write"]),
                    false => route,
                });
                // The first token has the request's spec. A replay may have the one more scope that the route allows.
                for (attempt, token) in tokens.into_iter().enumerate() {
                    let asked = source.requests()[token - 1].spec().clone();
                    let is_wider = attempt == 1 && asked == narrow.clone().with_scopes(["write"]);
                    assert!(asked == narrow || is_wider, "{asked:?}");
                }
                // A missing token, a required one, and one refresh in the background.
                assert!(source.fetches() - fetches <= 3);
                if let Ok(response) = sent {
                    let (status, recovery) = outcome(&response);
                    assert!(path != "/" || status == 200 || recovery.is_some());
                    is_widened |= path == WRITE && own.is_none() && status == 200;
                }
            }
            Step::Revoke => {
                if let Some(last) = api.tokens().last() {
                    api.revoke(*last);
                }
            }
            Step::FailNext(kind) => {
                source.push_answer(Answer::fail(kind));
                failures += 1;
            }
            Step::Pass(seconds) => {
                advance(secs(seconds)).await;
                passed += seconds;
            }
        }
    }
    // Three specs have an entry each, and another one for the wider spec. An entry is fetched once, at each expiry, and for
    // each rejection in its budget. Accepted replays are refunded. A failure costs at most two fetches.
    let replays = cache.stats().replays as usize;
    let per_entry = 1 + passed / 3_000 + 5 + passed / 15;
    assert!(source.fetches() <= 6 * per_entry as usize + replays + 2 * failures);
    // After two hours without failures, each spec has a token.
    source.clear_answers();
    advance(secs(2 * 3600)).await;
    assert_eq!(get(&mut client, "/").await.0, 200);
    for own in [spec().clone(), tenant(0), tenant(1)] {
        assert_eq!(get_as(&mut client, "/", own).await.0, 200);
    }
}
