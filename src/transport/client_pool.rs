//! A client that is built anew when its certificate is another one.
//!
//! Connections are made with the certificate that a client was built with, so a new one takes a new client. While the
//! files of a certificate and its key are being replaced, they may not belong together for a moment; the client before
//! goes on until they do.
//!
//! Which connections may be kept: those whose runtime goes on by itself.
//!
//! A connection is driven by a task of the runtime that opened it. A runtime of one thread stands still between two
//! calls of `block_on`, and whoever was handed its kept connection in another runtime would wait without end. So there
//! are two clients: one that keeps connections, for runtimes of many threads, and one that keeps none. What a runtime
//! that has shut down leaves behind is closed, which a client notices.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use http::{Request, Response, uri::Scheme};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{options::TransportOptions, tls_identity::IdentityPem};
use crate::{error::TokenError, util::fingerprint::Fingerprint};

/// What a client does that token requests are sent with.
pub(super) trait HttpClient: Clone {
    /// Builds a client for `https://` that keeps at most `max_idle` idle connections for each host.
    fn build_secure(
        options: &TransportOptions,
        max_idle: usize,
        identity: Option<&IdentityPem>,
    ) -> Result<Self, TokenError>;

    /// Builds a client for `http://` to this machine. It needs no trust, and must not take plain secrets to a proxy.
    fn build_plain(options: &TransportOptions, max_idle: usize) -> Result<Self, TokenError>;

    fn send(
        &self,
        request: Request<Bytes>,
    ) -> impl Future<Output = Result<Response<Bytes>, TokenError>> + Send;
}

/// The clients of a transport, each built when it is needed first.
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

    /// A pool with changed options, and so with clients of its own.
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
            let fingerprint = identity.as_ref().map(|pair| pair.fingerprint);
            self.secure.get_or_build(fingerprint, |max_idle| {
                C::build_secure(&self.options, max_idle, identity.as_deref())
            })
        };
        client?.send(request).await
    }
}

/// The clients spawn their connections, and would panic without a runtime.
fn require_runtime() -> Result<(), TokenError> {
    let Ok(_) = Handle::try_current() else {
        return Err(TokenError::configuration(
            "there is no Tokio runtime here: ask for tokens inside one",
        ));
    };
    Ok(())
}

struct RotatingClient<C>(Mutex<Option<ClientGeneration<C>>>);

struct ClientGeneration<C> {
    fingerprint: Option<Fingerprint>,
    clients: Arc<PerRuntimeFlavor<C>>,
    /// The last that could be built.
    previous: Option<Arc<PerRuntimeFlavor<C>>>,
}

impl<C: Clone> RotatingClient<C> {
    const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// The client for the present runtime and this certificate.
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

/// A client for each flavor of runtime, built when it is needed first.
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

    /// The client for the present runtime. `build` is told how many idle connections it may keep for each host.
    pub(super) fn get_or_build(
        &self,
        build: impl FnOnce(usize) -> Result<C, TokenError>,
    ) -> Result<C, TokenError> {
        let (client, max_idle) = self.current();
        client.get_or_init(|| build(max_idle)).clone()
    }

    /// The client for the present runtime, if it was needed before and could be built.
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
    fn a_client_is_built_once_for_each_certificate() {
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
    fn the_client_before_goes_on_while_the_new_one_cannot_be_built() {
        let client = RotatingClient::new();
        let fault = |_| Err(TokenError::configuration("they don't belong together"));
        assert!(client.get_or_build(None, fault).is_err());
        let fingerprints = [&b"a"[..], b"b", b"c", b"d"].map(|text| Some(Fingerprint::of(text)));
        assert_eq!(client.get_or_build(fingerprints[0], |_| Ok(1)).unwrap(), 1);
        for fingerprint in [fingerprints[1], fingerprints[1], fingerprints[2]] {
            assert_eq!(client.get_or_build(fingerprint, fault).unwrap(), 1);
        }
        assert_eq!(client.get_or_build(fingerprints[3], |_| Ok(2)).unwrap(), 2);
    }
}
