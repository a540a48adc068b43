//! This module builds the HTTP clients of a transport and chooses one for each request.
//!
//! There is one client for `https://` and one for plain `http://` to loopback. Each exists at most twice, for the two flavors of
//! runtime (see below). A client opens its connections with the certificate that it was built with, so the `https://` client is
//! built again when the client certificate changes. While the files of a certificate and its key are being replaced, they may not
//! match for a moment. Until they do, the previous client is used.
//!
//! # Runtimes
//! One cache, with its transport and its fetches, may be used from several Tokio runtimes, and outside Tokio. Tasks only make
//! progress while their runtime is polled. A multi-threaded runtime polls its tasks until it is shut down; a current-thread runtime
//! polls them only during `block_on`, and may never be polled again. Nothing in the crate may wait forever for such a task:
//!
//! - A connection is driven by a task of the runtime that opened it. A request that reused a connection of an idle current-thread
//!   runtime would never finish. So [`PerRuntimeFlavor`] holds two clients: one that keeps idle connections, for multi-threaded
//!   runtimes, and one that keeps none. When a runtime shuts down, its connections are closed, which a client detects.
//! - A fetch is a task too. It may stop being polled while it holds a fetch permit, so permits expire, and a request that waits for
//!   an overdue fetch stops waiting.
//! - A runtime may have been built without timers, and there are none outside Tokio. Then [`timer::within`] waits without a limit.
//!
//! [`timer::within`]: crate::util::timer::within

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use http::{Request, Response, uri::Scheme};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{options::TransportOptions, tls_identity::IdentityPem};
use crate::{error::TokenError, util::fingerprint::Fingerprint};

/// An HTTP client that token requests can be sent with.
pub(super) trait HttpClient: Clone {
    /// Builds a client for `https://` that keeps at most `max_idle` idle connections for each host.
    fn build_secure(
        options: &TransportOptions,
        max_idle: usize,
        identity: Option<&IdentityPem>,
    ) -> Result<Self, TokenError>;

    /// Builds a client for plain `http://` to loopback. It needs no root certificates, and must not send secrets to a proxy.
    fn build_plain(options: &TransportOptions, max_idle: usize) -> Result<Self, TokenError>;

    /// Sends a request and collects the response.
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> impl Future<Output = Result<Response<Bytes>, TokenError>> + Send;
}

/// The clients of a transport. Each is built on first use.
pub(super) struct ClientPool<C> {
    options: TransportOptions,
    secure: RotatingClient<C>,
    plain: PerRuntimeFlavor<C>,
}

impl<C: HttpClient> ClientPool<C> {
    pub(super) const fn new(options: TransportOptions) -> Self {
        Self {
            options,
            secure: RotatingClient::new(),
            plain: PerRuntimeFlavor::new(),
        }
    }

    pub(super) const fn options(&self) -> &TransportOptions {
        &self.options
    }

    /// Returns a pool with changed options, which builds new clients.
    pub(super) fn with_options(&self, change: impl FnOnce(&mut TransportOptions)) -> Self {
        let mut options = self.options.clone();
        change(&mut options);
        Self::new(options)
    }

    pub(super) async fn send(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, TokenError> {
        require_runtime()?;
        let client = if request.uri().scheme() == Some(&Scheme::HTTP) {
            self.plain
                .get_or_build(|max_idle| C::build_plain(&self.options, max_idle))
        } else {
            let identity = self.options.load_identity()?;
            let fingerprint = identity.as_ref().map(|identity| identity.fingerprint);
            self.secure.get_or_build(fingerprint, |max_idle| {
                C::build_secure(&self.options, max_idle, identity.as_deref())
            })
        };
        client?.send(request).await
    }
}

/// Returns an error outside a runtime, where spawning a connection would panic.
fn require_runtime() -> Result<(), TokenError> {
    let Ok(_) = Handle::try_current() else {
        return Err(TokenError::configuration(
            "token request outside a Tokio runtime: fetch tokens inside one",
        ));
    };
    Ok(())
}

/// A client that is built again when the certificate changes.
struct RotatingClient<C>(Mutex<Option<ClientGeneration<C>>>);

/// The clients that were built for one certificate.
struct ClientGeneration<C> {
    fingerprint: Option<Fingerprint>,
    clients: Arc<PerRuntimeFlavor<C>>,
    /// The most recent clients before these that could be built.
    previous: Option<Arc<PerRuntimeFlavor<C>>>,
}

impl<C: Clone> RotatingClient<C> {
    const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Returns the client for the current runtime and this certificate.
    fn get_or_build(
        &self,
        fingerprint: Option<Fingerprint>,
        build: impl Fn(usize) -> Result<C, TokenError>,
    ) -> Result<C, TokenError> {
        let (clients, previous) = self.generation(fingerprint);
        clients
            .get_or_build(build)
            .or_else(|error| previous.and_then(|previous| previous.built()).ok_or(error))
    }

