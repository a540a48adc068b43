//! A client library that takes Tower layers, as kube's and octocrab's `with_layer` do. Theirs are heavy, so a small one of
//! the same make stands in: a boxed service, requests that name a path alone, and the origin put before it beneath.

use std::error::Error;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper_util::{client::legacy::Client as Hyper, rt::TokioExecutor};
use tower::util::{BoxCloneSyncService, ServiceExt};
use tower::{Layer, Service, ServiceBuilder};
use tower_bearer::testing::{Api, AuthorizationServer};
use tower_bearer::{AuthLayer, TokenCache, TokenError, TokenSpec, credentials::ClientCredentials};

type BoxError = Box<dyn Error + Send + Sync>;
type Outcome<T = ()> = Result<T, BoxError>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The library's client. What is in the stack beneath it doesn't show in its type.
#[derive(Clone)]
struct Client(BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>);

struct ClientBuilder<S>(S);

impl<S> ClientBuilder<S> {
    fn with_layer<L: Layer<S>>(self, layer: &L) -> ClientBuilder<L::Service> {
        ClientBuilder(layer.layer(self.0))
    }

    fn build<B>(self) -> Client
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let boxed = |body: B| body.map_err(Into::into).boxed_unsync();
        let service = self.0.map_response(move |it: Response<B>| it.map(boxed));
        Client(BoxCloneSyncService::new(service.map_err(Into::into)))
    }
}

impl Client {
    async fn create(&self, path: &str, what: &'static str) -> Outcome<String> {
        let body = Full::from(what).map_err(|never| match never {});
        let request = Request::post(path).body(body.boxed_unsync())?;
        let response = self.0.clone().oneshot(request).await?;
        ensure(response.status() == 200, response.status().as_str())?;
        let text = response.into_body().collect().await?.to_bytes();
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

#[tokio::main]
async fn main() -> Outcome {
    let login = AuthorizationServer::builder().with_client("pods", "s3cret");
    let login = login.start().await?;
    let api = Api::start(&login).await?;

    // What such a library is given: a client beneath a layer that puts the origin before each path.
    let base: Uri = api.url().parse()?;
    let service = ServiceBuilder::new()
        .map_request(move |request| on(&base, request))
        .service(Hyper::builder(TokioExecutor::new()).build_http());

    // Above that a request names a path alone: the default origin is where it goes. Its body is boxed: it is kept.
    let source = ClientCredentials::new(login.token_url(), "pods", "s3cret");
    let auth = AuthLayer::new(TokenCache::new(source))
        .route(api.url(), TokenSpec::scopes(["pods"]))?
        .with_default_origin(api.url())?
        .with_body_buffer(64 << 10, |body| -> Body { body.boxed_unsync() });
    let client = ClientBuilder(service).with_layer(&auth).build();

    println!("A good token: {}.", client.create("/pods", "one").await?);
    login.revoke_all();
    println!("A revoked token: {}.", client.create("/pods", "two").await?);
    ensure(login.counts().requests == 2, "other counts")?;

    // Nothing else to send: the API's own 401 comes through. However errors are boxed, the token's is among the causes.
    login.set_client_secret("pods", "changed");
    login.revoke_all();
    client.create("/pods", "three").await.err().ok_or("sent")?;
    let error = client.create("/pods", "four").await.err().ok_or("sent")?;
    let cause = error.source().ok_or("no cause")?;
    ensure(cause.is::<TokenError>(), "another cause")?;
    println!("With a wrong secret: {cause}.");
    Ok(())
}

fn on(base: &Uri, mut request: Request<Body>) -> Request<Body> {
    let mut parts = base.clone().into_parts();
    parts.path_and_query = request.uri().path_and_query().cloned();
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    request
}

fn ensure(so: bool, what: &str) -> Outcome {
    so.then_some(()).ok_or_else(|| what.into())
}
