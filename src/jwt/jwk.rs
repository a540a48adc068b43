//! This module parses private keys in JSON (RFC 7517), the format that the consoles of identity providers download.

use aws_lc_rs::{
    rsa::{KeyPairComponents, PublicKeyComponents},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::{key_material::KeyMaterial, key_pair::KeyPair};
use crate::{
    error::TokenError,
    util::{fingerprint::Fingerprint, secret_json::SecretJson},
};

impl KeyMaterial {
    /// Parses a private JWK.
    pub(super) fn from_jwk(text: &str) -> Result<Self, TokenError> {
        let jwk = SecretJson::parse(text.as_bytes()).ok_or_else(|| {
            fault("the signing key is neither PEM nor a JWK: provide one of them")
        })?;
        if jwk.0.contains_key("keys") {
            return Err(fault(
                "the signing key is a set of JWKs: provide the one that signs",
            ));
        }
        Ok(Self {
            algorithm: jwk.text("alg").map(str::parse).transpose()?,
            pair: key_pair(&jwk)?,
            key_id: jwk.text("kid").map(str::to_owned),
            thumbprint: jwk.text("x5t#S256").map(str::to_owned),
            fingerprint: Fingerprint::of(text.as_bytes()),
        })
    }
}

fn key_pair(jwk: &SecretJson) -> Result<KeyPair, TokenError> {
    match (jwk.text("kty"), jwk.text("crv")) {
        (Some("RSA"), _) => rsa(jwk).map(KeyPair::Rsa),
        (Some("EC"), Some("P-256")) => {
            curve(jwk, &ECDSA_P256_SHA256_FIXED_SIGNING, 32).map(KeyPair::P256)
        }
        (Some("EC"), Some("P-384")) => {
            curve(jwk, &ECDSA_P384_SHA384_FIXED_SIGNING, 48).map(KeyPair::P384)
        }
        (Some("OKP"), Some("Ed25519")) => {
            Ed25519KeyPair::from_seed_and_public_key(&bytes(jwk, "d")?, &bytes(jwk, "x")?)
                .map(KeyPair::Ed25519)
                .map_err(|_| inconsistent())
        }
        _ => Err(fault(
            "the JWK has an unsupported type: use RSA, EC on P-256 or P-384, or OKP on Ed25519",
        )),
    }
}

fn rsa(jwk: &SecretJson) -> Result<RsaKeyPair, TokenError> {
    // RFC 7518 §6.3.2: "If the producer includes any of the other private key parameters, then all of the others MUST
    // be present". Computing them is not supported.
    let components = KeyPairComponents {
        public_key: PublicKeyComponents {
            n: without_leading_zeros(&bytes(jwk, "n")?),
            e: without_leading_zeros(&bytes(jwk, "e")?),
        },
        d: bytes(jwk, "d")?,
        p: bytes(jwk, "p")?,
        q: bytes(jwk, "q")?,
        dP: bytes(jwk, "dp")?,
        dQ: bytes(jwk, "dq")?,
        qInv: bytes(jwk, "qi")?,
    };
    RsaKeyPair::from_components(&components).map_err(|_| inconsistent())
}

fn curve(
    jwk: &SecretJson,
    algorithm: &'static EcdsaSigningAlgorithm,
    length: usize,
) -> Result<EcdsaKeyPair, TokenError> {
    let (private, x, y) = (bytes(jwk, "d")?, bytes(jwk, "x")?, bytes(jwk, "y")?);
    // RFC 7518 §6.2.1.2: "The length of this octet string MUST be the full size of a coordinate for the curve".
    let uncompressed = [&[4], x.as_slice(), y.as_slice()].concat();
    if uncompressed.len() != 1 + 2 * length {
        return Err(inconsistent());
    }
    EcdsaKeyPair::from_private_key_and_public_key(algorithm, &private, &uncompressed)
        .map_err(|_| inconsistent())
}

/// Decodes a member.
fn bytes(jwk: &SecretJson, name: &str) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    let text = jwk.text(name).ok_or_else(|| {
        fault(format!(
            "the JWK has no {name}: provide the private key, not its public half"
        ))
    })?;
    let text = text.trim_end_matches('=');
    let mut bytes = Zeroizing::new(vec![0; text.len()]);
    let length = URL_SAFE_NO_PAD
        .decode_slice(text, &mut bytes)
        .map_err(|_| fault(format!("the {name} of the JWK is not base64url")))?;
    bytes.truncate(length);
    Ok(bytes)
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
