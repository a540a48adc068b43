//! [`ReqwestClient`]: a `reqwest::Client` that takes `http::Request`, so that a request can name its token.

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

/// A `reqwest::Client` as a service over `http::Request`, with bodies of any one type that reqwest takes: `reqwest::Body`
/// itself, strings, `Bytes`, vectors.
///
/// Unlike a `reqwest::Request`, such a request shows its extensions, so that a [`TokenSpec`](crate::TokenSpec) among them
/// chooses its token. The URI has to be a whole one, with its scheme and host.
///
/// The response streams as it comes, and says where it comes from, so that after a redirect to another origin nothing that is
/// answered there is taken for a word on the token. `reqwest::Response::from` makes a response of reqwest's of it, with its URL.
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
    /// With it the type says which requests it takes, so that `ready().await?.call(request)` needs no further word.
    body: PhantomData<fn(B)>,
}

/// Why there is no response from a [`ReqwestClient`].
///
/// ```
/// use tower_bearer::{layer::Error, clients::ReqwestError};
///
/// fn is_worth_another_try(error: &Error<ReqwestError>) -> bool {
///     match error {
///         Error::Token(error) => error.is_retryable(),
///         Error::Inner(ReqwestError::Client(error)) => error.is_timeout() || error.is_connect(),
///         Error::Inner(_) => false,
///     }
/// }
/// # let error = tower_bearer::TokenError::new(tower_bearer::ErrorKind::Timeout, "no answer within 10s");
/// # assert!(is_worth_another_try(&error.into()));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ReqwestError {
    /// The request's URI is no address that it could go to, so it was not sent.
    #[non_exhaustive]
    Address {
        /// What is wrong with it, and what to do.
        reason: &'static str,
    },
    /// The client's own error, as it came.
    Client(reqwest::Error),
}

pin_project! {
    /// The response to come from a [`ReqwestClient`].
    #[must_use = "futures do nothing unless they are polled"]
    pub struct ReqwestFuture {
        #[pin]
        state: State,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State {
        // The request is with the client.
        Sent {
            #[pin]
            future: <Client as Service<reqwest::Request>>::Future,
        },
        // It can't be sent.
        Unsendable {
            reason: &'static str,
        },
    }
}

impl<B> ReqwestClient<B> {
    /// This client, for `http::Request`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let body = PhantomData;
        Self { client, body }
    }

    /// reqwest's own client.
    #[must_use]
    pub fn inner(&self) -> &Client {
        &self.client
    }

    /// reqwest's own client.
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
        let state = match sendable(request) {
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
                Poll::Ready(Ok(with_its_url(response)))
            }
            StateProjection::Unsendable { reason } => {
                Poll::Ready(Err(ReqwestError::Address { reason }))
            }
        }
    }
}

/// The same as a request of reqwest's, or why there is none.
fn sendable<B: Into<Body>>(request: Request<B>) -> Result<reqwest::Request, &'static str> {
    let has_origin = |uri: &Uri| uri.scheme().is_some() && uri.authority().is_some();
    if !has_origin(request.uri()) {
        return Err(
            "the request's URI names no origin: write it with scheme and host, or put them there by a layer between the tokens and the client",
        );
    }
    // Some hosts are none to the URL standard: `999.1.1.1`, say.
    reqwest::Request::try_from(request)
        .map_err(|_| "the request's URI is no URL: look at its host and port")
}

/// The same as a response of the `http` crate's, which says where it comes from: to the layer, and to reqwest, for whoever
/// makes a response of reqwest's of it.
fn with_its_url(response: reqwest::Response) -> Response<Body> {
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
    /// The client's own error, if it is one.
    #[must_use]
    pub fn client(&self) -> Option<&reqwest::Error> {
        match self {
            Self::Client(error) => Some(error),
            Self::Address { .. } => None,
        }
    }
}

impl fmt::Display for ReqwestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { reason } => f.write_str(reason),
            Self::Client(error) => error.fmt(f),
        }
    }
}

/// The causes are those of the client's error, which shows itself in place of this one.
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
        sendable(Request::get(uri).body("").unwrap()).err()
    }

    #[test]
    fn an_address_that_is_none_is_named_and_not_shown() {
        for (uri, part) in [
            ("/items?key=hidden", "names no origin"),
            ("*", "names no origin"),
            ("api.example.com:443", "names no origin"),
            ("http://999.1.1.1/?key=hidden", "is no URL"),
        ] {
            let reason = reason(uri).unwrap_or_else(|| panic!("{uri}"));
            assert!(reason.contains(part), "{uri}: {reason}");
        }
        assert_eq!(reason("https://api.example.com/items?a=b"), None);
    }

    #[test]
    fn a_request_is_handed_on_whole() {
        let request = Request::put("https://api.example.com/items?a=b")
            .version(http::Version::HTTP_2)
            .header("x-one", "1")
            .header("x-one", "2")
            .body("abc")
            .unwrap();
        let request = sendable(request).unwrap();
        assert_eq!(request.method(), http::Method::PUT);
        assert_eq!(request.url().as_str(), "https://api.example.com/items?a=b");
        assert_eq!(request.version(), http::Version::HTTP_2);
        let ones: Vec<_> = request.headers().get_all("x-one").iter().collect();
        assert_eq!(ones, ["1", "2"]);
        assert_eq!(request.body().unwrap().as_bytes(), Some(&b"abc"[..]));
    }

    #[test]
    fn a_response_keeps_its_own_and_gets_its_url() {
        #[derive(Clone, Debug, PartialEq)]
        struct Mine;
        let url = "https://api.example.com/items";
        let response = Response::builder()
            .status(201)
            .version(http::Version::HTTP_2)
            .header("x-one", "1")
            .extension(Mine)
            .url(url.parse().unwrap())
            .body("abc")
            .unwrap();
        let response = with_its_url(response.into());
        assert_eq!(
            (response.status().as_u16(), response.version()),
            (201, http::Version::HTTP_2)
        );
        assert_eq!(response.headers()["x-one"], "1");
        assert_eq!(response.extensions().get(), Some(&Mine));
        let answered_by: &AnsweredBy = response.extensions().get().unwrap();
        assert_eq!(answered_by.0.as_str(), url);
        assert_eq!(reqwest::Response::from(response).url().as_str(), url);
    }
}
