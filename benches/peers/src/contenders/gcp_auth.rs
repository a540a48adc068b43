//! Measures gcp_auth's tokens of a service account, which the caller adds to each request.

use std::sync::Arc;

use ::gcp_auth::{CustomServiceAccount, TokenProvider};
use http::{HeaderValue, Request, header::AUTHORIZATION};

use crate::{
    behaviour::A,
    contender::{BoxError, Caller, Contender, nothing, putting, request},
    endpoint,
    issuer::Issuer,
    services::Body,
};

pub async fn service_account() -> Contender {
    let warm = from_issuer(Issuer::new()).await;
    authorize(&warm, A, request()).await.unwrap();
    Contender {
        package: "gcp_auth",
        what: "`CustomServiceAccount`",
        without: nothing(),
        with: putting(move |request| {
            let warm = Arc::clone(&warm);
            async move { authorize(&warm, A, request).await.unwrap() }
        }),
        cold: Some(Box::new(|issuer| {
            Box::pin(async move {
                let cold = from_issuer(Arc::clone(&issuer)).await;
                let caller: Caller = Arc::new(move |scope| {
                    let (cold, issuer) = (Arc::clone(&cold), Arc::clone(&issuer));
                    Box::pin(async move {
                        let request = authorize(&cold, scope, request()).await?;
                        Ok(issuer.verify(request.headers()))
                    })
                });
                caller
            })
        })),
        reacts: false,
        scopes: true,
        note: "the caller adds the token to the request; does not react to a 401",
    }
}

async fn from_issuer(issuer: Arc<Issuer>) -> Arc<CustomServiceAccount> {
    let key = endpoint::service_account(&endpoint::serve(issuer).await);
    Arc::new(CustomServiceAccount::from_json(&key.to_string()).unwrap())
}

async fn authorize(
    account: &CustomServiceAccount,
    scope: &str,
    mut request: Request<Body>,
) -> Result<Request<Body>, BoxError> {
    let token = account.token(&[scope]).await?;
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.as_str()))?;
    value.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, value);
    Ok(request)
}
