//! What a cache keeps for the store behind it. How a flight goes about that store stands in `visit`.

use std::sync::atomic::AtomicBool;

use super::{breaker::Outage, rejected::Refused};
use crate::{
    store::{TokenDigest, Vault},
    token::Token,
};

/// What a cache keeps for its store.
pub(in crate::cache) struct Fleet {
    pub(in crate::cache) vault: Vault,
    /// What its user calls it, to keep its tokens apart.
    pub(in crate::cache) namespace: Option<Box<str>>,
    pub(in crate::cache) reading: Outage,
    pub(in crate::cache) writing: Outage,
    /// The last value that was found could not be opened.
    pub(in crate::cache) unreadable: AtomicBool,
    pub(in crate::cache) refused: Refused,
}

impl Fleet {
    pub(in crate::cache) fn new(vault: Vault, namespace: Option<Box<str>>) -> Self {
        Self {
            vault,
            namespace,
            reading: Outage::default(),
            writing: Outage::default(),
            unreadable: AtomicBool::new(false),
            refused: Refused::default(),
        }
    }

    /// Does not take this token from the store any more.
    pub(in crate::cache) fn disown(&self, token: &Token) {
        self.refused.add(TokenDigest::of(token.expose()));
    }
}
