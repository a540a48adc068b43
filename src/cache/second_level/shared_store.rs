//! What a cache keeps for the store behind it. How a flight goes about that store stands in `visit`.

use std::sync::atomic::AtomicBool;

use super::{breaker::CircuitBreaker, rejected::RejectedTokens};
use crate::{
    store::{EncryptedStore, TokenDigest},
    token::Token,
};

/// What a cache keeps for its store.
pub(in crate::cache) struct SharedStore {
    pub(in crate::cache) vault: EncryptedStore,
    /// What its user calls it, to keep its tokens apart.
    pub(in crate::cache) namespace: Option<Box<str>>,
    pub(in crate::cache) reads: CircuitBreaker,
    pub(in crate::cache) writes: CircuitBreaker,
    /// The last value that was found could not be opened.
    pub(in crate::cache) unreadable: AtomicBool,
    pub(in crate::cache) rejected: RejectedTokens,
}

impl SharedStore {
    pub(in crate::cache) fn new(vault: EncryptedStore, namespace: Option<Box<str>>) -> Self {
        Self {
            vault,
            namespace,
            reads: CircuitBreaker::default(),
            writes: CircuitBreaker::default(),
            unreadable: AtomicBool::new(false),
            rejected: RejectedTokens::default(),
        }
    }

    /// Does not take this token from the store any more.
    pub(in crate::cache) fn forget(&self, token: &Token) {
        self.rejected.add(TokenDigest::of(token.expose()));
    }
}
