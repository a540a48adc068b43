//! The store itself: what is asked, and on which thread it is done.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{runtime::Handle, sync::Mutex};

use super::disk::Disk;
use crate::{
    store::{
        Fence, Lease, Name, StoreError, StoreErrorKind, TokenStore, table::Table,
        types::random_holder,
    },
    util::timer,
};

/// A store in one file, which outlives the program and may be used by several at once.
///
/// For programs that start often, such as a command-line tool: the next start goes on with the token of the last. Each
/// change writes the whole file anew and brings it to the disk, which takes milliseconds, so a fleet is better off with
/// Redis.
///
/// - The file is its owner's alone (mode 0600; one that is open to others is closed to them), and what is in it is sealed.
/// - It is replaced at once: a crash at any moment, of the program or the machine, leaves what was there before or what came after.
/// - A damaged file counts as empty and is replaced.
/// - Several processes take turns by a lock on a file beside it, which the system gives back when its holder dies.
/// - A lease ends by time and not with its process: whether a process is alive can't be told across containers that share the
///   file, and the number of a dead one may be another's by now. Leases last seconds.
/// - What is over goes with the next change, and what ends first makes room when the limit is reached.
///
/// Put it on a disk of this machine: locks over a network are not to be relied on. Clones take turns among themselves. Within Tokio it works
/// on the threads for blocking work; elsewhere it blocks where it stands.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::store::{FileStore, Name, TokenStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = std::env::temp_dir().join(format!("tower-bearer-file-doc-{}", std::process::id()));
/// let store = FileStore::new(folder.join("tokens"));
/// let name = Name::new("a")?;
/// store.put(&name, "sealed".into(), Duration::from_secs(60), None).await?;
///
/// // At the next start:
/// let store = FileStore::new(folder.join("tokens"));
/// assert_eq!(store.get(&name).await?.as_deref(), Some(&b"sealed"[..]));
/// # std::fs::remove_dir_all(folder)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct FileStore {
    disk: Disk,
    /// So that those who change the file through one store take one thread.
    turn: Arc<Mutex<()>>,
}

impl FileStore {
    /// A store in this file. It is made, and its folder too, when something is put into it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            disk: Disk {
                path: path.into(),
                limit: 8 << 20,
                timeout: Duration::from_secs(5),
            },
            turn: Arc::default(),
        }
    }

    /// How many bytes of values there may be; 8 MiB by default, which is some thousand tokens.
    #[must_use]
    pub fn with_limit(mut self, bytes: usize) -> Self {
        self.disk.limit = bytes;
        self
    }

    /// How long a call may take at most; 5 s by default. Nearly all of it is for the turns of other processes.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.disk.timeout = timeout;
        self
    }

    async fn change<T: Send + 'static>(
        &self,
        name: &Name,
        change: impl FnOnce(&mut Table, u64) -> (T, bool) + Send + 'static,
    ) -> Result<T, StoreError> {
        let name = name.clone();
        let work = async {
            let turn = self.turn.clone().lock_owned().await;
            self.apart(move |disk| {
                // The turn is over when the work is, though nobody may wait for it any more.
                let _turn = turn;
                disk.change(&name, change)
            })
            .await
        };
        self.in_time(work).await
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match timer::within(self.disk.timeout, work).await {
            Some(outcome) => outcome,
            None => Err(self.disk.late()),
        }
    }

    /// Works on a thread that may be blocked.
    async fn apart<T: Send + 'static>(
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
                "the work on the store's file was not done: its Tokio runtime has shut down",
            )
            .with_source(error))
        })
    }
}

impl TokenStore for FileStore {
    async fn get(&self, name: &Name) -> Result<Option<Bytes>, StoreError> {
        let name = name.clone();
        self.in_time(self.apart(move |disk| disk.see(|table, now| table.get(&name, now))))
            .await
    }

    async fn put(
        &self,
        name: &Name,
        value: Bytes,
        lifetime: Duration,
        fence: Option<Fence>,
    ) -> Result<bool, StoreError> {
        let at = name.clone();
        self.change(name, move |table, now| {
            let put = table.put(&at, value, lifetime, fence, now);
            (put, put)
        })
        .await
    }

    async fn delete_if(&self, name: &Name, value: &Bytes) -> Result<bool, StoreError> {
        let (at, value) = (name.clone(), value.clone());
        self.change(name, move |table, now| {
            let deleted = table.delete_if(&at, &value, now);
            (deleted, deleted)
        })
        .await
    }

    async fn lease(&self, name: &Name, lifetime: Duration) -> Result<Option<Lease>, StoreError> {
        let (at, holder) = (name.clone(), random_holder()?);
        self.change(name, move |table, now| {
            let lease = table.lease(&at, lifetime, &holder, now);
            let is_given = lease.is_some();
            (lease, is_given)
        })
        .await
    }

    async fn release(&self, name: &Name, lease: Lease) -> Result<(), StoreError> {
        let at = name.clone();
        self.change(name, move |table, now| {
            ((), table.release(&at, &lease, now))
        })
        .await
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore")
            .field("path", &self.disk.path)
            .finish_non_exhaustive()
    }
}
