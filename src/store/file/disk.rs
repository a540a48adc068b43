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
use crate::store::{Name, StoreError, StoreErrorKind, table::Table};

/// The location and the limits of the file.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) path: PathBuf,
    /// The maximum size of all names and values in bytes.
    pub(super) limit: usize,
    pub(super) timeout: Duration,
}

/// The longest pause between two attempts to lock the file.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

impl Disk {
    /// Runs the closure on the table in the file and the current time.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Table, u64) -> T) -> Result<T, StoreError> {
        Ok(read(&self.read_table()?, now()))
    }

    /// Changes the table in the file under the lock. The closure also returns whether it has changed the table.
    ///
    /// If the table is too large, other values than that of `name` are removed.
    pub(super) fn change<T>(
        &self,
        name: &Name,
        change: impl FnOnce(&mut Table, u64) -> (T, bool),
    ) -> Result<T, StoreError> {
        let _lock = self.lock()?;
        let mut table = self.read_table()?;
        let now = now();
        table.prune(now);
        let (outcome, is_changed) = change(&mut table, now);
        if is_changed {
            table.shrink(self.limit, name);
            if table.size() > self.limit {
                return Err(StoreError::new(
                    StoreErrorKind::Refused,
                    format!(
                        "the store file {} is limited to {} bytes: set a higher limit",
                        self.path.display(),
                        self.limit
                    ),
                ));
            }
            self.replace(&format::write(&table))
                .map_err(|error| self.fault("can't be written", error))?;
        }
        Ok(outcome)
    }

    /// Reads the table. A missing or damaged file counts as empty, and is replaced by the next change.
    fn read_table(&self) -> Result<Table, StoreError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Table::default()),
            Err(error) => return Err(self.fault("can't be opened", error)),
        };
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
        self.create_directory()
            .map_err(|error| self.fault("has no directory, and none can be created", error))?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let lock = owner_only(&mut options)
            .open(self.sibling(".lock"))
            .map_err(|error| self.fault("can't be locked", error))?;
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(error)) => return Err(self.fault("can't be locked", error)),
                Err(TryLockError::WouldBlock) if start.elapsed() < self.timeout => {}
                Err(TryLockError::WouldBlock) => return Err(self.timeout_error()),
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
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
        sync_directory(self.directory())
    }

    pub(super) fn timeout_error(&self) -> StoreError {
        StoreError::new(
            StoreErrorKind::Timeout,
            format!(
                "the store file {} could not be locked or read within {:?}: another process holds the lock, or the disk is slow",
                self.path.display(),
                self.timeout
            ),
        )
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

    fn create_directory(&self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(self.directory())
    }
}

/// Returns the wall-clock time in microseconds. Several processes share the file, so a monotonic clock can't be used.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
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

#[cfg(not(unix))]
fn restrict_permissions(_: &File) -> io::Result<()> {
    Ok(())
}

/// Makes a rename durable.
#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
