//! The file itself: read whole, locked for a change, replaced at once. All of it blocks.
//!
//! Readers take no lock. A change is written to a second file beside it, brought to the disk, and put in the first one's place by
//! one `rename`: whoever reads sees the file before or after, and so does whoever comes after a crash. The lock is on a third
//! file, since the first is another one after each change; the system gives it back when its holder dies.

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

/// Where the file is and what it may hold.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) path: PathBuf,
    /// Bytes of values and names.
    pub(super) limit: usize,
    pub(super) timeout: Duration,
}

/// Longest pause between two looks at the lock.
const LOOK: Duration = Duration::from_millis(20);

impl Disk {
    /// What this sees of the file as it is now.
    pub(super) fn see<T>(&self, look: impl FnOnce(&Table, u64) -> T) -> Result<T, StoreError> {
        Ok(look(&self.read()?, now()))
    }

    /// Changes what stands in the file, alone. The change says whether there was one.
    ///
    /// What is put under this name must not be what makes room.
    pub(super) fn change<T>(
        &self,
        name: &Name,
        change: impl FnOnce(&mut Table, u64) -> (T, bool),
    ) -> Result<T, StoreError> {
        let _lock = self.lock()?;
        let mut table = self.read()?;
        let now = now();
        table.prune(now);
        let (outcome, is_changed) = change(&mut table, now);
        if is_changed {
            table.shrink(self.limit, name);
            if table.size() > self.limit {
                return Err(StoreError::new(
                    StoreErrorKind::Refused,
                    format!(
                        "the store file {} may hold {} bytes: give it a higher limit",
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

    /// A file that is not there is empty, and so is one that is damaged: the next change replaces it.
    fn read(&self) -> Result<Table, StoreError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Table::default()),
            Err(error) => return Err(self.fault("can't be opened", error)),
        };
        tighten(&file).map_err(|error| {
            self.fault("is open to other users, and can't be closed to them", error)
        })?;
        // Beyond this it is not ours, and need not be read to its end.
        let most = self.limit as u64 * 2 + (1 << 20);
        let mut bytes = Vec::new();
        file.take(most)
            .read_to_end(&mut bytes)
            .map_err(|error| self.fault("can't be read", error))?;
        Ok(format::read(&bytes).unwrap_or_else(|| {
            tracing::warn!(
                target: "tower_bearer",
                path = %self.path.display(),
                "the store's file is damaged or of another version: it counts as empty, and the next change replaces it"
            );
            Table::default()
        }))
    }

    /// The right to change the file. Looked for again and again, since a wait within the system has no end.
    fn lock(&self) -> Result<File, StoreError> {
        self.make_folder()
            .map_err(|error| self.fault("has no folder, and none can be made", error))?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let lock = own(&mut options)
            .open(self.beside(".lock"))
            .map_err(|error| self.fault("can't be locked", error))?;
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(error)) => return Err(self.fault("can't be locked", error)),
                Err(TryLockError::WouldBlock) if start.elapsed() < self.timeout => {}
                Err(TryLockError::WouldBlock) => return Err(self.late()),
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LOOK);
        }
    }

    /// Puts these bytes in the file's place: all of them or none, whatever happens meanwhile.
    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let new = self.beside(".new");
        // One that a crash left. Not opened: it might be a link to elsewhere.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file = own(options.write(true).create_new(true)).open(&new)?;
        file.write_all(bytes)?;
        // Before it has the name: else a crash could leave the name on a file that is empty yet.
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        sync_folder(self.folder())
    }

    pub(super) fn late(&self) -> StoreError {
        StoreError::new(
            StoreErrorKind::Timeout,
            format!(
                "the store file {} was not to be had within {:?}: another process keeps it locked, or the disk is slow",
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

    /// Another file of the same folder: a rename must not cross a file system.
    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(ending);
        name.into()
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    fn make_folder(&self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(self.folder())
    }
}

/// On the wall clock, since the file is of several processes, in microseconds.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

/// A file that is made now is for its owner alone.
fn own(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Closes a file to others. What is in it is sealed, but who reads it could keep it until the key is known.
#[cfg(unix)]
fn tighten(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    file.set_permissions(fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn tighten(_: &File) -> io::Result<()> {
    Ok(())
}

/// A rename is on the disk when its folder is.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
