//! This module reads a key from a file for each use, and parses it again when the file has changed.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use zeroize::Zeroizing;

use super::key_material::KeyMaterial;
use crate::{error::TokenError, util::fingerprint::Fingerprint};

pub(super) struct KeyFile {
    path: Box<Path>,
    /// The most recent key, because validating an RSA key is slow.
    last: Mutex<Option<Arc<KeyMaterial>>>,
}

impl KeyFile {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            last: Mutex::new(None),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn read(&self) -> Result<Arc<KeyMaterial>, TokenError> {
        let text = fs::read_to_string(&self.path)
            .map(Zeroizing::new)
            .map_err(|error| {
                self.error("can't read the signing key from", &error.to_string())
                    .with_source(error)
            })?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let fingerprint = Fingerprint::of(text.as_bytes());
        if let Some(known) = last
            .as_ref()
            .filter(|known| known.fingerprint == fingerprint)
        {
            return Ok(known.clone());
        }
        let material = KeyMaterial::parse(&text)
            .map_err(|error| self.error("there is no valid signing key in", &error.to_string()))?;
        Ok(last.insert(Arc::new(material)).clone())
    }

    fn error(&self, message: &str, cause: &str) -> TokenError {
        TokenError::configuration(format!("{message} {}: {cause}", self.path.display()))
    }
}
