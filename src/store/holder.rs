//! What a lease's holder is known by: random, so that nobody gives back what is another's.

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{StoreError, StoreErrorKind};

/// A holder that there was never before.
pub(super) fn new_holder() -> Result<String, StoreError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|error| {
        StoreError::new(StoreErrorKind::Broken, "the system has no random numbers")
            .with_source(error)
    })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
