//! Imports go only down: each room uses the rooms that stand before it in the table, and nothing else.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The rooms from the ground up. A room is a file or a folder of `src/`; rooms of one line don't know each other.
const FLOORS: &[&[&str]] = &[
    &["util"],
    &["error"],
    &["secret", "clock"],
    &["subject", "jwt", "parts"],
    &["window"],
    &["spec", "oauth"],
    &["token", "verdict", "transport", "store"],
    &["source", "recovery"],
    &["telemetry"],
    &["cache", "credentials", "routes"],
    &["message", "hand"],
    &["replay"],
    &["service"],
    &["layer"],
    &["clients", "config"],
    &["testing", "docs", "fuzz"],
];

#[test]
fn modules_import_only_lower_modules() {
    let mut faults = Vec::new();
    for (room, file) in files() {
        let Some(floor) = floor_of(&room) else {
            faults.push(format!("{} stands in no room of the table", file.display()));
            continue;
        };
        let text = code_of(&fs::read_to_string(&file).unwrap());
        for used in rooms_used(&text) {
            let below = floor_of(&used).is_some_and(|used| used < floor);
            if used != room && !below {
                faults.push(format!("{} uses crate::{used}", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_module_of_the_table_exists() {
    let rooms: Vec<String> = files().into_iter().map(|(room, _)| room).collect();
    for room in FLOORS.iter().copied().flatten() {
        assert!(rooms.iter().any(|there| there == room), "no room {room}");
    }
}

#[test]
fn the_reader_of_imports_sees_them_all() {
    let text = code_of(
        "use crate::{\n    alpha::{One, Two},\n    beta,\n};\nuse crate::gamma::x; // crate::comment\nfn f() { crate::delta::g() }",
    );
    assert_eq!(rooms_used(&text), ["alpha", "beta", "gamma", "delta"]);
}

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&room))
}

/// Every source file but `lib.rs` and tests, with the room that it belongs to.
fn files() -> Vec<(String, PathBuf)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![source.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let inside = path.strip_prefix(&source).unwrap();
            let first = inside.components().next().unwrap().as_os_str();
            let room = first.to_str().unwrap().trim_end_matches(".rs").to_owned();
            let name = path.file_name().unwrap();
            if path.extension().is_some_and(|kind| kind == "rs")
                && name != "lib.rs"
                && name != "tests.rs"
            {
                files.push((room, path));
            }
        }
    }
    files
}

/// The text without its comments and its tests, which may look at anything.
fn code_of(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The names that stand right behind `crate::`, alone or in braces.
fn rooms_used(code: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            rooms.push(first_name(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = 0;
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    rooms.push(first_name(group[start..i].trim_start()));
                    start = i + 1;
                    if c == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

fn first_name(text: &str) -> String {
    let name = |c: char| c.is_alphanumeric() || c == '_';
    text.chars().take_while(|&c| name(c)).collect()
}
