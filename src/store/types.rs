//! Defines the types of the store's interface: [`Name`], [`Lease`] and [`Fence`].

use std::{fmt, sync::Arc};

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

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

/// The number of a lease: each that is given for a name has a higher one than those before.
///
/// A store refuses a [`put`](super::TokenStore::put) with a fence below the highest it gave: whoever slept over the end
/// of its lease can't overwrite what came after.
///
/// ```
/// use tower_bearer::store::Fence;
///
/// assert!(Fence::new(1) < Fence::new(2));
/// assert_eq!(Fence::new(7).get(), 7);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(u64);

impl Fence {
    /// The fence of this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The right to fetch for a name, until it ends or is given back.
///
/// ```
/// use tower_bearer::store::{Fence, Lease};
///
/// let lease = Lease::new(Fence::new(3), "9f86d081");
/// assert_eq!(lease.fence(), Fence::new(3));
/// assert_eq!(lease.holder(), "9f86d081");
/// assert!(!format!("{lease:?}").contains("9f86d081"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Lease {
    fence: Fence,
    holder: Box<str>,
}

impl Lease {
    /// A lease as a store gives it. `holder` is what the store knows it by: unique, and not to be guessed by others.
    pub fn new(fence: Fence, holder: impl Into<Box<str>>) -> Self {
        Self {
            fence,
            holder: holder.into(),
        }
    }

    /// Its number.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.fence
    }

    /// What the store knows it by.
    #[must_use]
    pub fn holder(&self) -> &str {
        &self.holder
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("fence", &self.fence.0)
            .finish_non_exhaustive()
    }
}

/// Returns a random holder, so that no other process can release the lease.
pub(super) fn random_holder() -> Result<String, StoreError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|error| {
        StoreError::new(StoreErrorKind::Broken, "the system has no random numbers")
            .with_source(error)
    })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
