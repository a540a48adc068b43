//! Servers that want more of a token: claims, scopes, a person; and users who judge answers, and choose what is sent again.

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
    Method, Request, Response, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use proptest::prelude::*;
use support::{Answer, ORIGIN, Source, cache, outcome, request, secs, send, settle, spec, tenant};
use tokio::{sync::Semaphore, task::JoinSet, time::advance};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, util::BoxCloneService};
use tower_bearer::{
    AuthLayer, ErrorKind, Route, TokenCache, TokenSpec,
    layer::{
        Auth, Recovery, Verdict,
        replay::{ReplayBody, ReplayPolicy},
    },
    token::FetchReason,
};

/// An API that knows what each token was asked for with.
///
/// `/claims/x` wants the claims `{"x":1}`, `/scope/x` the scope `x`, `/greedy` one scope more each time, `/person` a person, and
/// `/status/x` answers so. It refuses what was revoked, and takes all else.
#[derive(Clone)]
struct Api(Arc<Inside>);

struct Inside {
    source: Source,
    seen: Mutex<Vec<Seen>>,
    revoked: Mutex<Vec<usize>>,
    gate: Semaphore,
    gated: AtomicBool,
}

/// A request as it arrived: its path, and its token's number.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    path: String,
    token: usize,
}

type Boxed = BoxCloneService<Request<String>, Response<()>, Infallible>;

impl Api {
    fn new(source: &Source) -> Self {
        Self(Arc::new(Inside {
            source: source.clone(),
            seen: Mutex::default(),
            revoked: Mutex::default(),
            gate: Semaphore::new(0),
            gated: AtomicBool::new(false),
        }))
    }

    /// Each answer waits to be let through.
    fn gated(self) -> Self {
        self.0.gated.store(true, SeqCst);
        self
    }

    fn open(&self, answers: usize) {
        self.0.gate.add_permits(answers);
    }

    fn revoke(&self, token: usize) {
        self.0.revoked.lock().unwrap().push(token);
    }

    fn tokens(&self) -> Vec<usize> {
        let seen = self.0.seen.lock().unwrap();
        seen.iter().map(|seen| seen.token).collect()
    }

    fn seen(&self) -> Vec<Seen> {
        self.0.seen.lock().unwrap().clone()
    }

    fn service(&self) -> Boxed {
        let api = self.clone();
        Boxed::new(tower::service_fn(move |request: Request<String>| {
            let api = api.clone();
            // Judged when it arrives, answered when it is let through.
            let answer = api.answer(&request);
            async move {
                if api.0.gated.load(SeqCst) {
                    api.0.gate.acquire().await.unwrap().forget();
                }
                Ok(answer)
            }
        }))
    }

    fn answer(&self, request: &Request<String>) -> Response<()> {
        let header = request.headers()[AUTHORIZATION].to_str().unwrap();
        let token = header.strip_prefix("Bearer token-").unwrap();
        let token: usize = token.parse().unwrap();
        let path = request.uri().path().to_owned();
        self.0.seen.lock().unwrap().push(Seen {
            path: path.clone(),
            token,
        });
        let asked = &self.0.source.requests()[token - 1];
        if self.0.revoked.lock().unwrap().contains(&token) {
            return refusal(401, "Bearer error=\"invalid_token\"");
        }
        if let Some(name) = path.strip_prefix("/claims/") {
            let claims = claims(name);
            if asked.claims() != Some(&claims) {
                return wanting_claims(&claims);
            }
        }
        if let Some(scope) = path.strip_prefix("/scope/")
            && !asked.spec().iter_scopes().any(|one| one == scope)
        {
            return wanting_scope(scope);
        }
        if path == "/greedy" {
            let more = asked.spec().iter_scopes().count();
            return wanting_scope(&format!("more-{more}"));
        }
        if path == "/person" {
            let challenge = "Bearer error=\"insufficient_user_authentication\", acr_values=\"gold\", max_age=\"5\"";
            return refusal(401, challenge);
        }
        let mut response = Response::new(());
        if let Some(status) = path.strip_prefix("/status/") {
            *response.status_mut() = status.parse().unwrap();
        }
        response
    }
}

