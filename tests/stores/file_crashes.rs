//! Checks the store in a file while processes are killed and while several processes write.
//!
//! The processes run the ignored tests of this program, with the path of the file in a variable.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use tower_bearer::store::{FileStore, Name, TokenStore};

use super::{LONG, file::Folder, put};

const FILE: &str = "TOWER_BEARER_TEST_FILE";
const KILLS: u64 = 200;
const PROCESSES: usize = 8;
const TURNS: u64 = 25;

fn name() -> Name {
    Name::new("counted").unwrap()
}

/// Encodes the number as a value that is long enough to be torn.
fn value(number: u64) -> Bytes {
    let size = 1000 + (number % 7) as usize * 9000;
    [&number.to_be_bytes()[..], &vec![number as u8; size]]
        .concat()
        .into()
}

/// Returns the stored number, or zero without one. Fails if the value is torn.
async fn load(store: &FileStore) -> u64 {
    let Some(found) = store.get(&name()).await.unwrap() else {
        return 0;
    };
    let number = u64::from_be_bytes(found[..8].try_into().unwrap());
    assert!(found == value(number), "torn value");
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

fn store_from_env() -> Option<FileStore> {
    Some(FileStore::new(env::var_os(FILE)?).with_timeout(Duration::from_secs(120)))
}

#[tokio::test]
#[ignore = "run as a process by the test below"]
async fn writer() {
    let Some(store) = store_from_env() else {
        return;
    };
    let mut last = load(&store).await;
    loop {
        last += 1;
        assert!(put(&store, &name(), value(last)).await);
        // Reported once the value is stored.
        let mut out = std::io::stdout();
        writeln!(out, "put {last}")
            .and_then(|()| out.flush())
            .unwrap();
    }
}

#[tokio::test]
async fn killed_writer_leaves_the_old_or_the_new_value() {
    let folder = Folder::new("killed");
    let store = folder.store();
    let mut seed = u64::from(std::process::id()) << 32 | 0x9e37_79b9;
    let mut fresh = 0;
    for _ in 0..KILLS {
        let mut writer = process("writer", &folder);
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let parse = |line: String| {
            line.strip_prefix("put ")
                .map(|number| number.parse::<u64>().unwrap())
        };
        // The writer is running and is killed at a random moment.
        let mut reported = loop {
            let line = lines.next().unwrap().unwrap();
            if let Some(number) = parse(line) {
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
            reported = parse(line).unwrap_or(reported);
        }
        let found = load(&store).await;
        assert!(
            found == reported || found == reported + 1,
            "reported {reported}, found {found}"
        );
        fresh += u64::from(found == reported + 1);
        // The lock is free, and an unfinished change does not disturb the next.
        assert!(put(&store, &name(), value(found)).await);
    }
    println!("{KILLS} kills, {fresh} of them between a change and its report");
}

#[tokio::test]
#[ignore = "run as a process by the test below"]
async fn counter() {
    let Some(store) = store_from_env() else {
        return;
    };
    for _ in 0..TURNS {
        let lease = loop {
            match store.lease(&name(), LONG).await.unwrap() {
                Some(lease) => break lease,
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        };
        let before = load(&store).await;
        let (name, fence) = (name(), Some(lease.fence()));
        let put = store.put(&name, value(before + 1), LONG, fence);
        assert!(put.await.unwrap());
        store.release(&name, lease).await.unwrap();
    }
}

#[tokio::test]
async fn eight_processes_that_write_in_turn_lose_nothing() {
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
        let found = load(&store).await;
        assert!(last <= found, "{found} after {last}");
        last = found;
    }
    for counter in &mut counters {
        assert!(counter.wait().unwrap().success());
    }
    let found = load(&store).await;
    assert_eq!(found, PROCESSES as u64 * TURNS);
}
