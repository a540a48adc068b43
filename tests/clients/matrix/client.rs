//! Each client behind a layer of whatever policy, called alike.

use std::{
    convert::Infallible,
    error::Error as StdError,
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
use tokio::sync::mpsc;
use tonic::{
    Code, Status,
    codegen::tokio_stream::Stream,
    transport::{Channel, Endpoint},
};
use tower::{Layer, Service, ServiceExt};
use tower_bearer::{
    AuthLayer,
    layer::{
        Auth, Error, Recovery,
        replay::{ReplayBody, ReplayPolicy},
    },
};

use super::raw::Raw;
use crate::caller::{BoxError, connector};

/// Which client, and over what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Reqwest,
    ReqwestTls,
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

    pub(crate) fn is_tonic(self) -> bool {
        matches!(self, Self::Tonic | Self::TonicTls)
    }
}

/// What is sent.
pub(crate) enum Load {
    /// A body that is in memory.
    Whole(Bytes),
    /// One that is in memory, and can be read once.
    Once(Bytes),
    /// One that comes in parts, when they are made.
    Stream(mpsc::Receiver<Bytes>),
}

impl Load {
    /// A stream of these bytes in parts of 16 KiB.
    pub(crate) fn in_parts(mut bytes: Bytes) -> Self {
        let (sender, parts) = mpsc::channel(1);
        tokio::spawn(async move {
            while !bytes.is_empty() {
                let part = bytes.split_to(bytes.len().min(16 << 10));
                if sender.send(part).await.is_err() {
                    return;
                }
            }
        });
        Self::Stream(parts)
    }
}

/// What the caller of the client sees.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) recovery: Option<Recovery>,
    /// Of tonic, the message without what gRPC puts around it.
    pub(crate) body: Sum,
    /// Of tonic, what its caller gets.
    pub(crate) code: Option<Code>,
}

/// How many bytes, and which: to compare, and to be told in a few words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    length: usize,
    hash: u64,
}

impl Sum {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(bytes);
        Self {
            length: bytes.len(),
            hash: hasher.finish(),
        }
    }
}

impl Answer {
    /// The status, and the recovery's name.
    pub(crate) fn outcome(&self) -> (u16, &'static str) {
        let recovery = self.recovery.as_ref().map_or("none", Recovery::as_str);
        (self.status, recovery)
    }
}

pub(crate) type Sent = Result<Answer, Error<BoxError>>;
pub(crate) type Sending = Pin<Box<dyn Future<Output = Sent> + Send>>;
pub(crate) type Sender = Arc<dyn Fn(&str, Load) -> Sending + Send + Sync>;

/// The body types that the clients' requests have.
pub(crate) type Boxed = UnsyncBoxBody<Bytes, BoxError>;
type Hyper<B> = Client<HttpsConnector<HttpConnector>, B>;

/// A client of this kind whose requests go through this layer, where bodies go once or as the layer has it by itself.
pub(crate) fn plain<R>(
    kind: Kind,
    ca_pem: Option<&str>,
    origin: &str,
    layer: &AuthLayer<R>,
) -> Sender
where
    R: ReplayPolicy<reqwest::Request>
        + ReplayPolicy<Request<Full<Bytes>>>
        + ReplayPolicy<Request<Boxed>>,
    R: ReplayPolicy<Request<tonic::body::Body>> + Send + Sync + 'static,
    <R as ReplayPolicy<reqwest::Request>>::Spare<reqwest::Client>: Send,
    <R as ReplayPolicy<reqwest::Request>>::Spare<()>: Send,
    <R as ReplayPolicy<reqwest::Request>>::Rest: Send,
    <R as ReplayPolicy<Request<Full<Bytes>>>>::Spare<Hyper<Full<Bytes>>>: Send,
    <R as ReplayPolicy<Request<Full<Bytes>>>>::Rest: Send,
    <R as ReplayPolicy<Request<Boxed>>>::Spare<Hyper<Boxed>>: Send,
    <R as ReplayPolicy<Request<Boxed>>>::Rest: Send,
    <R as ReplayPolicy<Request<tonic::body::Body>>>::Spare<Channel>: Send,
    <R as ReplayPolicy<Request<tonic::body::Body>>>::Rest: Send,
{
    match kind {
        Kind::Reqwest | Kind::ReqwestTls => over_reqwest(ca_pem, origin, layer),
        #[cfg(feature = "reqwest-middleware")]
        Kind::Middleware | Kind::MiddlewareTls => over_middleware(ca_pem, origin, layer),
        Kind::Tonic | Kind::TonicTls => over_tonic(ca_pem, origin, layer),
        _ => {
            let whole = layer.layer(hyper::<Full<Bytes>>(kind, ca_pem));
            let boxed = over_hyper(kind, ca_pem, origin, layer);
            let origin = origin.to_owned();
            Arc::new(move |path, load| {
                let Load::Whole(body) = load else {
                    return boxed(path, load);
                };
                let request = Request::post(format!("{origin}{path}"));
                let request = request.body(Full::new(body)).unwrap();
                Box::pin(by_hyper(whole.clone(), request))
            })
        }
    }
}

