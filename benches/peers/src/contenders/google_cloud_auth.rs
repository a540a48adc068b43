//! Measures Google's credentials, whose headers are added to each request.

use std::sync::Arc;

use ::google_cloud_auth::credentials::{CacheableResource, Credentials, user_account};
use http::{Extensions, Request};

use crate::{
    behaviour::A,
    contender::{BoxError, Caller, Contender, nothing, putting, request},
    endpoint,
    issuer::Issuer,
    services::Body,
};

pub async fn credentials() -> Contender {
    let warm = from_issuer(Issuer::new()).await;
    authorize(&warm, request()).await.unwrap();
    Contender {
        package: "google-cloud-auth",
        what: "`Credentials::headers`",
        without: nothing(),
        with: putting(move |request| {
            let warm = warm.clone();
            async move { authorize(&warm, request).await.unwrap() }
        }),
        cold: Some(Box::new(|issuer| {
            Box::pin(async move {
                let cold = from_issuer(Arc::clone(&issuer)).await;
                let caller: Caller = Arc::new(move |_| {
                    let (cold, issuer) = (cold.clone(), Arc::clone(&issuer));
                    Box::pin(async move {
                        let request = authorize(&cold, request()).await?;
                        Ok(issuer.verify(request.headers()))
                    })
                });
                caller
            })
        })),
        reacts: false,
        scopes: false,
        note: "one token per credentials, fetched as soon as they are built; does not react to a 401",
    }
}

async fn from_issuer(issuer: Arc<Issuer>) -> Credentials {
    let user = serde_json::json!({
        "type": "authorized_user",
        "client_id": "peers",
        "client_secret": "secret",
        "refresh_token": "refresh",
    });
    user_account::Builder::new(user)
        .with_token_uri(endpoint::serve(issuer).await)
        .with_scopes([A])
        .build()
        .unwrap()
}

async fn authorize(
    credentials: &Credentials,
    mut request: Request<Body>,
) -> Result<Request<Body>, BoxError> {
    match credentials.headers(Extensions::new()).await? {
        CacheableResource::New { data, .. } => request.headers_mut().extend(data),
        CacheableResource::NotModified => return Err("no headers".into()),
    }
    Ok(request)
}
