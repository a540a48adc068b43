//! A client that is built anew when its certificate is another one.
//!
//! Connections are made with the certificate that a client was built with, so a new one takes a new client. While the
//! files of a certificate and its key are being replaced, they may not belong together for a moment; the client before
//! goes on until they do.

use std::sync::{Arc, Mutex, PoisonError};

use super::per_flavor::PerFlavor;
use crate::{error::TokenError, util::fingerprint::Fingerprint};

type Clients<T> = PerFlavor<Result<T, TokenError>>;

pub(super) struct Rotating<T>(Mutex<Option<Generation<T>>>);

struct Generation<T> {
    mark: Option<Fingerprint>,
    clients: Arc<Clients<T>>,
    /// The last that could be built.
    before: Option<Arc<Clients<T>>>,
}

impl<T: Clone> Rotating<T> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// The client for the present runtime and this certificate; `build` is told how many idle connections it may keep for
    /// each host.
    pub(super) fn get_or_build(
        &self,
        mark: Option<Fingerprint>,
        build: impl Fn(usize) -> Result<T, TokenError>,
    ) -> Result<T, TokenError> {
        let (clients, before) = self.generation(mark);
        let fault = match clients.get_or_build(&build) {
            Ok(client) => return Ok(client.clone()),
            Err(error) => error.clone(),
        };
        before
            .and_then(|before| before.built().cloned())
            .ok_or(fault)
    }

    fn generation(&self, mark: Option<Fingerprint>) -> (Arc<Clients<T>>, Option<Arc<Clients<T>>>) {
        let mut present = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = match present.take() {
            Some(same) if same.mark == mark => present.insert(same),
            last => present.insert(Generation {
                mark,
                clients: Arc::new(PerFlavor::new()),
                before: last.and_then(|last| match last.clients.built() {
                    Some(_) => Some(last.clients),
                    None => last.before,
                }),
            }),
        };
        (last.clients.clone(), last.before.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_built_once_for_each_certificate() {
        let rotating = Rotating::new();
        let marks = [Fingerprint::of(b"a"), Fingerprint::of(b"b")].map(Some);
        let built = std::cell::Cell::new(0);
        let build = |_| {
            built.set(built.get() + 1);
            Ok(built.get())
        };
        for (mark, client) in [(marks[0], 1), (marks[0], 1), (marks[1], 2), (marks[1], 2)] {
            assert_eq!(rotating.get_or_build(mark, build).unwrap(), client);
        }
    }

    #[test]
    fn the_client_before_goes_on_while_the_new_one_cannot_be_built() {
        let rotating = Rotating::new();
        let fault = |_| Err(TokenError::configuration("they don't belong together"));
        assert!(rotating.get_or_build(None, fault).is_err());
        let marks = [&b"a"[..], b"b", b"c", b"d"].map(|text| Some(Fingerprint::of(text)));
        assert_eq!(rotating.get_or_build(marks[0], |_| Ok(1)).unwrap(), 1);
        for mark in [marks[1], marks[1], marks[2]] {
            assert_eq!(rotating.get_or_build(mark, fault).unwrap(), 1);
        }
        assert_eq!(rotating.get_or_build(marks[3], |_| Ok(2)).unwrap(), 2);
    }
}
