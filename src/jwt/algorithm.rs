//! This module defines the signature algorithms (RFC 7518 §3.1, RFC 8037 §3.1).

use std::{fmt, str::FromStr};

use crate::error::TokenError;

/// The signature algorithm of a [`SigningKey`](super::SigningKey), named as in the header parameter `alg`.
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
    /// RSASSA-PKCS1-v1_5 with SHA-256. The default for RSA keys.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256. FAPI and Microsoft Entra ID recommend it for RSA keys.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA with P-256 and SHA-256, for P-256 keys.
    ES256,
    /// ECDSA with P-384 and SHA-384, for P-384 keys.
    ES384,
    /// Ed25519, for Ed25519 keys.
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

    /// Returns the registered name.
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

    /// Parses a registered name. It is case-sensitive. RFC 7515 §4.1.1: "The "alg" value is a case-sensitive ASCII string".
    fn from_str(name: &str) -> Result<Self, TokenError> {
        let mut all = Self::ALL.into_iter();
        // The error does not show the name, because a secret may be in its place by mistake.
        all.find(|one| one.as_str() == name).ok_or_else(|| {
            TokenError::configuration(
                "the signing algorithm is not supported: use RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or \
                 EdDSA",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_registered_names_are_parsed() {
        for one in SigningAlgorithm::ALL {
            assert_eq!(one.to_string().parse::<SigningAlgorithm>().unwrap(), one);
        }
        for name in ["", "rs256", "none", "HS256", "ES512", "hunter2"] {
            let error = name.parse::<SigningAlgorithm>().unwrap_err();
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
