//! This module implements [`ReqwestClient`], a `reqwest::Client` that takes `http::Request`, so that a request can specify its token.

use std::{
    error::Error,
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response, Uri};
use pin_project_lite::pin_project;
use reqwest::{Body, Client, ResponseBuilderExt};
use tower_service::Service;

use crate::layer::AnsweredBy;

/// A `reqwest::Client` as a service over `http::Request<B>`, for any body type `B` that converts to `reqwest::Body`.
///
/// The layer can read the extensions of such a request, so a [`TokenSpec`](crate::TokenSpec) among them selects its token. The URI
/// must have a scheme and a host.
///
/// The response body is streamed. The response contains its URL, so that the layer ignores what another origin responds after a
/// redirect. `reqwest::Response::from` converts it to a response of reqwest, including the URL.
///
/// ```
/// use reqwest::{Client, Response};
/// use tower::{Service, ServiceBuilder, ServiceExt};
/// use tower_bearer::testing::{Api, AuthorizationServer};
/// use tower_bearer::{AuthLayer, TokenCache, TokenSpec, clients::ReqwestClient, credentials::ClientCredentials};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let login = AuthorizationServer::start().await?;
/// # let api = Api::start(&login).await?;
/// let cache = TokenCache::new(ClientCredentials::new(login.token_url(), "client", "secret"));
/// let auth = AuthLayer::new(cache).route(api.url(), TokenSpec::scopes(["stock.read"]))?;
/// let mut client = ServiceBuilder::new().layer(auth).service(ReqwestClient::new(Client::new()));
///
/// let request = http::Request::post(api.url_of("/orders"))
///     .extension(TokenSpec::scopes(["stock.write"]))
///     .body("three of them")?;
/// let response = Response::from(client.ready().await?.call(request).await?);
/// assert_eq!(response.url().path(), "/orders");
/// assert_eq!(response.text().await?, "three of them");
/// # assert!(login.is_valid(api.requests()[0].token.as_deref().unwrap(), Some("stock.write")));
/// # Ok(()) }
/// ```
pub struct ReqwestClient<B = Body> {
    client: Client,
    /// The request body type is part of the client, so that `ready().await?.call(request)` needs no type annotation.
    body: PhantomData<fn(B)>,
}

/// The error of a [`ReqwestClient`].
///
/// ```
/// use tower_bearer::{layer::Error, clients::ReqwestError};
///
/// fn may_retry(error: &Error<ReqwestError>) -> bool {
///     match error {
///         Error::Token(error) => error.is_retryable(),
///         Error::Inner(ReqwestError::Client(error)) => error.is_timeout() || error.is_connect(),
///         Error::Inner(_) => false,
///     }
/// }
/// # let error = tower_bearer::TokenError::new(tower_bearer::ErrorKind::Timeout, "no response within 10s");
/// # assert!(may_retry(&error.into()));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ReqwestError {
    /// The URI of the request is not a valid URL, so the request was not sent.
    #[non_exhaustive]
    InvalidUri {
        /// The cause and the remedy.
        reason: &'static str,
    },
    /// The unchanged error of the client.
    Client(reqwest::Error),
}

pin_project! {
    /// The response future of [`ReqwestClient`].
    #[must_use = "futures do nothing unless they are polled"]
    pub struct ReqwestFuture {
        #[pin]
        state: State,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State {
        // The client is sending the request.
        Sent {
            #[pin]
            future: <Client as Service<reqwest::Request>>::Future,
        },
        // The request can't be sent.
        Unsendable {
            reason: &'static str,
        },
    }
}

impl<B> ReqwestClient<B> {
    /// Wraps a client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let body = PhantomData;
        Self { client, body }
    }

    /// Returns the wrapped client.
    #[must_use]
    pub fn inner(&self) -> &Client {
        &self.client
    }

    /// Unwraps the client.
    #[must_use]
    pub fn into_inner(self) -> Client {
        self.client
    }
}

impl<B> From<Client> for ReqwestClient<B> {
    fn from(client: Client) -> Self {
        Self::new(client)
    }
}

impl<B> Clone for ReqwestClient<B> {
    fn clone(&self) -> Self {
        Self::new(self.client.clone())
    }
}

impl<B> fmt::Debug for ReqwestClient<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReqwestClient").field(&self.client).finish()
    }
}

impl<B: Into<Body>> Service<Request<B>> for ReqwestClient<B> {
    type Response = Response<Body>;
    type Error = ReqwestError;
    type Future = ReqwestFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReqwestError>> {
        self.client.poll_ready(cx).map_err(ReqwestError::Client)
    }

    fn call(&mut self, request: Request<B>) -> ReqwestFuture {
        let state = match to_reqwest_request(request) {
            Ok(request) => State::Sent {
                future: self.client.call(request),
            },
            Err(reason) => State::Unsendable { reason },
        };
        ReqwestFuture { state }
    }
}

