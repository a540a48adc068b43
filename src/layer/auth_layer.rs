//! [`AuthLayer`] configures which requests get which tokens, and creates the service [`Auth`].

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use http::{HeaderMap, Method, StatusCode};
use tower_layer::Layer;

use super::{
    handle::LayerShared,
    replay::{BufferBody, CloneBody, NoReplay, ReplayBody, ReplayIf},
    route::{OriginPrefix, Route, RouteOrigin},
    route_table::{RequestScheme, RequestTarget, RouteMatch, RouteTable},
    service::Auth,
};
use crate::{
    cache::TokenCache,
    error::TokenError,
    token::TokenSpec,
    verdict::{Classifier, Verdict},
};

/// A [`Layer`] that adds bearer tokens to requests, and recovers from rejected tokens.
///
/// A request gets the token of the route that matches its origin and path, or that of the [`TokenSpec`] in its extensions. A request
/// that matches no route gets no token. An `Authorization` header that the caller set is not changed.
///
/// If the server responds with 401, the layer rejects the token that was sent, gets another one, and replays the request if its
/// body can be cloned. The extensions of the response contain a [`Recovery`](crate::layer::Recovery) with the result.
///
/// ```
/// use tower::{ServiceBuilder, ServiceExt, Service};
/// use tower_bearer::{AuthLayer, NewToken, TokenCache, TokenSpec, source};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
/// let auth = AuthLayer::new(cache.clone())
///     .route("https://graph.microsoft.com", TokenSpec::scopes(["https://graph.microsoft.com/.default"]))?
///     .route("https://stock.internal/v2", TokenSpec::scopes(["api://stock/.default"]))?;
///
/// // Any HTTP client that is a Tower service. This one returns the token that it receives.
/// let client = tower::service_fn(async |request: http::Request<String>| {
///     let token = request.headers().get("authorization").cloned();
///     Ok::<_, std::io::Error>(http::Response::new(token))
/// });
/// let mut client = ServiceBuilder::new().layer(auth).service(client);
///
/// let request = http::Request::get("https://stock.internal/v2/items").body(String::new())?;
/// let response = client.ready().await?.call(request).await?;
/// assert_eq!(response.body().as_ref().unwrap(), "Bearer abc");
///
/// let request = http::Request::get("https://elsewhere.example/").body(String::new())?;
/// let response = client.ready().await?.call(request).await?;
/// assert_eq!(response.body(), &None);
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "a layer does nothing before it is applied to a service"]
pub struct AuthLayer<R = CloneBody> {
    cache: TokenCache,
    routes: Vec<Route>,
    default_origin: Option<RouteOrigin>,
    classifier: Option<Classifier>,
    replay: R,
    /// Created on first use, and shared by all services of this layer.
    shared: OnceLock<Arc<LayerShared>>,
}

impl AuthLayer {
    /// Creates a layer without routes, which gets its tokens from this cache.
    pub fn new(cache: TokenCache) -> Self {
        Self {
            cache,
            routes: Vec::new(),
            default_origin: None,
            classifier: None,
            replay: CloneBody,
            shared: OnceLock::new(),
        }
    }

    /// Buffers bodies that can't be cloned, so that their requests can be replayed. `wrap` converts the [`ReplayBody`] to the body
    /// type of the client.
    ///
    /// A copy of what is sent is kept until the response arrives, up to `limit` bytes. A longer body is sent, but not replayed. Bodies
    /// are still streamed. The default of the body type must be an empty body.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
    /// # use tower_bearer::{AuthLayer, NewToken, TokenCache, source};
    ///
    /// type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
    ///
    /// # let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
    /// let auth = AuthLayer::new(cache).with_body_buffer(64 << 10, |body| -> Body { body.boxed_unsync() });
    /// # let _ = auth;
    /// ```
    ///
    /// For tonic, use `.with_body_buffer(64 << 10, tonic::body::Body::new)`, for reqwest
    /// `.with_body_buffer(64 << 10, reqwest::Body::wrap)`.
    pub fn with_body_buffer<B, W>(self, limit: usize, wrap: W) -> AuthLayer<BufferBody<B, W>>
    where
        W: Fn(ReplayBody<B>) -> B,
    {
        self.with_policy(|CloneBody| BufferBody::new(limit, wrap))
    }
}

