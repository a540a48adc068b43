//! [`SigningAlgorithm`]: which signatures there are (RFC 7518 §3.1, RFC 8037 §3.1).

use std::{fmt, str::FromStr};

use crate::error::TokenError;

/// How a [`SigningKey`](super::SigningKey) signs, by the name that stands in a header's `alg`.
///
/// ```
/// use tower_bearer::credentials::SigningAlgorithm;
///
/// let algorithm: SigningAlgorithm = "PS256".parse()?;
/// assert_eq!(algorithm, SigningAlgorithm::PS256);
/// assert_eq!(algorithm.as_str(), "PS256");
/// # Ok::<_, tower_bearer::TokenError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SigningAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256: what an RSA key does unless told otherwise.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256: what FAPI and Microsoft Entra ID prefer for RSA keys.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA with P-256 and SHA-256: the one for keys on P-256.
    ES256,
    /// ECDSA with P-384 and SHA-384: the one for keys on P-384.
    ES384,
    /// Ed25519: the one for Ed25519 keys.
    EdDSA,
}

impl SigningAlgorithm {
    const ALL: [Self; 9] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::EdDSA,
    ];

    /// The registered name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }
}

impl fmt::Display for SigningAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SigningAlgorithm {
    type Err = TokenError;

    /// Reads a registered name, letter case and all: RFC 7515 §4.1.1: "The "alg" value is a case-sensitive ASCII string".
    fn from_str(name: &str) -> Result<Self, TokenError> {
        let mut all = Self::ALL.into_iter();
        // No echo: a secret may stand where the name should.
        all.find(|one| one.as_str() == name).ok_or_else(|| {
            TokenError::configuration(
                "the signing algorithm is none that can be made here: take RS256, RS384, RS512, PS256, PS384, PS512, \
                 ES256, ES384 or EdDSA",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_and_no_other() {
        for one in SigningAlgorithm::ALL {
            assert_eq!(one.to_string().parse::<SigningAlgorithm>().unwrap(), one);
        }
        for name in ["", "rs256", "none", "HS256", "ES512", "hunter2"] {
            let error = name.parse::<SigningAlgorithm>().unwrap_err();
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
