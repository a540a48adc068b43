//! Provides the Redis servers that `tests/run` starts, and servers that a test can stop and kill.

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

/// Returns a variable set by `tests/run`. Without it a test is skipped, or fails if `TOWER_BEARER_REAL` is set.
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

/// A Redis server for one test, killed on drop.
pub(crate) struct Server {
    program: String,
    options: Vec<String>,
    folder: PathBuf,
    port: u16,
    process: Child,
}

/// Starts a server with the default options.
pub(crate) fn server() -> Option<Server> {
    Server::start(&[])
}

impl Server {
    /// Starts a server with these options, if the program is available.
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
            // Another process may take the port before Redis does, so several ports are tried.
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

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts the server again on the same port.
    pub(crate) fn start_again(&mut self) {
        self.process = run(&self.program, &self.folder, self.port, &self.options).unwrap();
    }

    /// Sends a signal: `STOP` suspends the server, `CONT` resumes it.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.process.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &id])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Returns the response to a command.
    pub(crate) fn query<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
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
        // The process may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Returns the store with time limits for a busy machine.
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
        // Any response is enough, because the server may require a password.
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
