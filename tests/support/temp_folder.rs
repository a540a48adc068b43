//! Creates temporary folders for files of tests.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    env, fs,
    path::PathBuf,
    process,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

/// A folder with one file, both removed on drop.
pub(crate) struct TempFolder(PathBuf);

impl TempFolder {
    /// Creates the folder, and a file with this text in it.
    pub(crate) fn new(text: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (process::id(), NEXT.fetch_add(1, Relaxed));
        let folder = env::temp_dir().join(format!("tower-bearer-{process}-{number}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("file"), text).unwrap();
        Self(folder)
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> PathBuf {
        self.sibling("file")
    }

    /// The path of another file in the folder.
    pub(crate) fn sibling(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Replaces the file in one step, so that no reader sees half of the text.
    pub(crate) fn replace(&self, text: &str) {
        let next = self.sibling("next");
        fs::write(&next, text).unwrap();
        fs::rename(next, self.path()).unwrap();
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
