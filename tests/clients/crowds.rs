//! Many requests at once, over every client; and clients with no room for them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};
use tower::{Layer, ServiceExt};
use tower_bearer::{
    AuthLayer, ErrorKind, TokenCache, TokenError, TokenSpec,
    credentials::ClientCredentials,
    layer::{Error, Recovery},
    testing::{Api, AuthorizationServer},
    transport::Transport,
};

use crate::caller::{BoxError, Caller, KINDS, Kind};

const LIMIT: Duration = Duration::from_secs(60);

/// As many bytes as its number, and more: no two are alike.
fn body(number: usize) -> Bytes {
    format!("{number}:").repeat(number + 1).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_with_a_revoked_token_costs_one_fetch_and_loses_no_byte() {
    for kind in KINDS {
        // Without HTTP/2, each needs a socket at either end.
        let size = match kind {
            Kind::Reqwest | Kind::Http1 => 200,
            Kind::Http2 | Kind::HyperTls | Kind::ReqwestTls => 500,
        };
        let caller = Caller::new(kind).await;
        caller.post(Bytes::new()).await.unwrap();
        let hold = caller.api.hold();
        let mut tasks = JoinSet::new();
        for number in 0..size {
            let sending = caller.post(body(number));
            tasks.spawn(async move { (number, sending.await.unwrap()) });
        }
        let all = 1 + size as u64;
        timeout(LIMIT, caller.api.wait_for_requests(all))
            .await
            .unwrap();
        caller.login.revoke_all();
        hold.release();
        while let Some(done) = timeout(LIMIT, tasks.join_next()).await.unwrap() {
            let (number, answer) = done.unwrap();
            assert_eq!(answer.outcome(), (200, "recovered"), "{kind:?}");
            assert_eq!(answer.body, body(number), "{kind:?}");
        }
        let counts = caller.api.counts();
        assert_eq!(counts.requests, all + size as u64, "{kind:?}");
        assert_eq!(counts.unauthorized, size as u64, "{kind:?}");
        assert_eq!(caller.fetches(), 2, "{kind:?}");
        assert_eq!(caller.cache.stats().rejections, 1, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_without_a_token_waits_for_one_fetch_and_arrives_whole() {
    for kind in KINDS {
        let caller = Caller::new(kind).await;
        let hold = caller.login.hold();
        let mut tasks = JoinSet::new();
        for number in 0..100 {
            let sending = caller.post(body(number));
            tasks.spawn(async move { sending.await.unwrap().body == body(number) });
        }
        timeout(LIMIT, caller.login.wait_for_requests(1))
            .await
            .unwrap();
        assert_eq!(caller.api.counts().requests, 0, "{kind:?}");
        hold.release();
        while let Some(done) = timeout(LIMIT, tasks.join_next()).await.unwrap() {
            assert!(done.unwrap(), "{kind:?}");
        }
        assert_eq!(
            (caller.api.counts().ok, caller.fetches()),
            (100, 1),
            "{kind:?}"
        );
    }
}

#[tokio::test]
async fn a_source_that_shares_the_clients_only_permit_gets_it() {
    let room = Arc::new(Semaphore::new(1));
    let stage = Stage::new(&room, false, Duration::from_secs(10)).await;
    for _ in 0..3 {
        stage.login.revoke_all();
        let response = timeout(LIMIT, stage.send()).await.unwrap().unwrap();
        assert_eq!(response.0, 200);
    }
    assert_eq!(stage.login.counts().requests, 3);
}

#[tokio::test]
async fn a_source_that_waits_for_what_the_refusal_holds_gives_up_in_time() {
    let room = Arc::new(Semaphore::new(1));
    let stage = Stage::new(&room, true, Duration::from_millis(200)).await;
    assert_eq!(stage.send().await.unwrap().0, 200);
    stage.login.revoke_all();
    // The first answer, which is kept while a token is fetched, holds the only connection there is.
    let (status, recovery) = timeout(LIMIT, stage.send()).await.unwrap().unwrap();
    assert_eq!(status, 401);
    let Some(Recovery::NoToken(error)) = recovery else {
        panic!("{recovery:?}");
    };
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(room.available_permits(), 1);
}

/// A client with little room, which the requests share with the token endpoint's.
struct Stage {
    login: AuthorizationServer,
    api: Api,
    client: tower::util::BoxCloneService<Request<Full<Bytes>>, Answer, Error<BoxError>>,
}

type Answer = http::Response<http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>>;

impl Stage {
    /// With `pinned`, an answer's body takes room until it is read or dropped, as a connection of HTTP/1 does.
    async fn new(room: &Arc<Semaphore>, pinned: bool, limit: Duration) -> Self {
        let login = AuthorizationServer::start().await.unwrap();
        let api = Api::start(&login).await.unwrap();
        let hyper = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let room = Arc::clone(room);
        let shared = tower::service_fn(move |request: Request<Full<Bytes>>| {
            let (hyper, room) = (hyper.clone(), Arc::clone(&room));
            async move {
                let permit = room.acquire_owned().await?;
                let response = hyper.oneshot(request).await?;
                let permit = pinned.then_some(permit);
                Ok::<_, BoxError>(response.map(|body| {
                    let body = body.map_err(BoxError::from);
                    let holding = body.map_frame(move |frame| {
                        let _ = &permit;
                        frame
                    });
                    holding.boxed_unsync()
                }))
            }
        });
        let asked = shared.clone();
        let transport = Transport::from_fn(move |request| {
            let asked = asked.clone();
            async move {
                let lost = |error: BoxError| {
                    TokenError::new(ErrorKind::Network, "lost").with_source(error)
                };
                let response = asked.oneshot(request.map(Full::new)).await.map_err(lost)?;
                let (parts, body) = response.into_parts();
                let body = body.collect().await.map_err(lost)?.to_bytes();
                Ok(http::Response::from_parts(parts, body))
            }
        });
        let source =
            ClientCredentials::new(login.token_url(), "client", "secret").with_transport(transport);
        let cache = TokenCache::builder(source)
            .with_fetch_timeout(limit)
            .build();
        let layer = AuthLayer::new(cache).route(api.url(), TokenSpec::default());
        let client = tower::util::BoxCloneService::new(layer.unwrap().layer(shared));
        Self { login, api, client }
    }

    async fn send(&self) -> Result<(u16, Option<Recovery>), Error<BoxError>> {
        let request = Request::post(self.api.url())
            .body(Full::from("abc"))
            .unwrap();
        let response = self.client.clone().oneshot(request).await?;
        let recovery = response.extensions().get().cloned();
        Ok((response.status().as_u16(), recovery))
    }
}
