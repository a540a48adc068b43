//! A service calls another one in the name of each user who calls it, with one cache for all of them.

use std::error::Error;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_bearer::testing::{Api, AuthorizationServer};
use tower_bearer::{
    AuthLayer, TokenCache, TokenSpec,
    credentials::{ClientAuth, OnBehalfOf, TokenEndpoint},
    token::Subject,
};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    let login = AuthorizationServer::start().await?;
    login.give_refresh_tokens(true);
    let api = Api::start(&login).await?;

    // The provider is known by its issuer alone; where its token endpoint is stands in its metadata.
    let endpoint =
        TokenEndpoint::discover(login.issuer()).with_client("client", ClientAuth::basic("secret"));
    let cache = TokenCache::new(OnBehalfOf::new(endpoint));
    let stock = TokenSpec::scopes(["stock.read"]);
    // The route says where tokens may go. Whose they are, each request says for itself.
    let auth = AuthLayer::new(cache.clone()).route(api.url(), stock.clone())?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let mut client = ServiceBuilder::new().layer(auth).service(client);

    let mut users = Vec::new();
    for name in ["alice", "bob"] {
        // What the user's request came with.
        let (incoming, _) = login.sign_in(name, "client", ["stock.read"]);
        let spec = stock.clone().with_subject(Subject::new(&*incoming));
        for _ in 0..3 {
            let token = cache.get(&spec).await?;
            let subject = login.subject_of(token.expose());
            ensure(subject.as_deref() == Some(name), "another user's token")?;
        }
        users.push((name, incoming, spec));
    }
    ensure(login.counts().issued == 2, "not one token for each user")?;
    println!(
        "Two users, two tokens, {} requests.",
        login.counts().requests
    );

    // Through the layer: the spec goes with the request, as an extension.
    for (name, _, spec) in &users {
        let mut request = Request::get(api.url()).body(Full::default())?;
        request.extensions_mut().insert(spec.clone());
        let response = client.ready().await?.call(request).await?;
        println!("The API says {} to {name}.", response.status());
        ensure(response.status() == 200, "refused")?;
    }

    // The user's own token ends, and the work that was begun with it goes on.
    let (name, incoming, spec) = &users[0];
    login.revoke(incoming);
    let token = cache.refresh(spec).await?;
    let subject = login.subject_of(token.expose());
    ensure(subject.as_deref() == Some(name), "another user's token")?;
    println!(
        "After {name}'s token has ended, {} refresh token was used.",
        login.refresh_token_uses()
    );
    Ok(())
}

fn ensure(so: bool, what: &str) -> Outcome {
    so.then_some(()).ok_or_else(|| what.into())
}
