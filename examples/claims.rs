//! Recovers from challenges that require more of a token: claims (continuous access evaluation), or more scopes.

use reqwest::{Client, Method, Request, Response};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tower_bearer::credentials::ClientCredentials;
use tower_bearer::testing::{Api, AuthorizationServer};
use tower_bearer::{
    AuthLayer, Route, TokenCache, TokenSpec,
    layer::{Auth, Recovery, Verdict},
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let login = AuthorizationServer::start().await?;
    let api = Api::builder(&login)
        .with_required_scope("/files", "files.read")
        .with_required_scope("/files/new", "files.write")
        .with_required_scope("/files/all", "files.admin");
    let api = api.start().await?;

    // In addition to the route's own scope, this API may require one more.
    let route = Route::new(api.url(), TokenSpec::scopes(["files.read"]));
    let route = route.with_allowed_scopes(["files.write"]);
    let source = ClientCredentials::new(login.token_url(), "client", "secret");
    let auth = AuthLayer::new(TokenCache::new(source)).with_route(route)?;
    let mut client = ServiceBuilder::new().layer(auth).service(Client::new());

    let response = get(&mut client, api.url_of("/files")).await?;
    assert_eq!(response.status(), 200);
    println!("With the token of the route: {}.", response.status());

    // The account has changed, so the API rejects tokens that were issued before, although they have not expired. The challenge
    // in its 401 names the required claims, which are sent with the next token request.
    let claims = r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#;
    api.require_claims(Some(claims));
    let response = get(&mut client, api.url_of("/files")).await?;
    assert!(matches!(recovery(&response), Some(Recovery::Recovered)));
    let token_request = login.requests().pop().ok_or("no token request")?;
    assert_eq!(token_request.parameter("claims"), Some(claims));
    println!("After a claims challenge: {}.", response.status());

    // This path requires a scope that the token does not have, but that the route allows. The wider token is cached.
    let response = get(&mut client, api.url_of("/files/new")).await?;
    assert!(matches!(recovery(&response), Some(Recovery::Recovered)));
    let token = api.requests().pop().and_then(|call| call.token);
    let scopes = token.and_then(|token| login.scopes_of(&token));
    println!(
        "After a scope challenge: {}, with {scopes:?}.",
        response.status()
    );
    let fetches = login.counts().requests;
    let response = get(&mut client, api.url_of("/files/new")).await?;
    assert_eq!(login.counts().requests, fetches);
    assert!(recovery(&response).is_none(), "the wider token was lost");

    // A scope that the route does not allow is never requested. The caller gets the API's response, and the reason.
    let response = get(&mut client, api.url_of("/files/all")).await?;
    let Some(Recovery::Unsatisfiable(Verdict::ScopesRequired(scopes))) = recovery(&response) else {
        return Err("the scope was requested".into());
    };
    assert_eq!(login.counts().requests, fetches, "it was requested");
    println!(
        "After a challenge for a scope that is not allowed: {}, requires {scopes:?}.",
        response.status()
    );
    assert_eq!(fetches, 3);
    println!("The provider received {fetches} token requests in total.");
    Ok(())
}

async fn get(client: &mut Auth<Client>, url: String) -> Result<Response, BoxError> {
    let request = Request::new(Method::GET, url.parse()?);
    Ok(client.ready().await?.call(request).await?)
}

/// Returns how the layer handled a rejection. `None` if the first response was accepted.
fn recovery(response: &Response) -> Option<&Recovery> {
    response.extensions().get()
}
