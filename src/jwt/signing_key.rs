//! This module implements [`SigningKey`], a private key with the header parameters that describe it.

use std::{fmt, path::Path, sync::Arc};

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{
    algorithm::SigningAlgorithm,
    compact::signed,
    key_material::{KeyMaterial, certificates, thumbprint},
};
use crate::{error::TokenError, util::fingerprint::Fingerprint};

/// A private key that signs assertions: RSA of 2048 bits or more, P-256, P-384 or Ed25519.
///
/// It is read from PEM (PKCS#8; PKCS#1 for RSA; SEC1 for elliptic curves) or from a private JWK. Clones share it. It is redacted in
/// `Debug` output, and wiped when the last clone is dropped.
///
/// ```
/// use tower_bearer::credentials::{ClientAuth, SigningAlgorithm, SigningKey};
///
/// # let pem = include_str!("../../tests/vectors/keys/rsa.pkcs8.pem");
/// # let certificate = include_str!("../../tests/vectors/keys/rsa.certificate.pem");
/// let key = SigningKey::from_pem(pem)?
///     .with_algorithm(SigningAlgorithm::PS256)
///     .with_certificate_pem(certificate)?;
/// assert_eq!(format!("{key:?}"), "SigningKey(redacted)");
///
/// let auth = ClientAuth::private_key_jwt(key);
/// # let _ = auth;
/// # Ok::<_, tower_bearer::TokenError>(())
/// ```
#[derive(Clone)]
pub struct SigningKey {
    location: KeyLocation,
    algorithm: Option<SigningAlgorithm>,
    key_id: Option<Arc<str>>,
    thumbprint: Option<Arc<str>>,
}

#[derive(Clone)]
enum KeyLocation {
    Memory(Arc<KeyMaterial>),
    /// Read for each use.
    File(Arc<Path>),
}

impl SigningKey {
    /// Parses PEM. The first private key is used. If the text also contains the certificate of that key, headers name it as with
    /// [`with_certificate_pem`](Self::with_certificate_pem).
    ///
    /// # Errors
    /// Returns an error if `pem` contains no private key, or if the key has a password or an unsupported type.
    ///
    /// ```
    /// use tower_bearer::credentials::SigningKey;
    ///
    /// let error = SigningKey::from_pem("-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----").unwrap_err();
    /// assert!(error.to_string().contains("no private key"));
    /// ```
    pub fn from_pem(pem: impl AsRef<str>) -> Result<Self, TokenError> {
        KeyMaterial::from_pem(pem.as_ref()).map(Self::in_memory)
    }

    /// Parses a private JWK. Its `kid`, `alg` and `x5t#S256` are used unless they are overridden.
    ///
    /// # Errors
    /// Returns an error if `jwk` is not a JWK, is only the public half, or has an unsupported type.
    ///
    /// ```
    /// use tower_bearer::credentials::SigningKey;
    ///
    /// let public = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    /// let error = SigningKey::from_jwk(public).unwrap_err();
    /// assert!(error.to_string().contains("public half"));
    /// ```
    pub fn from_jwk(jwk: impl AsRef<str>) -> Result<Self, TokenError> {
        KeyMaterial::from_jwk(jwk.as_ref()).map(Self::in_memory)
    }

    /// Reads a file with PEM or a JWK. The file is read again for each use, so the key can rotate while the program runs.
    ///
    /// # Errors
    /// Returns an error if the file can't be read, or contains no supported key.
    ///
    /// ```
    /// use tower_bearer::credentials::SigningKey;
    ///
    /// let error = SigningKey::from_file("/no/such/key.pem").unwrap_err();
    /// assert!(error.to_string().contains("/no/such/key.pem"));
    /// ```
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TokenError> {
        let key = Self::at(KeyLocation::File(path.as_ref().into()));
        key.material()?;
        Ok(key)
    }

    /// Sets the signature algorithm. Default: RS256, ES256, ES384 or EdDSA, depending on the type of the key.
    ///
    /// An algorithm that the key does not support is reported when the key is used, because a key in a file can change.
    #[must_use]
    pub fn with_algorithm(mut self, algorithm: SigningAlgorithm) -> Self {
        self.algorithm = Some(algorithm);
        self
    }

    /// Sets the key id in the header (`kid`), for a server that knows several keys of the client.
    #[must_use]
    pub fn with_key_id(mut self, key_id: impl Into<String>) -> Self {
        self.key_id = Some(key_id.into().into());
        self
    }

    /// Names the certificate of the key in the header (`x5t#S256`), as Microsoft Entra ID requires it.
    ///
    /// If a key in a file rotates, put its certificate into the same file instead.
    ///
    /// # Errors
    /// Returns an error if `pem` contains no certificate, or one of another key.
    pub fn with_certificate_pem(mut self, pem: impl AsRef<str>) -> Result<Self, TokenError> {
        let key = self.material()?;
        let certificate = certificates(pem.as_ref()).next().ok_or_else(|| {
            TokenError::configuration(
                "the PEM contains no certificate: provide the certificate of the signing key",
            )
        })?;
        if !key.pair.matches_certificate(&certificate) {
            return Err(TokenError::configuration(
                "the certificate belongs to another key: provide that of the signing key as the first one",
            ));
        }
        self.thumbprint = Some(thumbprint(&certificate).into());
        Ok(self)
    }

    /// Returns an error if the key can't be read now, or does not support the algorithm.
    pub(crate) fn check(&self) -> Result<(), TokenError> {
        let key = self.material()?;
        key.pair.check(self.algorithm_for(&key))
    }

    /// Returns the fingerprint of the current key, which changes with the file.
    pub(crate) fn fingerprint(&self) -> Result<Fingerprint, TokenError> {
        Ok(self.material()?.fingerprint)
    }

    /// Signs claims in the compact serialization.
    pub(crate) fn sign(
        &self,
        claims: &Map<String, Value>,
    ) -> Result<Zeroizing<String>, TokenError> {
        let key = self.material()?;
        let algorithm = self.algorithm_for(&key);
        let mut header = Map::new();
        if let Some(key_id) = self.key_id.as_deref().or(key.key_id.as_deref()) {
            header.insert("kid".into(), key_id.into());
        }
        if let Some(thumbprint) = self.thumbprint.as_deref().or(key.thumbprint.as_deref()) {
            header.insert("x5t#S256".into(), thumbprint.into());
        }
        signed(algorithm.as_str(), header, claims, |message| {
            key.pair.sign(algorithm, message)
        })
    }

    fn algorithm_for(&self, key: &KeyMaterial) -> SigningAlgorithm {
        self.algorithm
            .or(key.algorithm)
            .unwrap_or_else(|| key.pair.default_algorithm())
    }

    pub(super) fn material(&self) -> Result<Arc<KeyMaterial>, TokenError> {
        match &self.location {
            KeyLocation::Memory(material) => Ok(material.clone()),
            KeyLocation::File(path) => KeyMaterial::from_file(path).map(Arc::new),
        }
    }

    pub(super) fn in_memory(material: KeyMaterial) -> Self {
        Self::at(KeyLocation::Memory(Arc::new(material)))
    }

    fn at(location: KeyLocation) -> Self {
        Self {
            location,
            algorithm: None,
            key_id: None,
            thumbprint: None,
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            KeyLocation::Memory(_) => f.write_str("SigningKey(redacted)"),
            KeyLocation::File(path) => write!(f, "SigningKey({})", path.display()),
        }
    }
}
