//! The right to fetch for a name, and the number that tells a late holder from the present one.

use std::fmt;

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{StoreError, StoreErrorKind};

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
pub(super) fn new_holder() -> Result<String, StoreError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|error| {
        StoreError::new(StoreErrorKind::Broken, "the system has no random numbers")
            .with_source(error)
    })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
