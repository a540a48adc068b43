//! What the manifest claims is so.

use std::{
    collections::BTreeSet, fs, iter::Peekable, path::Path, process::Command, str::SplitWhitespace,
};

use serde_json::Value;

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--all-features",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn dependencies_support_the_declared_rust_version() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let own = packages
        .iter()
        .find(|package| package["name"] == "tower-bearer")
        .unwrap();
    let claimed = version(own["rust_version"].as_str().unwrap());
    let newer: Vec<_> = packages
        .iter()
        .filter_map(|package| Some((&package["name"], package["rust_version"].as_str()?)))
        .filter(|(_, needed)| version(needed) > claimed)
        .collect();
    assert!(packages.len() > 50 && newer.is_empty(), "{newer:?}");
}

/// Licences that ask for no more than to be named.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Zlib",
];

#[test]
fn dependency_licences_are_permissive() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap() {
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(is_allowed(licence), "{}: {licence}", package["id"]);
    }
}

#[test]
fn the_reader_of_licences_knows_and_from_or() {
    for licence in [
        "MIT",
        "GPL-3.0 OR MIT",
        "Unlicense/MIT",
        "ISC AND (GPL-3.0 OR MIT)",
        "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
    ] {
        assert!(is_allowed(licence), "{licence}");
    }
    for licence in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "GPL-3.0 AND (MIT OR ISC)",
        "(MIT OR ISC) AND GPL-3.0",
        "Apache-2.0 WITH another-exception",
    ] {
        assert!(!is_allowed(licence), "{licence}");
    }
}

#[test]
fn dependencies_come_from_the_registry() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let elsewhere: Vec<_> = packages
        .iter()
        .filter(|package| package["name"] != "tower-bearer")
        .filter(|package| {
            package["source"] != "registry+https://github.com/rust-lang/crates.io-index"
        })
        .map(|package| &package["id"])
        .collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
}

/// With every feature, on any system: what stands in `Cargo.lock` for a feature that nobody asks for is not built.
#[test]
fn interface_crates_have_one_version() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--all-features", "--target", "all"])
        .args(["--edges", "normal,build", "--prefix", "none"])
        .args(["--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success());
    let tree = String::from_utf8(output.stdout).unwrap();
    let versions_of = |name: &str| {
        let lines = tree.lines().map(|line| line.trim_end_matches(" (*)"));
        let versions = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(" v"));
        versions.collect::<BTreeSet<_>>()
    };
    for banned in ["ring", "openssl", "openssl-sys", "native-tls", "boring"] {
        assert!(versions_of(banned).is_empty(), "{banned}");
    }
    for single in [
        "aws-lc-rs",
        "bytes",
        "http",
        "http-body",
        "hyper",
        "hyper-util",
        "reqwest",
        "rustls",
        "sha2",
        "tokio",
        "tower-layer",
        "tower-service",
        "tracing",
    ] {
        let versions = versions_of(single);
        assert_eq!(versions.len(), 1, "{single}: {versions:?}");
    }
}

#[test]
fn features_are_documented() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let own = packages
        .iter()
        .find(|package| package["name"] == "tower-bearer")
        .unwrap();
    let documentation = include_str!("../src/lib.rs");
    for feature in own["features"].as_object().unwrap().keys() {
        let row = format!("//! | `{feature}` |");
        assert!(
            feature == "default" || documentation.contains(&row),
            "{feature}"
        );
    }
}

#[test]
fn paths_in_the_documentation_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md")];
    let mut folders = vec![root.join("src/docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "md") {
                pages.push(path);
            }
        }
    }
    let mut named = 0;
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        // What stands between two backticks, and in no block of code.
        for name in text.split('`').skip(1).step_by(2) {
            let rooms = ["tests/", "src/", "benches/", "examples/"];
            let is_path = rooms.iter().any(|room| name.starts_with(room));
            if is_path && !name.contains([' ', '\n', '*']) {
                named += 1;
                assert!(root.join(name).exists(), "{name} in {}", page.display());
            }
        }
    }
    assert!(named > 10, "{named}");
}

/// `1.88` and `1.88.0` as numbers that can be compared.
fn version(text: &str) -> Vec<u32> {
    let numbers = text.split('.').map(|number| number.parse().unwrap());
    let mut numbers: Vec<u32> = numbers.collect();
    numbers.resize(3, 0);
    numbers
}

/// Whether an SPDX expression leaves a choice among [`LICENCES`].
fn is_allowed(licence: &str) -> bool {
    let spaced = licence
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    either(&mut words) && words.next().is_none()
}

type Words<'a> = Peekable<SplitWhitespace<'a>>;

/// `a OR b`, where each side may be `c AND d`.
fn either(words: &mut Words<'_>) -> bool {
    let mut allowed = both(words);
    while words.next_if_eq(&"OR").is_some() {
        allowed |= both(words);
    }
    allowed
}

fn both(words: &mut Words<'_>) -> bool {
    let mut allowed = one(words);
    while words.next_if_eq(&"AND").is_some() {
        allowed &= one(words);
    }
    allowed
}

fn one(words: &mut Words<'_>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        return either(words) & words.next_if_eq(&")").is_some();
    }
    let mut name = words.next().unwrap_or_default().to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        name = format!("{name} WITH {}", words.next().unwrap_or_default());
    }
    LICENCES.contains(&name.as_str())
}
