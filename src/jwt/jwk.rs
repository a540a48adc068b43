//! This module parses private keys in JSON (RFC 7517), the format that the consoles of identity providers download.

use aws_lc_rs::{
    rsa::{KeyPairComponents, PublicKeyComponents},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{algorithm::SigningAlgorithm, key_pair::KeyPair};
use crate::{error::TokenError, secret::wipe};

/// A private JWK.
pub(super) struct Jwk {
    pub(super) key: KeyPair,
    pub(super) key_id: Option<String>,
    pub(super) algorithm: Option<SigningAlgorithm>,
    /// The digest of its certificate, unchanged.
    pub(super) thumbprint: Option<String>,
}

impl Jwk {
    pub(super) fn parse(text: &str) -> Result<Self, TokenError> {
        let members = match serde_json::from_str(text) {
            Ok(Value::Object(members)) => JwkMembers(members),
            _ => {
                return Err(fault(
                    "the signing key is neither PEM nor a JWK: provide one of them",
                ));
            }
        };
        if members.0.contains_key("keys") {
            return Err(fault(
                "the signing key is a set of JWKs: provide the one that signs",
            ));
        }
        let algorithm = members.text("alg").map(str::parse).transpose()?;
        Ok(Self {
            key: members.key()?,
            key_id: members.text("kid").map(str::to_owned),
            algorithm,
            thumbprint: members.text("x5t#S256").map(str::to_owned),
        })
    }
}

/// The members of a JWK, wiped on drop.
struct JwkMembers(Map<String, Value>);

impl Drop for JwkMembers {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

impl JwkMembers {
    fn key(&self) -> Result<KeyPair, TokenError> {
        match (self.text("kty"), self.text("crv")) {
            (Some("RSA"), _) => self.rsa(),
            (Some("EC"), Some("P-256")) => self
                .curve(&ECDSA_P256_SHA256_FIXED_SIGNING, 32)
                .map(KeyPair::P256),
            (Some("EC"), Some("P-384")) => self
                .curve(&ECDSA_P384_SHA384_FIXED_SIGNING, 48)
                .map(KeyPair::P384),
            (Some("OKP"), Some("Ed25519")) => {
                let (seed, public) = (self.bytes("d")?, self.bytes("x")?);
                Ed25519KeyPair::from_seed_and_public_key(&seed, &public)
                    .map(KeyPair::Ed25519)
                    .map_err(|_| inconsistent())
            }
            _ => Err(fault(
                "the JWK has an unsupported type: use RSA, EC on P-256 or P-384, or OKP on Ed25519",
            )),
        }
    }

    fn rsa(&self) -> Result<KeyPair, TokenError> {
        // RFC 7518 §6.3.2: "If the producer includes any of the other private key parameters, then all of the others MUST
        // be present". Computing them is not supported.
        let components = KeyPairComponents {
            public_key: PublicKeyComponents {
                n: without_leading_zeros(&self.bytes("n")?),
                e: without_leading_zeros(&self.bytes("e")?),
            },
            d: self.bytes("d")?,
            p: self.bytes("p")?,
            q: self.bytes("q")?,
            dP: self.bytes("dp")?,
            dQ: self.bytes("dq")?,
            qInv: self.bytes("qi")?,
        };
        RsaKeyPair::from_components(&components)
            .map(KeyPair::Rsa)
            .map_err(|_| inconsistent())
    }

    fn curve(
        &self,
        algorithm: &'static EcdsaSigningAlgorithm,
        length: usize,
    ) -> Result<EcdsaKeyPair, TokenError> {
        let (private, x, y) = (self.bytes("d")?, self.bytes("x")?, self.bytes("y")?);
        // RFC 7518 §6.2.1.2: "The length of this octet string MUST be the full size of a coordinate for the curve".
        let uncompressed = [&[4], x.as_slice(), y.as_slice()].concat();
        if uncompressed.len() != 1 + 2 * length {
            return Err(inconsistent());
        }
        EcdsaKeyPair::from_private_key_and_public_key(algorithm, &private, &uncompressed)
            .map_err(|_| inconsistent())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    fn bytes(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let Some(text) = self.text(name) else {
            return Err(fault(format!(
                "the JWK has no {name}: provide the private key, not its public half"
            )));
        };
        let text = text.trim_end_matches('=');
        let mut bytes = Zeroizing::new(vec![0; text.len()]);
        let length = URL_SAFE_NO_PAD
            .decode_slice(text, &mut bytes)
            .map_err(|_| fault(format!("the {name} of the JWK is not base64url")))?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

fn without_leading_zeros(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Zeroizing::new(bytes.get(zeros..).unwrap_or_default().to_vec())
}

fn inconsistent() -> TokenError {
    fault(
        "the JWK is not a valid key: check that it is complete, that its public half matches, and that an RSA key has \
         2048 bits or more",
    )
}

fn fault(message: impl Into<std::borrow::Cow<'static, str>>) -> TokenError {
    TokenError::configuration(message)
}
