//! This module reads a key in PEM or a JWK, with the key id, algorithm and certificate that come with it.

use std::{fmt, fs, path::Path};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{algorithm::SigningAlgorithm, key_pair::KeyPair};
use crate::{error::TokenError, util::fingerprint::Fingerprint, util::pem};

/// A key, and the properties that its PEM or JWK contains.
pub(super) struct KeyMaterial {
    pub(super) pair: KeyPair,
    pub(super) key_id: Option<String>,
    pub(super) algorithm: Option<SigningAlgorithm>,
    pub(super) thumbprint: Option<String>,
    pub(super) fingerprint: Fingerprint,
}

impl KeyMaterial {
    /// Reads a file with a JWK or PEM.
    pub(super) fn from_file(path: &Path) -> Result<Self, TokenError> {
        let fault = |fault: &str, cause: &dyn fmt::Display| {
            TokenError::configuration(format!("{fault} {}: {cause}", path.display()))
        };
        let text = fs::read_to_string(path)
            .map(Zeroizing::new)
            .map_err(|error| fault("can't read the signing key from", &error).with_source(error))?;
        Self::parse(&text).map_err(|error| fault("there is no valid signing key in", &error))
    }

    /// Parses a JWK if the text begins with a brace, otherwise PEM.
    pub(super) fn parse(text: &str) -> Result<Self, TokenError> {
        match text.trim_start().starts_with('{') {
            true => Self::from_jwk(text),
            false => Self::from_pem(text),
        }
    }

    pub(super) fn from_pem(text: &str) -> Result<Self, TokenError> {
        let mut sections = pem::sections(text);
        // There may be "EC PARAMETERS" before the key, and certificates before and after it.
        let key = sections.find(|section| section.label.ends_with("PRIVATE KEY"));
        let Some(key) = key else {
            return Err(TokenError::configuration(
                "the PEM contains no private key: provide the section that starts with BEGIN PRIVATE KEY",
            ));
        };
        let Some(der) = key.der.filter(|_| key.label != "ENCRYPTED PRIVATE KEY") else {
            return Err(TokenError::configuration(
                "the private key has a password, or is not base64: remove the password (openssl pkey), and protect the \
                 file instead",
            ));
        };
        let pair = KeyPair::from_der(&der).ok_or_else(|| {
            TokenError::configuration(
                "the private key has an unsupported type: use RSA of 2048 bits or more, P-256, P-384 or Ed25519",
            )
        })?;
        let own = certificates(text).find(|certificate| pair.matches_certificate(certificate));
        Ok(Self {
            thumbprint: own.map(|certificate| thumbprint(&certificate)),
            pair,
            key_id: None,
            algorithm: None,
            fingerprint: Fingerprint::of(text.as_bytes()),
        })
    }
}

/// Returns the certificates in a PEM text.
pub(super) fn certificates(text: &str) -> impl Iterator<Item = Zeroizing<Vec<u8>>> {
    pem::sections(text)
        .filter(|section| section.label == "CERTIFICATE")
        .filter_map(|section| section.der)
}

/// RFC 7515 §4.1.8: "a base64url-encoded SHA-256 thumbprint (a.k.a. digest) of the DER encoding of the X.509
/// certificate".
pub(super) fn thumbprint(certificate: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(certificate))
}
