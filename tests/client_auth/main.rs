//! How a client proves itself, over real sockets: every form, what is refused, and what changes while the program runs.

mod methods;
mod mutual_tls;
mod redaction;
mod rotation;

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use tower_bearer::transport::Transport;

fn transports() -> [Transport; 2] {
    [Transport::reqwest(), Transport::hyper()]
}

fn vector(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/keys");
    fs::read_to_string(format!("{folder}/{name}")).unwrap()
}

/// A file of this test alone, which goes when it does.
struct TempFile(PathBuf);

impl TempFile {
    fn new(content: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tower-bearer-{}-{number}", std::process::id());
        let file = Self(env::temp_dir().join(name));
        file.write(content);
        file
    }

    /// As a whole, so that no reader sees half of it.
    fn write(&self, content: &str) {
        let beside = self.0.with_extension("new");
        fs::write(&beside, content).unwrap();
        fs::rename(&beside, &self.0).unwrap();
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
