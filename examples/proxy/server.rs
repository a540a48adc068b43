//! Accepts connections, and ends well.

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

/// How much a request's head may take.
const MAX_HEAD: usize = 64 << 10;
/// How long a caller may take for a request's head, and how long a connection is kept without one.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long to wait for a free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until it is told to end, and then what it has.
pub(crate) async fn serve(settings: Settings) -> Result<(), String> {
    let (listen, grace) = (settings.listen, settings.grace);
    let idle = settings.upstreams.is_empty();
    // Before anybody is told that it serves: from then on, a signal must find its ear.
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
        warn!("there is no upstream: add [[proxy.upstream]]");
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
        "told to end: finishing what is under way"
    );
    if timeout(grace, connections.shutdown()).await.is_err() {
        warn!(?grace, "some requests took too long to be finished");
    }
    Ok(())
}

fn serve_connection(
    server: &auto::Builder<TokioExecutor>,
    connections: &GracefulShutdown,
    proxy: &Proxy,
    stream: TcpStream,
) {
    // A caller who is gone already.
    let Ok(address) = stream.local_addr() else {
        return;
    };
    // Nothing is written in small pieces; if it can't be set, it is only slower.
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
            debug!(%error, "a connection broke");
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

/// Lets as many connections be open as the system would allow: each caller's and each upstream's is a file.
fn raise_limit() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        // Where it can't be, it stays as it was.
        let _ = setrlimit(Resource::Nofile, raised);
    }
}

fn announce(address: SocketAddr) {
    // Who doesn't want to know has closed it.
    let mut out = io::stdout();
    let _ = writeln!(out, "listening on http://{address}");
    let _ = out.flush();
}

/// One connection's own trouble, and none of the listener's.
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
