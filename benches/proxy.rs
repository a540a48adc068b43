//! Measures the egress proxy of the examples: its throughput with tokens from the cache, with a header set by the caller, and
//! without routes; and the growth of its memory over a million requests.
//!
//! The proxy is a separate process. The load generator and the upstream run in this process and do little more than read and
//! write sockets, so most of the time is spent in the proxy. Without `--bench`, as `cargo test` runs it, the run is short and
//! prints no figures.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Instant,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tower_bearer::testing::AuthorizationServer;

/// The number of connections. Each sends one request after the other.
const CONNECTIONS: usize = 64;

/// The sizes of a run.
struct Extent {
    rounds: usize,
    /// The number of requests of a contender per round.
    requests: usize,
    /// The numbers of requests after which the memory is measured.
    early: usize,
    late: usize,
}

const FULL: Extent = Extent {
    rounds: 15,
    requests: 20_000,
    early: 10_000,
    late: 1_000_000,
};

const SHORT: Extent = Extent {
    rounds: 1,
    requests: 256,
    early: 256,
    late: 512,
};

const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";

/// Returns `true` under `cargo bench`, and `false` under `cargo test`, which only checks that the bench runs.
fn is_bench() -> bool {
    env::args().any(|argument| argument == "--bench")
}

fn figure(name: &str, value: impl std::fmt::Display) {
    if is_bench() {
        println!("figure {name} {value:.3}");
    }
}

/// A proxy process, which is killed on drop.
struct Proxy {
    child: Child,
    address: SocketAddr,
    config: PathBuf,
}

impl Proxy {
    fn start(name: &str, config: &str) -> Self {
        let path = env::temp_dir().join(format!(
            "tower-bearer-bench-{}-{name}.toml",
            std::process::id()
        ));
        fs::write(&path, config).unwrap();
        let mut child = Command::new(proxy_path())
            .arg(&path)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on http://");
        Self {
            address: address.unwrap().parse().unwrap(),
            child,
            config: path,
        }
    }

    /// Returns the resident memory in bytes.
    fn memory(&self) -> f64 {
        let text =
            fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap_or_default();
        let pages = text.split(' ').nth(1).and_then(|pages| pages.parse().ok());
        pages.unwrap_or(f64::NAN) * 4096.0
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.config);
    }
}

/// Returns the path of the proxy, which cargo builds into a directory next to that of the benches.
fn proxy_path() -> PathBuf {
    let bench = env::current_exe().unwrap();
    let example = bench.ancestors().nth(2).unwrap().join("examples/proxy");
    example.with_extension(env::consts::EXE_EXTENSION)
}

/// Builds the proxy. `cargo bench`, in contrast to `cargo test`, does not build the examples.
fn build_proxy() {
    if is_bench() {
        let cargo = env::var_os("CARGO").unwrap_or("cargo".into());
        let status = Command::new(cargo)
            .args([
                "build",
                "--quiet",
                "--profile",
                "bench",
                "--all-features",
                "--example",
                "proxy",
            ])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(status.unwrap().success());
    }
    assert!(
        proxy_path().exists(),
        "the proxy is not built: run `cargo build --all-features --example proxy`, or `cargo test`"
    );
}

/// Starts an upstream that sends the same short response to every request.
async fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(respond(stream));
        }
    });
    address
}

async fn respond(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut read = Vec::with_capacity(4096);
    loop {
        // The client sends the next request only after it has read this response.
        match stream.read_buf(&mut read).await {
            Ok(0) | Err(_) => return,
            Ok(_) if read.ends_with(b"\r\n\r\n") => read.clear(),
            Ok(_) => continue,
        }
        if stream.write_all(RESPONSE).await.is_err() {
            return;
        }
    }
}

/// Sends requests, and returns their number per second.
async fn load(proxy: &Proxy, header: &str, requests: usize) -> f64 {
    let request = format!(
        "GET /a/items HTTP/1.1\r\nhost: {}\r\n{header}\r\n",
        proxy.address
    );
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        streams.push(stream);
    }
    let each = requests.div_ceil(CONNECTIONS);
    let start = Instant::now();
    let senders: JoinSet<()> = streams
        .into_iter()
        .map(|stream| send(stream, request.clone(), each))
        .collect();
    senders.join_all().await;
    (each * CONNECTIONS) as f64 / start.elapsed().as_secs_f64()
}

async fn send(mut stream: TcpStream, request: String, times: usize) {
    let mut read = Vec::with_capacity(4096);
    for _ in 0..times {
        stream.write_all(request.as_bytes()).await.unwrap();
        read.clear();
        while !read.ends_with(b"\r\n\r\nok") {
            let count = stream.read_buf(&mut read).await.unwrap();
            assert!(
                count > 0,
                "the proxy closed the connection: {}",
                String::from_utf8_lossy(&read)
            );
        }
        assert!(
            read.starts_with(b"HTTP/1.1 200 "),
            "{}",
            String::from_utf8_lossy(&read)
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() {
    let extent = if is_bench() { FULL } else { SHORT };
    build_proxy();
    let login = AuthorizationServer::start().await.unwrap();
    let upstream = upstream().await;
    let bare = format!(
        "[source]\ntype = 'client_credentials'\ntoken_url = '{}'\nclient_id = 'client'\nclient_secret = 'secret'\n\
         [[proxy.upstream]]\nprefix = '/a'\nurl = 'http://{upstream}'\n",
        login.token_url()
    );
    let routed = format!("{bare}[[route]]\nurl = 'http://{upstream}'\nscopes = ['read']\n");

    // The header has the length of the provider's tokens, so that the requests have the same size.
    let fixed = format!("authorization: Bearer {}\r\n", "x".repeat(43));
    let (with, without) = (Proxy::start("routed", &routed), Proxy::start("bare", &bare));
    let contenders = [(&with, ""), (&with, &*fixed), (&without, "")];
    for (proxy, header) in contenders {
        load(proxy, header, extent.requests).await;
    }
    let mut rounds = Vec::new();
    for round in 0..extent.rounds {
        let mut speeds = [0.0; 3];
        // Each contender is the first one equally often.
        for turn in 0..contenders.len() {
            let which = (round + turn) % contenders.len();
            let (proxy, header) = contenders[which];
            speeds[which] = load(proxy, header, extent.requests).await;
        }
        rounds.push(speeds);
    }
    let of = |value: fn(&[f64; 3]) -> f64| median(rounds.iter().map(value).collect());
    figure("throughput", of(|[token, _, _]| *token));
    figure("throughput_static_header", of(|[_, fixed, _]| *fixed));
    figure("throughput_bare", of(|[_, _, bare]| *bare));
    figure("throughput_ratio", of(|[token, fixed, _]| token / fixed));
    figure(
        "throughput_ratio_to_bare",
        of(|[token, _, bare]| token / bare),
    );

    let proxy = Proxy::start("memory", &routed);
    load(&proxy, "", extent.early).await;
    let early = proxy.memory();
    load(&proxy, "", extent.late - extent.early).await;
    let late = proxy.memory();
    figure("memory_mib", late / f64::from(1 << 20));
    figure("memory_growth_ratio", late / early);
    // The two proxies with a route have fetched one token each.
    assert_eq!(login.counts().requests, 2);
}
