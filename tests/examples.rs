//! Runs each example as a process, and limits its length.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{process::Command, time::timeout};

/// The slowest example waits a second for a token to be due.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn examples_succeed_and_print_something() {
    for source in sources("examples") {
        let name = source.file_stem().unwrap().to_str().unwrap();
        let output = run(name).await;
        assert!(output.lines().count() > 1, "{name}: {output}");
    }
}

#[test]
fn examples_are_short() {
    // The proxy is a small program.
    for (folder, limit) in [("examples", 100), ("examples/proxy", 250)] {
        for path in sources(folder) {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            assert!(code.lines().count() < limit, "{}", path.display());
            assert!(text.starts_with("//! "), "{}", path.display());
        }
    }
}

/// Returns the output of an example that exits successfully within the time limit.
async fn run(name: &str) -> String {
    let path = built().join(name);
    let path = path.with_extension(env::consts::EXE_EXTENSION);
    assert!(
        path.exists(),
        "{name} is not built, run `cargo build --examples` first"
    );
    let mut command = Command::new(path);
    let output = timeout(LIMIT, command.kill_on_drop(true).output()).await;
    let output = output.unwrap_or_else(|_| panic!("{name} did not end"));
    let output = output.unwrap();
    assert!(output.status.success(), "{name}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the Rust files of a folder.
fn sources(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension() == Some(OsStr::new("rs")));
    assert!(files.len() >= 6, "{files:?}");
    files
}

/// Returns the folder of the built examples, next to the folder of the tests.
fn built() -> PathBuf {
    let test = env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples")
}
