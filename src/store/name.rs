//! Under which name a store keeps a value: it tells nothing.

use std::{fmt, sync::Arc};

use super::{StoreError, StoreErrorKind};

/// A name in a store: letters, digits, `-` and `_`, of which upper and lower case differ.
///
/// A cache's own names are 43 characters of base64url, made of an HMAC: who has not the key can't tell which token a
/// name is for, nor which two names are of the same spec.
///
/// ```
/// use tower_bearer::store::Name;
///
/// let name = Name::new("mAh9_x-1")?;
/// assert_eq!(name.as_str(), "mAh9_x-1");
/// assert!(Name::new("two words").is_err());
/// # Ok::<_, tower_bearer::store::StoreError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

/// The longest name there may be.
const LONGEST: usize = 128;

impl Name {
    /// This name. Caches make theirs by themselves; this is for a store's tests.
    ///
    /// # Errors
    /// It is empty, longer than 128 characters, or holds others than letters, digits, `-` and `_`.
    pub fn new(name: &str) -> Result<Self, StoreError> {
        let fits = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        if name.is_empty() || name.len() > LONGEST || !name.bytes().all(fits) {
            return Err(StoreError::new(
                StoreErrorKind::Configuration,
                "a name in a store is of 1 to 128 letters, digits, '-' and '_'",
            ));
        }
        Ok(Self(name.into()))
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({})", self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
