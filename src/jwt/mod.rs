//! Signed assertions: a key of one's own, and the compact form of RFC 7515 §3.1 that it signs. No I/O but a key's file.
//!
//! | file | what |
//! |---|---|
//! | `signing_key` | [`SigningKey`]: where the key is, and what stands in the header beside it |
//! | `key_file` | a key in a file, parsed again when the file has changed |
//! | `key_material` | a key, and what was said of it where it was found |
//! | `key_pair` | a key that can sign, from any of its formats |
//! | `jwk` | a private key in JSON; of PEM, all rooms have the same reader |
//! | `algorithm` | [`SigningAlgorithm`]: which signatures there are, and which key makes them |
//! | `compact` | header, claims and signature in one line |
//!
//! It differs from [`wire`](crate::oauth) in that this is nobody's protocol yet: which claims are signed, and where the
//! result goes, is decided above.

mod algorithm;
mod compact;
mod jwk;
mod key_file;
mod key_material;
mod key_pair;
mod signing_key;
#[cfg(test)]
mod signing_key_tests;

pub use algorithm::SigningAlgorithm;
pub(crate) use compact::{hs256, unique_id};
pub use signing_key::SigningKey;
