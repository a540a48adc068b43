//! Authenticates the client with a signing key, and replaces the key while the program runs:
//! `cargo run --example private_key_jwt --features jwt,testing`.

use std::{env, fs, path::Path};

use rcgen::KeyPair;
use reqwest::{Client, Method, Request};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tower_bearer::testing::{Api, AuthorizationServer};
use tower_bearer::{
    AuthLayer, TokenCache, TokenSpec,
    credentials::{ClientAuth, ClientCredentials, SigningKey, TokenEndpoint},
    layer::Auth,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // The authorization server in this process gets the public half of a new key. You have registered a key already.
    let file = env::temp_dir().join(format!("private-key-jwt-{}.pem", std::process::id()));
    let first = new_key(&file)?;
    let login = AuthorizationServer::builder().with_client_key("orders", first);
    let login = login.start().await?;
    let api = Api::start(&login).await?;

    // The file is read for each token request, and each request has a new assertion.
    let key = SigningKey::from_file(&file)?.with_key_id("2026-11");
    let source = ClientCredentials::from_endpoint(
        TokenEndpoint::new(login.token_url())
            .with_client("orders", ClientAuth::private_key_jwt(key)),
    );
    // Configuration errors are reported before the first request.
    source.check()?;
    let cache = TokenCache::new(source);
    let spec = TokenSpec::scopes(["orders"]);
    let auth = AuthLayer::new(cache.clone()).route(api.url(), spec.clone())?;
    let mut client = ServiceBuilder::new().layer(auth).service(Client::new());

    get(&mut client, &api).await?;
    let call = login.requests().pop().ok_or("no token request")?;
    let assertion = call.parameter("client_assertion").unwrap_or_default();
    println!(
        "1. Fetched a token with an assertion of {} bytes ({:?}).",
        assertion.len(),
        call.auth
    );

    // The provider gets the next key, and stops accepting the first one.
    let next = file.with_extension("next");
    login.set_client_key("orders", &new_key(&next)?)?;
    let error = cache.refresh(&spec).await.unwrap_err();
    println!("2. The provider rejects the first key: {error}.");
    get(&mut client, &api).await?;
    println!("3. Requests still use the cached token.");

    // The next key replaces the first one in the file. An explicit refresh does not wait for the back-off after the failure.
    fs::rename(&next, &file)?;
    cache.refresh(&spec).await?;
    get(&mut client, &api).await?;
    println!("4. With the next key in the file, a token was fetched immediately.");
    fs::remove_file(&file)?;
    Ok(())
}

/// Writes a new private key into the file, and returns its public half.
fn new_key(file: &Path) -> Result<String, BoxError> {
    let key = KeyPair::generate()?;
    fs::write(file, key.serialize_pem())?;
    Ok(key.public_key_pem())
}

async fn get(client: &mut Auth<Client>, api: &Api) -> Result<(), BoxError> {
    let request = Request::new(Method::GET, api.url().parse()?);
    let response = client.ready().await?.call(request).await?;
    assert_eq!(response.status(), 200);
    Ok(())
}
