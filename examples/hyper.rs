//! Wraps hyper's client for HTTP/1 and HTTP/2, gives single requests a token of their own, and fetches tokens over TLS.

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tower_bearer::testing::{Api, AuthorizationServer};
use tower_bearer::{AuthLayer, TokenCache, TokenSpec};
use tower_bearer::{credentials::ClientCredentials, transport::Transport};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let login = AuthorizationServer::builder().with_tls().start().await?;
    let api = Api::builder(&login)
        .with_required_scope("/admin", "admin")
        .start()
        .await?;

    // This machine does not know the authority that signed the provider's certificate.
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
        let before = login.counts().issued;
        let orders = Request::post(api.url_of("/orders")).body(Full::from("two of these"))?;
        let response = client.ready().await?.call(orders).await?;
        assert_eq!(response.status(), 200);
        assert_eq!(response.version(), version);
        let echo = response.into_body().collect().await?.to_bytes();
        assert_eq!(echo, "two of these");
        let fetches = login.counts().issued - before;
        println!("{version:?}: accepted, after {fetches} token request.");

        // This request needs more scopes than its route has.
        let admin = Request::get(api.url_of("/admin"))
            .extension(TokenSpec::scopes(["read", "admin"]))
            .body(Full::default())?;
        let response = client.ready().await?.call(admin).await?;
        assert_eq!(response.status(), 200);
        println!("{version:?}: accepted with the request's own token.");
    }
    // Both tokens of the first client were revoked before the second one used them.
    assert_eq!(api.counts().unauthorized, 2);
    assert_eq!(api.counts().forbidden, 0);
    for call in login.requests() {
        println!(
            "The client requested a token for {:?}.",
            call.parameter("scope").unwrap_or_default()
        );
    }
    Ok(())
}
