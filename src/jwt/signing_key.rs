//! [`SigningKey`]: where a private key is, and what a header says of it.

use std::{fmt, path::Path, sync::Arc};

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{
    algorithm::SigningAlgorithm,
    compact::signed,
    key_file::KeyFile,
    key_material::{KeyMaterial, certificates, thumbprint},
};
use crate::{error::TokenError, util::fingerprint::Fingerprint};

/// A private key that signs assertions: RSA of 2048 bits or more, P-256, P-384 or Ed25519.
///
/// It is read from PEM (PKCS#8; PKCS#1 for RSA; SEC1 for the curves) or from a private JWK. A clone shares it. It can't be
/// shown, and is wiped when the last clone is dropped.
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
    File(Arc<KeyFile>),
}

impl SigningKey {
    /// From PEM. Of several sections, the first key counts; if a certificate of that key is among them, headers name it
    /// as by [`with_certificate_pem`](Self::with_certificate_pem).
    ///
    /// # Errors
    /// There is no key in it, or one with a password, or one of a kind that can't sign here.
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

    /// From a private JWK, whose `kid`, `alg` and `x5t#S256` count unless something else is set here.
    ///
    /// # Errors
    /// It is no JWK, the public half alone, or of a kind that can't sign here.
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

    /// From a file with PEM or a JWK in it, read anew for every use, so that it may rotate while the program runs.
    ///
    /// # Errors
    /// The file can't be read now, or holds no key that can sign here.
    ///
    /// ```
    /// use tower_bearer::credentials::SigningKey;
    ///
    /// let error = SigningKey::from_file("/no/such/key.pem").unwrap_err();
    /// assert!(error.to_string().contains("/no/such/key.pem"));
    /// ```
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TokenError> {
        let file = KeyFile::new(path.as_ref());
        file.read()?;
        Ok(Self::at(KeyLocation::File(Arc::new(file))))
    }

    /// Signs in this way. Left out, it is RS256, ES256, ES384 or EdDSA, by the kind of the key.
    ///
    /// One that the key can't do is an error where the key is used, since a key in a file may change.
    #[must_use]
    pub fn with_algorithm(mut self, algorithm: SigningAlgorithm) -> Self {
        self.algorithm = Some(algorithm);
        self
    }

    /// Names the key in the header (`kid`), for a server that knows several keys of the client.
    #[must_use]
    pub fn with_key_id(mut self, key_id: impl Into<String>) -> Self {
        self.key_id = Some(key_id.into().into());
        self
    }

    /// Names the key's certificate in the header (`x5t#S256`), as Microsoft Entra ID wants it.
    ///
    /// A key in a file that rotates brings its certificate along in the same file instead.
    ///
    /// # Errors
    /// There is no certificate in it, or that of another key.
    pub fn with_certificate_pem(mut self, pem: impl AsRef<str>) -> Result<Self, TokenError> {
        let key = self.material()?;
        let certificate = certificates(pem.as_ref()).next().ok_or_else(|| {
            TokenError::configuration("there is no certificate in it: give the key's own in PEM")
        })?;
        if !key.pair.matches_certificate(&certificate) {
            return Err(TokenError::configuration(
                "the certificate is that of another key: give the signing key's own, as the first",
            ));
        }
        self.thumbprint = Some(thumbprint(&certificate).into());
        Ok(self)
    }

    /// Whether it can sign, as far as that can be told now.
    pub(crate) fn check(&self) -> Result<(), TokenError> {
        let key = self.material()?;
        key.pair.check(self.algorithm_for(&key))
    }

    /// Changes when another key is in the file.
    pub(crate) fn fingerprint(&self) -> Result<Fingerprint, TokenError> {
        Ok(self.material()?.fingerprint)
    }

    /// The claims, signed, in the compact form.
    pub(crate) fn sign(
        &self,
        claims: &Map<String, Value>,
    ) -> Result<Zeroizing<String>, TokenError> {
        let key = self.material()?;
        let algorithm = self.algorithm_for(&key);
        let mut header = Map::new();
        header.insert("alg".into(), algorithm.as_str().into());
        header.insert("typ".into(), "JWT".into());
        if let Some(key_id) = self.key_id.as_deref().or(key.key_id.as_deref()) {
            header.insert("kid".into(), key_id.into());
        }
        if let Some(thumbprint) = self.thumbprint.as_deref().or(key.thumbprint.as_deref()) {
            header.insert("x5t#S256".into(), thumbprint.into());
        }
        signed(header, claims, |message| key.pair.sign(algorithm, message))
    }

    fn algorithm_for(&self, key: &KeyMaterial) -> SigningAlgorithm {
        self.algorithm
            .or(key.algorithm)
            .unwrap_or_else(|| key.pair.default_algorithm())
    }

    pub(super) fn material(&self) -> Result<Arc<KeyMaterial>, TokenError> {
        match &self.location {
            KeyLocation::Memory(material) => Ok(material.clone()),
            KeyLocation::File(file) => file.read(),
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
            KeyLocation::File(file) => write!(f, "SigningKey({})", file.path().display()),
        }
    }
}
