//! The way of a request, top to bottom.

use std::{
    error::Error as _,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header::AUTHORIZATION};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use tower::{Layer, Service, ServiceExt};
use tower_bearer::{
    AuthLayer,
    layer::{
        Auth, Error,
        replay::{BufferBody, ReplayBody},
    },
};

use crate::{
    answer::{no_token, problem, unreachable},
    body::Payload,
    client::{Client, client},
    door::Door,
    headers::{only_chunked, strip_request, strip_response},
    pages::Pages,
    settings::Settings,
    upstreams::Upstreams,
    wish::{Allowed, Wish},
};

/// What all connections share, and the handle of one: a handle that is kept has its header at hand.
#[derive(Clone)]
pub(crate) struct Proxy(Arc<Parts>, Arc<Mutex<Authorized>>);

type Authorized = Auth<Client, BufferBody<Payload, Wrap>>;

struct Parts {
    layer: AuthLayer,
    auth: Authorized,
    upstreams: Upstreams,
    allowed: Allowed,
    pages: Pages,
}

/// Makes of what keeps a body that body again.
type Wrap = fn(ReplayBody<Payload>) -> Payload;

impl Proxy {
    pub(crate) fn new(settings: Settings) -> Result<Self, String> {
        let client = client(settings.upstreams.any_over_tls())
            .map_err(|error| format!("the platform's trust can't be read: {error}"))?;
        let layer = settings.layer;
        // A body of up to that much is kept while it is sent, for the case of a 401.
        let replaying = layer
            .clone()
            .with_body_buffer(settings.replay_limit, Payload::new as Wrap);
        let auth = replaying.layer(client);
        let parts = Parts {
            auth: auth.clone(),
            layer,
            upstreams: settings.upstreams,
            allowed: Allowed::new(settings.routes),
            pages: Pages::new(settings.cache)?,
        };
        Ok(Self(Arc::new(parts), Arc::new(Mutex::new(auth))))
    }

    /// The same with a handle of its own.
    pub(crate) fn for_a_connection(&self) -> Self {
        let auth = self.0.auth.clone();
        Self(Arc::clone(&self.0), Arc::new(Mutex::new(auth)))
    }

    /// The answer to a request, whoever gives it.
    pub(crate) async fn handle(
        &self,
        door: &Door,
        request: Request<Incoming>,
    ) -> Response<Payload> {
        if let Some(why) = door.refuses(request.uri(), request.headers()) {
            return problem(StatusCode::FORBIDDEN, "forbidden", why);
        }
        // A tunnel would carry what nobody looks at.
        if request.method() == Method::CONNECT {
            let detail = "the proxy makes no tunnels: send the request itself, to its prefix";
            return problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
        }
        if let Some(page) = request.uri().path().strip_prefix("/-/") {
            return self.0.pages.show(request.method(), page);
        }
        match self.outgoing(request) {
            Ok(request) => answered(self.send(request).await),
            Err(refusal) => *refusal,
        }
    }

    /// The request as it goes to the upstream, but for the token.
    fn outgoing(
        &self,
        request: Request<Incoming>,
    ) -> Result<Request<Payload>, Box<Response<Payload>>> {
        let refuse = |status, kind, detail: &str| Err(Box::new(problem(status, kind, detail)));
        let (mut parts, body) = request.into_parts();
        // RFC 9112 §6.1: "A server that receives a request message with a transfer coding it does not understand SHOULD
        // respond with 501 (Not Implemented)."
        if !only_chunked(&parts.headers) {
            let detail = "the body has a transfer coding other than chunked: send it without";
            return refuse(StatusCode::NOT_IMPLEMENTED, "bad_request", detail);
        }
        let Some(address) = self.0.upstreams.address(&parts.uri) else {
            let detail =
                "no upstream has a prefix that covers the path: add one, or correct the path";
            return refuse(StatusCode::NOT_FOUND, "not_found", detail);
        };
        let Ok(address) = address else {
            let detail = "the path is too long for the upstream's URL: shorten it";
            return refuse(StatusCode::BAD_REQUEST, "bad_request", detail);
        };
        // On a route with a path prefix, a path that a server could read as another one.
        let route = match self.0.layer.match_route(&address) {
            Ok(route) => route,
            Err(error) => {
                return refuse(StatusCode::BAD_REQUEST, "bad_request", &error.to_string());
            }
        };
        let wish = Wish::take(&mut parts.headers);
        strip_request(&mut parts.headers, parts.version);
        // A caller who has a token keeps it, and gets no other.
        let spec = match has_own_token(&mut parts.headers) {
            true => None,
            false => match wish.spec(route, &self.0.allowed) {
                Ok(spec) => spec,
                Err((StatusCode::BAD_REQUEST, why)) => {
                    return refuse(StatusCode::BAD_REQUEST, "bad_request", why);
                }
                Err((status, why)) => return refuse(status, "forbidden", why),
            },
        };
        let mut outgoing = Request::new(Payload::new(body));
        *outgoing.method_mut() = parts.method;
        *outgoing.uri_mut() = address;
        *outgoing.headers_mut() = parts.headers;
        if let Some(spec) = spec {
            outgoing.extensions_mut().insert(spec);
        }
        Ok(outgoing)
    }

    /// Sends it with its token.
    async fn send(
        &self,
        request: Request<Payload>,
    ) -> Result<Response<Incoming>, Error<legacy::Error>> {
        if request.headers().contains_key(AUTHORIZATION) {
            // The layer would let it pass as it is, and count a hit for the token that it did not need.
            let client = self.0.auth.inner().clone();
            return client.oneshot(request).await.map_err(Error::Inner);
        }
        poll_fn(|cx| self.auth().poll_ready(cx)).await?;
        // The lock is held for as long as it takes to set out.
        let response = self.auth().call(request);
        response.await
    }

    fn auth(&self) -> MutexGuard<'_, Authorized> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came back, as the caller gets it.
fn answered(outcome: Result<Response<Incoming>, Error<legacy::Error>>) -> Response<Payload> {
    match outcome {
        Ok(response) if !only_chunked(response.headers()) => {
            let detail = "the upstream's answer has a transfer coding other than chunked";
            problem(StatusCode::BAD_GATEWAY, "upstream", detail)
        }
        Ok(mut response) => {
            strip_response(response.headers_mut());
            // The caller's connection has a version of its own.
            *response.version_mut() = Version::default();
            response.map(Payload::new)
        }
        Err(Error::Token(error)) => no_token(&error),
        Err(Error::Inner(error)) if is_the_callers(&error) => {
            let detail = "the request's body broke off, or its chunks are none: send all of it";
            problem(StatusCode::BAD_REQUEST, "bad_request", detail)
        }
        Err(Error::Inner(error)) => {
            let answer = unreachable(&error);
            tracing::warn!(%error, "an upstream can't be reached");
            answer
        }
    }
}

/// Whether it was the caller's body that failed.
fn is_the_callers(error: &legacy::Error) -> bool {
    let beneath = error.source().and_then(|error| error.downcast_ref());
    beneath.is_some_and(hyper::Error::is_user)
}

fn has_own_token(headers: &mut HeaderMap) -> bool {
    let mut own = false;
    if let http::header::Entry::Occupied(mut values) = headers.entry(AUTHORIZATION) {
        own = true;
        values
            .iter_mut()
            .for_each(|value| value.set_sensitive(true));
    }
    own
}
