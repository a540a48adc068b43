//! A client of one's own behind [`Transport`](super::Transport).

use std::pin::Pin;

use bytes::Bytes;
use http::{Request, Response};

use crate::error::TokenError;

/// Sends a token request, for whoever has a client of their own: with a proxy, a pinned certificate, a record.
///
/// The request holds a secret. So don't follow redirects, don't log its headers or body, and don't send it twice unless
/// the connection broke before it left. Deadlines and further attempts are the cache's business.
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
    /// Sends the request and collects the answer, whatever its status.
    ///
    /// # Errors
    /// There is no answer: of the kind `Network`, or `Timeout`.
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
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> impl Future<Output = Result<Response<Bytes>, TokenError>> + Send {
        (self.0)(request)
    }
}

type Sending<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, TokenError>> + Send + 'a>>;

/// The boxed twin of [`TokenTransport`].
pub(super) trait DynTransport: Send + Sync {
    fn send_boxed(&self, request: Request<Bytes>) -> Sending<'_>;
}

impl<T: TokenTransport> DynTransport for T {
    fn send_boxed(&self, request: Request<Bytes>) -> Sending<'_> {
        Box::pin(self.send(request))
    }
}
