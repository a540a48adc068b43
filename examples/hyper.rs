//! hyper's client over HTTP/1 and HTTP/2, a token for a single request, and a token endpoint over TLS.

use std::error::Error;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_bearer::testing::{Api, AuthorizationServer};
use tower_bearer::{AuthLayer, TokenCache, TokenSpec};
use tower_bearer::{credentials::ClientCredentials, transport::Transport};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    let login = AuthorizationServer::builder().with_tls().start().await?;
    let api = Api::builder(&login)
        .requiring_scope("/admin", "admin")
        .start()
        .await?;

    // The provider's certificate is signed by an authority that this machine doesn't know.
    let authority = login.ca_pem().ok_or("no certificate")?;
    let transport = Transport::hyper().with_root_certificate_pem(authority.as_bytes())?;
    let source =
        ClientCredentials::new(login.token_url(), "client", "secret").with_transport(transport);
    let cache = TokenCache::new(source);
    let auth = AuthLayer::new(cache).route(api.url(), TokenSpec::scopes(["read"]))?;

    let mut hyper = Client::builder(TokioExecutor::new());
    let http1 = hyper.build_http::<Full<Bytes>>();
    let http2 = hyper.http2_only(true).build_http::<Full<Bytes>>();
    for (client, version) in [(http1, Version::HTTP_11), (http2, Version::HTTP_2)] {
        let mut client = ServiceBuilder::new().layer(&auth).service(client);
        login.revoke_all();
        let mut fetched = login.counts().issued;
        let orders = Request::post(api.url_of("/orders")).body(Full::from("two of these"))?;
        let response = client.ready().await?.call(orders).await?;
        ensure(response.status() == 200, "a request was refused")?;
        ensure(response.version() == version, "another protocol")?;
        let echo = response.into_body().collect().await?.to_bytes();
        ensure(echo == "two of these", "the body was another")?;
        fetched = login.counts().issued - fetched;
        println!("{version:?}: answered, after {fetched} token request.");

        // This one alone needs more than its route says.
        let admin = Request::get(api.url_of("/admin"))
            .extension(TokenSpec::scopes(["read", "admin"]))
            .body(Full::default())?;
        let response = client.ready().await?.call(admin).await?;
        ensure(
            response.status() == 200,
            "the request's own spec was not heeded",
        )?;
        println!("{version:?}: answered with a token of its own.");
    }
    let refused = api.counts().unauthorized;
    ensure(
        refused == 2,
        "the second protocol's requests met other tokens",
    )?;
    ensure(
        api.counts().forbidden == 0,
        "a token had not the scopes asked for",
    )?;
    for call in login.requests() {
        println!(
            "The provider was asked for {:?}.",
            call.parameter("scope").unwrap_or_default()
        );
    }
    Ok(())
}

fn ensure(so: bool, what: &str) -> Outcome {
    so.then_some(()).ok_or_else(|| what.into())
}