impl<F> AuthLayer<ReplayIf<CloneBody, F>> {
    /// Buffers bodies that can't be cloned, of the requests for which `test` returns `true`. See [`AuthLayer::with_body_buffer`].
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
    /// # use tower_bearer::{AuthLayer, NewToken, TokenCache, source};
    ///
    /// type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
    ///
    /// # let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
    /// let auth = AuthLayer::new(cache)
    ///     .with_replay_when(|method, _| method.is_idempotent())
    ///     .with_body_buffer(64 << 10, |body| -> Body { body.boxed_unsync() });
    /// # let _ = auth;
    /// ```
    pub fn with_body_buffer<B, W>(
        self,
        limit: usize,
        wrap: W,
    ) -> AuthLayer<ReplayIf<BufferBody<B, W>, F>>
    where
        W: Fn(ReplayBody<B>) -> B,
    {
        self.with_policy(|policy| policy.with_inner(BufferBody::new(limit, wrap)))
    }
}

impl<R> AuthLayer<R> {
    /// Adds a route: requests to the origin of this URL, and below its path, get the token of this spec.
    ///
    /// A path is a prefix of whole segments. If several routes match a request, the one with the longest prefix is used. Scheme, host
    /// and port must be equal. Other spellings of an origin, for example with upper-case letters or the default port, also match.
    ///
    /// # Errors
    /// Returns an error if the URL is not valid, if it has a query, a fragment or userinfo, if it is plain `http://` to another
    /// machine (see [`Route::with_plain_http`]), if there already is a route for it, or if the spec is invalid.
    ///
    /// ```
    /// # use tower_bearer::{AuthLayer, NewToken, TokenCache, TokenSpec, source};
    /// # let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
    /// let error = AuthLayer::new(cache)
    ///     .route("https://api.example.com/?debug=1", TokenSpec::default())
    ///     .unwrap_err();
    /// assert!(error.to_string().contains("has a query"));
    /// ```
    pub fn route(self, url: impl AsRef<str>, spec: TokenSpec) -> Result<Self, TokenError> {
        self.with_route(Route::new(url, spec))
    }

    /// Adds a route with options.
    ///
    /// # Errors
    /// Returns an error if [`Route::check`] does, or if there already is a route for its URL.
    ///
    /// ```
    /// # use tower_bearer::{AuthLayer, NewToken, Route, TokenCache, TokenSpec, source};
    /// # let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
    /// let sidecar = Route::new("http://mesh.internal:8080", TokenSpec::default()).with_plain_http();
    /// let auth = AuthLayer::new(cache).with_route(sidecar)?;
    /// # let _ = auth;
    /// # Ok::<_, tower_bearer::TokenError>(())
    /// ```
    pub fn with_route(mut self, route: Route) -> Result<Self, TokenError> {
        route.check()?;
        let location = route.location.as_ref().ok();
        if self.locations().any(|other| Some(other) == location) {
            return Err(TokenError::configuration(format!(
                "the route {route} is listed twice: remove one of them"
            )));
        }
        if self.routes.len() >= RouteTable::MAX_ROUTES {
            return Err(TokenError::configuration(
                "there are more than 65,535 routes",
            ));
        }
        self.routes.push(route);
        self.shared.take();
        Ok(self)
    }

    /// Sets the origin of requests whose URL is only a path, for example those of tonic's generated clients.
    ///
    /// Without a default origin, such a request is an error, because the layer can't know where it is sent.
    ///
    /// # Errors
    /// Returns an error if `url` is not an origin, or if no route has been added for it yet.
    ///
    /// ```
    /// # use tower_bearer::{AuthLayer, NewToken, TokenCache, TokenSpec, source};
    /// # let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
    /// let auth = AuthLayer::new(cache)
    ///     .route("https://grpc.example.com", TokenSpec::default())?
    ///     .with_default_origin("https://grpc.example.com")?;
    /// # let _ = auth;
    /// # Ok::<_, tower_bearer::TokenError>(())
    /// ```
    pub fn with_default_origin(mut self, url: impl AsRef<str>) -> Result<Self, TokenError> {
        let origin = RouteOrigin::parse(url.as_ref())?;
        if !self.locations().any(|location| location.origin == origin) {
            return Err(TokenError::configuration(format!(
                "no route is on the default origin {origin}: add the route first"
            )));
        }
        self.default_origin = Some(origin);
        self.shared.take();
        Ok(self)
    }

    /// Disables replays. After a 401, the token is still rejected.
    ///
    /// ```
    /// # use tower_bearer::{AuthLayer, NewToken, TokenCache, source};
    /// # let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
    /// let auth = AuthLayer::new(cache).without_replay();
    /// # let _ = auth;
    /// ```
    pub fn without_replay(self) -> AuthLayer<NoReplay> {
        self.with_policy(|_| NoReplay)
    }