impl Future for ReqwestFuture {
    type Output = Result<Response<Body>, ReqwestError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Sent { future } => {
                let response = ready!(future.poll(cx)).map_err(ReqwestError::Client)?;
                Poll::Ready(Ok(from_reqwest_response(response)))
            }
            StateProjection::Unsendable { reason } => {
                Poll::Ready(Err(ReqwestError::InvalidUri { reason }))
            }
        }
    }
}

/// Converts to a request of reqwest, or returns the reason why this is not possible.
fn to_reqwest_request<B: Into<Body>>(
    request: Request<B>,
) -> Result<reqwest::Request, &'static str> {
    let has_origin = |uri: &Uri| uri.scheme().is_some() && uri.authority().is_some();
    if !has_origin(request.uri()) {
        return Err(
            "the URI of the request has no scheme and host: add them to the URI, or add a layer between the AuthLayer and the client that does",
        );
    }
    // Some hosts are valid in a URI but not in a URL: `999.1.1.1`, for example.
    reqwest::Request::try_from(request)
        .map_err(|_| "the URI of the request is not a valid URL: check its host and port")
}

/// Converts to a response of the `http` crate that contains its URL, for the layer and for the conversion back to a response of
/// reqwest.
fn from_reqwest_response(response: reqwest::Response) -> Response<Body> {
    let url = response.url().clone();
    let mut response = Response::<Body>::from(response);
    let extensions = response.extensions_mut();
    if let Ok(bare) = http::response::Builder::new().url(url.clone()).body(()) {
        extensions.extend(bare.into_parts().0.extensions);
    }
    extensions.insert(AnsweredBy(url));
    response
}

impl ReqwestError {
    /// Returns the error of the client, if it is one.
    #[must_use]
    pub fn client(&self) -> Option<&reqwest::Error> {
        match self {
            Self::Client(error) => Some(error),
            Self::InvalidUri { .. } => None,
        }
    }
}

impl fmt::Display for ReqwestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidUri { reason } => f.write_str(reason),
            Self::Client(error) => error.fmt(f),
        }
    }
}

/// The error of the client is displayed instead of this one, so the source is that of the client's error.
impl Error for ReqwestError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.client()?.source()
    }
}

impl fmt::Debug for ReqwestFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReqwestFuture(_)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(uri: &str) -> Option<&'static str> {
        to_reqwest_request(Request::get(uri).body("").unwrap()).err()
    }

    #[test]
    fn invalid_uri_is_reported_without_showing_it() {
        for (uri, part) in [
            ("/items?key=hidden", "no scheme and host"),
            ("*", "no scheme and host"),
            ("api.example.com:443", "no scheme and host"),
            ("http://999.1.1.1/?key=hidden", "not a valid URL"),
        ] {
            let reason = reason(uri).unwrap_or_else(|| panic!("{uri}"));
            assert!(reason.contains(part), "{uri}: {reason}");
        }
        assert_eq!(reason("https://api.example.com/items?a=b"), None);
    }

    #[test]
    fn request_is_converted_completely() {
        let request = Request::put("https://api.example.com/items?a=b")
            .version(http::Version::HTTP_2)
            .header("x-one", "1")
            .header("x-one", "2")
            .body("abc")
            .unwrap();
        let request = to_reqwest_request(request).unwrap();
        assert_eq!(request.method(), http::Method::PUT);
        assert_eq!(request.url().as_str(), "https://api.example.com/items?a=b");
        assert_eq!(request.version(), http::Version::HTTP_2);
        let ones: Vec<_> = request.headers().get_all("x-one").iter().collect();
        assert_eq!(ones, ["1", "2"]);
        assert_eq!(request.body().unwrap().as_bytes(), Some(&b"abc"[..]));
    }

    #[test]
    fn response_keeps_its_extensions_and_gets_its_url() {
        #[derive(Clone, Debug, PartialEq)]
        struct CustomExtension;
        let url = "https://api.example.com/items";
        let response = Response::builder()
            .status(201)
            .version(http::Version::HTTP_2)
            .header("x-one", "1")
            .extension(CustomExtension)
            .url(url.parse().unwrap())
            .body("abc")
            .unwrap();
        let response = from_reqwest_response(response.into());
        assert_eq!(
            (response.status().as_u16(), response.version()),
            (201, http::Version::HTTP_2)
        );
        assert_eq!(response.headers()["x-one"], "1");
        assert_eq!(response.extensions().get(), Some(&CustomExtension));
        let answered_by: &AnsweredBy = response.extensions().get().unwrap();
        assert_eq!(answered_by.0.as_str(), url);
        assert_eq!(reqwest::Response::from(response).url().as_str(), url);
    }
}
