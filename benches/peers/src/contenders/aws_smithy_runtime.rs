//! Measures the AWS SDK's identity cache and bearer scheme, called in the way its orchestrator calls them.

use std::{hint::black_box, sync::Arc, time::SystemTime};

use ::aws_smithy_runtime::client::{
    auth::http::BearerAuthScheme, identity::IdentityCache,
    orchestrator::endpoints::StaticUriEndpointResolver, retries::strategy::NeverRetryStrategy,
};
use aws_smithy_async::{rt::sleep::TokioSleep, time::SystemTimeSource};
use aws_smithy_runtime_api::client::{
    auth::{
        AuthScheme, AuthSchemeEndpointConfig, http::HTTP_BEARER_AUTH_SCHEME_ID,
        static_resolver::StaticAuthSchemeOptionResolver,
    },
    identity::{
        Identity, IdentityFuture, ResolveCachedIdentity, ResolveIdentity, SharedIdentityCache,
        http::Token,
    },
    orchestrator::HttpRequest,
    runtime_components::{RuntimeComponents, RuntimeComponentsBuilder},
};
use aws_smithy_types::{body::SdkBody, config_bag::ConfigBag};

use crate::{
    behaviour::{A, B},
    contender::{Batches, BoxError, Caller, Contender, drive, request},
    issuer::Issuer,
    services::Requests,
};

pub async fn identity_cache() -> Contender {
    let warm = components(&IdentityCache::lazy().build(), Issuer::new(), A);
    authorize(&mut plain(), &warm).await.unwrap();
    Contender {
        package: "aws-smithy-runtime",
        what: "`IdentityCache::lazy`, `BearerAuthScheme`",
        without: batches(None),
        with: batches(Some(warm)),
        cold: Some(Box::new(|issuer| {
            Box::pin(async move {
                let cache = IdentityCache::lazy().build();
                let a = components(&cache, Arc::clone(&issuer), A);
                let b = components(&cache, Arc::clone(&issuer), B);
                let caller: Caller = Arc::new(move |scope| {
                    let components = if scope == A { a.clone() } else { b.clone() };
                    let issuer = Arc::clone(&issuer);
                    Box::pin(async move {
                        let mut request = plain();
                        authorize(&mut request, &components).await?;
                        Ok(issuer.verify_header(request.headers().get("authorization")))
                    })
                });
                caller
            })
        })),
        reacts: false,
        scopes: true,
        note: "without the rest of its orchestrator; a resolver for each scope, in one cache; does not react to a 401",
    }
}

/// Returns batches of requests that are authorized with the components, or not authorized.
fn batches(components: Option<RuntimeComponents>) -> Batches {
    Box::new(move || {
        let components = components.clone();
        Box::new(move |requests, count| {
            drive(async {
                for _ in 0..count {
                    let mut request = black_box(next(requests));
                    if let Some(components) = &components {
                        authorize(&mut request, components).await.unwrap();
                    }
                    black_box(request);
                }
            });
        })
    })
}

fn next(requests: &Requests) -> HttpRequest {
    let request = requests.next().map(|_| SdkBody::from("{}"));
    HttpRequest::try_from(request).unwrap()
}

fn plain() -> HttpRequest {
    HttpRequest::try_from(request().map(|_| SdkBody::empty())).unwrap()
}

/// Runs the orchestrator's steps between choosing an auth scheme and sending the request.
async fn authorize(
    request: &mut HttpRequest,
    components: &RuntimeComponents,
) -> Result<(), BoxError> {
    let config = ConfigBag::base();
    let scheme = components
        .auth_scheme(HTTP_BEARER_AUTH_SCHEME_ID)
        .ok_or("no scheme")?;
    let resolver = scheme
        .identity_resolver(components)
        .ok_or("no identity resolver")?;
    let identity = components
        .identity_cache()
        .resolve_cached_identity(resolver, components, &config)
        .await?;
    scheme.signer().sign_http_request(
        request,
        &identity,
        AuthSchemeEndpointConfig::empty(),
        components,
        &config,
    )
}

fn components(
    cache: &SharedIdentityCache,
    issuer: Arc<Issuer>,
    scope: &'static str,
) -> RuntimeComponents {
    let options = StaticAuthSchemeOptionResolver::new(vec![HTTP_BEARER_AUTH_SCHEME_ID]);
    RuntimeComponentsBuilder::new("peers")
        .with_auth_scheme_option_resolver(Some(options))
        .with_endpoint_resolver(Some(StaticUriEndpointResolver::http_localhost(80)))
        .with_auth_scheme(BearerAuthScheme::new())
        .with_identity_cache(Some(cache.clone()))
        .with_identity_resolver(HTTP_BEARER_AUTH_SCHEME_ID, FromIssuer { issuer, scope })
        .with_retry_strategy(Some(NeverRetryStrategy::new()))
        .with_time_source(Some(SystemTimeSource::new()))
        .with_sleep_impl(Some(TokioSleep::new()))
        .build()
        .unwrap()
}

#[derive(Debug)]
struct FromIssuer {
    issuer: Arc<Issuer>,
    scope: &'static str,
}

impl ResolveIdentity for FromIssuer {
    fn resolve_identity<'a>(
        &'a self,
        _: &'a RuntimeComponents,
        _: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        IdentityFuture::new(async move {
            let issued = self.issuer.issue(self.scope).await;
            let expires_at = SystemTime::now() + issued.lifetime;
            Ok(Identity::new(
                Token::new(issued.token, Some(expires_at)),
                Some(expires_at),
            ))
        })
    }
}
