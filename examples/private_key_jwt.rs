//! A client without a secret: it signs with a key, which is replaced while the program runs:
//! `cargo run --example private_key_jwt --features jwt,testing`.

use std::{env, error::Error, fs, path::Path};

use rcgen::KeyPair;
use reqwest::{Client, Method, Request};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_bearer::testing::{Api, AuthorizationServer};
use tower_bearer::{
    AuthLayer, TokenCache, TokenSpec,
    credentials::{ClientAuth, ClientCredentials, SigningKey, TokenEndpoint},
    layer::Auth,
};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    // You have a key already. Here, the authorization server in this process gets the public half of a new one.
    let file = env::temp_dir().join(format!("private-key-jwt-{}.pem", std::process::id()));
    let first = new_key(&file)?;
    let login = AuthorizationServer::builder().with_client_key("orders", first);
    let login = login.start().await?;
    let api = Api::start(&login).await?;

    // The file is read for each token request, and each gets an assertion of its own.
    let key = SigningKey::from_file(&file)?.with_key_id("2026-11");
    let source = ClientCredentials::from_endpoint(
        TokenEndpoint::new(login.token_url())
            .with_client("orders", ClientAuth::private_key_jwt(key)),
    );
    // What can't work is told before the first request.
    source.check()?;
    let cache = TokenCache::new(source);
    let spec = TokenSpec::scopes(["orders"]);
    let auth = AuthLayer::new(cache.clone()).route(api.url(), spec.clone())?;
    let mut client = ServiceBuilder::new().layer(auth).service(Client::new());

    get(&mut client, &api).await?;
    let call = login.requests().pop().ok_or("no token request")?;
    let assertion = call.parameter("client_assertion").unwrap_or_default();
    println!(
        "1. A token for an assertion of {} bytes, sent by {:?}.",
        assertion.len(),
        call.auth
    );

    // The provider learns of the next key, and no longer takes the first.
    let beside = file.with_extension("next");
    login.set_client_key("orders", &new_key(&beside)?)?;
    let error = cache.refresh(&spec).await.expect_err("the first key");
    println!("2. The first key is refused: {error}.");
    get(&mut client, &api).await?;
    println!("3. Requests go on with the token that is still good.");

    // Our file becomes the next key. Nobody waits for the pause after a refusal to end.
    fs::rename(&beside, &file)?;
    cache.refresh(&spec).await?;
    get(&mut client, &api).await?;
    println!("4. The next key is in the file, and a token for it came at once.");
    fs::remove_file(&file)?;
    Ok(())
}

/// Writes a new private key into the file, and returns its public half.
fn new_key(file: &Path) -> Outcome<String> {
    let key = KeyPair::generate()?;
    fs::write(file, key.serialize_pem())?;
    Ok(key.public_key_pem())
}

async fn get(client: &mut Auth<Client>, api: &Api) -> Outcome {
    let request = Request::new(Method::GET, api.url().parse()?);
    let response = client.ready().await?.call(request).await?;
    match response.status().is_success() {
        true => Ok(()),
        false => Err("a request was refused".into()),
    }
}
