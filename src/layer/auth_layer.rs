//! [`AuthLayer`]: which requests get which tokens, from which cache.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use http::{HeaderMap, Method, StatusCode};
use tower_layer::Layer;

use super::{
    handle::LayerShared,
    replay::{BufferBody, CloneBody, NoReplay, ReplayBody, ReplayIf},
    route::{Route, RouteOrigin},
    route_table::{RequestScheme, RequestTarget, RouteMatch, RouteTable},
    service::Auth,
};
use crate::{
    cache::TokenCache,
    error::TokenError,
    token::TokenSpec,
    verdict::{Classifier, Verdict},
};

/// Wraps an HTTP client so that each request to a listed place bears the token it needs.
///
/// What no route names gets no token. A request that has an `Authorization` header already is left as it is. A request
/// that bears a [`TokenSpec`] as an extension gets that token instead of the route's.
///
/// When a server answers 401, exactly the token that was sent is taken out of service, another is fetched, and the
/// request is sent once more, if its body can be had twice: if it is in memory. What happened is in the response's
/// extensions, as a [`Recovery`](crate::layer::Recovery).
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
/// // Any client that is a Tower service; this one only shows what it is given.
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
#[must_use = "a layer does nothing before it is applied to a service"]
pub struct AuthLayer<R = CloneBody> {
    cache: TokenCache,
    routes: Vec<Route>,
    default_origin: Option<RouteOrigin>,
    classifier: Option<Classifier>,
    replay: R,
    /// Arranged at the first use, and shared by all services that this layer makes.
    shared: OnceLock<Arc<LayerShared>>,
}

impl AuthLayer {
    /// A layer over this cache that names no place yet.
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

    /// Requests whose bodies can't be had twice by themselves can be sent again too: what is sent of such a body is kept, up to
    /// `limit` bytes. `wrap` makes the client's own body type of the [`ReplayBody`] that does it.
    ///
    /// A body longer than the limit is sent as it is, and not sent again. Streams stay streams: nothing waits for the end of a
    /// body, and an answer that comes before that end is classifierd like any other. The body type has a default, which is the
    /// empty body.
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
    /// With tonic it is `.with_body_buffer(64 << 10, tonic::body::Body::new)`, with reqwest `.with_body_buffer(64 << 10, reqwest::Body::wrap)`.
    pub fn with_body_buffer<B, W>(self, limit: usize, wrap: W) -> AuthLayer<BufferBody<B, W>>
    where
        W: Fn(ReplayBody<B>) -> B,
    {
        self.with_policy(|CloneBody| BufferBody::new(limit, wrap))
    }
}

impl<F> AuthLayer<ReplayIf<CloneBody, F>> {
    /// Like [`AuthLayer::with_body_buffer`], for the requests that the test agrees to.
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
        self.with_policy(|when| when.over(BufferBody::new(limit, wrap)))
    }
}

impl<R> AuthLayer<R> {
    /// Requests to this URL's origin, and below its path, get this token.
    ///
    /// A path is a prefix of whole segments, and the longest prefix wins. RequestScheme, host and port must be the same;
    /// neither letter case nor a default port nor another spelling of an address makes a difference.
    ///
    /// # Errors
    /// The URL is none, or has a query, a fragment or userinfo; it is plain `http://` to another machine (see
    /// [`Route::with_plain_http`]); it is listed already; or the spec can't be asked for. The message says which.
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

    /// Like [`route`](Self::route), for a route with options.
    ///
    /// # Errors
    /// As [`route`](Self::route).
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
        if RouteTable::has_duplicate(&self.routes, &route) {
            return Err(TokenError::configuration(format!(
                "the route {route} is listed twice: leave one of them out"
            )));
        }
        if self.routes.len() >= RouteTable::MOST {
            return Err(TokenError::configuration(
                "there are more than 65,535 routes",
            ));
        }
        self.routes.push(route);
        self.shared.take();
        Ok(self)
    }

    /// The origin of requests that name a path alone, such as those of tonic's generated clients.
    ///
    /// Without one, such a request is an error: nobody could say where its token would go.
    ///
    /// # Errors
    /// It is no origin, or no route before this call is on it.
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
        let origin = RouteOrigin::read(url.as_ref())?;
        if !RouteTable::has_origin(&self.routes, &origin) {
            return Err(TokenError::configuration(format!(
                "no route is on the default origin {origin}: add the route first"
            )));
        }
        self.default_origin = Some(origin);
        self.shared.take();
        Ok(self)
    }

    /// No request is sent again after a 401. The token is taken out of service all the same.
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

    /// A request is sent again only if this agrees, by its method and headers. Without, all may be: a 401 says that the
    /// request was not done.
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

    /// Classifiers each response to a request that bore a token, by its status and headers. None leaves it to the layer's own
    /// classifierment, which is what servers mean by RFC 6750 and its kin: see [`Verdict`].
    ///
    /// Its word counts for answers of the origin that got the token alone.
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_bearer::layer::Verdict;
    /// # use tower_bearer::{AuthLayer, NewToken, TokenCache, source};
    /// # let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
    ///
    /// // An API that answers 419 when the token is over.
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

    /// What all services of this layer share.
    pub(crate) fn shared(&self) -> Arc<LayerShared> {
        let arrange = || {
            let (cache, classifier) = (self.cache.clone(), self.classifier.clone());
            let default_origin = self.default_origin.clone();
            Arc::new(LayerShared::new(
                cache,
                &self.routes,
                default_origin,
                classifier,
            ))
        };
        Arc::clone(self.shared.get_or_init(arrange))
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
}

impl<R> AuthLayer<R> {
    /// The route that a request to this address is on, and so where its token comes from; none if no route names it.
    ///
    /// The longest prefix wins, however the address is spelled. A service over the layer decides in the same way.
    ///
    /// # Errors
    /// A request to there would be an error: its path has dot segments on an origin with a path prefix, or it names no
    /// origin and there is no [`with_default_origin`](Self::with_default_origin).
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
            RouteMatch::Route(number) => Ok(usize::try_from(number)
                .ok()
                .and_then(|number| self.routes.get(number))),
            RouteMatch::None => Ok(None),
            RouteMatch::Ambiguous(error) => Err(error),
        }
    }
}

impl<R: Clone> Clone for AuthLayer<R> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            routes: self.routes.clone(),
            default_origin: self.default_origin.clone(),
            classifier: self.classifier.clone(),
            replay: self.replay.clone(),
            shared: self.shared.clone(),
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
