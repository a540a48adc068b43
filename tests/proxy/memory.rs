//! Tests the memory use of the proxy with large bodies, slow peers and many connections.

#![cfg(target_os = "linux")]

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tower_bearer::testing::AuthorizationServer;

use crate::support::{Fixture, LIMIT, Proxy, Response, config, read_until, upstream};

const PIECE: usize = 64 << 10;
const TWENTY_MEGABYTES: usize = 20 << 20;
/// More than all socket buffers between caller and upstream hold.
const MORE_THAN_SOCKETS_KEEP: usize = 64 << 20;
/// Enough for the buffers of one connection on each side.
const MAX_GROWTH: u64 = 8 << 20;

/// The memory of a process before a test.
struct MemoryUse {
    pid: u32,
    resident: u64,
}

impl MemoryUse {
    fn of(proxy: &Proxy) -> Self {
        let pid = proxy.pid();
        let resident = status(pid, "VmRSS:");
        Self { pid, resident }
    }

    /// Returns by how many bytes the peak exceeds the initial size.
    fn growth(&self) -> u64 {
        status(self.pid, "VmHWM:").saturating_sub(self.resident)
    }
}

/// Returns the value of a line of `/proc/PID/status`, in bytes.
fn status(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kilobytes.parse::<u64>().unwrap() << 10
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

/// A proxy with a route, and a listener in the place of the upstream.
struct RawUpstream {
    _login: AuthorizationServer,
    proxy: Proxy,
    listener: TcpListener,
}

impl RawUpstream {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let login = AuthorizationServer::start().await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let rest = format!("[[route]]\nurl = '{url}'\n{}", upstream("/a", &url));
        let proxy = Proxy::start(&config(&login, &rest)).await;
        Self {
            _login: login,
            proxy,
            listener,
        }
    }

    /// Starts an upload of this length. Returns the connections of the caller and of the upstream.
    async fn upload(&self, length: usize) -> (TcpStream, TcpStream) {
        let head = format!(
            "POST /a/x HTTP/1.1\r\nHost: HOST\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        let caller = self.proxy.connect(&head).await;
        let accepted = timeout(LIMIT, self.listener.accept()).await.unwrap();
        let mut server = accepted.unwrap().0;
        let head = read_until(&mut server, "\r\n\r\n").await;
        let head = head.to_ascii_lowercase();
        assert!(head.contains("\r\nauthorization: bearer "), "{head}");
        (caller, server)
    }
}

/// Waits until the count has not changed for 250 milliseconds.
async fn stuck(count: &AtomicUsize) -> usize {
    let (mut last, mut same) = (usize::MAX, 0);
    while same < 5 {
        sleep(Duration::from_millis(50)).await;
        let now = count.load(Relaxed);
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}

/// Writes a body until the writer blocks, and checks that the proxy does not buffer it.
async fn write_until_stuck(mut to: TcpStream, before: &MemoryUse) -> JoinHandle<TcpStream> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let writing = tokio::spawn(async move {
        for piece in vec![b'x'; MORE_THAN_SOCKETS_KEEP].chunks(PIECE) {
            to.write_all(piece).await.unwrap();
            counted.fetch_add(piece.len(), Relaxed);
        }
        to
    });
    let written = stuck(&count).await;
    assert!(written < MORE_THAN_SOCKETS_KEEP, "{written}");
    assert!(before.growth() < MAX_GROWTH, "{}", before.growth());
    writing
}

#[tokio::test]
async fn large_bodies_pass_without_buffering() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.proxy.get("/api/x").await.status, 200);
    let before = MemoryUse::of(&fixture.proxy);
    let body = pattern(TWENTY_MEGABYTES);
    let answer = fixture.proxy.send("POST", "/api/x", &[], &body).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body == body);
    assert!(before.growth() < MAX_GROWTH, "{}", before.growth());
}

