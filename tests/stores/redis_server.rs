//! The servers: those that the variables of `tests/run` name, and one of a test's own, to stop and to kill.

use std::{
    env,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use tower_bearer::store::RedisStore;

/// A variable of `tests/run`. Without it a test passes by with a message, unless all servers are said to be there.
pub(crate) fn variable(name: &str) -> Option<String> {
    let value = env::var(name).ok();
    assert!(
        value.is_some() || env::var_os("TOWER_BEARER_REAL").is_none(),
        "{name} is not set: run the tests by tests/run"
    );
    if value.is_none() {
        println!("skipped: {name} is not set; tests/run sets it");
    }
    value
}

/// A server that a test has for itself. It goes with this.
pub(crate) struct Server {
    program: String,
    options: Vec<String>,
    folder: PathBuf,
    port: u16,
    process: Child,
}

impl Server {
    /// One with these options, if there is a program for it.
    pub(crate) fn start(options: &[&str]) -> Option<Self> {
        static FOLDERS: AtomicU32 = AtomicU32::new(0);
        let program = variable("TOWER_BEARER_REDIS_SERVER")?;
        let folder = env::temp_dir().join(format!(
            "tower-bearer-redis-{}-{}",
            std::process::id(),
            FOLDERS.fetch_add(1, Ordering::Relaxed)
        ));
        std::fs::create_dir_all(&folder).unwrap();
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        for _ in 0..10 {
            // Another may take the port meanwhile: then the next.
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            if let Some(process) = run(&program, &folder, port, &options) {
                return Some(Self {
                    program,
                    options,
                    folder,
                    port,
                    process,
                });
            }
        }
        panic!("redis-server does not start");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn store(&self) -> RedisStore {
        patient(RedisStore::new(&self.url()).unwrap())
    }

    /// Ends it, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// The same once more, where it was.
    pub(crate) fn start_again(&mut self) {
        self.process = run(&self.program, &self.folder, self.port, &self.options).unwrap();
    }

    /// `STOP`, from which on it says nothing, or `CONT`.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.process.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &id])
            .status();
        assert!(sent.unwrap().success());
    }

    /// What it answers to these words.
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut on = redis::Client::open(self.url())
            .unwrap()
            .get_connection()
            .unwrap();
        let (command, rest) = words.split_first().unwrap();
        redis::cmd(command).arg(rest).query(&mut on).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A store that waits as long as a busy machine needs.
pub(crate) fn patient(store: RedisStore) -> RedisStore {
    let long = Duration::from_secs(20);
    store
        .with_read_timeout(long)
        .with_write_timeout(long)
        .with_connect_timeout(long)
}

fn run(program: &str, folder: &std::path::Path, port: u16, options: &[String]) -> Option<Child> {
    let mut process = Command::new(program)
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(folder)
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(30) {
        if process.try_wait().unwrap().is_some() {
            return None;
        }
        // Any answer will do: it may want a password.
        let greeting = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).and_then(|mut on| {
            on.set_read_timeout(Some(Duration::from_secs(1)))?;
            on.write_all(b"PING\r\n")?;
            on.read_exact(&mut [0])
        });
        if greeting.is_ok() && process.try_wait().unwrap().is_none() {
            return Some(process);
        }
        thread::sleep(Duration::from_millis(10));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    panic!("redis-server does not answer");
}
