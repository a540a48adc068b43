//! Defines the trait that a store implements, and its object-safe form.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Fence, Lease, Name, StoreError};

/// Stores encrypted tokens for several processes, or for the next start of a program.
///
/// An implementation sees opaque names and opaque bytes, never a token, a spec or a secret. It need not be reliable: an error
/// counts as a miss, which is counted and logged. It must be fast, and should limit the time of each call itself.
///
/// `testing::store_suite` tests any implementation (feature `testing`).
///
/// ```
/// use std::{collections::HashMap, sync::Mutex, time::{Duration, Instant}};
/// use bytes::Bytes;
/// use tower_bearer::store::{Fence, Lease, Name, StoreError, TokenStore};
///
/// /// A store in a map of this process.
/// #[derive(Default)]
/// struct MapStore(Mutex<HashMap<Name, Entry>>);
///
/// #[derive(Default)]
/// struct Entry {
///     value: Option<(Bytes, Instant)>,
///     lease: Option<(Lease, Instant)>,
///     fence: u64,
/// }
///
/// /// Caps the lifetime, because an `Instant` that is too far away overflows.
/// fn expiry(lifetime: Duration) -> Instant {
///     Instant::now() + lifetime.min(Duration::from_secs(365 * 86_400))
/// }
///
/// impl MapStore {
///     /// Runs the closure on the entry of this name, without its expired parts.
///     fn at<T>(&self, name: &Name, run: impl FnOnce(&mut Entry) -> T) -> Result<T, StoreError> {
///         let mut map = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
///         let entry = map.entry(name.clone()).or_default();
///         let now = Instant::now();
///         entry.value.take_if(|(_, expiry)| *expiry <= now);
///         entry.lease.take_if(|(_, expiry)| *expiry <= now);
///         Ok(run(entry))
///     }
/// }
///
/// impl TokenStore for MapStore {
///     async fn get(&self, name: &Name) -> Result<Option<Bytes>, StoreError> {
///         self.at(name, |entry| entry.value.as_ref().map(|(value, _)| value.clone()))
///     }
///
///     async fn put(&self, name: &Name, value: Bytes, lifetime: Duration, fence: Option<Fence>) -> Result<bool, StoreError> {
///         self.at(name, |entry| {
///             if fence.is_some_and(|fence| fence.get() < entry.fence) {
///                 return false;
///             }
///             entry.value = Some((value, expiry(lifetime)));
///             true
///         })
///     }
///
///     async fn delete_if(&self, name: &Name, value: &Bytes) -> Result<bool, StoreError> {
///         self.at(name, |entry| entry.value.take_if(|(found, _)| found == value).is_some())
///     }
///
///     async fn lease(&self, name: &Name, lifetime: Duration) -> Result<Option<Lease>, StoreError> {
///         self.at(name, |entry| {
///             if entry.lease.is_some() {
///                 return None;
///             }
///             entry.fence += 1;
///             // Name and fence identify the lease. A store that can lose its fences needs a random holder.
///             let lease = Lease::new(Fence::new(entry.fence), name.as_str());
///             entry.lease = Some((lease.clone(), expiry(lifetime)));
///             Some(lease)
///         })
///     }
///
///     async fn release(&self, name: &Name, lease: Lease) -> Result<(), StoreError> {
///         self.at(name, |entry| drop(entry.lease.take_if(|(found, _)| *found == lease)))
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// # let store = std::sync::Arc::new(MapStore::default());
/// # #[cfg(feature = "testing")] tower_bearer::testing::store_suite(async || store.clone()).await;
/// # }
/// ```
pub trait TokenStore: Send + Sync + 'static {
    /// Returns the value of this name, if there is one and it has not expired.
    ///
    /// # Errors
    /// Returns an error if the store can't be reached. A failure must not be reported as a missing value.
    fn get(&self, name: &Name) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;

    /// Stores a value, which expires after `lifetime`. Returns `true` if it was stored.
    ///
    /// With a `fence`, the value is stored only if no lease with a higher fence has been granted for this name.
    ///
    /// # Errors
    /// Returns an error if the store can't be reached or refuses the value.
    fn put(
        &self,
        name: &Name,
        value: Bytes,
        lifetime: Duration,
        fence: Option<Fence>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Deletes the value if it still equals `value`. Returns `true` if it was deleted.
    ///
    /// # Errors
    /// Returns an error if the store can't be reached.
    fn delete_if(
        &self,
        name: &Name,
        value: &Bytes,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Grants the exclusive right to fetch the token of this name, unless it is taken. The lease expires after `lifetime`.
    ///
    /// Each lease has a higher fence than all earlier leases of the same name.
    ///
    /// # Errors
    /// Returns an error if the store can't be reached.
    fn lease(
        &self,
        name: &Name,
        lifetime: Duration,
    ) -> impl Future<Output = Result<Option<Lease>, StoreError>> + Send;

    /// Releases the lease, if it has not expired.
    ///
    /// # Errors
    /// Returns an error if the store can't be reached.
    fn release(
        &self,
        name: &Name,
        lease: Lease,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

impl<S: TokenStore + ?Sized> TokenStore for Arc<S> {
    async fn get(&self, name: &Name) -> Result<Option<Bytes>, StoreError> {
        (**self).get(name).await
    }

    async fn put(
        &self,
        name: &Name,
        value: Bytes,
        lifetime: Duration,
        fence: Option<Fence>,
    ) -> Result<bool, StoreError> {
        (**self).put(name, value, lifetime, fence).await
    }

    async fn delete_if(&self, name: &Name, value: &Bytes) -> Result<bool, StoreError> {
        (**self).delete_if(name, value).await
    }

    async fn lease(&self, name: &Name, lifetime: Duration) -> Result<Option<Lease>, StoreError> {
        (**self).lease(name, lifetime).await
    }

    async fn release(&self, name: &Name, lease: Lease) -> Result<(), StoreError> {
        (**self).release(name, lease).await
    }
}

pub(crate) type StoreFuture<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The object-safe form of [`TokenStore`], so that the cache has no type parameter for its store.
pub(crate) trait DynStore: Send + Sync + 'static {
    fn get<'a>(&'a self, name: &'a Name) -> StoreFuture<'a, Option<Bytes>>;
    fn put<'a>(
        &'a self,
        name: &'a Name,
        value: Bytes,
        lifetime: Duration,
        fence: Option<Fence>,
    ) -> StoreFuture<'a, bool>;
    fn delete_if<'a>(&'a self, name: &'a Name, value: &'a Bytes) -> StoreFuture<'a, bool>;
    fn lease<'a>(&'a self, name: &'a Name, lifetime: Duration) -> StoreFuture<'a, Option<Lease>>;
    fn release<'a>(&'a self, name: &'a Name, lease: Lease) -> StoreFuture<'a, ()>;
}

impl<S: TokenStore> DynStore for S {
    fn get<'a>(&'a self, name: &'a Name) -> StoreFuture<'a, Option<Bytes>> {
        Box::pin(TokenStore::get(self, name))
    }

    fn put<'a>(
        &'a self,
        name: &'a Name,
        value: Bytes,
        lifetime: Duration,
        fence: Option<Fence>,
    ) -> StoreFuture<'a, bool> {
        Box::pin(TokenStore::put(self, name, value, lifetime, fence))
    }

    fn delete_if<'a>(&'a self, name: &'a Name, value: &'a Bytes) -> StoreFuture<'a, bool> {
        Box::pin(TokenStore::delete_if(self, name, value))
    }

    fn lease<'a>(&'a self, name: &'a Name, lifetime: Duration) -> StoreFuture<'a, Option<Lease>> {
        Box::pin(TokenStore::lease(self, name, lifetime))
    }

    fn release<'a>(&'a self, name: &'a Name, lease: Lease) -> StoreFuture<'a, ()> {
        Box::pin(TokenStore::release(self, name, lease))
    }
}
