//! What the token costs in the egress proxy: its throughput with a token from the cache, against the same proxy with a header
//! that the caller brings along, and against one without routes; and what a million requests leave in its memory.
//!
//! The proxy is a process of its own. The load and the upstream are here: bytes over loopback sockets and nothing else, so
//! that most of the time goes into the proxy. Without `--bench`, as `cargo test` runs it, everything takes a short turn and
//! nothing is claimed.

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

/// Connections that send one request after the other.
const CONNECTIONS: usize = 64;

/// How much of everything.
struct Extent {
    rounds: usize,
    /// Requests of a contender's turn.
    turn: usize,
    /// After how many requests memory is measured.
    early: usize,
    late: usize,
}

const FULL: Extent = Extent {
    rounds: 15,
    turn: 20_000,
    early: 10_000,
    late: 1_000_000,
};

const SHORT: Extent = Extent {
    rounds: 1,
    turn: 256,
    early: 256,
    late: 512,
};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";

/// Whether this is a bench, and no test of one.
fn claimed() -> bool {
    env::args().any(|argument| argument == "--bench")
}

fn figure(name: &str, value: impl std::fmt::Display) {
    if claimed() {
        println!("figure {name} {value:.3}");
    }
}

/// The proxy, killed when this goes.
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
        let mut child = Command::new(built())
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

    /// Its resident memory in bytes.
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

/// The proxy, built as this bench is. Cargo puts examples beside the folder of the benches.
fn built() -> PathBuf {
    let bench = env::current_exe().unwrap();
    let example = bench.ancestors().nth(2).unwrap().join("examples/proxy");
    example.with_extension(env::consts::EXE_EXTENSION)
}

/// A bench brings no examples along, as a test does.
fn build() {
    if claimed() {
        let cargo = env::var_os("CARGO").unwrap_or("cargo".into());
        let built = Command::new(cargo)
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
        assert!(built.unwrap().success());
    }
    assert!(
        built().exists(),
        "the proxy is not built: `cargo build --all-features --example proxy` does that, and `cargo test`"
    );
}

/// An upstream that answers every head with the same few bytes.
async fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    address
}

async fn answer(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut read = Vec::with_capacity(4096);
    loop {
        // One request at a time: nobody sends the next before it has the answer.
        match stream.read_buf(&mut read).await {
            Ok(0) | Err(_) => return,
            Ok(_) if read.ends_with(b"\r\n\r\n") => read.clear(),
            Ok(_) => continue,
        }
        if stream.write_all(ANSWER).await.is_err() {
            return;
        }
    }
}

/// Sends so many requests, and says how many a second that were.
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
                "the proxy hung up: {}",
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
    let extent = if claimed() { FULL } else { SHORT };
    build();
    let login = AuthorizationServer::start().await.unwrap();
    let upstream = upstream().await;
    let bare = format!(
        "[source]\ntype = 'client_credentials'\ntoken_url = '{}'\nclient_id = 'client'\nclient_secret = 'secret'\n\
         [[proxy.upstream]]\nprefix = '/a'\nurl = 'http://{upstream}'\n",
        login.token_url()
    );
    let routed = format!("{bare}[[route]]\nurl = 'http://{upstream}'\nscopes = ['read']\n");

    // As long as a token of the provider's, so that as many bytes pass.
    let fixed = format!("authorization: Bearer {}\r\n", "x".repeat(43));
    let (with, without) = (Proxy::start("routed", &routed), Proxy::start("bare", &bare));
    let contenders = [(&with, ""), (&with, &*fixed), (&without, "")];
    for (proxy, header) in contenders {
        load(proxy, header, extent.turn).await;
    }
    let mut rounds = Vec::new();
    for round in 0..extent.rounds {
        let mut speeds = [0.0; 3];
        // Each begins as often as the others.
        for turn in 0..contenders.len() {
            let which = (round + turn) % contenders.len();
            let (proxy, header) = contenders[which];
            speeds[which] = load(proxy, header, extent.turn).await;
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
    // One for each of the two that have a route: nobody else asked for a token.
    assert_eq!(login.counts().requests, 2);
}
