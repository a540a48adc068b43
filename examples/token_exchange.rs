//! Exchanges tokens: a cluster's token for a cloud's, and a user's token for one that names the service acting for the user.

use tower::BoxError;
use tower_bearer::testing::AuthorizationServer;
use tower_bearer::{
    ErrorKind, Secret, TokenCache, TokenSpec,
    credentials::{ClientAuth, ClientCredentials, TokenEndpoint, TokenExchange, assertion},
    token::{Subject, TokenType},
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let login = AuthorizationServer::start().await?;

    // A workload reads its cluster's token from a file that the cluster updates. The cloud requires no client authentication.
    let file = std::env::temp_dir().join(format!("cluster-token-{}", std::process::id()));
    std::fs::write(&file, "the cluster's token")?;
    login.trust_assertion("the cluster's token", "pod-17");
    let endpoint = TokenEndpoint::new(login.token_url());
    let workload = TokenExchange::new(endpoint)
        .with_subject(Secret::from_file(&file)?, TokenType::JWT)
        .with_requested_token_type(TokenType::ACCESS_TOKEN);
    let token = TokenCache::new(workload)
        .get(&TokenSpec::scopes(["storage"]))
        .await?;
    std::fs::remove_file(&file)?;
    let subject = login.subject_of(token.expose()).unwrap_or_default();
    assert_eq!(subject, "pod-17");
    println!("The cluster's token was exchanged for a token for {subject}.");

    // A service acts for its users. Each request names the user as the subject. The actor is the service, whose token is cached.
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
        assert_eq!((&*subject, &*actor), (user, "client"));
        println!("Fetched a token for {subject} with the actor {actor}.");
    }
    // The actor's token was fetched once for all users.
    assert_eq!(login.counts().of_grant("client_credentials"), 1);

    // A token that can't be sent as a bearer token is not returned.
    let identity = TokenExchange::new(client()).with_requested_token_type(TokenType::ID_TOKEN);
    let (incoming, _) = login.sign_in("alice", "client", ["stock.read"]);
    let spec = TokenSpec::default().with_subject(Subject::new(incoming));
    let error = TokenCache::new(identity).get(&spec).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    println!("Requested an ID token: {error}.");
    Ok(())
}
