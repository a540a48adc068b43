//! [`Auth`] sends each request with the token that it needs.

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderValue, header::AUTHORIZATION};
use tower_service::Service;

use super::{
    Error,
    future::ResponseFuture,
    handle::{AvailableToken, HandleState, LayerShared},
    replay::{CloneBody, ReplayPolicy},
    request::HttpRequest,
    response::HttpResponse,
    route_table::RouteMatch,
    sent_token::SentToken,
};
use crate::{
    cache::{Lookup, Need},
    error::TokenError,
    token::TokenSpec,
};

/// An HTTP client whose requests carry the tokens that they need. Created by [`AuthLayer`](crate::AuthLayer).
///
/// It accepts the requests that the client accepts: `http::Request<B>` with any body, or `reqwest::Request`. Clones are cheap. Each
/// handle caches the header values that it sent last, so a handle that is reused is faster than one that is cloned for every request.
///
/// ```
/// use tower::{Layer, Service, ServiceExt};
/// use tower_bearer::{AuthLayer, NewToken, TokenCache, TokenSpec, layer::Auth, source};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
/// # let http_client = tower::service_fn(async |request: http::Request<String>| {
/// #     let token = request.headers()["authorization"].clone();
/// #     Ok::<_, std::io::Error>(http::Response::new(token))
/// # });
/// let layer = AuthLayer::new(cache).route("https://api.example.com", TokenSpec::scopes(["read"]))?;
/// let mut client: Auth<_> = layer.layer(http_client);
///
/// let request = http::Request::get("https://api.example.com/items").body(String::new())?;
/// let response = client.ready().await?.call(request).await?;
/// assert_eq!(response.body(), "Bearer abc");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Auth<S, R = CloneBody> {
    inner: S,
    handle: HandleState,
    replay: R,
}

impl<S, R> Auth<S, R> {
    pub(crate) fn new(inner: S, layer: Arc<LayerShared>, replay: R) -> Self {
        Self {
            inner,
            handle: HandleState::new(layer),
            replay,
        }
    }

    /// Returns the client.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Returns the client, to change it.
    pub fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the client without the layer.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: fmt::Debug, R> fmt::Debug for Auth<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("inner", &self.inner)
            .field("cache", &self.handle.layer().cache)
            .finish_non_exhaustive()
    }
}

impl<S, R, B> Service<http::Request<B>> for Auth<S, R>
where
    S: Service<http::Request<B>> + Clone,
    S::Response: HttpResponse,
    R: ReplayPolicy<http::Request<B>>,
    B: 'static,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S, http::Request<B>, R>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    #[inline]
    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        self.send(request, |request| request.extensions().get().cloned())
    }
}

#[cfg(feature = "reqwest")]
impl<S, R> Service<reqwest::Request> for Auth<S, R>
where
    S: Service<reqwest::Request> + Clone,
    S::Response: HttpResponse,
    R: ReplayPolicy<reqwest::Request>,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S, reqwest::Request, R>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    #[inline]
    fn call(&mut self, request: reqwest::Request) -> Self::Future {
        // The extensions of a `reqwest::Request` can't be read.
        self.send(request, |_| None)
    }
}

impl<S, R> Auth<S, R> {
    /// Sends a request with the token that it needs, at once if the token is available. `own_spec` returns the request's own
    /// spec.
    #[inline(always)]
    pub(crate) fn send<Req>(
        &mut self,
        mut request: Req,
        own_spec: impl FnOnce(&Req) -> Option<TokenSpec>,
    ) -> ResponseFuture<S, Req, R>
    where
        S: Service<Req> + Clone,
        Req: HttpRequest,
        R: ReplayPolicy<Req>,
    {
        let own = own_spec(&request);
        let routes = &self.handle.layer().routes;
        let found = routes.find_canonical(request.scheme(), request.authority(), || request.path());
        let Some(route) = found else {
            return self.send_uncommon(request, own, None);
        };
        let available = match &own {
            None => self.handle.token_of_route(route),
            Some(spec) => self.handle.token_of_spec(spec),
        };
        let Some(AvailableToken { header, generation }) = available else {
            return self.send_uncommon(request, own, Some(route));
        };
        let sent = self.sent_token(route, generation, own);
        let saved = self.replay.save(&self.inner, &mut request);
        // `append` looks the header up once, and tells whether the caller had set it.
        if request.headers_mut().append(AUTHORIZATION, header) {
            remove_appended(&mut request);
            return ResponseFuture::sent(self.inner.call(request), None);
        }
        ResponseFuture::sent(self.inner.call(request), Some((sent, saved)))
    }

