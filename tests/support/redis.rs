//! Starts a Redis server that a test can stop and kill.
#![allow(dead_code, reason = "each program that includes it uses a part of it")]

use std::{
    env, fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use redis::{Client, Connection, FromRedisValue, RedisResult};
use tower_bearer::store::RedisStore;

static FOLDERS: AtomicU32 = AtomicU32::new(0);

/// A Redis server on the loopback interface, without persistence, killed on drop.
pub(crate) struct Redis {
    program: PathBuf,
    options: Vec<String>,
    folder: PathBuf,
    port: u16,
    process: Child,
}

impl Redis {
    /// Starts the program that `TOWER_BEARER_REDIS_SERVER` names, or `redis-server` from the path. Without it, the caller
    /// is skipped with a message, or fails if `TOWER_BEARER_REAL` is set.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts a server with additional options.
    pub(crate) fn start_with(options: &[&str]) -> Option<Self> {
        let named = env::var_os("TOWER_BEARER_REDIS_SERVER").map(PathBuf::from);
        let Some(program) = named.or_else(on_the_path) else {
            assert!(
                env::var_os("TOWER_BEARER_REAL").is_none(),
                "redis-server is missing: run the tests with tests/run"
            );
            eprintln!("skipped: redis-server is missing");
            return None;
        };
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        let folder = env::temp_dir().join(format!(
            "tower-bearer-redis-{}-{}",
            std::process::id(),
            FOLDERS.fetch_add(1, Ordering::Relaxed)
        ));
        fs::create_dir_all(&folder).unwrap();
        // Another process may take the port before Redis does, so several ports are tried.
        let started = (0..10).find_map(|_| {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            Some((port, run(&program, &folder, port, &options)?))
        });
        let (port, process) = started.expect("redis-server does not start");
        Some(Self {
            program,
            options,
            folder,
            port,
            process,
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn store(&self) -> RedisStore {
        RedisStore::new(&self.url()).unwrap()
    }

    /// Sends a signal: `STOP` suspends the server, `CONT` resumes it.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.process.id().to_string();
        let kill = Command::new("kill")
            .args([&format!("-{signal}"), &id])
            .status();
        assert!(kill.unwrap().success());
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts an empty server on the same port.
    pub(crate) fn start_again(&mut self) {
        self.process =
            run(&self.program, &self.folder, self.port, &self.options).expect("the port is taken");
    }

    /// Returns the response to a command.
    pub(crate) fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        ask(&mut self.connection(), words).unwrap()
    }

    pub(crate) fn connection(&self) -> Connection {
        connect(self.port).unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub(crate) fn ask<T: FromRedisValue>(on: &mut Connection, words: &[&str]) -> RedisResult<T> {
    let (command, rest) = words.split_first().unwrap();
    redis::cmd(command).arg(rest).query(on)
}

fn connect(port: u16) -> RedisResult<Connection> {
    let client = Client::open(format!("redis://127.0.0.1:{port}"))?;
    client.get_connection_with_timeout(Duration::from_secs(5))
}

fn on_the_path() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let mut found = env::split_paths(&path).map(|folder| folder.join("redis-server"));
    found.find(|program| program.is_file())
}

fn run(program: &Path, folder: &Path, port: u16, options: &[String]) -> Option<Child> {
    let mut process = Command::new(program)
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--save", "", "--appendonly", "no"])
        .args(["--maxmemory-policy", "noeviction"])
        .args(options)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end {
        // Another process on this port would respond, too.
        if process.try_wait().unwrap().is_some() {
            return None;
        }
        let info = connect(port).and_then(|mut on| ask::<String>(&mut on, &["INFO", "server"]));
        let is_ready = match info {
            Ok(info) => info.contains(&format!("process_id:{}\r", process.id())),
            Err(error) => error.code() == Some("NOAUTH"),
        };
        if is_ready {
            return Some(process);
        }
        thread::sleep(Duration::from_millis(10));
    }
    let _ = process.kill();
    let _ = process.wait();
    None
}
