//! An API that wants more of a token than it has: claims (continuous access evaluation), or further scopes.

use std::error::Error;

use reqwest::{Client, Method, Request, Response};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_bearer::credentials::ClientCredentials;
use tower_bearer::testing::{Api, AuthorizationServer};
use tower_bearer::{
    AuthLayer, Route, TokenCache, TokenSpec,
    layer::{Auth, Recovery, Verdict},
};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    let login = AuthorizationServer::start().await?;
    let api = Api::builder(&login)
        .requiring_scope("/files", "files.read")
        .requiring_scope("/files/new", "files.write")
        .requiring_scope("/files/all", "files.admin");
    let api = api.start().await?;

    // This API may ask for one scope beside the route's own.
    let route = Route::new(api.url(), TokenSpec::scopes(["files.read"]));
    let route = route.with_allowed_scopes(["files.write"]);
    let source = ClientCredentials::new(login.token_url(), "client", "secret");
    let auth = AuthLayer::new(TokenCache::new(source)).with_route(route)?;
    let mut client = ServiceBuilder::new().layer(auth).service(Client::new());

    let response = get(&mut client, api.url_of("/files")).await?;
    ensure(response.status() == 200, "a good token was refused")?;
    println!("A good token: {}.", response.status());

    // Something happened to the account: older tokens are of no use, though they are valid still. The API says with its 401 which
    // claims it wants to see satisfied, and these go into the next token request.
    let claims = r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#;
    api.require_claims(Some(claims));
    let response = get(&mut client, api.url_of("/files")).await?;
    let told = recovery(&response);
    ensure(matches!(told, Some(Recovery::Recovered)), "no recovery")?;
    let asked = login.requests().pop().ok_or("no token request")?;
    ensure(asked.parameter("claims") == Some(claims), "other claims")?;
    println!("After a claims challenge: {}.", response.status());

    // This path wants more than a reader may do. The token gets wider, within what the route allows, and stays so.
    let response = get(&mut client, api.url_of("/files/new")).await?;
    let told = recovery(&response);
    ensure(matches!(told, Some(Recovery::Recovered)), "no recovery")?;
    let token = api.requests().pop().and_then(|call| call.token);
    let scopes = token.and_then(|token| login.scopes_of(&token));
    println!("After a 403: {}, with {scopes:?}.", response.status());
    let fetches = login.counts().requests;
    let response = get(&mut client, api.url_of("/files/new")).await?;
    let same = login.counts().requests == fetches && recovery(&response).is_none();
    ensure(same, "the wider token was lost")?;

    // And no wider: what the program did not allow is never asked for. The caller gets the API's answer, and the reason.
    let response = get(&mut client, api.url_of("/files/all")).await?;
    let Some(Recovery::Unsatisfiable(Verdict::ScopesRequired(scopes))) = recovery(&response) else {
        return Err("a scope was not refused".into());
    };
    ensure(login.counts().requests == fetches, "it was asked for")?;
    println!(
        "A scope that the route does not allow: {}, for want of {scopes:?}.",
        response.status()
    );
    println!("In all, the provider had {fetches} requests.");
    ensure(fetches == 3, "other counts")
}

async fn get(client: &mut Auth<Client>, url: String) -> Outcome<Response> {
    let request = Request::new(Method::GET, url.parse()?);
    Ok(client.ready().await?.call(request).await?)
}

fn recovery(response: &Response) -> Option<&Recovery> {
    response.extensions().get()
}

fn ensure(so: bool, what: &str) -> Outcome {
    so.then_some(()).ok_or_else(|| what.into())
}
