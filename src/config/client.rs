//! Creates the client authentication from the keys of `[source]`.

use super::{
    client_auth::ClientAuthName,
    error::ConfigError,
    secret::{SecretFrom, read_required},
    source::SourceConfig,
};
use crate::{
    credentials::{ClientAuth, SigningKey},
    transport::Transport,
};

impl SourceConfig {
    /// Returns the client authentication.
    pub(super) fn authentication(&self) -> Result<ClientAuth, ConfigError> {
        let missing = self.missing();
        let secret = || read_required("client_secret", &self.client_secret, &missing);
        Ok(match self.client_auth() {
            ClientAuthName::Basic => ClientAuth::basic(secret()?),
            ClientAuthName::Post => ClientAuth::post(secret()?),
            ClientAuthName::None => ClientAuth::none(),
            ClientAuthName::SecretJwt => ClientAuth::secret_jwt(secret()?),
            ClientAuthName::PrivateKeyJwt => ClientAuth::private_key_jwt(self.signing_key()?),
            ClientAuthName::Assertion => {
                ClientAuth::assertion(read_required("assertion", &self.assertion, &missing)?)
            }
            ClientAuthName::Mtls => ClientAuth::mtls(),
        })
    }

    fn signing_key(&self) -> Result<SigningKey, ConfigError> {
        let key = match self.required("private_key", &self.private_key)? {
            // The file is read again for each use, so that the key can be rotated.
            SecretFrom::File(path) => SigningKey::from_file(path),
            other => other.expose().and_then(|text| match text.as_str() {
                jwk if jwk.trim_start().starts_with('{') => SigningKey::from_jwk(jwk),
                pem => SigningKey::from_pem(pem),
            }),
        };
        let mut key = key.map_err(ConfigError::at("private_key"))?;
        if let Some(name) = &self.algorithm {
            key = key.with_algorithm(name.parse().map_err(ConfigError::at("algorithm"))?);
        }
        if let Some(id) = &self.key_id {
            key = key.with_key_id(id);
        }
        Ok(key)
    }

    /// Adds the certificates that are configured to the transport.
    #[cfg(any(feature = "reqwest", feature = "hyper"))]
    pub(super) fn with_certificates(
        &self,
        mut transport: Transport,
    ) -> Result<Transport, ConfigError> {
        if let Some(ca) = &self.ca {
            let pem = ca.expose();
            let with_ca =
                pem.and_then(|pem| transport.with_root_certificate_pem(pem.as_str().as_bytes()));
            transport = with_ca.map_err(ConfigError::at("ca"))?;
        }
        if self.client_auth() != ClientAuthName::Mtls {
            return Ok(transport);
        }
        let certificate = self.required("certificate", &self.certificate)?;
        let key = self.required("private_key", &self.private_key)?;
        let transport = match (certificate, key) {
            // The files are read again for each request, so that the certificate can be rotated.
            (SecretFrom::File(certificate), SecretFrom::File(key)) => {
                transport.with_client_identity_files(certificate, key)
            }
            _ => certificate.expose().and_then(|certificate| {
                let key = key.expose()?;
                let (certificate, key) = (certificate.as_str(), key.as_str());
                transport.with_client_identity_pem(certificate.as_bytes(), key.as_bytes())
            }),
        };
        transport.map_err(ConfigError::at("certificate"))
    }

    #[cfg(not(any(feature = "reqwest", feature = "hyper")))]
    pub(super) fn with_certificates(&self, transport: Transport) -> Result<Transport, ConfigError> {
        let key = match &self.ca {
            Some(_) => "ca",
            None if self.client_auth() == ClientAuthName::Mtls => "certificate",
            None => return Ok(transport),
        };
        Err(ConfigError::new(
            key,
            "the program sends token requests with a custom transport: configure the certificate there",
        ))
    }

    fn required<'a>(
        &self,
        key: &str,
        secret: &'a Option<SecretFrom>,
    ) -> Result<&'a SecretFrom, ConfigError> {
        secret
            .as_ref()
            .ok_or_else(|| ConfigError::new(key, self.missing()))
    }

    /// Returns the message for a missing key that the client authentication requires.
    fn missing(&self) -> String {
        let name = self.client_auth().as_str();
        format!("it is missing, and client_auth = \"{name}\" needs it: add it, or set client_auth")
    }
}
