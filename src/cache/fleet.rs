//! What a cache keeps for the store behind it. How a flight goes about that store stands in `visit`.

use std::sync::atomic::AtomicBool;

use super::{outage::Outage, refused::Refused};
use crate::{
    store::{TokenDigest, Vault},
    token::Token,
};

/// What a cache keeps for its store.
pub(super) struct Fleet {
    pub(super) vault: Vault,
    /// What its user calls it, to keep its tokens apart.
    pub(super) namespace: Option<Box<str>>,
    pub(super) reading: Outage,
    pub(super) writing: Outage,
    /// The last value that was found could not be opened.
    pub(super) unreadable: AtomicBool,
    pub(super) refused: Refused,
}

impl Fleet {
    pub(super) fn new(vault: Vault, namespace: Option<Box<str>>) -> Self {
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
    pub(super) fn disown(&self, token: &Token) {
        self.refused.add(TokenDigest::of(token.expose()));
    }
}
