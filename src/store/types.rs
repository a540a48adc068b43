//! Defines the types of the store's interface: [`Name`], [`Lease`] and [`Fence`].

use std::{fmt, sync::Arc};

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::StoreError;

/// The name of a value in a store: case-sensitive letters, digits, `-` and `_`.
///
/// The names that a cache uses are HMACs in base64url, 43 characters long. Without the key they don't reveal which token they
/// belong to, or whether two of them belong to the same spec.
///
/// ```
/// use tower_bearer::store::Name;
///
/// let name = Name::new("mAh9_x-1")?;
/// assert_eq!(name.as_str(), "mAh9_x-1");
/// assert!(Name::new("two words").is_err());
/// # Ok::<_, tower_bearer::store::StoreError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

const MAX_LENGTH: usize = 128;

impl Name {
    /// Creates a name. Caches create their own; this function is for tests of a store.
    ///
    /// # Errors
    /// Returns an error if the name is empty, longer than 128 characters, or contains a character other than letters, digits,
    /// `-` and `_`.
    pub fn new(name: &str) -> Result<Self, StoreError> {
        let is_allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        if name.is_empty() || name.len() > MAX_LENGTH || !name.bytes().all(is_allowed) {
            return Err(StoreError::configuration(
                "a name in a store must consist of 1 to 128 letters, digits, '-' and '_'",
            ));
        }
        Ok(Self(name.into()))
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The fencing token of a lease: a number that is higher than those of all earlier leases of the same name.
///
/// A store refuses a [`put`](super::TokenStore::put) with a fence below the highest one granted, so a process whose lease has
/// expired can't overwrite a newer value.
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
    /// Creates a fence with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The exclusive right to fetch the token of a name, until it expires or is released.
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
    /// Creates a lease. `holder` identifies it to the store: it must be unique, and must not be guessable by other processes.
    pub fn new(fence: Fence, holder: impl Into<Box<str>>) -> Self {
        Self {
            fence,
            holder: holder.into(),
        }
    }

    /// Returns the fencing token.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.fence
    }

    /// Returns the text that identifies this lease to the store.
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
    rand::fill(&mut bytes).map_err(StoreError::crypto)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
