//! Each example, as a process of its own, tells what it tells and ends well.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The slowest waits a second for a token to be due.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn examples_succeed_and_print_something() {
    for name in names() {
        let output = run(&name);
        assert!(output.lines().count() > 1, "{name}: {output}");
    }
}

#[test]
fn examples_are_short() {
    for name in names() {
        let text = fs::read_to_string(sources().join(&name).with_extension("rs")).unwrap();
        assert!(text.lines().count() < 100, "{name}");
        assert!(
            text.starts_with("//! "),
            "{name} does not say what it shows"
        );
    }
}

/// An example that is a small program has a folder; `tests/proxy` and its like see how it does.
#[test]
fn program_files_are_short() {
    let mut files = 0;
    for folder in fs::read_dir(sources()).unwrap() {
        let folder = folder.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.extension() != Some(OsStr::new("rs")) {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            assert!(code.lines().count() < 250, "{}", path.display());
            assert!(text.starts_with("//! "), "{}", path.display());
            files += 1;
        }
    }
    assert!(files > 0);
}

/// What it prints, if it ends in time and well.
fn run(name: &str) -> String {
    let path = built()
        .join(name)
        .with_extension(env::consts::EXE_EXTENSION);
    assert!(
        path.exists(),
        "{name} is not built: `cargo build --examples` does that, and `cargo test`"
    );
    let mut child = Command::new(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let end = Instant::now() + LIMIT;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("{name} did not end: {output:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    // A few lines, which fit into the pipe: nobody had to read them until now.
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{name}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn names() -> Vec<String> {
    let mut names = Vec::new();
    for file in fs::read_dir(sources()).unwrap() {
        let path = file.unwrap().path();
        if path.extension() != Some(OsStr::new("rs")) {
            continue;
        }
        names.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
    }
    assert!(names.len() >= 6, "{names:?}");
    names
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// Cargo puts examples beside the folder of the tests.
fn built() -> PathBuf {
    let test = env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples")
}
