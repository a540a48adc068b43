//! Measures the Azure SDK's bearer token policy, in its pipeline, with a transport that does nothing.

use std::sync::Arc;

use ::azure_core::{
    Result,
    credentials::{AccessToken, TokenCredential, TokenRequestOptions},
    http::{
        AsyncRawResponse, ClientMethodOptions, ClientOptions, Context, HttpClient, Method,
        Pipeline, PipelineSendOptions, Request, StatusCode, Transport, Url,
        headers::{AUTHORIZATION, Headers, WWW_AUTHENTICATE},
        policies::{
            Policy,
            auth::{Authorizer, BearerTokenAuthorizationPolicy, OnChallenge, OnRequest},
        },
    },
    time::OffsetDateTime,
};
use async_trait::async_trait;

use crate::{
    behaviour::A,
    contender::{Batches, Caller, Contender, drive},
    issuer::Issuer,
    services::{CHALLENGE, URL},
};

pub async fn policy() -> Contender {
    let policy = BearerTokenAuthorizationPolicy::new(credential(Issuer::new()), [A])
        .with_on_challenge(Arc::new(AuthorizeAgain));
    let with = pipeline(vec![Arc::new(policy)], Arc::new(Nothing));
    send(&with, Request::new(URL.parse().unwrap(), Method::Get), None)
        .await
        .unwrap();
    Contender {
        package: "azure_core",
        what: "`BearerTokenAuthorizationPolicy`",
        without: batches(pipeline(vec![], Arc::new(Nothing))),
        with: batches(with),
        cold: Some(Box::new(|issuer| {
            Box::pin(async move {
                let policy = BearerTokenAuthorizationPolicy::new(credential(issuer.clone()), [A])
                    .with_on_request(Arc::new(ScopeFromContext))
                    .with_on_challenge(Arc::new(AuthorizeAgain));
                let pipeline = pipeline(vec![Arc::new(policy)], Arc::new(Api(issuer)));
                let caller: Caller = Arc::new(move |scope| {
                    let pipeline = pipeline.clone();
                    Box::pin(async move {
                        let request = Request::new(URL.parse()?, Method::Get);
                        let status = send(&pipeline, request, Some(scope)).await?;
                        Ok(http::StatusCode::from_u16(u16::from(status))?)
                    })
                });
                caller
            })
        })),
        reacts: true,
        scopes: true,
        note: "in its pipeline; with an `OnChallenge` that requests the same scopes again, without which a 401 is returned to \
               the caller; built for one set of scopes, and given another one by an `OnRequest`",
    }
}

fn pipeline(policies: Vec<Arc<dyn Policy>>, client: Arc<dyn HttpClient>) -> Pipeline {
    let options = ClientOptions {
        transport: Some(Transport::new(client)),
        ..Default::default()
    };
    Pipeline::new(None, None, options, vec![], policies, None)
}

async fn send(
    pipeline: &Pipeline,
    mut request: Request,
    scope: Option<&'static str>,
) -> Result<StatusCode> {
    let mut context = Context::new();
    if let Some(scope) = scope {
        context.insert(Scope(scope));
    }
    let options = PipelineSendOptions {
        skip_checks: true,
        ..Default::default()
    };
    let response = pipeline.send(&context, &mut request, Some(options)).await?;
    Ok(response.status())
}

fn batches(pipeline: Pipeline) -> Batches {
    Box::new(move || {
        let pipeline = pipeline.clone();
        Box::new(move |requests, count| {
            let url: Url = URL.parse().unwrap();
            let mut headers = Headers::new();
            for (name, value) in &requests.headers {
                headers.insert(name.as_str().to_owned(), value.to_str().unwrap().to_owned());
            }
            drive(async {
                for _ in 0..count {
                    let mut request = Request::new(url.clone(), Method::Get);
                    *request.headers_mut() = headers.clone();
                    send(&pipeline, request, None).await.unwrap();
                }
            });
        })
    })
}

/// The scope in the context of a request.
#[derive(Debug)]
struct Scope(&'static str);

/// Authorizes each request with the scope in its context.
#[derive(Debug)]
struct ScopeFromContext;

#[async_trait]
impl OnRequest for ScopeFromContext {
    async fn on_request(
        &self,
        context: &mut Context,
        request: &mut Request,
        authorizer: &dyn Authorizer,
    ) -> Result<()> {
        let scope = context.value::<Scope>().map_or(A, |scope| scope.0);
        authorizer
            .authorize(request, &[scope], options(context))
            .await
    }
}

/// Authorizes the request again after a challenge, as the policy's documentation recommends.
#[derive(Debug)]
struct AuthorizeAgain;

#[async_trait]
impl OnChallenge for AuthorizeAgain {
    async fn on_challenge(
        &self,
        context: &Context,
        request: &mut Request,
        authorizer: &dyn Authorizer,
        _: &Headers,
    ) -> Result<()> {
        authorizer.authorize(request, &[A], options(context)).await
    }
}

fn options<'a>(context: &'a Context<'_>) -> TokenRequestOptions<'a> {
    TokenRequestOptions {
        method_options: ClientMethodOptions {
            context: context.to_borrowed(),
        },
    }
}

#[derive(Debug)]
struct FromIssuer(Arc<Issuer>);

fn credential(issuer: Arc<Issuer>) -> Arc<dyn TokenCredential> {
    Arc::new(FromIssuer(issuer))
}

#[async_trait]
impl TokenCredential for FromIssuer {
    async fn get_token(
        &self,
        scopes: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> Result<AccessToken> {
        let issued = self.0.issue(&scopes.join(" ")).await;
        let expires_at = OffsetDateTime::now_utc() + issued.lifetime;
        Ok(AccessToken::new(issued.token, expires_at))
    }
}

#[derive(Debug)]
struct Nothing;

#[async_trait]
impl HttpClient for Nothing {
    async fn execute_request(&self, request: &Request) -> Result<AsyncRawResponse> {
        std::hint::black_box(request);
        Ok(AsyncRawResponse::from_bytes(
            StatusCode::Ok,
            Headers::new(),
            "",
        ))
    }
}

#[derive(Debug)]
struct Api(Arc<Issuer>);

#[async_trait]
impl HttpClient for Api {
    async fn execute_request(&self, request: &Request) -> Result<AsyncRawResponse> {
        let status = self
            .0
            .verify_header(request.headers().get_optional_str(&AUTHORIZATION));
        let mut headers = Headers::new();
        if status.is_client_error() {
            headers.insert(WWW_AUTHENTICATE, CHALLENGE);
        }
        let status = StatusCode::from(status.as_u16());
        Ok(AsyncRawResponse::from_bytes(status, headers, ""))
    }
}
