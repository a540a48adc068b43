//! One token for another: the cluster's for the cloud's, and a user's for one that says who acts for them.

use std::error::Error;

use tower_bearer::testing::AuthorizationServer;
use tower_bearer::{
    ErrorKind, Secret, TokenCache, TokenSpec,
    credentials::{ClientAuth, ClientCredentials, TokenEndpoint, TokenExchange, assertion},
    token::{Subject, TokenType},
};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    let login = AuthorizationServer::start().await?;

    // A workload has its cluster's token in a file, which the cluster renews. The cloud knows no client of it.
    let file = std::env::temp_dir().join(format!("cluster-token-{}", std::process::id()));
    std::fs::write(&file, "the cluster's word")?;
    login.believe("the cluster's word", "pod-17");
    let endpoint = TokenEndpoint::new(login.token_url());
    let workload = TokenExchange::new(endpoint)
        .with_subject(Secret::from_file(&file)?, TokenType::JWT)
        .with_requested_token_type(TokenType::ACCESS_TOKEN);
    let token = TokenCache::new(workload)
        .get(&TokenSpec::scopes(["storage"]))
        .await?;
    std::fs::remove_file(&file)?;
    let subject = login.subject_of(token.expose()).unwrap_or_default();
    ensure(subject == "pod-17", "another subject")?;
    println!("The cluster's token became one for {subject}.");

    // A service acts for its users: the subject is each request's, the actor is the service itself, from a cache of its own.
    let client =
        || TokenEndpoint::new(login.token_url()).with_client("client", ClientAuth::basic("secret"));
    let own = TokenCache::new(ClientCredentials::from_endpoint(client()));
    let actor = assertion::from_provider(own, TokenSpec::scopes(["act"]));
    let source = TokenExchange::new(client()).with_actor(actor, TokenType::ACCESS_TOKEN);
    let cache = TokenCache::new(source);
    for user in ["alice", "bob"] {
        let (incoming, _) = login.sign_in(user, "client", ["stock.read"]);
        let spec = TokenSpec::scopes(["stock.read"])
            .with_audience("stock")
            .with_subject(Subject::new(incoming));
        let token = cache.get(&spec).await?;
        let subject = login.subject_of(token.expose()).unwrap_or_default();
        let actor = login.actor_of(token.expose()).unwrap_or_default();
        ensure(
            subject == user && actor == "client",
            "another subject or actor",
        )?;
        println!("A token for {subject}, for whom {actor} acts.");
    }
    let own = login.counts().of_grant("client_credentials");
    ensure(own == 1, "the actor's token was fetched for each user")?;

    // What can't be sent as a bearer token is never handed out.
    let identity = TokenExchange::new(client()).with_requested_token_type(TokenType::ID_TOKEN);
    let (incoming, _) = login.sign_in("alice", "client", ["stock.read"]);
    let spec = TokenSpec::default().with_subject(Subject::new(incoming));
    let Err(error) = TokenCache::new(identity).get(&spec).await else {
        return Err("an ID token was handed out".into());
    };
    ensure(error.kind() == ErrorKind::Malformed, "another error")?;
    println!("Asked for an ID token: {error}.");
    Ok(())
}

fn ensure(so: bool, what: &str) -> Outcome {
    so.then_some(()).ok_or_else(|| what.into())
}
