//! Calls another service on behalf of each user who calls this one, with one cache for all users.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tower_bearer::testing::{Api, AuthorizationServer};
use tower_bearer::{
    AuthLayer, TokenCache, TokenSpec,
    credentials::{ClientAuth, OnBehalfOf, TokenEndpoint},
    token::Subject,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let login = AuthorizationServer::start().await?;
    login.issue_refresh_tokens(true);
    let api = Api::start(&login).await?;

    // The issuer's metadata names the token endpoint.
    let endpoint =
        TokenEndpoint::discover(login.issuer()).with_client("client", ClientAuth::basic("secret"));
    let cache = TokenCache::new(OnBehalfOf::new(endpoint));
    let stock = TokenSpec::scopes(["stock.read"]);
    // The route limits where tokens are sent. Each request names its user.
    let auth = AuthLayer::new(cache.clone()).route(api.url(), stock.clone())?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let mut client = ServiceBuilder::new().layer(auth).service(client);

    let mut users = Vec::new();
    for name in ["alice", "bob"] {
        // The user's request to this service carries a token, which is exchanged for one that the other service accepts.
        let (incoming, _) = login.sign_in(name, "client", ["stock.read"]);
        let spec = stock.clone().with_subject(Subject::new(&*incoming));
        for _ in 0..3 {
            let token = cache.get(&spec).await?;
            let subject = login.subject_of(token.expose());
            assert_eq!(subject.as_deref(), Some(name));
        }
        users.push((name, incoming, spec));
    }
    let fetches = login.counts().issued;
    assert_eq!(fetches, 2);
    println!("Six calls for two users needed {fetches} token requests.");

    // With the layer, the request carries the spec as an extension.
    for (name, _, spec) in &users {
        let mut request = Request::get(api.url()).body(Full::default())?;
        request.extensions_mut().insert(spec.clone());
        let response = client.ready().await?.call(request).await?;
        assert_eq!(response.status(), 200);
        println!("The API responds to {name}: {}.", response.status());
    }

    // The user's token is revoked. Work that has begun continues with the refresh token that came with the exchanged token.
    let (name, incoming, spec) = &users[0];
    login.revoke(incoming);
    let token = cache.refresh(spec).await?;
    let subject = login.subject_of(token.expose());
    assert_eq!(subject.as_deref(), Some(*name));
    let uses = login.refresh_token_uses();
    assert_eq!(uses, 1);
    println!("After {name}'s token was revoked, {uses} refresh token was used.");
    Ok(())
}
