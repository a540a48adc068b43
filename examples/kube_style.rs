//! Adds the layer to a client library that accepts Tower layers, as kube and octocrab do with `with_layer`. A small library
//! with the same structure takes their place: a boxed service, requests with only a path, and a layer that adds the origin.

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper_util::{client::legacy::Client as Hyper, rt::TokioExecutor};
use tower::util::{BoxCloneSyncService, ServiceExt};
use tower::{BoxError, Layer, Service, ServiceBuilder};
use tower_bearer::testing::{Api, AuthorizationServer};
use tower_bearer::{AuthLayer, TokenCache, TokenError, TokenSpec, credentials::ClientCredentials};

type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The library's client. Its type does not name the layers in it.
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
    async fn create(&self, path: &str, body: &'static str) -> Result<String, BoxError> {
        let body = Full::from(body).map_err(|never| match never {});
        let request = Request::post(path).body(body.boxed_unsync())?;
        let response = self.0.clone().oneshot(request).await?;
        if response.status() != 200 {
            return Err(response.status().as_str().into());
        }
        let text = response.into_body().collect().await?.to_bytes();
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let login = AuthorizationServer::builder().with_client("pods", "s3cret");
    let login = login.start().await?;
    let api = Api::start(&login).await?;

    // The library's own stack: a client, and a layer that adds the origin to each request.
    let base: Uri = api.url().parse()?;
    let service = ServiceBuilder::new()
        .map_request(move |request| with_origin(&base, request))
        .service(Hyper::builder(TokioExecutor::new()).build_http());

    // Above that stack, requests have only a path: the default origin says which route they take. Their boxed bodies can't be
    // cloned, so they are buffered for a replay.
    let source = ClientCredentials::new(login.token_url(), "pods", "s3cret");
    let auth = AuthLayer::new(TokenCache::new(source))
        .route(api.url(), TokenSpec::scopes(["pods"]))?
        .with_default_origin(api.url())?
        .with_body_buffer(64 << 10, |body| -> Body { body.boxed_unsync() });
    let client = ClientBuilder(service).with_layer(&auth).build();

    let created = client.create("/pods", "one").await?;
    println!("With a valid token: created {created}.");
    login.revoke_all();
    let created = client.create("/pods", "two").await?;
    println!("With a revoked token: created {created}.");
    assert_eq!(login.counts().requests, 2);

    // When no other token can be fetched, the caller gets the API's 401. The next request fails, and the `TokenError` is among
    // the causes of its error.
    login.set_client_secret("pods", "changed");
    login.revoke_all();
    let error = client.create("/pods", "three").await.unwrap_err();
    assert_eq!(error.to_string(), "401");
    let error = client.create("/pods", "four").await.unwrap_err();
    let cause = error.source().ok_or("no cause")?;
    assert!(cause.is::<TokenError>());
    println!("With a wrong secret: {cause}.");
    Ok(())
}

fn with_origin(base: &Uri, mut request: Request<Body>) -> Request<Body> {
    let mut parts = base.clone().into_parts();
    parts.path_and_query = request.uri().path_and_query().cloned();
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    request
}
