//! Reads, locks and replaces the file. All functions block.
//!
//! Readers take no lock. A change is written to a second file next to the first, synced to the disk, and moved into place by one
//! `rename`: a reader sees the file either before or after the change, also after a crash. The lock is on a third file, since
//! the first is replaced by each change. The operating system releases the lock when the process ends.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::format;
use crate::store::{
    Name, StoreError, StoreErrorKind,
    table::{Table, micros},
};

/// The location and the limits of the file.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) path: PathBuf,
    /// The maximum size of all names and values in bytes.
    pub(super) limit: usize,
    pub(super) timeout: Duration,
}

/// The pause between two attempts to lock the file.
const LOCK_INTERVAL: Duration = Duration::from_millis(5);

impl Disk {
    /// Changes the table in the file under the lock. If the table is too large, other values than that of `name` are removed.
    ///
    /// The closure receives the current time. If it returns the default of its type (`false` or `None`), it has changed nothing,
    /// and the file is not written.
    pub(super) fn change<T: Default + PartialEq>(
        &self,
        name: &Name,
        change: impl FnOnce(&mut Table, &Name, u64) -> T,
    ) -> Result<T, StoreError> {
        let _lock = self.lock()?;
        let mut table = self.read()?;
        let now = now();
        table.prune(now);
        let outcome = change(&mut table, name, now);
        if outcome == T::default() {
            return Ok(outcome);
        }
        table.shrink(self.limit, name);
        if table.size() > self.limit {
            let (path, limit) = (self.path.display(), self.limit);
            return Err(StoreError::new(
                StoreErrorKind::Refused,
                format!("the store file {path} is limited to {limit} bytes: set a higher limit"),
            ));
        }
        self.replace(&format::write(&table))
            .map_err(|error| self.fault("can't be written", error))?;
        Ok(outcome)
    }

    /// Reads the table. A missing or damaged file counts as empty, and is replaced by the next change.
    pub(super) fn read(&self) -> Result<Table, StoreError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Table::default()),
            Err(error) => return Err(self.fault("can't be opened", error)),
        };
        #[cfg(unix)]
        restrict_permissions(&file).map_err(|error| {
            self.fault(
                "is accessible to other users, and its permissions can't be changed",
                error,
            )
        })?;
        // A larger file was not written by this store.
        let max_size = self.limit as u64 * 2 + (1 << 20);
        let mut bytes = Vec::new();
        file.take(max_size)
            .read_to_end(&mut bytes)
            .map_err(|error| self.fault("can't be read", error))?;
        Ok(format::read(&bytes).unwrap_or_else(|| {
            tracing::warn!(
                target: "tower_bearer",
                path = %self.path.display(),
                "the store file is damaged or of another version: treating it as empty until the next change replaces it"
            );
            Table::default()
        }))
    }

    /// Locks the file. Polls the lock, because a blocking wait could not be limited.
    fn lock(&self) -> Result<File, StoreError> {
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        let created = builder.recursive(true).create(self.directory());
        created.map_err(|error| self.fault("has no directory, and none can be created", error))?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let lock = owner_only(&mut options)
            .open(self.sibling(".lock"))
            .map_err(|error| self.fault("can't be locked", error))?;
        let start = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(error)) => return Err(self.fault("can't be locked", error)),
                Err(TryLockError::WouldBlock) if start.elapsed() < self.timeout => {}
                Err(TryLockError::WouldBlock) => return Err(self.timeout_error()),
            }
            thread::sleep(LOCK_INTERVAL);
        }
    }

    /// Replaces the file atomically.
    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let new = self.sibling(".new");
        // Removes the rest of a crash. The file is not opened, because it might be a link.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file = owner_only(options.write(true).create_new(true)).open(&new)?;
        file.write_all(bytes)?;
        // Before the rename: otherwise a crash could leave an empty file under the final name.
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        // Makes the rename durable.
        #[cfg(unix)]
        File::open(self.directory())?.sync_all()?;
        Ok(())
    }

    pub(super) fn timeout_error(&self) -> StoreError {
        StoreError::timeout(format!(
            "the store file {} could not be locked or read within {:?}: another process holds the lock, or the disk is slow",
            self.path.display(),
            self.timeout
        ))
    }

    fn fault(&self, what: &str, error: io::Error) -> StoreError {
        let kind = match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::PermissionDenied => StoreErrorKind::Refused,
            io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => {
                StoreErrorKind::Configuration
            }
            _ => StoreErrorKind::Unavailable,
        };
        let path = self.path.display();
        StoreError::new(kind, format!("the store file {path} {what}: {error}")).with_source(error)
    }

    /// Another file of the same directory: a rename must not cross a file system.
    fn sibling(&self, ending: &str) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(ending);
        name.into()
    }

    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory,
            _ => Path::new("."),
        }
    }
}

/// Returns the wall-clock time in microseconds. Several processes share the file, so a monotonic clock can't be used.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    micros(since.unwrap_or_default())
}

/// Makes a new file accessible only to its owner.
fn owner_only(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Makes a file accessible only to its owner. Its values are encrypted, but a copy could be kept until a key leaks.
#[cfg(unix)]
fn restrict_permissions(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    file.set_permissions(fs::Permissions::from_mode(0o600))
}
