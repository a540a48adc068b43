//! Wraps each client, behind a layer with any replay policy, in one interface.

use std::{
    convert::Infallible,
    hash::{DefaultHasher, Hasher},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::sync::{mpsc, oneshot};
use tonic::{
    Code, Status,
    codegen::tokio_stream::Stream,
    transport::{Channel, Endpoint},
};
use tower::{BoxError, Layer, Service, ServiceExt};
use tower_bearer::{
    AuthLayer,
    layer::{
        Auth, Error, Recovery,
        replay::{ReplayBody, ReplayPolicy},
    },
};

use super::raw_codec::RawCodec;
use crate::connector::connector;

/// A client and its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Reqwest,
    ReqwestTls,
    ReqwestHttp2Tls,
    #[cfg(feature = "reqwest-middleware")]
    Middleware,
    #[cfg(feature = "reqwest-middleware")]
    MiddlewareTls,
    Http1,
    Http1Tls,
    Http2,
    Http2Tls,
    Tonic,
    TonicTls,
}

pub(crate) const KINDS: &[Kind] = &[
    Kind::Reqwest,
    Kind::ReqwestTls,
    Kind::ReqwestHttp2Tls,
    #[cfg(feature = "reqwest-middleware")]
    Kind::Middleware,
    #[cfg(feature = "reqwest-middleware")]
    Kind::MiddlewareTls,
    Kind::Http1,
    Kind::Http1Tls,
    Kind::Http2,
    Kind::Http2Tls,
    Kind::Tonic,
    Kind::TonicTls,
];

impl Kind {
    pub(crate) fn is_tls(self) -> bool {
        format!("{self:?}").ends_with("Tls")
    }

    pub(crate) fn is_http2(self) -> bool {
        self.is_tonic() || matches!(self, Self::Http2 | Self::Http2Tls | Self::ReqwestHttp2Tls)
    }

    pub(crate) fn is_tonic(self) -> bool {
        matches!(self, Self::Tonic | Self::TonicTls)
    }
}

pub(crate) enum Payload {
    /// Bytes in memory.
    Whole(Bytes),
    /// Bytes in memory, in a body that cannot be cloned.
    Once(Bytes),
    /// Parts that are produced while the body is sent.
    Stream(mpsc::Receiver<Bytes>),
}

impl Payload {
    /// Returns a stream of these bytes in parts of 16 KiB.
    pub(crate) fn in_parts(bytes: Bytes) -> Self {
        Self::paused(bytes).0
    }

    /// Like [`Self::in_parts`], but waits for the sender after the first part.
    pub(crate) fn paused(mut bytes: Bytes) -> (Self, oneshot::Sender<()>) {
        let (sender, parts) = mpsc::channel(1);
        let (resume, resumed) = oneshot::channel();
        tokio::spawn(async move {
            let mut resumed = Some(resumed);
            while !bytes.is_empty() {
                let part = bytes.split_to(bytes.len().min(16 << 10));
                if sender.send(part).await.is_err() {
                    return;
                }
                if let Some(resumed) = resumed.take() {
                    let _ = resumed.await;
                }
            }
        });
        (Self::Stream(parts), resume)
    }
}

#[derive(Debug)]
pub(crate) struct ClientResponse {
    pub(crate) status: u16,
    pub(crate) recovery: Option<Recovery>,
    /// For tonic, the message without its gRPC framing.
    pub(crate) body: Digest,
    /// For tonic, the status code returned to the caller.
    pub(crate) code: Option<Code>,
}

/// Length and hash of a body, for short assertion messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    length: usize,
    hash: u64,
}

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(bytes);
        Self {
            length: bytes.len(),
            hash: hasher.finish(),
        }
    }
}

impl ClientResponse {
    /// Returns the status and the name of the recovery.
    pub(crate) fn outcome(&self) -> (u16, &'static str) {
        let recovery = self.recovery.as_ref().map_or("none", Recovery::as_str);
        (self.status, recovery)
    }
}

