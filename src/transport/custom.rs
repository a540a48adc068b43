//! This module defines the trait that connects a custom HTTP client to a [`Transport`](super::Transport).

use std::pin::Pin;

use bytes::Bytes;
use http::{Request, Response};

use crate::error::TokenError;

/// Sends token requests over a custom HTTP client, for example one with a proxy, pinned certificates or an audit log.
///
/// A token request contains a secret. An implementation must not follow redirects, must not log headers or bodies, and must not
/// send a request twice unless the connection broke before it was sent. The cache applies deadlines and retries.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use tower_bearer::{TokenError, transport::{TokenTransport, Transport}};
///
/// struct Offline;
///
/// impl TokenTransport for Offline {
///     async fn send(&self, _: Request<Bytes>) -> Result<Response<Bytes>, TokenError> {
///         Ok(Response::new(Bytes::from(r#"{"access_token":"abc"}"#)))
///     }
/// }
///
/// let transport = Transport::new(Offline);
/// # let _ = transport;
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` sends no token requests",
    note = "implement `TokenTransport` for it, or wrap an async closure in `Transport::from_fn`"
)]
pub trait TokenTransport: Send + Sync + 'static {
    /// Sends the request and returns the response with its whole body, whatever its status.
    ///
    /// # Errors
    /// Returns an error of the kind `Network` or `Timeout` if there is no response.
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> impl Future<Output = Result<Response<Bytes>, TokenError>> + Send;
}

pub(super) struct TransportFn<F>(pub(super) F);

impl<F, Fut> TokenTransport for TransportFn<F>
where
    F: Fn(Request<Bytes>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Response<Bytes>, TokenError>> + Send,
{
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TokenError> {
        (self.0)(request).await
    }
}

type BoxedResponse<'a> =
    Pin<Box<dyn Future<Output = Result<Response<Bytes>, TokenError>> + Send + 'a>>;

/// The version of [`TokenTransport`] that works with `dyn`, because its future is boxed.
pub(super) trait DynTransport: Send + Sync {
    fn send_boxed(&self, request: Request<Bytes>) -> BoxedResponse<'_>;
}

impl<T: TokenTransport> DynTransport for T {
    fn send_boxed(&self, request: Request<Bytes>) -> BoxedResponse<'_> {
        Box::pin(self.send(request))
    }
}
