//! What the manifest claims is so.

use std::{fs, path::Path, process::Command};

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

/// `1.88` and `1.88.0` as numbers that can be compared.
fn version(text: &str) -> Vec<u32> {
    let numbers = text.split('.').map(|number| number.parse().unwrap());
    let mut numbers: Vec<u32> = numbers.collect();
    numbers.resize(3, 0);
    numbers
}

#[test]
fn no_dependency_needs_a_newer_rust_than_the_crate_says() {
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

#[test]
fn every_feature_is_in_the_documentation() {
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
fn every_file_that_the_documentation_names_is_there() {
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