fn claims(name: &str) -> String {
    format!("{{\"{name}\":1}}")
}

fn wanting_claims(claims: &str) -> Response<()> {
    let claims = STANDARD.encode(claims);
    let challenge = format!("Bearer error=\"insufficient_claims\", claims=\"{claims}\"");
    refusal(401, &challenge)
}

fn wanting_scope(scope: &str) -> Response<()> {
    let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
    refusal(403, &challenge)
}

fn refusal(status: u16, challenge: &str) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status.try_into().unwrap();
    let headers = response.headers_mut();
    headers.insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
    response
}

/// A layer whose route lets servers ask for two scopes more.
fn layer(cache: &TokenCache) -> AuthLayer {
    let route = Route::new(ORIGIN, spec().clone()).with_allowed_scopes(["write", "delete"]);
    AuthLayer::new(cache.clone()).with_route(route).unwrap()
}

fn greedy_layer(cache: &TokenCache) -> AuthLayer {
    let route = Route::new(ORIGIN, spec().clone()).with_allowed_scopes(["*"]);
    AuthLayer::new(cache.clone()).with_route(route).unwrap()
}

fn stage() -> (Source, Api, TokenCache, Auth<Boxed>) {
    stage_over(Source::new())
}

fn stage_over(source: Source) -> (Source, Api, TokenCache, Auth<Boxed>) {
    let api = Api::new(&source);
    let cache = cache(&source);
    let client = layer(&cache).layer(api.service());
    (source, api, cache, client)
}

async fn get<S>(client: &mut S, path: &str) -> Response<()>
where
    S: Service<Request<String>, Response = Response<()>>,
    S::Error: std::fmt::Debug,
{
    send(client, request(path)).await.await.unwrap()
}

/// What the source was asked for: scopes, and claims.
fn asked(source: &Source) -> Vec<(String, Option<String>)> {
    let asked = source.requests();
    let each = asked.iter().map(|request| {
        let scopes: Vec<_> = request.spec().iter_scopes().collect();
        (scopes.join(" "), request.claims().map(str::to_owned))
    });
    each.collect()
}

fn plain(scopes: &str) -> (String, Option<String>) {
    (scopes.to_owned(), None)
}

fn with_claims(name: &str) -> (String, Option<String>) {
    ("read".to_owned(), Some(claims(name)))
}

const RECOVERED: (u16, Option<&str>) = (200, Some("recovered"));
const FINE: (u16, Option<&str>) = (200, None);

#[tokio::test(start_paused = true)]
async fn claims_go_into_the_next_token_request_and_later_ones_and_the_token_serves_everybody() {
    let (source, api, cache, mut client) = stage();
    let mut other = client.clone();
    assert_eq!(outcome(&get(&mut other, "/").await), FINE);
    assert_eq!(outcome(&get(&mut client, "/claims/a").await), RECOVERED);
    assert_eq!(asked(&source), [plain("read"), with_claims("a")]);
    assert_eq!(source.requests()[1].reason(), FetchReason::Rejected);
    assert_eq!(cache.stats().rejections, 1);
    // Everybody on the key has it.
    assert_eq!(outcome(&get(&mut other, "/").await), FINE);
    assert_eq!(outcome(&get(&mut other, "/claims/a").await), FINE);
    assert_eq!(api.tokens(), [1, 1, 2, 2, 2]);
    // And later tokens have the claims too, for whatever they are fetched.
    advance(secs(3600)).await;
    assert_eq!(outcome(&get(&mut other, "/").await), FINE);
    api.revoke(3);
    assert_eq!(outcome(&get(&mut client, "/").await), RECOVERED);
    assert_eq!(asked(&source)[2..], [with_claims("a"), with_claims("a")]);
}