    /// Sends a request that has no available token, or whose URL has to be normalized first. `route` is the route if it is known.
    #[cold]
    fn send_uncommon<Req>(
        &mut self,
        mut request: Req,
        own: Option<TokenSpec>,
        route: Option<u32>,
    ) -> ResponseFuture<S, Req, R>
    where
        S: Service<Req> + Clone,
        Req: HttpRequest,
        R: ReplayPolicy<Req>,
    {
        let layer = self.handle.layer();
        let found = match route {
            Some(route) => RouteMatch::Route(route),
            None => layer.routes.find(&request.target()),
        };
        let needs_token = !matches!(found, RouteMatch::None) || own.is_some();
        // The caller's own header is never replaced, and its 401 is returned to the caller.
        if !needs_token || request.headers().contains_key(AUTHORIZATION) {
            return ResponseFuture::sent(self.inner.call(request), None);
        }
        let resolved = match found {
            RouteMatch::Ambiguous(error) => Err(error),
            RouteMatch::None => Err(TokenError::configuration(
                "the request has a `TokenSpec`, but no route matches its URL: add a route, or remove the `TokenSpec` extension",
            )),
            RouteMatch::Route(route) => layer
                .slot(route, own.as_ref())
                .map(|slot| (self.sent_token(route, 0, own), slot)),
        };
        let (mut sent, slot) = match resolved {
            Ok(resolved) => resolved,
            Err(error) => {
                self.release_readiness();
                return ResponseFuture::failed(error);
            }
        };
        let cache = &layer.cache;
        match cache.lookup(&slot, Need::Usable) {
            Lookup::Ready(token) => {
                cache.count_hit(token.is_stale(cache.now()));
                sent.generation = token.generation();
                let saved = self.replay.save(&self.inner, &mut request);
                token.apply(request.headers_mut());
                ResponseFuture::sent(self.inner.call(request), Some((sent, saved)))
            }
            Lookup::Wait(waiter) => {
                // While the token is fetched, the request holds none of the client's permits.
                self.release_readiness();
                let (service, replay) = (self.inner.clone(), self.replay.clone());
                ResponseFuture::wait_for_token(service, request, sent, slot, waiter, replay)
            }
        }
    }

    /// Releases the capacity that the client reserved for a request that is not sent now. The service is replaced by a clone.
    fn release_readiness(&mut self)
    where
        S: Clone,
    {
        let unready = self.inner.clone();
        drop(mem::replace(&mut self.inner, unready));
    }

    #[inline]
    fn sent_token(&self, route: u32, generation: u64, own: Option<TokenSpec>) -> SentToken {
        SentToken {
            shared: Arc::clone(self.handle.pointer()),
            route,
            generation,
            own,
        }
    }
}

/// Removes the header that the layer appended to the caller's own.
#[cold]
fn remove_appended<Req: HttpRequest>(request: &mut Req) {
    let headers = request.headers_mut();
    let mut values: Vec<HeaderValue> = headers.get_all(AUTHORIZATION).iter().cloned().collect();
    values.pop();
    headers.remove(AUTHORIZATION);
    for value in values {
        headers.append(AUTHORIZATION, value);
    }
}
