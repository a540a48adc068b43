//! A `reqwest::Client` whose requests bear tokens, and what the response tells when one was refused.

use std::error::Error;

use bytes::Bytes;
use http_body_util::Full;
use reqwest::{Body, Client, Method, Request, Response};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_bearer::testing::{Api, AuthorizationServer};
use tower_bearer::{
    AuthLayer, TokenCache, TokenSpec,
    credentials::ClientCredentials,
    layer::{Auth, Recovery},
};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    let login = AuthorizationServer::start().await?;
    let api = Api::start(&login).await?;

    let source = ClientCredentials::new(login.token_url(), "client", "secret");
    let auth = AuthLayer::new(TokenCache::new(source))
        .route(api.url(), TokenSpec::scopes(["orders.write"]))?;
    let mut client = ServiceBuilder::new().layer(auth).service(Client::new());

    let response = post(&mut client, &api, Body::from("in memory")).await?;
    ensure(recovery(&response).is_none(), "something had to be done")?;
    println!("A good token: {}.", response.status());

    login.revoke_all();
    let response = post(&mut client, &api, Body::from("in memory")).await?;
    let status = response.status();
    let told = matches!(recovery(&response), Some(Recovery::Recovered));
    ensure(status == 200 && told, "no recovery")?;
    let echo = response.text().await?;
    ensure(echo == "in memory", "the body was another")?;
    println!("A revoked token: {status} from the second attempt, which sent {echo:?} again.");

    // A body that is read once can't be sent again. The token is out of service all the same.
    login.revoke_all();
    let once = Body::wrap(Full::<Bytes>::from("read once"));
    let response = post(&mut client, &api, once).await?;
    let told = matches!(recovery(&response), Some(Recovery::NotReplayable));
    ensure(response.status() == 401 && told, "a body was sent twice")?;
    println!(
        "A revoked token, a body that is read once: {}.",
        response.status()
    );
    let response = post(&mut client, &api, Body::from("in memory")).await?;
    ensure(
        recovery(&response).is_none(),
        "the revoked token was sent again",
    )?;
    println!("The next request: {}.", response.status());

    // An API that refuses every token gets two of them, and its 401 is the caller's.
    api.always_unauthorized(true);
    let response = post(&mut client, &api, Body::from("in memory")).await?;
    let told = matches!(recovery(&response), Some(Recovery::RejectedAgain));
    ensure(response.status() == 401 && told, "no second refusal")?;
    println!("An API that refuses every token: {}.", response.status());

    let (requests, fetches) = (api.counts().requests, login.counts().requests);
    ensure((requests, fetches) == (7, 4), "other counts")?;
    println!("In all, the API had {requests} requests, and the provider {fetches}.");
    Ok(())
}

async fn post(client: &mut Auth<Client>, api: &Api, body: Body) -> Outcome<Response> {
    let mut request = Request::new(Method::POST, api.url_of("/orders").parse()?);
    *request.body_mut() = Some(body);
    Ok(client.ready().await?.call(request).await?)
}

/// There only if there was something to do.
fn recovery(response: &Response) -> Option<&Recovery> {
    response.extensions().get()
}

fn ensure(so: bool, what: &str) -> Outcome {
    so.then_some(()).ok_or_else(|| what.into())
}
