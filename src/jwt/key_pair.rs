//! This module implements [`KeyPair`], a private key that signs.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
        RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
    },
};

use super::algorithm::SigningAlgorithm;
use crate::error::TokenError;

/// A private key. The cryptographic library wipes it on drop.
pub(super) enum KeyPair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl KeyPair {
    /// Parses DER: PKCS#8, PKCS#1 for RSA, SEC1 for elliptic curves.
    pub(super) fn from_der(der: &[u8]) -> Option<Self> {
        // SEC1 may omit the curve. Then the length determines it: P-256 rejects longer keys.
        let p256 = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
        let p384 = || EcdsaKeyPair::from_private_key_der(&ECDSA_P384_SHA384_FIXED_SIGNING, der);
        let rsa = || RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der));
        p256.map(Self::P256)
            .or_else(|_| p384().map(Self::P384))
            .or_else(|_| rsa().map(Self::Rsa))
            .or_else(|_| Ed25519KeyPair::from_pkcs8(der).map(Self::Ed25519))
            .ok()
    }

    /// Returns the algorithm that is used unless another is configured.
    pub(super) fn default_algorithm(&self) -> SigningAlgorithm {
        match self {
            Self::Rsa(_) => SigningAlgorithm::RS256,
            Self::P256(_) => SigningAlgorithm::ES256,
            Self::P384(_) => SigningAlgorithm::ES384,
            Self::Ed25519(_) => SigningAlgorithm::EdDSA,
        }
    }

    /// Returns an error if the key does not support this algorithm.
    pub(super) fn check(&self, algorithm: SigningAlgorithm) -> Result<(), TokenError> {
        let fits = match self {
            Self::Rsa(_) => rsa_encoding(algorithm).is_some(),
            _ => algorithm == self.default_algorithm(),
        };
        if fits {
            return Ok(());
        }
        Err(TokenError::configuration(format!(
            "the signing algorithm {algorithm} does not work with {}: remove it, or use {}",
            self.description(),
            match self {
                Self::Rsa(_) => "one that begins with RS or PS",
                _ => self.default_algorithm().as_str(),
            },
        )))
    }

    /// Signs a message in the format of RFC 7518 §3. ECDSA signatures have a fixed length.
    pub(super) fn sign(
        &self,
        algorithm: SigningAlgorithm,
        message: &[u8],
    ) -> Result<Vec<u8>, TokenError> {
        self.check(algorithm)?;
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(key) => {
                let encoding = rsa_encoding(algorithm).unwrap_or(&RSA_PKCS1_SHA256);
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(encoding, &random, message, &mut signature)
                    .map(|()| signature)
            }
            Self::P256(key) | Self::P384(key) => key
                .sign(&random, message)
                .map(|signature| signature.as_ref().to_vec()),
            Self::Ed25519(key) => key
                .try_sign(message)
                .map(|signature| signature.as_ref().to_vec()),
        };
        signature.map_err(|_| {
            TokenError::configuration(
                "the signing key can't sign: check that it is complete, or replace it",
            )
        })
    }

    /// Returns `true` if the certificate contains the public half of this key.
    pub(super) fn matches_certificate(&self, certificate: &[u8]) -> bool {
        // Modulus and exponent of RSA, or the point of a curve, as encoded in the SubjectPublicKeyInfo of a certificate.
        let public = match self {
            Self::Rsa(key) => key.public_key().as_ref(),
            Self::P256(key) | Self::P384(key) => key.public_key().as_ref(),
            Self::Ed25519(key) => key.public_key().as_ref(),
        };
        certificate.windows(public.len()).any(|part| part == public)
    }

    /// Returns the type of the key, for error messages.
    pub(super) fn description(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "an RSA key",
            Self::P256(_) => "a P-256 key",
            Self::P384(_) => "a P-384 key",
            Self::Ed25519(_) => "an Ed25519 key",
        }
    }
}

fn rsa_encoding(algorithm: SigningAlgorithm) -> Option<&'static dyn RsaEncoding> {
    Some(match algorithm {
        SigningAlgorithm::RS256 => &RSA_PKCS1_SHA256,
        SigningAlgorithm::RS384 => &RSA_PKCS1_SHA384,
        SigningAlgorithm::RS512 => &RSA_PKCS1_SHA512,
        // RFC 7518 §3.5: "The size of the salt value is the same size as the hash function output."
        SigningAlgorithm::PS256 => &RSA_PSS_SHA256,
        SigningAlgorithm::PS384 => &RSA_PSS_SHA384,
        SigningAlgorithm::PS512 => &RSA_PSS_SHA512,
        _ => return None,
    })
}
