//! Measures the most similar crate: a Tower layer with a token provider that refreshes tokens in a background task.

use std::{sync::Arc, time::Duration};

use toolkit_auth::{
    BearerAuthAutoRefreshLayer, BearerAuthAutoRefreshOpts, BearerAuthLayer, OAuthClientConfig,
    SecretString, TokenProvider,
};
use toolkit_http::HttpError;
use tower::Layer;

use crate::{
    behaviour::A,
    contender::{Contender, caller, through},
    endpoint,
    issuer::Issuer,
    services::{Api, Nothing},
};

const NAME: &str = "cf-gears-toolkit-auth";

pub async fn plain() -> Contender {
    let provider = warm().await;
    Contender {
        package: NAME,
        what: "`BearerAuthLayer`",
        without: through(Nothing::<HttpError>::new()),
        with: through(BearerAuthLayer::new(provider).layer(Nothing::<HttpError>::new())),
        cold: Some(Box::new(|issuer| {
            Box::pin(async move {
                let layer = BearerAuthLayer::new(from_issuer(Arc::clone(&issuer)).await);
                caller(layer.layer(Api::<HttpError>::new(issuer)))
            })
        })),
        reacts: false,
        scopes: false,
        note: "one token per provider; only for clients with the errors of its own HTTP stack; does not react to a 401",
    }
}

pub async fn auto_refresh() -> Contender {
    let warm = auto_refresh_layer(warm().await);
    Contender {
        package: NAME,
        what: "`BearerAuthAutoRefreshLayer`",
        without: through(Nothing::<HttpError>::new()),
        with: through(warm.layer(Nothing::<HttpError>::new())),
        cold: Some(Box::new(|issuer| {
            Box::pin(async move {
                let layer = auto_refresh_layer(from_issuer(Arc::clone(&issuer)).await);
                caller(layer.layer(Api::<HttpError>::new(issuer)))
            })
        })),
        reacts: true,
        scopes: false,
        note: "with the shortest interval between invalidations that its documentation mentions, 30 s (default: 15 min)",
    }
}

fn auto_refresh_layer(provider: TokenProvider) -> BearerAuthAutoRefreshLayer {
    let options = BearerAuthAutoRefreshOpts {
        min_invalidation_interval: Duration::from_secs(30),
        ..Default::default()
    };
    BearerAuthAutoRefreshLayer::with_opts(provider, options)
}

async fn from_issuer(issuer: Arc<Issuer>) -> TokenProvider {
    let url = endpoint::serve(issuer).await;
    TokenProvider::new(OAuthClientConfig {
        token_endpoint: Some(url.parse().unwrap()),
        client_id: "peers".into(),
        client_secret: SecretString::new("secret"),
        scopes: vec![A.into()],
        ..Default::default()
    })
    .unwrap()
}

async fn warm() -> TokenProvider {
    let provider = from_issuer(Issuer::new()).await;
    provider.get().await.unwrap();
    provider
}