pub(crate) type Outcome = Result<ClientResponse, Error<BoxError>>;
pub(crate) type Sending = Pin<Box<dyn Future<Output = Outcome> + Send>>;
pub(crate) type Sender = Arc<dyn Fn(&str, Payload) -> Sending + Send + Sync>;

pub(crate) type Boxed = UnsyncBoxBody<Bytes, BoxError>;
/// A replay policy for requests of a client, whose futures can be sent.
pub(crate) trait Policy<Req, Client>:
    ReplayPolicy<Req, Saved<Client>: Send, PausedBody: Send> + Send + Sync + 'static
{
}

impl<R, Req, Client> Policy<Req, Client> for R where
    R: ReplayPolicy<Req, Saved<Client>: Send, PausedBody: Send> + Send + Sync + 'static
{
}

type Hyper<B> = Client<HttpsConnector<HttpConnector>, B>;

/// Returns a client whose requests pass through this layer, without a body buffer.
pub(crate) fn plain<R>(
    kind: Kind,
    ca_pem: Option<&str>,
    origin: &str,
    layer: &AuthLayer<R>,
) -> Sender
where
    R: Policy<reqwest::Request, reqwest::Client> + Policy<reqwest::Request, ()>,
    R: Policy<Request<Full<Bytes>>, Hyper<Full<Bytes>>> + Policy<Request<Boxed>, Hyper<Boxed>>,
    R: Policy<Request<tonic::body::Body>, Channel>,
{
    match kind {
        Kind::Reqwest | Kind::ReqwestTls | Kind::ReqwestHttp2Tls => {
            over_reqwest(kind, ca_pem, origin, layer)
        }
        #[cfg(feature = "reqwest-middleware")]
        Kind::Middleware | Kind::MiddlewareTls => over_middleware(ca_pem, origin, layer),
        Kind::Tonic | Kind::TonicTls => over_tonic(ca_pem, origin, layer),
        _ => {
            let whole = layer.layer(hyper::<Full<Bytes>>(kind, ca_pem));
            let boxed = over_hyper(kind, ca_pem, origin, layer);
            let origin = origin.to_owned();
            Arc::new(move |path, payload| {
                let Payload::Whole(body) = payload else {
                    return boxed(path, payload);
                };
                let request = Request::post(format!("{origin}{path}"));
                let request = request.body(Full::new(body)).unwrap();
                Box::pin(by_hyper(whole.clone(), request))
            })
        }
    }
}

/// Like [`plain`], with a body buffer of this size.
pub(crate) fn buffered(
    kind: Kind,
    ca_pem: Option<&str>,
    origin: &str,
    layer: AuthLayer,
    limit: usize,
) -> Sender {
    let wrap = reqwest::Body::wrap::<ReplayBody<reqwest::Body>>;
    match kind {
        Kind::Reqwest | Kind::ReqwestTls | Kind::ReqwestHttp2Tls => {
            let layer = layer.with_body_buffer(limit, wrap);
            over_reqwest(kind, ca_pem, origin, &layer)
        }
        #[cfg(feature = "reqwest-middleware")]
        Kind::Middleware | Kind::MiddlewareTls => {
            let layer = layer.with_body_buffer(limit, wrap);
            over_middleware(ca_pem, origin, &layer)
        }
        Kind::Tonic | Kind::TonicTls => {
            let layer = layer.with_body_buffer(limit, tonic::body::Body::new);
            over_tonic(ca_pem, origin, &layer)
        }
        _ => {
            let wrap = |body: ReplayBody<Boxed>| body.boxed_unsync();
            let layer = layer.with_body_buffer(limit, wrap);
            over_hyper(kind, ca_pem, origin, &layer)
        }
    }
}

fn over_reqwest<R>(kind: Kind, ca_pem: Option<&str>, origin: &str, layer: &AuthLayer<R>) -> Sender
where
    R: Policy<reqwest::Request, reqwest::Client>,
{
    let client = layer.layer(reqwest_client(kind, ca_pem));
    let origin = origin.to_owned();
    Arc::new(move |path, payload| {
        let request = reqwest_request(&origin, path, payload);
        let sending = client.clone().oneshot(request);
        Box::pin(async { read(sending.await.map_err(inner)?.into()).await })
    })
}

