//! Checks the licences, sources and versions of all dependencies, and the names in the documentation.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Licences that require no more than attribution.
const LICENCES: &str = "Apache-2.0, Apache-2.0 WITH LLVM-exception, BSD-2-Clause, BSD-3-Clause, \
    BSL-1.0, CDLA-Permissive-2.0, ISC, MIT, MIT-0, Unicode-3.0, Zlib";

/// Runs cargo with every feature enabled, and returns its output.
fn cargo(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).args(["--locked", "--all-features"]);
    let output = command.current_dir(ROOT).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the crate itself and its dependencies.
fn packages() -> (Value, Vec<Value>) {
    let metadata = cargo(&["metadata", "--format-version", "1"]);
    let mut metadata: Value = serde_json::from_str(&metadata).unwrap();
    let packages = std::mem::take(metadata["packages"].as_array_mut().unwrap());
    let (mut this, others): (Vec<_>, Vec<_>) = packages
        .into_iter()
        .partition(|package| package["name"] == "tower-bearer");
    assert!(this.len() == 1 && others.len() > 50);
    (this.remove(0), others)
}

#[test]
fn dependencies_have_permitted_licences_sources_and_versions() {
    let (this, dependencies) = packages();
    for package in dependencies {
        let id = &package["id"];
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(is_permissive(licence), "{id}: {licence}");
        assert_eq!(package["source"], REGISTRY, "{id}");
        let needed = version(&package["rust_version"]);
        assert!(needed <= version(&this["rust_version"]), "{id}: {needed:?}");
    }
}

/// Accepts fewer expressions than SPDX would allow: with `AND`, every licence has to be listed.
fn is_permissive(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let mut names = expression
        .split(" AND ")
        .flat_map(|part| part.split(" OR "));
    let is_listed = |name: &str| {
        let name = name.trim_matches(['(', ')', ' ']);
        LICENCES.split(", ").any(|listed| listed == name)
    };
    if expression.contains(" AND ") {
        names.all(is_listed)
    } else {
        names.any(is_listed)
    }
}

/// Returns the three numbers of a version, which are zero if the package declares no version.
fn version(text: &Value) -> Vec<u32> {
    let numbers = text.as_str().into_iter().flat_map(|text| text.split('.'));
    let numbers = numbers.map(|number| number.parse().unwrap());
    numbers.chain([0; 3]).take(3).collect()
}

#[test]
fn interface_crates_have_one_version() {
    let tree = [
        "tree",
        "--target=all",
        "--edges=normal,build",
        "--prefix=none",
    ];
    let tree = cargo(&tree);
    let versions_of = |name: &str| {
        let lines = tree.lines().map(|line| line.trim_end_matches(" (*)"));
        let versions = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(" v"));
        versions.collect::<BTreeSet<_>>()
    };
    for name in "ring openssl openssl-sys native-tls boring".split(' ') {
        assert!(versions_of(name).is_empty(), "{name}");
    }
    let interfaces = "aws-lc-rs bytes http http-body hyper hyper-util reqwest rustls sha2 tokio \
                      tower-layer tower-service tracing";
    for name in interfaces.split(' ') {
        let versions = versions_of(name);
        assert_eq!(versions.len(), 1, "{name}: {versions:?}");
    }
}

#[test]
fn features_are_documented() {
    let documentation = include_str!("../src/lib.rs");
    for feature in packages().0["features"].as_object().unwrap().keys() {
        let row = format!("//! | `{feature}` |");
        let is_documented = feature == "default" || documentation.contains(&row);
        assert!(is_documented, "{feature}");
    }
}

#[test]
fn paths_in_the_documentation_exist() {
    let root = Path::new(ROOT);
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
    let mut checked = 0;
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        // Every second part is between two backticks.
        for name in text.split('`').skip(1).step_by(2) {
            let folders = ["tests/", "src/", "benches/", "examples/"];
            let is_path = folders.iter().any(|folder| name.starts_with(folder));
            if is_path && !name.contains([' ', '\n', '*']) {
                checked += 1;
                assert!(root.join(name).exists(), "{name} in {}", page.display());
            }
        }
    }
    assert!(checked > 10, "{checked}");
}
