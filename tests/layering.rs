//! Checks that each top-level module of `src/` imports only modules of lower rows.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The lowest row first. Modules of one row do not import each other.
const ROWS: &[&[&str]] = &[
    &["util", "clock"],
    &["error"],
    &["secret"],
    &["token", "oauth", "jwt", "transport", "store"],
    &["source", "verdict"],
    &["telemetry", "credentials"],
    &["cache"],
    &["layer"],
    &["clients", "config", "testing", "docs", "fuzz"],
];

#[test]
fn modules_import_only_lower_modules() {
    let (mut faults, mut checked) = (Vec::new(), 0);
    let files = source_files();
    for module in ROWS.iter().copied().flatten() {
        assert!(files.iter().any(|(name, _)| name == module), "{module}");
    }
    for (module, file) in files {
        let row = row_of(&module);
        if row.is_none() {
            faults.push(format!("{} is in no module of the table", file.display()));
        }
        for imported in imported_modules(&code_of(&file)) {
            checked += 1;
            if imported != module && row_of(&imported).is_none_or(|lower| Some(lower) >= row) {
                faults.push(format!("{} imports crate::{imported}", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(checked > 100, "only {checked} imports were found");
}

fn row_of(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

/// Returns each source file except `lib.rs` and test files, with its top-level module.
fn source_files() -> Vec<(String, PathBuf)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![source.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let inside = path.strip_prefix(&source).unwrap().to_str().unwrap();
            if path.is_dir() {
                folders.push(path);
            } else if let Some(name) = inside.strip_suffix(".rs")
                && name != "lib"
                && !name.ends_with("tests")
            {
                let module = name.split(['/', '\\']).next().unwrap().to_owned();
                files.push((module, path));
            }
        }
    }
    files
}

/// Returns the code without comments and without the test module, which may import any module.
fn code_of(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let lines = code.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the first name of each path that begins with `crate::`, including all of `crate::{a::{X, Y}, b}`.
fn imported_modules(code: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let paths = match rest.find(outside_braces()) {
            // Not a group: one path.
            Some(0) => rest.split(',').next().unwrap(),
            Some(end) => &rest[1..end],
            None => panic!("a group is not closed: {rest}"),
        };
        let mut outside = outside_braces();
        for path in paths.split(|c| outside(c) && c == ',') {
            let name = path
                .trim_start()
                .split(|c: char| !c.is_alphanumeric() && c != '_');
            modules.extend(
                name.take(1)
                    .filter(|name| !name.is_empty())
                    .map(str::to_owned),
            );
        }
    }
    modules
}

/// Returns a predicate for consecutive characters: whether no brace is open after the character.
fn outside_braces() -> impl FnMut(char) -> bool {
    let mut open = 0;
    move |c| {
        open += i32::from(c == '{') - i32::from(c == '}');
        open == 0
    }
}
