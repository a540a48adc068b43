//! Measures this crate with its default settings.

use std::{convert::Infallible, sync::Arc};

use ::tower_bearer::{AuthLayer, NewToken, TokenCache, TokenSpec, source};
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    behaviour::{A, B},
    contender::{Caller, ColdStart, Contender, nothing, request, through},
    issuer::Issuer,
    services::{Api, Nothing},
};

const NAME: &str = "tower-bearer";

pub async fn without_replay() -> Contender {
    let layer = layer(Issuer::new()).await.without_replay();
    Contender {
        package: NAME,
        what: "`AuthLayer`, `without_replay`",
        without: nothing(),
        with: through(layer.layer(Nothing::<Infallible>::new())),
        cold: None,
        reacts: true,
        scopes: true,
        note: "a 401 drops the token from the cache and is returned to the caller",
    }
}

pub async fn with_replay() -> Contender {
    let layer = layer(Issuer::new()).await;
    Contender {
        package: NAME,
        what: "`AuthLayer`",
        without: nothing(),
        with: through(layer.layer(Nothing::<Infallible>::new())),
        cold: Some(cold()),
        reacts: true,
        scopes: true,
        note: "clones each request, to be able to send it again",
    }
}

/// Measures callers that clone the client for each request, so that no handle keeps state between requests.
pub async fn cloned_handle() -> Contender {
    let service = layer(Issuer::new())
        .await
        .layer(Nothing::<Infallible>::new());
    let cloning = service_fn(move |request| service.clone().oneshot(request));
    let nothing = Nothing::<Infallible>::new();
    let cloning_nothing = service_fn(move |request| nothing.clone().oneshot(request));
    Contender {
        package: NAME,
        what: "`AuthLayer`, cloned for each request",
        without: through(cloning_nothing),
        with: through(cloning),
        cold: None,
        reacts: true,
        scopes: true,
        note: "as above, for callers that do not keep a handle",
    }
}

fn cache(issuer: Arc<Issuer>) -> TokenCache {
    TokenCache::new(source::from_fn(move |request| {
        let issuer = Arc::clone(&issuer);
        async move {
            let scope = request.spec().iter_scopes().collect::<Vec<_>>().join(" ");
            let issued = issuer.issue(&scope).await;
            Ok(NewToken::bearer(&issued.token)?.with_lifetime(issued.lifetime))
        }
    }))
}

async fn layer(issuer: Arc<Issuer>) -> AuthLayer {
    let (cache, spec) = (cache(issuer), TokenSpec::scopes([A]));
    cache.get(&spec).await.unwrap();
    AuthLayer::new(cache)
        .route("https://stock.example.com", spec)
        .unwrap()
}

fn cold() -> ColdStart {
    Box::new(|issuer| {
        Box::pin(async move {
            let (a, b) = (TokenSpec::scopes([A]), TokenSpec::scopes([B]));
            let layer = AuthLayer::new(cache(Arc::clone(&issuer)))
                .route("https://stock.example.com", a.clone())
                .unwrap();
            let service = layer.layer(Api::<Infallible>::new(issuer));
            let caller: Caller = Arc::new(move |scope| {
                let service = service.clone();
                let mut request = request();
                request
                    .extensions_mut()
                    .insert(if scope == A { a.clone() } else { b.clone() });
                Box::pin(async move { Ok(service.oneshot(request).await?.status()) })
            });
            caller
        })
    })
}