#[cfg(feature = "reqwest-middleware")]
fn over_middleware<R>(ca_pem: Option<&str>, origin: &str, layer: &AuthLayer<R>) -> Sender
where
    R: Policy<reqwest::Request, ()>,
{
    let client = reqwest_middleware::ClientBuilder::new(reqwest_client(Kind::ReqwestTls, ca_pem));
    let client = client.with(layer.clone()).build();
    let origin = origin.to_owned();
    Arc::new(move |path, payload| {
        let request = reqwest_request(&origin, path, payload);
        Box::pin(by_middleware(client.clone(), request))
    })
}

fn reqwest_client(kind: Kind, ca_pem: Option<&str>) -> reqwest::Client {
    let ca = ca_pem.map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()).unwrap());
    let builder = reqwest::Client::builder().tls_certs_only(ca);
    let builder = match kind {
        Kind::ReqwestHttp2Tls => builder,
        _ => builder.http1_only(),
    };
    builder.build().unwrap()
}

fn reqwest_request(origin: &str, path: &str, payload: Payload) -> reqwest::Request {
    let url = format!("{origin}{path}").parse().unwrap();
    let mut request = reqwest::Request::new(http::Method::POST, url);
    *request.body_mut() = Some(match payload {
        Payload::Whole(body) => body.into(),
        Payload::Once(body) => reqwest::Body::wrap(Full::new(body)),
        Payload::Stream(parts) => reqwest::Body::wrap(Parts(parts)),
    });
    request
}

fn over_hyper<R>(kind: Kind, ca_pem: Option<&str>, origin: &str, layer: &AuthLayer<R>) -> Sender
where
    R: Policy<Request<Boxed>, Hyper<Boxed>>,
{
    let client = layer.layer(hyper::<Boxed>(kind, ca_pem));
    let origin = origin.to_owned();
    Arc::new(move |path, payload| {
        let body = match payload {
            Payload::Whole(body) | Payload::Once(body) => boxed(Full::new(body)),
            Payload::Stream(parts) => boxed(Parts(parts)),
        };
        let request = Request::post(format!("{origin}{path}"));
        Box::pin(by_hyper(client.clone(), request.body(body).unwrap()))
    })
}

fn over_tonic<R>(ca_pem: Option<&str>, origin: &str, layer: &AuthLayer<R>) -> Sender
where
    R: Policy<Request<tonic::body::Body>, Channel>,
{
    let layer = layer.clone().with_default_origin(origin).unwrap();
    let client = layer.layer(channel(ca_pem, origin));
    Arc::new(move |path, payload| {
        let path = path.parse().unwrap();
        Box::pin(by_tonic(client.clone(), path, payload))
    })
}

fn hyper<B>(kind: Kind, ca_pem: Option<&str>) -> Hyper<B>
where
    B: Body + Send,
    B::Data: Send,
{
    let mut builder = Client::builder(TokioExecutor::new());
    builder.http2_only(kind == Kind::Http2);
    builder.build(connector(ca_pem, kind != Kind::Http1Tls))
}

/// TLS is the connector's, because tonic's own TLS needs another feature.
fn channel(ca_pem: Option<&str>, origin: &str) -> Channel {
    let target: http::Uri = origin.parse().unwrap();
    let mut connector = connector(ca_pem, true);
    let connect = tower::service_fn(move |_: http::Uri| connector.call(target.clone()));
    let plain = origin.replacen("https://", "http://", 1);
    Endpoint::from_shared(plain)
        .unwrap()
        .connect_with_connector_lazy(connect)
}

#[cfg(feature = "reqwest-middleware")]
async fn by_middleware(
    client: reqwest_middleware::ClientWithMiddleware,
    request: reqwest::Request,
) -> Outcome {
    let answer = client.execute(request).await;
    let error = |error: reqwest_middleware::Error| match error {
        reqwest_middleware::Error::Middleware(error) => match error.downcast() {
            Ok(error) => Error::Token(error),
            Err(other) => Error::Inner(other.into()),
        },
        other => Error::Inner(other.into()),
    };
    read(answer.map_err(error)?.into()).await
}

