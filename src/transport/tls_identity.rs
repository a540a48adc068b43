//! This module reads the client certificate and key for mutual TLS.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use zeroize::Zeroizing;

use crate::{error::TokenError, util::fingerprint::Fingerprint, util::pem};

/// The location of a client certificate and its key.
#[derive(Clone)]
pub(super) enum TlsIdentity {
    Memory(Arc<IdentityPem>),
    Files {
        certificates: Arc<Path>,
        key: Arc<Path>,
    },
}

/// A certificate chain and its key in PEM, without anything else.
pub(super) struct IdentityPem {
    /// The certificate of the client, then its issuers, then the key.
    pub(super) pem: Zeroizing<String>,
    pub(super) fingerprint: Fingerprint,
}

impl TlsIdentity {
    pub(super) fn in_memory(certificates: &[u8], key: &[u8]) -> Result<Self, TokenError> {
        IdentityPem::new(certificates, key).map(|pair| Self::Memory(Arc::new(pair)))
    }

    pub(super) fn in_files(certificates: PathBuf, key: PathBuf) -> Result<Self, TokenError> {
        let identity = Self::Files {
            certificates: certificates.into(),
            key: key.into(),
        };
        identity.load()?;
        Ok(identity)
    }

    /// Returns the current certificates and key.
    pub(super) fn load(&self) -> Result<Arc<IdentityPem>, TokenError> {
        match self {
            Self::Memory(pair) => Ok(pair.clone()),
            Self::Files { certificates, key } => {
                let (certificates, key) = (read(certificates)?, read(key)?);
                IdentityPem::new(&certificates, &key).map(Arc::new)
            }
        }
    }
}

impl IdentityPem {
    fn new(certificates: &[u8], key: &[u8]) -> Result<Self, TokenError> {
        let certificates = str::from_utf8(certificates).unwrap_or_default();
        let key = str::from_utf8(key).unwrap_or_default();
        // Both may be in one file, next to other sections and comments.
        let mut sections: Vec<_> = pem::sections(certificates)
            .filter(|section| section.label == "CERTIFICATE" && section.der.is_some())
            .collect();
        if sections.is_empty() {
            return Err(TokenError::configuration(
                "the client certificate contains no certificate: provide it and its issuers in PEM",
            ));
        }
        let key = pem::sections(key).find(|section| {
            let known = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];
            known.contains(&section.label) && section.der.is_some()
        });
        sections.push(key.ok_or_else(|| {
            TokenError::configuration(
                "the client certificate has no private key: provide it in PEM, without a password",
            )
        })?);
        // Allocated once: a string that grows leaves copies of the key in freed memory.
        let room = sections.iter().map(|section| section.text.len() + 1).sum();
        let mut pem = Zeroizing::new(String::with_capacity(room));
        for section in sections {
            pem.push_str(section.text);
            pem.push('\n');
        }
        let fingerprint = Fingerprint::of(pem.as_bytes());
        Ok(Self { pem, fingerprint })
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    fs::read(path).map(Zeroizing::new).map_err(|error| {
        let message = format!(
            "can't read the client certificate or key in {}",
            path.display()
        );
        TokenError::configuration(message).with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &[u8] = include_bytes!("../../tests/vectors/keys/p256.certificate.pem");
    const KEY: &[u8] = include_bytes!("../../tests/vectors/keys/p256.sec1.pem");
    const LOCKED: &[u8] = include_bytes!("../../tests/vectors/keys/refused.sec1-encrypted.pem");

    #[test]
    fn certificate_and_key_are_read_from_one_text() {
        let both = [KEY, CERTIFICATE].concat();
        let (apart, together) = (
            IdentityPem::new(CERTIFICATE, KEY),
            IdentityPem::new(&both, &both),
        );
        let (apart, together) = (apart.unwrap(), together.unwrap());
        assert_eq!(apart.pem, together.pem);
        assert!(apart.fingerprint == together.fingerprint);
        assert!(apart.pem.starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(!apart.pem.contains("PARAMETERS"));
    }

    #[test]
    fn missing_parts_are_named_without_showing_the_input() {
        for (certificates, key, part) in [
            (KEY, KEY, "no certificate"),
            (&b"hunter2"[..], KEY, "no certificate"),
            (b"\xff", KEY, "no certificate"),
            (CERTIFICATE, CERTIFICATE, "no private key"),
            (CERTIFICATE, LOCKED, "without a password"),
        ] {
            let error = IdentityPem::new(certificates, key).err().unwrap();
            let shown = format!("{error} {error:?}");
            assert!(
                shown.contains(part) && !shown.contains("hunter2"),
                "{shown}"
            );
        }
        let error = TlsIdentity::in_files("/no/such/cert.pem".into(), "/no/such/key.pem".into());
        let error = error.err().unwrap();
        assert!(error.to_string().contains("/no/such/cert.pem"), "{error}");
    }
}
