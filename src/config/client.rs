//! Creates the client authentication from the keys of `[source]`.

use super::{
    client_auth::ClientAuthName,
    error::ConfigError,
    secret::{SecretFrom, given, read},
    source::SourceConfig,
};
use crate::{
    credentials::{ClientAuth, SigningKey},
    transport::Transport,
};

impl SourceConfig {
    /// Returns the client authentication, and the transport with the certificate that it needs.
    pub(super) fn authenticate(
        &self,
        transport: Transport,
    ) -> Result<(ClientAuth, Transport), ConfigError> {
        let secret = || {
            read(
                "client_secret",
                given(&self.client_secret, "client_secret")?,
            )
        };
        let auth = match self.client_auth() {
            ClientAuthName::Basic => ClientAuth::basic(secret()?),
            ClientAuthName::Post => ClientAuth::post(secret()?),
            ClientAuthName::None => ClientAuth::none(),
            ClientAuthName::SecretJwt => ClientAuth::secret_jwt(secret()?),
            ClientAuthName::PrivateKeyJwt => ClientAuth::private_key_jwt(self.signing_key()?),
            ClientAuthName::Assertion => {
                ClientAuth::assertion(read("assertion", given(&self.assertion, "assertion")?)?)
            }
            ClientAuthName::Mtls => {
                return Ok((ClientAuth::mtls(), self.with_certificate(transport)?));
            }
        };
        Ok((auth, transport))
    }

    fn signing_key(&self) -> Result<SigningKey, ConfigError> {
        let key = match given(&self.private_key, "private_key")? {
            // The file is read again for each use, so that the key can be rotated.
            SecretFrom::File(path) => SigningKey::from_file(path),
            other => other.read().and_then(|text| {
                let text = text.expose()?;
                match text.as_str().trim_start().starts_with('{') {
                    true => SigningKey::from_jwk(text.as_str()),
                    false => SigningKey::from_pem(text.as_str()),
                }
            }),
        };
        let mut key = key.map_err(|error| ConfigError::token("private_key", error))?;
        if let Some(name) = &self.algorithm {
            let algorithm = name.parse();
            let fault = |error| ConfigError::token("algorithm", error);
            key = key.with_algorithm(algorithm.map_err(fault)?);
        }
        if let Some(id) = &self.key_id {
            key = key.with_key_id(id);
        }
        Ok(key)
    }

    #[cfg(any(feature = "reqwest", feature = "hyper"))]
    fn with_certificate(&self, transport: Transport) -> Result<Transport, ConfigError> {
        let certificate = given(&self.certificate, "certificate")?;
        let key = given(&self.private_key, "private_key")?;
        let transport = match (certificate, key) {
            // The files are read again for each request, so that the certificate can be rotated.
            (SecretFrom::File(certificate), SecretFrom::File(key)) => {
                transport.with_client_identity_files(certificate, key)
            }
            _ => text(certificate).and_then(|certificate| {
                let key = text(key)?;
                transport.with_client_identity_pem(
                    certificate.as_str().as_bytes(),
                    key.as_str().as_bytes(),
                )
            }),
        };
        transport.map_err(|error| ConfigError::token("certificate", error))
    }

    #[cfg(not(any(feature = "reqwest", feature = "hyper")))]
    fn with_certificate(&self, transport: Transport) -> Result<Transport, ConfigError> {
        drop(transport);
        Err(ConfigError::new(
            "certificate",
            "the program sends token requests with a custom transport: configure the certificate there",
        ))
    }
}

#[cfg(any(feature = "reqwest", feature = "hyper"))]
fn text(secret: &SecretFrom) -> Result<crate::secret::Exposed, crate::error::TokenError> {
    secret.read()?.expose()
}
