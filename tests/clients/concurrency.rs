//! Tests concurrent requests over every client, and clients with a single permit.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{sync::Semaphore, task::JoinSet};
use tower::{BoxError, Layer, ServiceExt, util::BoxCloneService};
use tower_bearer::{
    AuthLayer, ErrorKind, TokenCache, TokenError, TokenSpec,
    credentials::ClientCredentials,
    layer::{Error, Recovery},
    testing::{Api, AuthorizationServer},
    transport::Transport,
};

use crate::{
    fixture::within,
    matrix::{
        client::{ClientResponse, Digest, KINDS, Payload},
        fixture::Fixture,
    },
};

/// Returns a body that is different for each number.
fn body(number: usize) -> Bytes {
    format!("{number}:").repeat(number + 1).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_401s_share_one_fetch() {
    for &kind in KINDS {
        // Without HTTP/2, each request needs a socket on both sides.
        let size = if kind.is_http2() { 500 } else { 200 };
        let fixture = Fixture::warm(kind).await;
        let hold = fixture.api.hold();
        let mut tasks = crowd(&fixture, size);
        within(fixture.api.wait_for_requests(size as u64)).await;
        fixture.login.revoke_all();
        hold.release();
        while let Some(done) = within(tasks.join_next()).await {
            let (number, response) = done.unwrap();
            assert_eq!(response.outcome(), (200, "recovered"), "{kind:?}");
            assert_eq!(response.body, Digest::of(&body(number)), "{kind:?}");
        }
        assert_eq!(fixture.counts(), (2 * size as u64, 1), "{kind:?}");
        let unauthorized = fixture.api.counts().unauthorized;
        assert_eq!(unauthorized, size as u64, "{kind:?}");
        assert_eq!(fixture.cache.stats().rejections, 1, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_misses_share_one_fetch() {
    for &kind in KINDS {
        let fixture = Fixture::new(kind).await;
        let hold = fixture.login.hold();
        let mut tasks = crowd(&fixture, 100);
        within(fixture.login.wait_for_requests(1)).await;
        assert_eq!(fixture.api.counts().requests, 0, "{kind:?}");
        hold.release();
        while let Some(done) = within(tasks.join_next()).await {
            let (number, response) = done.unwrap();
            assert_eq!(response.body, Digest::of(&body(number)), "{kind:?}");
        }
        assert_eq!(fixture.api.counts().ok, 100, "{kind:?}");
        assert_eq!(fixture.counts(), (100, 1), "{kind:?}");
    }
}

/// Sends concurrent requests, each with its own body.
fn crowd(fixture: &Fixture, size: usize) -> JoinSet<(usize, ClientResponse)> {
    let mut tasks = JoinSet::new();
    for number in 0..size {
        let sending = fixture.sender()("/echo", Payload::Whole(body(number)));
        tasks.spawn(async move { (number, sending.await.unwrap()) });
    }
    tasks
}

#[tokio::test]
async fn source_shares_the_clients_only_permit() {
    let room = Arc::new(Semaphore::new(1));
    let client = SharedClient::new(&room, false, Duration::from_secs(10)).await;
    for _ in 0..3 {
        client.login.revoke_all();
        let response = within(client.send()).await.unwrap();
        assert_eq!(response.0, 200);
    }
    assert_eq!(client.login.counts().requests, 3);
}

#[tokio::test]
async fn source_blocked_by_the_first_response_times_out() {
    let room = Arc::new(Semaphore::new(1));
    let client = SharedClient::new(&room, true, Duration::from_millis(200)).await;
    assert_eq!(client.send().await.unwrap().0, 200);
    client.login.revoke_all();
    // The first response is kept during the fetch, and holds the only permit.
    let (status, recovery) = within(client.send()).await.unwrap();
    assert_eq!(status, 401);
    let Some(Recovery::NoToken(error)) = recovery else {
        panic!("{recovery:?}");
    };
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(room.available_permits(), 1);
}

/// A client whose permits are shared by API requests and token requests.
struct SharedClient {
    login: AuthorizationServer,
    api: Api,
    service: BoxCloneService<Request<Full<Bytes>>, Response, Error<BoxError>>,
}

type Response = http::Response<http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>>;

impl SharedClient {
    /// With `pinned`, a response holds its permit until its body is read or dropped, like an HTTP/1 connection.
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
        let client = shared.clone();
        let transport = Transport::from_fn(move |request| {
            let client = client.clone();
            async move {
                let lost = |error: BoxError| {
                    TokenError::new(ErrorKind::Network, "lost").with_source(error)
                };
                let response = client.oneshot(request.map(Full::new)).await.map_err(lost)?;
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
        let service = BoxCloneService::new(layer.unwrap().layer(shared));
        Self {
            login,
            api,
            service,
        }
    }

    async fn send(&self) -> Result<(u16, Option<Recovery>), Error<BoxError>> {
        let request = Request::post(self.api.url())
            .body(Full::from("abc"))
            .unwrap();
        let response = self.service.clone().oneshot(request).await?;
        let recovery = response.extensions().get().cloned();
        Ok((response.status().as_u16(), recovery))
    }
}
