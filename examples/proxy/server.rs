//! Accepts connections, and shuts down gracefully.

use std::{
    convert::Infallible,
    io::{self, Write},
    net::SocketAddr,
    pin::pin,
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use crate::{handler::Proxy, origin_check::OriginCheck, settings::Settings};

/// The maximum size of a request's head, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// The time limit for a request's head, and for an idle connection.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The pause after a failed `accept`, such as for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until a shutdown signal, and then finishes the requests in progress.
pub(crate) async fn serve(settings: Settings) -> Result<(), String> {
    let (listen, grace) = (settings.listen, settings.grace);
    let idle = settings.upstreams.is_empty();
    // The signal handlers are installed before the address is announced.
    let mut end =
        pin!(shutdown_signal().map_err(|error| format!("can't listen for signals: {error}"))?);
    raise_limit();
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        format!("proxy.listen: can't listen on {listen}: {error}: choose another address")
    })?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let proxy = Proxy::new(settings)?;
    announce(address);
    if idle {
        warn!("no upstream is configured: add [[proxy.upstream]]");
    }

    let server = builder();
    let connections = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut end => break,
        };
        match accepted {
            Ok((stream, _)) => serve_connection(&server, &connections, &proxy, stream),
            Err(error) if is_callers_fault(&error) => {}
            Err(error) => {
                warn!(%error, "can't accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    info!(
        connections = connections.count(),
        ?grace,
        "shutting down: finishing requests in progress"
    );
    if timeout(grace, connections.shutdown()).await.is_err() {
        warn!(
            ?grace,
            "the grace period ended before all requests were finished"
        );
    }
    Ok(())
}

fn serve_connection(
    server: &auto::Builder<TokioExecutor>,
    connections: &GracefulShutdown,
    proxy: &Proxy,
    stream: TcpStream,
) {
    // The caller has already closed the connection.
    let Ok(address) = stream.local_addr() else {
        return;
    };
    // Best effort: without it, the connection is only slower.
    let _ = stream.set_nodelay(true);
    let (proxy, origins) = (proxy.with_own_handle(), OriginCheck::for_address(address));
    let service = service_fn(move |request| {
        let (proxy, origins) = (proxy.clone(), origins.clone());
        async move { Ok::<_, Infallible>(proxy.handle(&origins, request).await) }
    });
    let connection = server
        .serve_connection(TokioIo::new(stream), service)
        .into_owned();
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%error, "connection failed");
        }
    });
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(TIMEOUT)
        .max_buf_size(MAX_HEAD);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEAD as u32)
        .keep_alive_interval(TIMEOUT)
        .adaptive_window(true);
    server
}

/// Raises the limit of open files to the maximum, because each connection needs a file descriptor.
fn raise_limit() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        // Best effort: without the permission, the limit stays.
        let _ = setrlimit(Resource::Nofile, raised);
    }
}

fn announce(address: SocketAddr) {
    // Standard output may be closed.
    let mut out = io::stdout();
    let _ = writeln!(out, "listening on http://{address}");
    let _ = out.flush();
}

/// Returns true if the error concerns one connection, not the listener.
fn is_callers_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

#[cfg(unix)]
fn shutdown_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn shutdown_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