/// The same where what is sent is kept, up to this limit.
pub(crate) fn buffered(
    kind: Kind,
    ca_pem: Option<&str>,
    origin: &str,
    layer: AuthLayer,
    limit: usize,
) -> Sender {
    match kind {
        Kind::Reqwest | Kind::ReqwestTls => over_reqwest(
            ca_pem,
            origin,
            &layer.with_body_buffer(limit, reqwest::Body::wrap::<ReplayBody<reqwest::Body>>),
        ),
        #[cfg(feature = "reqwest-middleware")]
        Kind::Middleware | Kind::MiddlewareTls => over_middleware(
            ca_pem,
            origin,
            &layer.with_body_buffer(limit, reqwest::Body::wrap::<ReplayBody<reqwest::Body>>),
        ),
        Kind::Tonic | Kind::TonicTls => over_tonic(
            ca_pem,
            origin,
            &layer.with_body_buffer(limit, tonic::body::Body::new),
        ),
        _ => {
            let layer =
                layer.with_body_buffer(limit, |body: ReplayBody<Boxed>| body.boxed_unsync());
            over_hyper(kind, ca_pem, origin, &layer)
        }
    }
}

fn over_reqwest<R>(ca_pem: Option<&str>, origin: &str, layer: &AuthLayer<R>) -> Sender
where
    R: ReplayPolicy<reqwest::Request> + Send + Sync + 'static,
    R::Spare<reqwest::Client>: Send,
    R::Rest: Send,
{
    let client = layer.layer(reqwest_client(ca_pem));
    let origin = origin.to_owned();
    Arc::new(move |path, load| {
        let request = reqwest_request(&origin, path, load);
        Box::pin(by_reqwest(client.clone(), request))
    })
}

#[cfg(feature = "reqwest-middleware")]
fn over_middleware<R>(ca_pem: Option<&str>, origin: &str, layer: &AuthLayer<R>) -> Sender
where
    R: ReplayPolicy<reqwest::Request> + Send + Sync + 'static,
    R::Spare<()>: Send,
    R::Rest: Send,
{
    let client = reqwest_middleware::ClientBuilder::new(reqwest_client(ca_pem));
    let client = client.with(layer.clone()).build();
    let origin = origin.to_owned();
    Arc::new(move |path, load| {
        let request = reqwest_request(&origin, path, load);
        Box::pin(by_middleware(client.clone(), request))
    })
}

/// Over HTTP/1.1, with TLS too.
fn reqwest_client(ca_pem: Option<&str>) -> reqwest::Client {
    let ca = ca_pem.map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()).unwrap());
    let builder = reqwest::Client::builder().http1_only();
    builder.tls_certs_only(ca).build().unwrap()
}

fn reqwest_request(origin: &str, path: &str, load: Load) -> reqwest::Request {
    let url = format!("{origin}{path}").parse().unwrap();
    let mut request = reqwest::Request::new(http::Method::POST, url);
    *request.body_mut() = Some(match load {
        Load::Whole(body) => body.into(),
        Load::Once(body) => reqwest::Body::wrap(Full::new(body)),
        Load::Stream(parts) => reqwest::Body::wrap(Parts(parts)),
    });
    request
}

fn over_hyper<R>(kind: Kind, ca_pem: Option<&str>, origin: &str, layer: &AuthLayer<R>) -> Sender
where
    R: ReplayPolicy<Request<Boxed>> + Send + Sync + 'static,
    R::Spare<Hyper<Boxed>>: Send,
    R::Rest: Send,
{
    let client = layer.layer(hyper::<Boxed>(kind, ca_pem));
    let origin = origin.to_owned();
    Arc::new(move |path, load| {
        let body = match load {
            Load::Whole(body) | Load::Once(body) => boxed(Full::new(body)),
            Load::Stream(parts) => boxed(Parts(parts)),
        };
        let request = Request::post(format!("{origin}{path}"));
        Box::pin(by_hyper(client.clone(), request.body(body).unwrap()))
    })
}