#[tokio::test]
async fn large_bodies_pass_slow_peers_without_buffering() {
    const PAUSE: Duration = Duration::from_millis(1);
    let peers = RawUpstream::new().await;
    let (caller, mut server) = peers.upload(TWENTY_MEGABYTES).await;
    let before = MemoryUse::of(&peers.proxy);
    // The upstream slowly sends back what it reads.
    let echo = tokio::spawn(async move {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {TWENTY_MEGABYTES}\r\n\r\n");
        server.write_all(head.as_bytes()).await.unwrap();
        let (mut left, mut piece) = (TWENTY_MEGABYTES, vec![0; PIECE]);
        while left > 0 {
            let count = server.read(&mut piece).await.unwrap();
            assert!(count > 0, "{left}");
            server.write_all(&piece[..count]).await.unwrap();
            left -= count;
            sleep(PAUSE).await;
        }
    });
    let (mut reader, mut writer) = caller.into_split();
    let writing = tokio::spawn(async move {
        for piece in pattern(TWENTY_MEGABYTES).chunks(PIECE) {
            writer.write_all(piece).await.unwrap();
            sleep(PAUSE).await;
        }
        writer
    });
    let (mut read, mut piece) = (Vec::new(), vec![0; PIECE]);
    loop {
        let count = timeout(LIMIT, reader.read(&mut piece)).await.unwrap();
        match count.unwrap() {
            0 => break,
            count => read.extend_from_slice(&piece[..count]),
        }
        sleep(PAUSE).await;
    }
    echo.await.unwrap();
    writing.await.unwrap();
    let answer = Response::parse(&read);
    assert_eq!(answer.status, 200);
    assert!(answer.body == pattern(TWENTY_MEGABYTES));
    assert!(before.growth() < MAX_GROWTH, "{}", before.growth());
}

#[tokio::test]
async fn slow_upstream_does_not_grow_memory() {
    let peers = RawUpstream::new().await;
    let (caller, mut server) = peers.upload(MORE_THAN_SOCKETS_KEEP).await;
    let before = MemoryUse::of(&peers.proxy);
    let writing = write_until_stuck(caller, &before).await;
    // The transfer continues when the reader reads.
    let mut all = vec![0; MORE_THAN_SOCKETS_KEEP];
    let read = timeout(LIMIT, server.read_exact(&mut all)).await.unwrap();
    read.unwrap();
    assert!(all.iter().all(|byte| *byte == b'x'));
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nthat";
    server.write_all(answer).await.unwrap();
    read_until(&mut writing.await.unwrap(), "that").await;
    assert!(before.growth() < MAX_GROWTH, "{}", before.growth());
}

#[tokio::test]
async fn slow_caller_does_not_grow_memory() {
    let peers = RawUpstream::new().await;
    let (mut caller, mut server) = peers.upload(0).await;
    let before = MemoryUse::of(&peers.proxy);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {MORE_THAN_SOCKETS_KEEP}\r\n\r\n");
    server.write_all(head.as_bytes()).await.unwrap();
    let writing = write_until_stuck(server, &before).await;
    // The transfer continues when the reader reads.
    let mut all = Vec::new();
    let read = timeout(LIMIT, caller.read_to_end(&mut all)).await;
    read.unwrap().unwrap();
    drop(writing.await.unwrap());
    let answer = Response::parse(&all);
    assert!(answer.body.len() == MORE_THAN_SOCKETS_KEEP);
    assert!(answer.body.iter().all(|byte| *byte == b'x'));
    assert!(before.growth() < MAX_GROWTH, "{}", before.growth());
}

/// Returns a thousand, or fewer if the limit of open files is lower.
fn many() -> usize {
    const WANTED: u64 = 1_000;
    const OTHERS: u64 = 600;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // Best effort: without the permission, the limit stays.
    let _ = setrlimit(Resource::Nofile, raised);
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let many = WANTED.min(limit.saturating_sub(OTHERS)).max(100);
    if many < WANTED {
        eprintln!(
            "only {many} connections instead of {WANTED}: raise the limit of open files ({limit}; `ulimit -Hn`)"
        );
    }
    many as usize
}

#[tokio::test]
async fn thousand_idle_connections_stay_usable() {
    // The memory that an idle connection may use in a debug build.
    const EACH: u64 = 64 << 10;
    let fixture = Fixture::new().await;
    let address = fixture.proxy.address;
    assert_eq!(fixture.proxy.get("/api/x").await.status, 200);
    let before = MemoryUse::of(&fixture.proxy);
    let mut idle = Vec::new();
    for _ in 0..many() {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(fixture.proxy.get("/api/x").await.status, 200);
    for stream in &mut idle {
        let request = format!("GET /-/health HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        read_until(stream, "ok\n").await;
    }
    assert_eq!(fixture.proxy.get("/api/x").await.status, 200);
    let growth = before.growth();
    assert!(growth < EACH * idle.len() as u64, "{growth}");
}
