//! Parses the public keys of clients and verifies signatures with them.

use std::fmt;
use std::io;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::util::pem;

#[derive(Clone)]
pub(super) enum PublicKey {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// A curve point, or a SubjectPublicKeyInfo, which may contain an RSA key.
    Other(Vec<u8>),
}

impl PublicKey {
    /// Parses PEM (`BEGIN PUBLIC KEY`) or a JWK. Only the public members of a JWK are read.
    pub(super) fn parse(text: &str) -> io::Result<Self> {
        if let Some(section) = pem::sections(text).find(|section| section.label == "PUBLIC KEY") {
            let der = section.der.ok_or_else(unknown)?;
            return Ok(Self::Other(der.to_vec()));
        }
        let jwk: Value = serde_json::from_str(text).map_err(|_| unknown())?;
        let bytes = |name: &str| {
            let text = jwk.get(name).and_then(Value::as_str).unwrap_or_default();
            URL_SAFE_NO_PAD.decode(text).map_err(|_| unknown())
        };
        match jwk.get("kty").and_then(Value::as_str) {
            Some("RSA") => Ok(Self::Rsa {
                n: bytes("n")?,
                e: bytes("e")?,
            }),
            Some("EC") => Ok(Self::Other([vec![4], bytes("x")?, bytes("y")?].concat())),
            Some("OKP") => Ok(Self::Other(bytes("x")?)),
            _ => Err(unknown()),
        }
    }

    pub(super) fn verifies(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        if let Some(rsa) = rsa(algorithm)
            && let Self::Rsa { n, e } = self
        {
            let key = RsaPublicKeyComponents { n, e };
            return key.verify(rsa, message, signature).is_ok();
        }
        let other: &'static dyn VerificationAlgorithm = match (algorithm, rsa(algorithm)) {
            (_, Some(rsa)) => rsa,
            ("ES256", _) => &ECDSA_P256_SHA256_FIXED,
            ("ES384", _) => &ECDSA_P384_SHA384_FIXED,
            ("EdDSA", _) => &ED25519,
            _ => return false,
        };
        let Self::Other(key) = self else {
            return false;
        };
        let key = ParsedPublicKey::new(other, key.as_slice());
        key.is_ok_and(|key| key.verify_sig(message, signature).is_ok())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(_)")
    }
}

fn rsa(algorithm: &str) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        "RS256" => &RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &RSA_PSS_2048_8192_SHA256,
        "PS384" => &RSA_PSS_2048_8192_SHA384,
        "PS512" => &RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn unknown() -> io::Error {
    io::Error::other("the client's public key is neither PEM nor a JWK")
}
