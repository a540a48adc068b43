//! The store in a file, while processes are killed and while many write at once.
//!
//! The processes are this test's own program, which is told by a variable to do nothing else.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use tower_bearer::store::{FileStore, Name, TokenStore};

use super::file::Folder;

const LONG: Duration = Duration::from_secs(300);
const FILE: &str = "TOWER_BEARER_TEST_FILE";
const KILLS: u64 = 200;
const PROCESSES: usize = 8;
const TURNS: u64 = 25;

fn name() -> Name {
    Name::new("counted").unwrap()
}

/// This number, and as many bytes of it as make it long enough to be torn.
fn value(number: u64) -> Bytes {
    let size = 1000 + (number % 7) as usize * 9000;
    [&number.to_be_bytes()[..], &vec![number as u8; size]]
        .concat()
        .into()
}

/// The number of a value that is whole.
fn number(found: &Bytes) -> u64 {
    let number = u64::from_be_bytes(found[..8].try_into().unwrap());
    assert!(*found == value(number), "a value that was never put: torn");
    number
}

fn process(role: &str, folder: &Folder) -> Child {
    Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            &format!("file_crashes::{role}"),
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FILE, folder.file())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn store_of_process() -> Option<FileStore> {
    Some(FileStore::new(env::var_os(FILE)?).with_timeout(Duration::from_secs(120)))
}

#[tokio::test]
#[ignore = "a process of the test below"]
async fn writer() {
    let Some(store) = store_of_process() else {
        return;
    };
    let mut last = store
        .get(&name())
        .await
        .unwrap()
        .map_or(0, |found| number(&found));
    loop {
        last += 1;
        assert!(store.put(&name(), value(last), LONG, None).await.unwrap());
        // Said once it is done.
        let mut out = std::io::stdout();
        writeln!(out, "put {last}")
            .and_then(|()| out.flush())
            .unwrap();
    }
}

#[tokio::test]
async fn a_writer_killed_at_any_moment_leaves_what_was_there_or_what_came_after() {
    let folder = Folder::new("killed");
    let store = folder.store();
    let mut seed = u64::from(std::process::id()) << 32 | 0x9e37_79b9;
    let mut fresh = 0;
    for _ in 0..KILLS {
        let mut writer = process("writer", &folder);
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let put = |line: String| {
            line.strip_prefix("put ")
                .map(|number| number.parse::<u64>().unwrap())
        };
        // It is at work: from here on, at any moment.
        let mut said = loop {
            let line = lines.next().unwrap().unwrap();
            if let Some(number) = put(line) {
                break number;
            }
        };
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_micros((seed >> 33) % 8000));
        writer.kill().unwrap();
        writer.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            said = put(line).unwrap_or(said);
        }
        let found = number(&store.get(&name()).await.unwrap().unwrap());
        assert!(
            found == said || found == said + 1,
            "said {said}, found {found}"
        );
        fresh += u64::from(found == said + 1);
        // The lock went with its holder, and what it left half done is in nobody's way.
        assert!(store.put(&name(), value(found), LONG, None).await.unwrap());
    }
    println!(
        "{KILLS} kills, of which {fresh} came between the change and the word that it was done"
    );
}

#[tokio::test]
#[ignore = "a process of the test below"]
async fn counter() {
    let Some(store) = store_of_process() else {
        return;
    };
    for _ in 0..TURNS {
        let lease = loop {
            match store.lease(&name(), LONG).await.unwrap() {
                Some(lease) => break lease,
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        };
        let before = store
            .get(&name())
            .await
            .unwrap()
            .map_or(0, |found| number(&found));
        let put = store
            .put(&name(), value(before + 1), LONG, Some(lease.fence()))
            .await
            .unwrap();
        assert!(put);
        store.release(&name(), lease).await.unwrap();
    }
}

#[tokio::test]
async fn of_what_eight_processes_write_in_turn_nothing_is_lost() {
    let folder = Folder::new("eight");
    let mut counters: Vec<_> = (0..PROCESSES)
        .map(|_| process("counter", &folder))
        .collect();
    let store = folder.store();
    let mut last = 0;
    while counters
        .iter_mut()
        .any(|counter| counter.try_wait().unwrap().is_none())
    {
        if let Some(found) = store.get(&name()).await.unwrap() {
            let found = number(&found);
            assert!(last <= found, "{found} after {last}");
            last = found;
        }
    }
    for counter in &mut counters {
        assert!(counter.wait().unwrap().success());
    }
    let found = number(&store.get(&name()).await.unwrap().unwrap());
    assert_eq!(found, PROCESSES as u64 * TURNS);
}
