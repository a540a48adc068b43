//! A key in a file: read for each use, and parsed again when the file says something else.

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
    /// Checking an RSA key takes longer than reading it.
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
                self.fault("can't read the signing key's file", &error.to_string())
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
            .map_err(|error| self.fault("no key can be read from the file", &error.to_string()))?;
        Ok(last.insert(Arc::new(material)).clone())
    }

    fn fault(&self, what: &str, why: &str) -> TokenError {
        TokenError::configuration(format!("{what} {}: {why}", self.path.display()))
    }
}
