//! Measures the cost of buffering a request body for a replay: uploads with a buffer, compared with uploads without.
//!
//! Client and server run in this process and communicate over a loopback socket. The server counts the bytes that it receives.
//! The contenders take turns, round by round, so that a change of the machine's speed affects both. Without `--bench`, as
//! `cargo test` runs it, the run is short and prints no figures.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpListener;
use tower::{BoxError, Layer, Service, ServiceExt, util::BoxCloneService};
use tower_bearer::{AuthLayer, NewToken, TokenCache, TokenSpec, layer::replay::ReplayBody, source};

type Boxed = UnsyncBoxBody<Bytes, BoxError>;
type BoxedClient = BoxCloneService<Request<Boxed>, (), BoxError>;

const LIMIT: usize = 64 << 10;
const PART: usize = 16 << 10;

/// The sizes of a run.
struct Extent {
    large: usize,
    large_rounds: usize,
    small_requests: usize,
    small_rounds: usize,
}

const FULL: Extent = Extent {
    large: 100_000_000,
    large_rounds: 31,
    small_requests: 1_000,
    small_rounds: 31,
};

const SHORT: Extent = Extent {
    large: 1_000_000,
    large_rounds: 1,
    small_requests: 10,
    small_rounds: 1,
};

const SMALL: usize = 4 << 10;

/// A body of a given length, in parts of 16 KiB, without a size hint.
struct Stream {
    part: Bytes,
    left: usize,
}

impl Stream {
    fn of(bytes: usize) -> Self {
        Self {
            part: Bytes::from_static(&[7; PART]),
            left: bytes,
        }
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let length = self.left.min(PART);
        self.left -= length;
        let data = (length > 0).then(|| Ok(Frame::data(self.part.slice(..length))));
        Poll::Ready(data)
    }
}

/// Reads each request body to its end, and counts its bytes.
async fn serve(listener: TcpListener, received: Arc<AtomicU64>) {
    while let Ok((stream, _)) = listener.accept().await {
        let received = Arc::clone(&received);
        let count = service_fn(move |request: Request<Incoming>| {
            let received = Arc::clone(&received);
            async move {
                let mut body = request.into_body();
                while let Some(frame) = body.frame().await {
                    let length = frame?.into_data().map_or(0, |data| data.len());
                    received.fetch_add(length as u64, SeqCst);
                }
                Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new()))
            }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), count);
        tokio::spawn(connection);
    }
}

fn layer(url: &str) -> AuthLayer {
    let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
    AuthLayer::new(cache)
        .route(url, TokenSpec::default())
        .unwrap()
}

fn rebox(body: ReplayBody<Boxed>) -> Boxed {
    body.boxed_unsync()
}

fn client<S>(service: S) -> BoxedClient
where
    S: Service<Request<Boxed>, Response = Response<Incoming>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let read = async |response: Response<Incoming>| {
        response.into_body().collect().await?;
        Ok::<_, BoxError>(())
    };
    BoxCloneService::new(service.map_err(Into::into).and_then(read))
}

fn pooled_client() -> Client<HttpConnector, Boxed> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

/// Sends one upload after the other, and returns the seconds that they took.
async fn upload(client: &mut BoxedClient, url: &str, bytes: usize, times: usize) -> f64 {
    let start = Instant::now();
    for _ in 0..times {
        let body = Stream::of(bytes).boxed_unsync();
        let request = Request::post(url).body(body).unwrap();
        client.ready().await.unwrap().call(request).await.unwrap();
    }
    start.elapsed().as_secs_f64()
}

/// Returns the throughput with a buffer divided by that without: the median over the rounds.
async fn ratio(bytes: usize, times: usize, rounds: usize) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let received = Arc::new(AtomicU64::new(0));
    let server = tokio::spawn(serve(listener, Arc::clone(&received)));
    let mut without = client(layer(&url).layer(pooled_client()));
    let mut with = client(
        layer(&url)
            .with_body_buffer(LIMIT, rebox)
            .layer(pooled_client()),
    );
    for client in [&mut without, &mut with] {
        upload(client, &url, bytes, times).await;
    }
    let mut ratios = Vec::new();
    for round in 0..rounds {
        let (mut took_without, mut took_with) = (0.0, 0.0);
        // The contender that is first in one round is last in the next.
        for turn in [round % 2, 1 - round % 2] {
            match turn {
                0 => took_without = upload(&mut without, &url, bytes, times).await,
                _ => took_with = upload(&mut with, &url, bytes, times).await,
            }
        }
        ratios.push(took_without / took_with);
    }
    server.abort();
    let uploads = 2 * times * (rounds + 1);
    assert_eq!(received.load(SeqCst), (uploads * bytes) as u64);
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

/// Reads a body part by part and drops each part, as a client with a slow connection does.
#[derive(Clone)]
struct Sink;

impl Service<Request<Boxed>> for Sink {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Boxed>) -> Self::Future {
        let mut cx = Context::from_waker(Waker::noop());
        let mut body = request.into_body();
        while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut cx) {
            drop(frame);
        }
        std::future::ready(Ok(Response::new(())))
    }
}

/// Returns the peak of the allocated memory while a body of this length is sent.
fn peak_bytes<S>(mut service: S, bytes: usize) -> u64
where
    S: Service<Request<Boxed>>,
{
    let mut send = || {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(service.poll_ready(&mut cx).is_ready());
        let body = Stream::of(bytes).boxed_unsync();
        let request = Request::post("http://127.0.0.1/").body(body).unwrap();
        assert!(pin!(service.call(request)).poll(&mut cx).is_ready());
    };
    // The first two requests fetch the token and allocate the handle's state.
    send();
    send();
    allocation_counter::measure(send).bytes_max
}

async fn extra_bytes() -> u64 {
    let lengths = [1_000, LIMIT / 2 + 1, LIMIT, LIMIT + 1, 100 * LIMIT];
    let mut most = 0;
    for bytes in lengths {
        let url = "http://127.0.0.1/";
        let [without, with] = [layer(url), layer(url)];
        // Fetches the token.
        for layer in [&without, &with] {
            let body = Stream::of(0).boxed_unsync();
            let request = Request::post(url).body(body).unwrap();
            layer.layer(Sink).oneshot(request).await.unwrap();
        }
        let without = peak_bytes(without.layer(Sink), bytes);
        let with = peak_bytes(with.with_body_buffer(LIMIT, rebox).layer(Sink), bytes);
        most = most.max(with.saturating_sub(without));
    }
    most
}

/// Returns `true` under `cargo bench`, and `false` under `cargo test`, which only checks that the bench runs.
fn is_bench() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

fn figure(name: &str, value: impl std::fmt::Display) {
    if is_bench() {
        println!("figure {name} {value:.3}");
    }
}

#[tokio::main]
async fn main() {
    let extent = if is_bench() { FULL } else { SHORT };
    let most = extra_bytes().await;
    // The buffer may use its limit, and the boxes around the body some more.
    assert!(most <= (LIMIT + 1_000) as u64, "{most}");
    figure("upload_limit_bytes", LIMIT);
    figure("upload_extra_bytes", most);
    let large = ratio(extent.large, 1, extent.large_rounds).await;
    figure("upload_ratio", large);
    let small = ratio(SMALL, extent.small_requests, extent.small_rounds).await;
    figure("small_upload_ratio", small);
}
