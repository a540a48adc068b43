//! Implements [`FileStore`]: the operations, and the threads that they run on.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{runtime::Handle, sync::Mutex};

use super::disk::{Disk, now};
use crate::{
    store::{
        Fence, Lease, Name, StoreError, StoreErrorKind, TokenStore, table::Table,
        types::random_holder,
    },
    util::timer,
};

/// A store in one file, which outlives the program and can be used by several processes at once.
///
/// It is meant for programs that start often, such as command-line tools: each start continues with the token of the last one.
/// Each change writes the whole file and syncs it to the disk, which takes milliseconds; a fleet should use Redis.
///
/// - The file is accessible only to its owner (mode 0600; wider permissions are restricted), and its values are encrypted.
/// - It is replaced atomically: after a crash of the program or the machine it has its contents from before or after a change.
/// - A damaged file counts as empty and is replaced.
/// - Processes lock a second file next to it for each change. The operating system releases the lock when a process ends.
/// - A lease ends by time and not with its process, because containers that share the file can't see each other's processes.
///   Leases last seconds.
/// - Expired values are removed by the next change. At the size limit, the values that expire first are removed.
///
/// The file should be on a local disk, because locks on network file systems are unreliable. Within Tokio, the work is done on
/// the threads for blocking tasks; elsewhere, the calls block.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::store::{FileStore, Name, TokenStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = std::env::temp_dir().join(format!("tower-bearer-file-doc-{}", std::process::id()));
/// let store = FileStore::new(folder.join("tokens"));
/// let name = Name::new("a")?;
/// store.put(&name, "encrypted".into(), Duration::from_secs(60), None).await?;
///
/// // At the next start:
/// let store = FileStore::new(folder.join("tokens"));
/// assert_eq!(store.get(&name).await?.as_deref(), Some(&b"encrypted"[..]));
/// # std::fs::remove_dir_all(folder)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct FileStore {
    disk: Disk,
    /// Serializes the changes of all clones, so that they occupy one blocking thread.
    write_lock: Arc<Mutex<()>>,
}

impl FileStore {
    /// Creates a store in this file. The file and its directory are created when the first value is stored.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            disk: Disk {
                path: path.into(),
                limit: 8 << 20,
                timeout: Duration::from_secs(5),
            },
            write_lock: Arc::default(),
        }
    }

    /// Sets the maximum size of all values in bytes. Default: 8 MiB, which is enough for some thousand tokens.
    #[must_use]
    pub fn with_limit(mut self, bytes: usize) -> Self {
        self.disk.limit = bytes;
        self
    }

    /// Sets the time limit of a call, most of which may be spent waiting for other processes. Default: 5 s.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.disk.timeout = timeout;
        self
    }

    async fn change<T: Default + PartialEq + Send + 'static>(
        &self,
        name: &Name,
        change: impl FnOnce(&mut Table, &Name, u64) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let name = name.clone();
        let work = async {
            let lock = self.write_lock.clone().lock_owned().await;
            self.run_blocking(move |disk| {
                // Held until the work is done, even if the caller has given up.
                let _lock = lock;
                disk.change(&name, change)
            })
            .await
        };
        self.within_limit(work).await
    }

    async fn within_limit<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let outcome = timer::within(self.disk.timeout, work).await;
        outcome.unwrap_or_else(|| Err(self.disk.timeout_error()))
    }

    /// Runs blocking work on a thread for it.
    async fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let Ok(runtime) = Handle::try_current() else {
            return work(&self.disk);
        };
        let disk = self.disk.clone();
        let outcome = runtime.spawn_blocking(move || work(&disk)).await;
        outcome.unwrap_or_else(|error| {
            Err(StoreError::new(
                StoreErrorKind::Unavailable,
                "the store file was not accessed, because the Tokio runtime is shutting down",
            )
            .with_source(error))
        })
    }
}

impl TokenStore for FileStore {
    async fn get(&self, name: &Name) -> Result<Option<Bytes>, StoreError> {
        let name = name.clone();
        let get = self.run_blocking(move |disk| Ok(disk.read()?.get(&name, now())));
        self.within_limit(get).await
    }

    async fn put(
        &self,
        name: &Name,
        value: Bytes,
        lifetime: Duration,
        fence: Option<Fence>,
    ) -> Result<bool, StoreError> {
        self.change(name, move |table, name, now| {
            table.put(name, value, lifetime, fence, now)
        })
        .await
    }

    async fn delete_if(&self, name: &Name, value: &Bytes) -> Result<bool, StoreError> {
        let value = value.clone();
        self.change(name, move |table, name, now| {
            table.delete_if(name, &value, now)
        })
        .await
    }

    async fn lease(&self, name: &Name, lifetime: Duration) -> Result<Option<Lease>, StoreError> {
        let holder = random_holder()?;
        self.change(name, move |table, name, now| {
            table.lease(name, lifetime, &holder, now)
        })
        .await
    }

    async fn release(&self, name: &Name, lease: Lease) -> Result<(), StoreError> {
        let release = move |table: &mut Table, name: &Name, now| table.release(name, &lease, now);
        self.change(name, release).await.map(drop)
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore")
            .field("path", &self.disk.path)
            .finish_non_exhaustive()
    }
}
