//! [`KeyPair`]: a key that can sign, from any of the formats in which keys are handed out.

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

/// The library wipes the keys when it frees them.
pub(super) enum KeyPair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl KeyPair {
    /// From DER: PKCS#8 of any kind, PKCS#1 of RSA, SEC1 of the curves.
    pub(super) fn from_der(der: &[u8]) -> Option<Self> {
        // In SEC1 the curve may be left out; then its length tells, and P-256 refuses what is longer.
        let p256 = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
        let p384 = || EcdsaKeyPair::from_private_key_der(&ECDSA_P384_SHA384_FIXED_SIGNING, der);
        let rsa = || RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der));
        p256.map(Self::P256)
            .or_else(|_| p384().map(Self::P384))
            .or_else(|_| rsa().map(Self::Rsa))
            .or_else(|_| Ed25519KeyPair::from_pkcs8(der).map(Self::Ed25519))
            .ok()
    }

    /// What it signs with unless told otherwise.
    pub(super) fn default_algorithm(&self) -> SigningAlgorithm {
        match self {
            Self::Rsa(_) => SigningAlgorithm::RS256,
            Self::P256(_) => SigningAlgorithm::ES256,
            Self::P384(_) => SigningAlgorithm::ES384,
            Self::Ed25519(_) => SigningAlgorithm::EdDSA,
        }
    }

    /// Whether it can sign so.
    pub(super) fn check(&self, algorithm: SigningAlgorithm) -> Result<(), TokenError> {
        let fits = match self {
            Self::Rsa(_) => rsa_encoding(algorithm).is_some(),
            _ => algorithm == self.default_algorithm(),
        };
        if fits {
            return Ok(());
        }
        Err(TokenError::configuration(format!(
            "the signing algorithm {algorithm} is not for {}: leave it out, or take {}",
            self.description(),
            match self {
                Self::Rsa(_) => "one that begins with RS or PS",
                _ => self.default_algorithm().as_str(),
            },
        )))
    }

    /// The signature as RFC 7518 §3 has it: for ECDSA, two numbers of fixed length.
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
                "the signing key fails to sign: check that it is whole, or take a new one",
            )
        })
    }

    /// Whether this certificate is for this key: the public half stands in it as it is.
    pub(super) fn matches_certificate(&self, certificate: &[u8]) -> bool {
        // Of RSA the two numbers, of a curve the point: each as it stands in a certificate's SubjectPublicKeyInfo.
        let public = match self {
            Self::Rsa(key) => key.public_key().as_ref(),
            Self::P256(key) | Self::P384(key) => key.public_key().as_ref(),
            Self::Ed25519(key) => key.public_key().as_ref(),
        };
        certificate.windows(public.len()).any(|part| part == public)
    }

    pub(super) fn description(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "an RSA key",
            Self::P256(_) => "a key on P-256",
            Self::P384(_) => "a key on P-384",
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
