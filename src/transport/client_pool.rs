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

use std::{
    mem,
    sync::{Mutex, OnceLock, PoisonError},
};

use bytes::Bytes;
use http::{Request, Response, uri::Scheme};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{options::TransportOptions, tls_identity::IdentityPem};
use crate::{error::TokenError, util::fingerprint::Fingerprint};

/// An HTTP client that token requests can be sent with.
pub(super) trait HttpClient: Clone {
    /// Builds a client that keeps at most `max_idle` idle connections for each host.
    fn build(
        options: &TransportOptions,
        max_idle: usize,
        security: Security<'_>,
    ) -> Result<Self, TokenError>;

    /// Sends a request and collects the response.
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> impl Future<Output = Result<Response<Bytes>, TokenError>> + Send;
}

/// The URLs that a client is built for.
pub(super) enum Security<'a> {
    /// `https://`, with this client certificate.
    Tls(Option<&'a IdentityPem>),
    /// Plain `http://` to loopback. The client needs no root certificates, and must not send secrets to a proxy.
    Plain,
}

/// The clients of a transport. Each is built on first use.
pub(super) struct ClientPool<C> {
    pub(super) options: TransportOptions,
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
        // Outside a runtime, spawning a connection would panic.
        if Handle::try_current().is_err() {
            return Err(TokenError::configuration(
                "token request outside a Tokio runtime: fetch tokens inside one",
            ));
        }
        let build = |max_idle, security| C::build(&self.options, max_idle, security);
        let client = if request.uri().scheme() == Some(&Scheme::HTTP) {
            self.plain
                .get_or_build(|max_idle| build(max_idle, Security::Plain))?
        } else {
            let identity = self.options.load_identity()?;
            let fingerprint = identity.as_ref().map(|identity| identity.fingerprint);
            self.secure.get_or_build(fingerprint, |max_idle| {
                build(max_idle, Security::Tls(identity.as_deref()))
            })?
        };
        client.send(request).await
    }
}

/// A client that is built again when the certificate changes.
struct RotatingClient<C>(Mutex<ClientGeneration<C>>);

/// The clients that were built for one certificate.
struct ClientGeneration<C> {
    fingerprint: Option<Fingerprint>,
    clients: PerRuntimeFlavor<C>,
    /// The most recent clients before these that could be built.
    previous: Option<PerRuntimeFlavor<C>>,
}

impl<C: Clone> ClientGeneration<C> {
    const fn new(fingerprint: Option<Fingerprint>) -> Self {
        Self {
            fingerprint,
            clients: PerRuntimeFlavor::new(),
            previous: None,
        }
    }
}

impl<C: Clone> RotatingClient<C> {
    const fn new() -> Self {
        Self(Mutex::new(ClientGeneration::new(None)))
    }

    /// Returns the client for the current runtime and this certificate.
    fn get_or_build(
        &self,
        fingerprint: Option<Fingerprint>,
        build: impl FnOnce(usize) -> Result<C, TokenError>,
    ) -> Result<C, TokenError> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if current.fingerprint != fingerprint {
            let last = mem::replace(&mut *current, ClientGeneration::new(fingerprint));
            current.previous = match last.clients.built() {
                Some(_) => Some(last.clients),
                None => last.previous,
            };
        }
        current.clients.get_or_build(build).or_else(|error| {
            let previous = current.previous.as_ref();
            previous.and_then(PerRuntimeFlavor::built).ok_or(error)
        })
    }
}

/// A client for multi-threaded runtimes, which keeps idle connections, and one for all others. Each is built on first use.
struct PerRuntimeFlavor<C>([OnceLock<Result<C, TokenError>>; 2]);

impl<C: Clone> PerRuntimeFlavor<C> {
    const fn new() -> Self {
        Self([OnceLock::new(), OnceLock::new()])
    }

    /// Returns the client for the current runtime. `build` takes the maximum number of idle connections per host.
    fn get_or_build(
        &self,
        build: impl FnOnce(usize) -> Result<C, TokenError>,
    ) -> Result<C, TokenError> {
        let (client, max_idle) = self.current();
        client.get_or_init(|| build(max_idle)).clone()
    }

    /// Returns the client for the current runtime if it has been built.
    fn built(&self) -> Option<C> {
        let (client, _) = self.current();
        client.get()?.clone().ok()
    }

    fn current(&self) -> (&OnceLock<Result<C, TokenError>>, usize) {
        let Self([pooling, not_pooling]) = self;
        match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => (pooling, usize::MAX),
            _ => (not_pooling, 0),
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