async fn read<B>(response: Response<B>) -> Outcome
where
    B: Body<Data: Send, Error: Into<BoxError>>,
{
    let (parts, body) = response.into_parts();
    let body = body.collect().await;
    Ok(ClientResponse {
        status: parts.status.as_u16(),
        recovery: parts.extensions.get().cloned(),
        body: Digest::of(&body.map_err(|error| Error::Inner(error.into()))?.to_bytes()),
        code: None,
    })
}

async fn by_hyper<B, R>(client: Auth<Hyper<B>, R>, request: Request<B>) -> Outcome
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
    R: ReplayPolicy<Request<B>>,
{
    read(client.oneshot(request).await.map_err(inner)?).await
}

/// Sends with tonic's client. It exposes only status and message of a response, so the rest is recorded on the way.
async fn by_tonic<R>(
    client: Auth<Channel, R>,
    path: http::uri::PathAndQuery,
    payload: Payload,
) -> Outcome
where
    R: Policy<Request<tonic::body::Body>, Channel>,
{
    let seen = Arc::new(Mutex::new(None));
    let failure = Arc::new(Mutex::new(None));
    let (look, lose) = (Arc::clone(&seen), Arc::clone(&failure));
    let watched = client
        .map_response(move |mut response: Response<tonic::body::Body>| {
            let recovery = response.extensions().get::<Recovery>().cloned();
            let status = response.status().as_u16();
            *look.lock().unwrap() = Some((status, recovery));
            // The API does not speak gRPC, so its responses lack the status.
            if status == 200 && !response.headers().contains_key("grpc-status") {
                let ok = HeaderValue::from_static("0");
                response.headers_mut().insert("grpc-status", ok);
            }
            response
        })
        .map_err(move |error| {
            let said = error.to_string();
            *lose.lock().unwrap() = Some(inner(error));
            said
        });
    let mut grpc = tonic::client::Grpc::new(watched);
    grpc.ready().await.unwrap();
    let outcome: Result<_, Status> = match payload {
        Payload::Whole(body) | Payload::Once(body) => {
            let request = tonic::Request::new(body);
            grpc.unary(request, path, RawCodec).await
        }
        Payload::Stream(parts) => {
            let request = tonic::Request::new(Parts(parts));
            grpc.client_streaming(request, path, RawCodec).await
        }
    };
    if let Some(error) = failure.lock().unwrap().take() {
        return Err(error);
    }
    let (status, recovery) = seen.lock().unwrap().take().unwrap();
    let (body, code) = match outcome {
        Ok(message) => (message.into_inner(), Code::Ok),
        Err(status) => (Bytes::new(), status.code()),
    };
    Ok(ClientResponse {
        status,
        recovery,
        body: Digest::of(&body),
        code: Some(code),
    })
}

fn inner<E: Into<BoxError>>(error: Error<E>) -> Error<BoxError> {
    match error {
        Error::Token(error) => Error::Token(error),
        Error::Inner(error) => Error::Inner(error.into()),
    }
}

fn boxed<B>(body: B) -> Boxed
where
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    body.map_err(|never| match never {}).boxed_unsync()
}

/// A body of unknown length, or a stream of gRPC messages.
struct Parts(mpsc::Receiver<Bytes>);

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let part = self.0.poll_recv(cx);
        part.map(|part| part.map(|data| Ok(Frame::data(data))))
    }
}

impl Stream for Parts {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.poll_recv(cx)
    }
}

/// Returns the concatenated gRPC messages without their prefixes (compression flag and length).
pub(crate) fn messages(mut body: Bytes) -> Bytes {
    let mut all = BytesMut::new();
    while let Some((head, _)) = body.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let _ = body.split_to(5);
        all.extend_from_slice(&body.split_to(length));
    }
    all.freeze()
}