    fn generation(
        &self,
        fingerprint: Option<Fingerprint>,
    ) -> (Arc<PerRuntimeFlavor<C>>, Option<Arc<PerRuntimeFlavor<C>>>) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = match current.take() {
            Some(same) if same.fingerprint == fingerprint => current.insert(same),
            last => current.insert(ClientGeneration {
                fingerprint,
                clients: Arc::new(PerRuntimeFlavor::new()),
                previous: last.and_then(|last| match last.clients.built() {
                    Some(_) => Some(last.clients),
                    None => last.previous,
                }),
            }),
        };
        (last.clients.clone(), last.previous.clone())
    }
}

/// A client for each flavor of runtime, built on first use.
pub(super) struct PerRuntimeFlavor<C> {
    pooling: OnceLock<Result<C, TokenError>>,
    not_pooling: OnceLock<Result<C, TokenError>>,
}

impl<C: Clone> PerRuntimeFlavor<C> {
    pub(super) const fn new() -> Self {
        Self {
            pooling: OnceLock::new(),
            not_pooling: OnceLock::new(),
        }
    }

    /// Returns the client for the current runtime. `build` takes the maximum number of idle connections per host.
    pub(super) fn get_or_build(
        &self,
        build: impl FnOnce(usize) -> Result<C, TokenError>,
    ) -> Result<C, TokenError> {
        let (client, max_idle) = self.current();
        client.get_or_init(|| build(max_idle)).clone()
    }

    /// Returns the client for the current runtime if it has been built.
    pub(super) fn built(&self) -> Option<C> {
        let (client, _) = self.current();
        client.get()?.clone().ok()
    }

    fn current(&self) -> (&OnceLock<Result<C, TokenError>>, usize) {
        match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => (&self.pooling, usize::MAX),
            _ => (&self.not_pooling, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_is_built_once_for_each_certificate() {
        let client = RotatingClient::new();
        let fingerprints = [Fingerprint::of(b"a"), Fingerprint::of(b"b")].map(Some);
        let built = std::cell::Cell::new(0);
        let build = |_| {
            built.set(built.get() + 1);
            Ok(built.get())
        };
        for (fingerprint, expected) in [
            (fingerprints[0], 1),
            (fingerprints[0], 1),
            (fingerprints[1], 2),
            (fingerprints[1], 2),
        ] {
            assert_eq!(client.get_or_build(fingerprint, build).unwrap(), expected);
        }
    }

    #[test]
    fn previous_client_is_used_until_the_new_one_can_be_built() {
        let client = RotatingClient::new();
        let fault = |_| {
            Err(TokenError::configuration(
                "the certificate does not match its key",
            ))
        };
        assert!(client.get_or_build(None, fault).is_err());
        let fingerprints = [&b"a"[..], b"b", b"c", b"d"].map(|text| Some(Fingerprint::of(text)));
        assert_eq!(client.get_or_build(fingerprints[0], |_| Ok(1)).unwrap(), 1);
        for fingerprint in [fingerprints[1], fingerprints[1], fingerprints[2]] {
            assert_eq!(client.get_or_build(fingerprint, fault).unwrap(), 1);
        }
        assert_eq!(client.get_or_build(fingerprints[3], |_| Ok(2)).unwrap(), 2);
    }
}
