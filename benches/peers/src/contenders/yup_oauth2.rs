//! Measures yup-oauth2's tokens of a service account, which the caller adds to each request.

use std::sync::Arc;

use ::yup_oauth2::{ServiceAccountAuthenticator, authenticator::DefaultAuthenticator};
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
        package: "yup-oauth2",
        what: "`ServiceAccountAuthenticator`",
        without: nothing(),
        with: putting(move |request| {
            let warm = warm.clone();
            async move { authorize(&warm, A, request).await.unwrap() }
        }),
        cold: Some(Box::new(|issuer| {
            Box::pin(async move {
                let cold = from_issuer(Arc::clone(&issuer)).await;
                let caller: Caller = Arc::new(move |scope| {
                    let (cold, issuer) = (cold.clone(), Arc::clone(&issuer));
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

async fn from_issuer(issuer: Arc<Issuer>) -> DefaultAuthenticator {
    let key = endpoint::service_account(&endpoint::serve(issuer).await);
    let key = serde_json::from_value(key).unwrap();
    ServiceAccountAuthenticator::builder(key)
        .build()
        .await
        .unwrap()
}

async fn authorize(
    authenticator: &DefaultAuthenticator,
    scope: &str,
    mut request: Request<Body>,
) -> Result<Request<Body>, BoxError> {
    let token = authenticator.token(&[scope]).await?;
    let text = token.token().ok_or("no token")?;
    let mut value = HeaderValue::try_from(format!("Bearer {text}"))?;
    value.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, value);
    Ok(request)
}
