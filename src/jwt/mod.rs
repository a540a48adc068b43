//! This module signs JWTs in the compact serialization of RFC 7515 §3.1. Its only I/O is reading a key file.
//!
//! | file | content |
//! |---|---|
//! | `signing_key` | [`SigningKey`]: a private key and the header parameters that describe it |
//! | `key_material` | a key in PEM or a JWK, with its key id, algorithm and certificate |
//! | `key_pair` | a parsed key that signs |
//! | `jwk` | private keys in JSON |
//! | `algorithm` | [`SigningAlgorithm`] |
//! | `compact` | the compact serialization |
//!
//! The callers decide which claims are signed and how a JWT is sent.

mod algorithm;
mod compact;
mod jwk;
mod key_material;
mod key_pair;
mod signing_key;
#[cfg(test)]
mod signing_key_tests;

pub use algorithm::SigningAlgorithm;
pub(crate) use compact::{hs256, unique_id};
pub use signing_key::SigningKey;
