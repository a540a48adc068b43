//! Serves HTTP/1.1 and HTTP/2 on a loopback port, with or without TLS, until the handle is dropped.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::{Executor, Read, Write};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::response_body::ResponseBody;

/// Handles the requests of a server.
pub(super) trait Handler: Send + Sync + 'static {
    /// Called when a client has connected.
    fn connected(&self) {}

    /// Responds to a request. If the future never completes, the client gets no response.
    fn respond(
        &self,
        request: Request<Incoming>,
        connection: &Connection,
    ) -> impl Future<Output = Response<ResponseBody>> + Send;
}

/// The connection that a request came in on.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    id: u64,
    closing: Arc<watch::Sender<bool>>,
    /// The client's certificate in DER.
    certificate: Option<Arc<[u8]>>,
}

/// A bound port that accepts no connections yet.
pub(super) struct Socket {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
}

/// A running server. Dropping it closes its port and all connections and ends all tasks.
#[derive(Debug)]
pub(super) struct Server {
    accepting: AbortHandle,
}

impl Connection {
    /// Returns the connection's number. Connections are numbered from 1 in the order in which they are accepted.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Returns the client's certificate in DER.
    pub(super) fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    /// Closes the socket, even with requests in progress.
    pub(super) fn close(&self) {
        self.closing.send_replace(true);
    }
}

impl Socket {
    pub(super) async fn bind(tls: Option<TlsAcceptor>) -> io::Result<Self> {
        // Without a runtime, `TcpListener` would panic.
        if Handle::try_current().is_err() {
            return Err(io::Error::other(
                "a test server needs a running Tokio runtime",
            ));
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self {
            listener,
            address,
            tls,
        })
    }

    /// Returns the origin of the server without a trailing slash.
    pub(super) fn origin(&self) -> String {
        let port = self.address.port();
        match self.tls {
            Some(_) => format!("https://localhost:{port}"),
            None => format!("http://127.0.0.1:{port}"),
        }
    }

    pub(super) fn serve(self, app: Arc<impl Handler>) -> Server {
        let accepting = tokio::spawn(accept(self.listener, self.tls, app)).abort_handle();
        Server { accepting }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Accepts connections. Aborting this task aborts them too, since it owns their `JoinSet`.
async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, app: Arc<impl Handler>) {
    let ids = AtomicU64::new(1);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    app.connected();
                    let id = ids.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(connect(stream, tls.clone(), app.clone(), id));
                }
                // Most likely the process is out of file descriptors; retry when some may be free.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connect(stream: TcpStream, tls: Option<TlsAcceptor>, app: Arc<impl Handler>, id: u64) {
    // The connection works without this option too.
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve(TokioIo::new(stream), app, id, None).await,
        Some(tls) => {
            // Fails for example if the client doesn't trust the certificate.
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let certificate = chain.first().map(|der| Arc::from(der.as_ref()));
            serve(TokioIo::new(stream), app, id, certificate).await;
        }
    }
}

async fn serve<I>(io: I, app: Arc<impl Handler>, id: u64, certificate: Option<Arc<[u8]>>)
where
    I: Read + Write + Unpin + 'static,
{
    let (closing, mut closed) = watch::channel(false);
    let connection = Connection {
        id,
        closing: Arc::new(closing),
        certificate,
    };
    let _on_exit = CloseOnDrop(connection.clone());
    let http = http(closed.clone());
    let service = service_fn(move |request| {
        let (app, connection) = (app.clone(), connection.clone());
        async move { Ok::<_, Infallible>(app.respond(request, &connection).await) }
    });
    tokio::select! {
        // An error means that the client disconnected or violated the protocol.
        _ = http.serve_connection(io, service) => {}
        _ = closed.changed() => {}
    }
}

/// Configures both protocols. HTTP/2's limits against floods are raised because load tests exceed them.
fn http(closed: watch::Receiver<bool>) -> auto::Builder<UntilClosed> {
    let mut http = auto::Builder::new(UntilClosed(closed));
    http.http2()
        .max_concurrent_streams(FLOOD as u32)
        .max_pending_accept_reset_streams(FLOOD)
        .max_local_error_reset_streams(FLOOD)
        .max_header_list_size(1 << 20);
    http
}

/// Runs the streams of an HTTP/2 connection as tasks that end with the connection.
#[derive(Clone)]
struct UntilClosed(watch::Receiver<bool>);

impl<F> Executor<F> for UntilClosed
where
    F: Future + Send + 'static,
{
    fn execute(&self, stream: F) {
        let mut closed = self.0.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = stream => {}
                _ = closed.changed() => {}
            }
        });
    }
}

struct CloseOnDrop(Connection);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(5);
const FLOOD: usize = 100_000;