    /// Replays a request only if `test` returns `true` for its method and headers. By default, all requests may be replayed, because a
    /// 401 means that the server has not processed the request.
    ///
    /// ```
    /// use http::Method;
    /// # use tower_bearer::{AuthLayer, NewToken, TokenCache, source};
    /// # let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
    /// let auth = AuthLayer::new(cache).with_replay_when(|method, headers| {
    ///     method.is_idempotent() || headers.contains_key("idempotency-key")
    /// });
    /// # let _ = auth;
    /// ```
    pub fn with_replay_when<F>(self, test: F) -> AuthLayer<ReplayIf<R, F>>
    where
        F: Fn(&Method, &HeaderMap) -> bool + Clone,
    {
        self.with_policy(|policy| ReplayIf::new(policy, test))
    }

    /// Sets a function that classifies the responses to requests with a token.
    ///
    /// Return `None` to fall back to the built-in classification (RFC 6750, RFC 9470): see [`Verdict`]. Its verdict only
    /// counts if the response comes from the origin that the token was sent to.
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_bearer::layer::Verdict;
    /// # use tower_bearer::{AuthLayer, NewToken, TokenCache, source};
    /// # let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
    ///
    /// // An API that responds with 419 if the token has expired.
    /// let auth = AuthLayer::new(cache)
    ///     .with_classifier(|status, _| (status.as_u16() == 419).then_some(Verdict::Rejected));
    /// # let _ = auth;
    /// ```
    pub fn with_classifier<F>(mut self, classifier: F) -> Self
    where
        F: Fn(StatusCode, &HeaderMap) -> Option<Verdict> + Send + Sync + 'static,
    {
        self.classifier = Some(Arc::new(classifier));
        self.shared.take();
        self
    }

    /// Returns the state that the services of this layer share.
    pub(crate) fn shared(&self) -> Arc<LayerShared> {
        let create = || {
            let (cache, classifier) = (self.cache.clone(), self.classifier.clone());
            let default_origin = self.default_origin.as_ref();
            LayerShared::new(cache, &self.routes, default_origin, classifier).into()
        };
        Arc::clone(self.shared.get_or_init(create))
    }

    fn locations(&self) -> impl Iterator<Item = &OriginPrefix> {
        let locations = self.routes.iter().map(|route| &route.location);
        locations.filter_map(|location| location.as_ref().ok())
    }

    #[cfg(feature = "reqwest-middleware")]
    pub(crate) fn replay(&self) -> &R {
        &self.replay
    }

    fn with_policy<P>(self, policy: impl FnOnce(R) -> P) -> AuthLayer<P> {
        AuthLayer {
            cache: self.cache,
            routes: self.routes,
            default_origin: self.default_origin,
            classifier: self.classifier,
            replay: policy(self.replay),
            shared: self.shared,
        }
    }

    /// Returns the route that a request to this URI matches, or `None` if its requests get no token.
    ///
    /// # Errors
    /// Returns an error if a request to this URI would be an error: its path has dot segments on an origin with a path prefix, or it is
    /// only a path and there is no [default origin](Self::with_default_origin).
    ///
    /// ```
    /// # use tower_bearer::{AuthLayer, NewToken, TokenCache, TokenSpec, source};
    /// # let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
    /// let auth = AuthLayer::new(cache).route("https://stock.internal/v2", TokenSpec::scopes(["stock"]))?;
    ///
    /// let route = auth.match_route(&"https://STOCK.internal:443/v2/items".parse()?)?;
    /// assert_eq!(route.map(|route| route.spec()), Some(&TokenSpec::scopes(["stock"])));
    /// assert!(auth.match_route(&"https://stock.internal/v1".parse()?)?.is_none());
    /// assert!(auth.match_route(&"https://stock.internal/v2/../v1".parse()?).is_err());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn match_route(&self, uri: &http::Uri) -> Result<Option<&Route>, TokenError> {
        let target = RequestTarget {
            scheme: RequestScheme::read(uri.scheme_str()),
            authority: uri.authority().map(http::uri::Authority::as_str),
            path: uri.path(),
        };
        match self.shared().routes.find(&target) {
            RouteMatch::Route(route) => Ok(self.routes.get(route as usize)),
            RouteMatch::None => Ok(None),
            RouteMatch::Ambiguous(error) => Err(error),
        }
    }
}

impl<R> fmt::Debug for AuthLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthLayer")
            .field("routes", &self.routes)
            .field("default_origin", &self.default_origin)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

impl<S, R: Clone> Layer<S> for AuthLayer<R> {
    type Service = Auth<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        Auth::new(inner, self.shared(), self.replay.clone())
    }
}