fn over_tonic<R>(ca_pem: Option<&str>, origin: &str, layer: &AuthLayer<R>) -> Sender
where
    R: ReplayPolicy<Request<tonic::body::Body>> + Send + Sync + 'static,
    R::Spare<Channel>: Send,
    R::Rest: Send,
{
    let layer = layer.clone().with_default_origin(origin).unwrap();
    let client = layer.layer(channel(ca_pem, origin));
    Arc::new(move |path, load| {
        let path = path.parse().unwrap();
        Box::pin(by_tonic(client.clone(), path, load))
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

/// tonic's own TLS is a feature of its own; here the connector brings it.
fn channel(ca_pem: Option<&str>, origin: &str) -> Channel {
    let target: http::Uri = origin.parse().unwrap();
    let mut connector = connector(ca_pem, true);
    let connect = tower::service_fn(move |_: http::Uri| connector.call(target.clone()));
    let plain = origin.replacen("https://", "http://", 1);
    Endpoint::from_shared(plain)
        .unwrap()
        .connect_with_connector_lazy(connect)
}

async fn by_reqwest<R>(client: Auth<reqwest::Client, R>, request: reqwest::Request) -> Sent
where
    R: ReplayPolicy<reqwest::Request>,
{
    read(client.oneshot(request).await.map_err(inner)?).await
}

#[cfg(feature = "reqwest-middleware")]
async fn by_middleware(
    client: reqwest_middleware::ClientWithMiddleware,
    request: reqwest::Request,
) -> Sent {
    let answer = client.execute(request).await;
    let error = |error: reqwest_middleware::Error| match error {
        reqwest_middleware::Error::Middleware(error) => match error.downcast() {
            Ok(error) => Error::Token(error),
            Err(other) => Error::Inner(other.into()),
        },
        other => Error::Inner(other.into()),
    };
    read(answer.map_err(error)?).await
}

async fn read(response: reqwest::Response) -> Sent {
    Ok(Answer {
        status: response.status().as_u16(),
        recovery: response.extensions().get().cloned(),
        body: Sum::of(&response.bytes().await.map_err(lost)?),
        code: None,
    })
}

async fn by_hyper<B, R>(client: Auth<Hyper<B>, R>, request: Request<B>) -> Sent
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
    R: ReplayPolicy<Request<B>>,
{
    let response = client.oneshot(request).await.map_err(inner)?;
    Ok(Answer {
        status: response.status().as_u16(),
        recovery: response.extensions().get().cloned(),
        body: Sum::of(
            &response
                .into_body()
                .collect()
                .await
                .map_err(lost)?
                .to_bytes(),
        ),
        code: None,
    })
}

/// By tonic's own client, which sees no more of a response than its status and its message: the rest is seen on the way.
async fn by_tonic<R>(client: Auth<Channel, R>, path: http::uri::PathAndQuery, load: Load) -> Sent
where
    R: ReplayPolicy<Request<tonic::body::Body>> + Send + 'static,
    R::Spare<Channel>: Send,
    R::Rest: Send,
{
    let seen = Arc::new(Mutex::new(None));
    let failure = Arc::new(Mutex::new(None));
    let (look, lose) = (Arc::clone(&seen), Arc::clone(&failure));
    let watched = client
        .map_response(move |mut response: Response<tonic::body::Body>| {
            let recovery = response.extensions().get::<Recovery>().cloned();
            let status = response.status().as_u16();
            *look.lock().unwrap() = Some((status, recovery));
            // The API knows nothing of gRPC: its echoes lack the status at their ends.
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
    let outcome: Result<_, Status> = match load {
        Load::Whole(body) | Load::Once(body) => {
            let request = tonic::Request::new(body);
            grpc.unary(request, path, Raw).await
        }
        Load::Stream(parts) => {
            let request = tonic::Request::new(Messages(parts));
            grpc.client_streaming(request, path, Raw).await
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
    Ok(Answer {
        status,
        recovery,
        body: Sum::of(&body),
        code: Some(code),
    })
}

fn inner<E: Into<BoxError>>(error: Error<E>) -> Error<BoxError> {
    match error {
        Error::Token(error) => Error::Token(error),
        Error::Inner(error) => Error::Inner(error.into()),
    }
}

fn lost(error: impl StdError + Send + Sync + 'static) -> Error<BoxError> {
    Error::Inner(error.into())
}

fn boxed<B>(body: B) -> Boxed
where
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    body.map_err(|never| match never {}).boxed_unsync()
}

/// A body of unknown length.
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

/// The same as gRPC's messages.
struct Messages(mpsc::Receiver<Bytes>);

impl Stream for Messages {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.poll_recv(cx)
    }
}

/// Messages of gRPC, one after the other, without what stands before each (its length, and whether it is compressed).
pub(crate) fn messages(mut body: Bytes) -> Bytes {
    let mut all = BytesMut::new();
    while let Some((head, _)) = body.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let _ = body.split_to(5);
        all.extend_from_slice(&body.split_to(length));
    }
    all.freeze()
}