#[tokio::test(start_paused = true)]
async fn other_claims_replace_those_before() {
    let (source, _, _, mut client) = stage();
    for name in ["a", "b"] {
        let path = format!("/claims/{name}");
        assert_eq!(outcome(&get(&mut client, &path).await), RECOVERED);
    }
    let expected = [plain("read"), with_claims("a"), with_claims("b")];
    assert_eq!(asked(&source), expected);
}

#[tokio::test(start_paused = true)]
async fn claims_that_the_provider_refuses_are_forgotten() {
    for kind in [
        ErrorKind::InvalidGrant,
        ErrorKind::InvalidScope,
        ErrorKind::AccessDenied,
        ErrorKind::InteractionRequired,
    ] {
        let (source, _, _, mut client) = stage();
        assert_eq!(outcome(&get(&mut client, "/").await), FINE);
        source.push_answer(Answer::fail(kind));
        let response = get(&mut client, "/claims/a").await;
        assert_eq!(outcome(&response), (401, Some("no_token")), "{kind}");
        // Without the claims there is a token, and nobody waits for that.
        assert_eq!(outcome(&get(&mut client, "/").await), FINE, "{kind}");
        let expected = [plain("read"), with_claims("a"), plain("read")];
        assert_eq!(asked(&source), expected, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn claims_that_meet_a_provider_out_of_order_are_asked_for_later() {
    let (source, _, _, mut client) = stage();
    assert_eq!(outcome(&get(&mut client, "/").await), FINE);
    source.push_answer(Answer::fail(ErrorKind::Timeout));
    let response = get(&mut client, "/claims/a").await;
    assert_eq!(outcome(&response), (401, Some("no_token")));
    advance(secs(2)).await;
    assert_eq!(outcome(&get(&mut client, "/claims/a").await), FINE);
    let expected = [plain("read"), with_claims("a"), with_claims("a")];
    assert_eq!(asked(&source), expected);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_refuses_claims_again_and_again_is_asked_a_bounded_number_of_times() {
    let (source, _, _, mut client) = stage();
    for _ in 0..50 {
        assert_eq!(outcome(&get(&mut client, "/").await).0, 200);
        source.push_answer(Answer::fail(ErrorKind::AccessDenied));
        assert_eq!(get(&mut client, "/claims/a").await.status(), 401);
        // Only if nobody asked.
        source.clear_answers();
    }
    // The first, and five times one with claims and one without.
    assert_eq!(source.fetches(), 11);
    let response = get(&mut client, "/claims/a").await;
    assert_eq!(outcome(&response), (401, Some("rejection_limit_reached")));
}

#[tokio::test(start_paused = true)]
async fn claims_that_come_when_the_token_was_refused_already_are_in_its_replacement() {
    let source = Source::new();
    let api = Api::new(&source).gated();
    let cache = cache(&source);
    let token = cache.get(spec()).await.unwrap();
    let mut client = layer(&cache).layer(api.service());
    let mut second = task::spawn(send(&mut client, request("/claims/a")).await);
    assert_pending!(second.poll());
    // Somebody else was told first, without a word on why.
    assert!(cache.reject(&token));
    api.open(2);
    assert_eq!(outcome(&second.await.unwrap()), RECOVERED);
    assert_eq!(asked(&source), [plain("read"), with_claims("a")]);
    assert_eq!(cache.stats().rejections, 1);
}

#[tokio::test(start_paused = true)]
async fn a_late_claims_challenge_for_an_old_token_costs_nothing() {
    let source = Source::new();
    let api = Api::new(&source).gated();
    let cache = cache(&source);
    cache.get(spec()).await.unwrap();
    let mut client = layer(&cache).layer(api.service());
    let mut late = task::spawn(send(&mut client, request("/claims/a")).await);
    assert_pending!(late.poll());
    cache.refresh(spec()).await.unwrap();
    api.open(2);
    // It is sent again with the newer token, and what is wanted of that one is the caller's to see.
    let response = late.await.unwrap();
    assert_eq!(outcome(&response), (401, Some("unsatisfiable")));
    assert_eq!((source.fetches(), cache.stats().rejections), (2, 0));
    assert_eq!(api.tokens(), [1, 2]);
    assert_eq!(cache.peek(spec()).unwrap().expose(), "token-2");
}

#[tokio::test(start_paused = true)]
async fn claims_for_a_request_that_can_not_be_sent_twice_are_there_for_the_next() {
    let source = Source::new();
    let api = Api::new(&source);
    let cache = cache(&source);
    let mut client = layer(&cache).without_replay().layer(api.service());
    let response = get(&mut client, "/claims/a").await;
    assert_eq!(outcome(&response), (401, Some("not_replayable")));
    assert_eq!(outcome(&get(&mut client, "/claims/a").await), FINE);
    assert_eq!(asked(&source), [plain("read"), with_claims("a")]);
}

#[tokio::test(start_paused = true)]
async fn fifty_claims_challenges_at_once_cost_one_fetch() {
    let (source, api, cache, client) = stage();
    let outcomes = crowd(&client, &api, "/claims/a", 50).await;
    assert_eq!(outcomes, [RECOVERED; 50]);
    assert_eq!((source.fetches(), api.tokens().len()), (2, 101));
    let stats = cache.stats();
    assert_eq!(
        (
            stats.rejections,
            stats.replays,
            stats.rejection_limit_reached
        ),
        (1, 50, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn scopes_add_up_and_are_remembered() {
    let (source, api, cache, mut client) = stage();
    assert_eq!(outcome(&get(&mut client, "/scope/write").await), RECOVERED);
    assert_eq!(source.asked()[1].reason(), FetchReason::Missing);
    // The next one is not even challenged.
    assert_eq!(outcome(&get(&mut client, "/scope/write").await), FINE);
    assert_eq!(outcome(&get(&mut client, "/").await), FINE);
    assert_eq!(api.tokens(), [1, 2, 2, 2]);
    assert_eq!(outcome(&get(&mut client, "/scope/delete").await), RECOVERED);
    advance(secs(3600)).await;
    assert_eq!(outcome(&get(&mut client, "/scope/write").await), FINE);
    let expected = [
        "read",
        "read write",
        "delete read write",
        "delete read write",
    ];
    assert_eq!(asked(&source), expected.map(plain));
    assert_eq!(cache.stats().rejections, 0);
}

#[tokio::test(start_paused = true)]
async fn scopes_beyond_the_routes_allowance_are_the_callers_to_see() {
    let (source, _, _, mut client) = stage();
    for _ in 0..20 {
        let response = get(&mut client, "/scope/admin").await;
        assert_eq!(outcome(&response), (403, Some("unsatisfiable")));
        let wanted = response.extensions().get();
        assert!(
            matches!(wanted, Some(Recovery::Unsatisfiable(Verdict::ScopesRequired(scopes))) if scopes == &["admin"])
        );
    }
    // One that is allowed beside one that is not: neither is asked for.
    let both = get(&mut client, "/scope/write%20admin").await;
    assert_eq!(both.status(), 403);
    assert_eq!(asked(&source), [plain("read")]);
}

#[tokio::test(start_paused = true)]
async fn without_an_allowance_no_server_gets_a_scope() {
    let source = Source::new();
    let api = Api::new(&source);
    let cache = cache(&source);
    let mut client = support::layer(&cache).layer(api.service());
    let response = get(&mut client, "/scope/write").await;
    assert_eq!(outcome(&response), (403, Some("unsatisfiable")));
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn others_keep_the_old_token_while_a_wider_one_is_fetched() {
    let (source, api, cache, mut client) = stage();
    get(&mut client, "/").await;
    let source = source.gated();
    let mut other = client.clone();
    let mut wider = task::spawn(send(&mut client, request("/scope/write")).await);
    assert_pending!(wider.poll());
    settle().await;
    assert_eq!(source.fetches(), 2);
    for _ in 0..3 {
        assert_eq!(outcome(&get(&mut other, "/").await), FINE);
    }
    assert_eq!(cache.peek(spec()).unwrap().expose(), "token-1");
    source.open();
    assert_eq!(outcome(&wider.await.unwrap()), RECOVERED);
    assert_eq!(outcome(&get(&mut other, "/").await), FINE);
    assert_eq!(api.tokens(), [1, 1, 1, 1, 1, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn scopes_that_the_provider_refuses_do_no_harm() {
    let (source, _, cache, mut client) = stage();
    get(&mut client, "/").await;
    source.push_answer(Answer::fail(ErrorKind::InvalidScope));
    let response = get(&mut client, "/scope/write").await;
    assert_eq!(outcome(&response), (403, Some("no_token")));
    // The old token stays, and its successor comes as if nothing had been asked for.
    assert_eq!(outcome(&get(&mut client, "/").await), FINE);
    assert_eq!(cache.peek(spec()).unwrap().expose(), "token-1");
    let before = source.fetches();
    advance(secs(3600)).await;
    assert_eq!(outcome(&get(&mut client, "/").await), FINE);
    assert_eq!(asked(&source)[before..], [plain("read")]);
}

#[tokio::test(start_paused = true)]
async fn scopes_that_are_refused_just_before_the_token_ends_leave_nobody_without_one() {
    let (source, _, _, mut client) = stage();
    get(&mut client, "/").await;
    advance(secs(3589)).await;
    for _ in 0..2 {
        source.push_answer(Answer::fail(ErrorKind::InvalidScope));
    }
    assert_eq!(get(&mut client, "/scope/write").await.status(), 403);
    source.clear_answers();
    advance(secs(1)).await;
    assert_eq!(outcome(&get(&mut client, "/").await), FINE);
}

#[tokio::test(start_paused = true)]
async fn fifty_scope_challenges_at_once_cost_one_fetch() {
    let (source, api, cache, client) = stage();
    let outcomes = crowd(&client, &api, "/scope/write", 50).await;
    assert_eq!(outcomes, [RECOVERED; 50]);
    assert_eq!((source.fetches(), api.tokens().len()), (2, 101));
    let stats = cache.stats();
    assert_eq!(
        (
            stats.rejections,
            stats.replays,
            stats.rejection_limit_reached
        ),
        (0, 50, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_fetch_under_way_when_the_challenge_comes_is_not_what_was_wanted() {
    for path in ["/scope/write", "/claims/a"] {
        let source = Source::new();
        let api = Api::new(&source).gated();
        let cache = cache(&source);
        cache.get(spec()).await.unwrap();
        let source = source.gated();
        let mut client = layer(&cache).layer(api.service());
        let mut challenged = task::spawn(send(&mut client, request(path)).await);
        assert_pending!(challenged.poll());
        // Somebody forces a refresh, which knows nothing of the wish.
        let handle = cache.clone();
        let refresh = tokio::spawn(async move { handle.refresh(spec()).await });
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
        // Whoever forced it has the newer one too.
        let refreshed = refresh.await.unwrap().unwrap();
        assert_eq!(refreshed.expose(), "token-3", "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_always_wants_another_scope_costs_five_fetches() {
    let source = Source::new();
    let api = Api::new(&source);
    let cache = cache(&source);
    let mut client = greedy_layer(&cache).layer(api.service());
    let mut last = None;
    for _ in 0..50 {
        let response = get(&mut client, "/greedy").await;
        assert_eq!(response.status(), 403);
        last = outcome(&response).1;
        assert_eq!(outcome(&get(&mut client, "/").await), FINE);
    }
    assert_eq!(
        (source.fetches(), last),
        (6, Some("rejection_limit_reached"))
    );
    // A real refusal is not believed either, for as long as the key is in such a storm; half a minute later it is.
    advance(secs(31)).await;
    api.revoke(6);
    assert_eq!(outcome(&get(&mut client, "/").await), RECOVERED);
}

#[tokio::test(start_paused = true)]
async fn a_scope_that_the_token_was_asked_for_with_is_not_asked_for_again() {
    let (source, _, _, client) = stage();
    let strict =
        tower::service_fn(async |_: Request<String>| Ok::<_, Infallible>(wanting_scope("write")));
    drop(client);
    let cache = cache(&source);
    let mut client = layer(&cache).layer(strict);
    let first = get(&mut client, "/").await;
    assert_eq!(outcome(&first), (403, Some("unsatisfiable")));
    for _ in 0..20 {
        assert_eq!(
            outcome(&get(&mut client, "/").await),
            (403, Some("unsatisfiable"))
        );
    }
    assert_eq!(asked(&source), ["read", "read write"].map(plain));
}

#[tokio::test(start_paused = true)]
async fn a_wish_of_one_key_is_none_of_anothers() {
    let (source, _, _, mut client) = stage();
    assert_eq!(outcome(&get(&mut client, "/scope/write").await), RECOVERED);
    assert_eq!(outcome(&get(&mut client, "/claims/a").await), RECOVERED);
    let mut own = request("/");
    own.extensions_mut().insert(tenant("other"));
    let response = send(&mut client, own).await.await.unwrap();
    assert_eq!(outcome(&response), FINE);
    let last = source.requests().pop().unwrap();
    assert_eq!((last.spec(), last.claims()), (&tenant("other"), None));
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_is_wanted_no_more() {
    let (source, _, cache, mut client) = stage();
    assert_eq!(outcome(&get(&mut client, "/scope/write").await), RECOVERED);
    assert_eq!(outcome(&get(&mut client, "/claims/a").await), RECOVERED);
    cache.clear();
    assert_eq!(outcome(&get(&mut client, "/").await), FINE);
    assert_eq!(asked(&source).pop(), Some(plain("read")));
}

#[tokio::test(start_paused = true)]
async fn a_person_that_is_wanted_is_the_callers_to_find() {
    let (source, _, cache, mut client) = stage();
    for _ in 0..20 {
        let response = get(&mut client, "/person").await;
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
async fn a_users_judge_has_the_first_word() {
    let source = Source::new();
    let api = Api::new(&source);
    let cache = cache(&source);
    let calls = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&calls);
    let judge = move |status: StatusCode, _: &http::HeaderMap| {
        told.lock().unwrap().push(status.as_u16());
        match status.as_u16() {
            419 => Some(Verdict::Rejected),
            // This API's 403 means nothing, whatever it says.
            403 => Some(Verdict::Pass),
            _ => None,
        }
    };
    let mut client = layer(&cache).with_classifier(judge).layer(api.service());
    // What it says is a refusal is one, and what follows is judged by it too.
    let response = get(&mut client, "/status/419").await;
    assert_eq!(outcome(&response), (419, Some("rejected_again")));
    assert_eq!(api.tokens(), [1, 2]);
    // What it says is none is none.
    let response = get(&mut client, "/scope/write").await;
    assert_eq!(outcome(&response), (403, None));
    // Where it has no word, the layer's own counts.
    api.revoke(2);
    assert_eq!(outcome(&get(&mut client, "/").await), RECOVERED);
    assert_eq!(outcome(&get(&mut client, "/status/500").await), (500, None));
    assert_eq!(source.fetches(), 3);
    assert_eq!(calls.lock().unwrap()[..], [419, 419, 403, 401, 200, 500]);
}

#[tokio::test(start_paused = true)]
async fn a_users_judge_may_want_claims_and_scopes_and_no_nonsense_gets_through() {
    let source = Source::new();
    let api = Api::new(&source);
    let cache = cache(&source);
    let judge = |status: StatusCode, _: &http::HeaderMap| match status.as_u16() {
        460 => Some(Verdict::ClaimsRequired("{}".into())),
        461 => Some(Verdict::ScopesRequired(vec![
            "no scope".into(),
            "caf\u{e9}".into(),
        ])),
        462 => Some(Verdict::ScopesRequired(Vec::new())),
        _ => None,
    };
    let mut client = greedy_layer(&cache)
        .with_classifier(judge)
        .layer(api.service());
    get(&mut client, "/status/460").await;
    let with_claims = ("read".to_owned(), Some("{}".to_owned()));
    assert_eq!(asked(&source), [plain("read"), with_claims]);
    for path in ["/status/461", "/status/462"] {
        let response = get(&mut client, path).await;
        assert_eq!(outcome(&response).1, Some("unsatisfiable"), "{path}");
    }
    assert_eq!(source.fetches(), 2);
    assert_eq!(outcome(&get(&mut client, "/").await), FINE);
}

#[tokio::test(start_paused = true)]
async fn only_what_the_user_agrees_to_is_sent_again() {
    let source = Source::new();
    let api = Api::new(&source);
    let cache = cache(&source);
    let agree = |method: &Method, headers: &http::HeaderMap| {
        method.is_idempotent() || headers.contains_key("idempotency-key")
    };
    let mut client = layer(&cache).with_replay_when(agree).layer(api.service());
    let post = |key: bool| {
        let mut request = request("/");
        *request.method_mut() = Method::POST;
        if key {
            let headers = request.headers_mut();
            headers.insert("idempotency-key", "7".parse().unwrap());
        }
        request
    };
    let mut revoked = 0;
    for (request, expected) in [
        (request("/"), RECOVERED),
        (post(false), (401, Some("not_replayable"))),
        (post(true), RECOVERED),
    ] {
        get(&mut client, "/").await;
        revoked += 1;
        api.revoke(revoked);
        let response = send(&mut client, request).await.await.unwrap();
        assert_eq!(outcome(&response), expected);
        // The token went all the same.
        assert_eq!(outcome(&get(&mut client, "/").await), FINE);
    }
    assert_eq!(source.fetches(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_the_user_agrees_to_is_sent_again_from_a_buffer_in_whichever_order_they_are_named() {
    type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
    async fn sends<R>(layer: AuthLayer<R>, method: Method) -> usize
    where
        R: ReplayPolicy<Request<Body>>,
    {
        let sends = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sends);
        let refusing = tower::service_fn(move |request: Request<Body>| {
            let count = Arc::clone(&count);
            async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(body, "abc");
                count.fetch_add(1, SeqCst);
                Ok::<_, Infallible>(refusal(401, "Bearer"))
            }
        });
        let body = Full::new(Bytes::from("abc")).map_err(|never| match never {});
        let mut request = support::request_with("/", body.boxed_unsync());
        *request.method_mut() = method;
        let response = send(&mut layer.layer(refusing), request).await.await;
        assert_eq!(response.unwrap().status(), 401);
        sends.load(SeqCst)
    }
    let agree = |method: &Method, _: &http::HeaderMap| method.is_idempotent();
    let wrap = |body: ReplayBody<Body>| -> Body { body.boxed_unsync() };
    for (method, expected) in [(Method::PUT, 2), (Method::POST, 1)] {
        let cache = cache(&Source::new());
        let one = layer(&cache)
            .with_body_buffer(9, wrap)
            .with_replay_when(agree);
        assert_eq!(sends(one, method.clone()).await, expected);
        let other = layer(&cache)
            .with_replay_when(agree)
            .with_body_buffer(9, wrap);
        assert_eq!(sends(other, method).await, expected);
    }
}

/// So many requests, whose first answers come when all have arrived.
async fn crowd(
    client: &Auth<Boxed>,
    api: &Api,
    path: &'static str,
    size: usize,
) -> Vec<(u16, Option<&'static str>)> {
    get(&mut client.clone(), "/").await;
    api.0.gated.store(true, SeqCst);
    let mut calls = JoinSet::new();
    for _ in 0..size {
        let mut client = client.clone();
        calls.spawn(async move { outcome(&get(&mut client, path).await) });
    }
    settle().await;
    assert_eq!(api.tokens(), vec![1; size + 1]);
    api.open(2 * size);
    calls.join_all().await
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send(Place, Key),
    Revoke,
    FailNext(ErrorKind),
    Pass(u64),
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Open,
    Claims(u8),
    Allowed,
    Beyond,
    Person,
}

/// The route's own, or that of a request's own spec.
#[derive(Clone, Copy, Debug)]
enum Key {
    Route,
    Tenant(u8),
}

impl Place {
    fn path(self) -> String {
        match self {
            Self::Open => "/".into(),
            Self::Claims(number) => format!("/claims/c{number}"),
            Self::Allowed => "/scope/write".into(),
            Self::Beyond => "/scope/admin".into(),
            Self::Person => "/person".into(),
        }
    }
}

impl Key {
    fn spec(self) -> TokenSpec {
        match self {
            Self::Route => spec().clone(),
            Self::Tenant(number) => tenant(number),
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = prop_oneof![
        3 => Just(Place::Open),
        2 => (0..2u8).prop_map(Place::Claims),
        2 => Just(Place::Allowed),
        1 => Just(Place::Beyond),
        1 => Just(Place::Person),
    ];
    let key = prop_oneof![Just(Key::Route), (0..2u8).prop_map(Key::Tenant)];
    let kind = prop_oneof![
        Just(ErrorKind::InvalidScope),
        Just(ErrorKind::InvalidGrant),
        Just(ErrorKind::Timeout),
        Just(ErrorKind::InvalidClient),
    ];
    let step = prop_oneof![
        8 => (place, key).prop_map(|(place, key)| Step::Send(place, key)),
        1 => Just(Step::Revoke),
        1 => kind.prop_map(Step::FailNext),
        2 => (0..2_000u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_servers_want_no_token_goes_astray_and_the_provider_is_left_in_peace(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(play(steps));
    }
}

async fn play(steps: Vec<Step>) {
    let (source, api, _, mut client) = stage();
    let (mut passed, mut failures) = (0, 0);
    for step in steps {
        match step {
            Step::Send(place, key) => {
                let (fetches, sends) = (source.fetches(), api.tokens().len());
                let mut request = request(&place.path());
                if matches!(key, Key::Tenant(_)) {
                    request.extensions_mut().insert(key.spec());
                }
                let sent = send(&mut client, request).await.await;
                settle().await;
                let sends = api.seen().split_off(sends);
                assert!(sends.len() <= 2, "{sends:?}");
                // Nobody gets a token of another key, nor one with a scope that the route does not allow.
                for seen in sends {
                    let asked = &source.requests()[seen.token - 1];
                    assert_eq!(asked.spec().tenant(), key.spec().tenant());
                    assert!(
                        asked
                            .spec()
                            .iter_scopes()
                            .all(|scope| ["read", "write"].contains(&scope))
                    );
                }
                // One that was missing, one that was wanted, and one refresh in the background.
                assert!(source.fetches() - fetches <= 3);
                if let Ok(response) = sent {
                    let answered = outcome(&response);
                    let open = matches!(place, Place::Open);
                    assert!(
                        !open || answered.0 == 200 || answered.1.is_some(),
                        "{answered:?}"
                    );
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
    // The budget of refusals of three keys, what time gave back, the tokens' ends, and two for each failure; recoveries that
    // were accepted are not bounded, but each has a replay.
    let replays = api.seen().len();
    let bound = 3 * (5 + passed / 30 + passed / 2_000 + 2) as usize * 2 + 2 * failures + replays;
    assert!(source.fetches() <= bound);
    // Nothing of all that lasts.
    source.clear_answers();
    advance(secs(2 * 3600)).await;
    for key in [Key::Route, Key::Tenant(0), Key::Tenant(1)] {
        let mut request = request("/");
        request.extensions_mut().insert(key.spec());
        let response = send(&mut client, request).await.await.unwrap();
        assert_eq!(response.status(), 200);
    }
}
