//! The trait that a store implements, and its boxed twin.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Fence, Lease, Name, StoreError};

/// Keeps sealed tokens for many processes, or for a program's next start.
///
/// An implementation sees opaque names and opaque bytes: never a token, a spec or a secret. It need not be reliable. A
/// cache asks it before it asks the provider, and an error of it is a miss that is counted and logged. It must be quick:
/// what it may take at most is for the implementation to bound.
///
/// `testing::store_suite` tries any implementation (feature `testing`).
///
/// ```
/// use std::{collections::HashMap, sync::Mutex, time::{Duration, Instant}};
/// use bytes::Bytes;
/// use tower_bearer::store::{Fence, Lease, Name, StoreError, TokenStore};
///
/// /// In a map of this process.
/// #[derive(Default)]
/// struct InMap(Mutex<HashMap<Name, Place>>);
///
/// #[derive(Default)]
/// struct Place {
///     value: Option<(Bytes, Instant)>,
///     lease: Option<(Lease, Instant)>,
///     fence: u64,
/// }
///
/// /// A lifetime may be so long that its end is no time any more.
/// fn end_of(lifetime: Duration) -> Instant {
///     Instant::now() + lifetime.min(Duration::from_secs(365 * 86_400))
/// }
///
/// impl InMap {
///     /// Runs this over the place of this name, without what is over.
///     fn at<T>(&self, name: &Name, run: impl FnOnce(&mut Place) -> T) -> Result<T, StoreError> {
///         let mut map = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
///         let place = map.entry(name.clone()).or_default();
///         let now = Instant::now();
///         place.value.take_if(|(_, end)| *end <= now);
///         place.lease.take_if(|(_, end)| *end <= now);
///         Ok(run(place))
///     }
/// }
///
/// impl TokenStore for InMap {
///     async fn get(&self, name: &Name) -> Result<Option<Bytes>, StoreError> {
///         self.at(name, |place| place.value.as_ref().map(|(value, _)| value.clone()))
///     }
///
///     async fn put(&self, name: &Name, value: Bytes, lifetime: Duration, fence: Option<Fence>) -> Result<bool, StoreError> {
///         self.at(name, |place| {
///             if fence.is_some_and(|fence| fence.get() < place.fence) {
///                 return false;
///             }
///             place.value = Some((value, end_of(lifetime)));
///             true
///         })
///     }
///
///     async fn delete_if(&self, name: &Name, value: &Bytes) -> Result<bool, StoreError> {
///         self.at(name, |place| place.value.take_if(|(found, _)| found == value).is_some())
///     }
///
///     async fn lease(&self, name: &Name, lifetime: Duration) -> Result<Option<Lease>, StoreError> {
///         self.at(name, |place| {
///             if place.lease.is_some() {
///                 return None;
///             }
///             place.fence += 1;
///             // Name and fence tell one lease from another. A store that can forget its fences needs more.
///             let lease = Lease::new(Fence::new(place.fence), name.as_str());
///             place.lease = Some((lease.clone(), end_of(lifetime)));
///             Some(lease)
///         })
///     }
///
///     async fn release(&self, name: &Name, lease: Lease) -> Result<(), StoreError> {
///         self.at(name, |place| drop(place.lease.take_if(|(found, _)| *found == lease)))
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// # let store = std::sync::Arc::new(InMap::default());
/// # #[cfg(feature = "testing")] tower_bearer::testing::store_suite(async || store.clone()).await;
/// # }
/// ```
pub trait TokenStore: Send + Sync + 'static {
    /// The value under this name, if there is one and it is not over.
    ///
    /// # Errors
    /// The store could not be asked. A store must not take a fault for a value that is not there.
    fn get(&self, name: &Name) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;

    /// Puts a value for so long. With a `fence`, only if no lease of this name with a higher fence was ever given; says
    /// whether it did.
    ///
    /// # Errors
    /// The store could not be asked, or can't take the value.
    fn put(
        &self,
        name: &Name,
        value: Bytes,
        lifetime: Duration,
        fence: Option<Fence>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Deletes the value if it is still exactly this one; says whether it did.
    ///
    /// # Errors
    /// The store could not be asked.
    fn delete_if(
        &self,
        name: &Name,
        value: &Bytes,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// The right to fetch for this name, for so long, if nobody has it. Fences grow with each lease that is given for a name.
    ///
    /// # Errors
    /// The store could not be asked.
    fn lease(
        &self,
        name: &Name,
        lifetime: Duration,
    ) -> impl Future<Output = Result<Option<Lease>, StoreError>> + Send;

    /// Gives the right back, if it is still ours.
    ///
    /// # Errors
    /// The store could not be asked.
    fn release(
        &self,
        name: &Name,
        lease: Lease,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A store that is shared is a store.
impl<S: TokenStore + ?Sized> TokenStore for Arc<S> {
    fn get(&self, name: &Name) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send {
        (**self).get(name)
    }

    fn put(
        &self,
        name: &Name,
        value: Bytes,
        lifetime: Duration,
        fence: Option<Fence>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        (**self).put(name, value, lifetime, fence)
    }

    fn delete_if(
        &self,
        name: &Name,
        value: &Bytes,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        (**self).delete_if(name, value)
    }

    fn lease(
        &self,
        name: &Name,
        lifetime: Duration,
    ) -> impl Future<Output = Result<Option<Lease>, StoreError>> + Send {
        (**self).lease(name, lifetime)
    }

    fn release(
        &self,
        name: &Name,
        lease: Lease,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        (**self).release(name, lease)
    }
}

/// What a boxed store's methods return.
pub(crate) type StoreFuture<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Any store, boxed: what the cache keeps.
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
