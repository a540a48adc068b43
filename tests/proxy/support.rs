//! The process, a configuration for it, and HTTP down to the byte.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tower_bearer::testing::{Api, AuthorizationServer};

/// Longer than anything here may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A provider, an API that takes its tokens, and the proxy in front.
pub(crate) struct Fixture {
    pub(crate) login: AuthorizationServer,
    pub(crate) api: Api,
    pub(crate) proxy: Proxy,
}

impl Fixture {
    /// `/api` leads to the API, which a route gives tokens of the scope `read`.
    pub(crate) async fn new() -> Self {
        Self::with("", "").await
    }

    /// The same with further keys of the route, and of `[proxy]` before its upstreams.
    pub(crate) async fn with(route: &str, proxy: &str) -> Self {
        let login = AuthorizationServer::start().await.unwrap();
        let api = Api::start(&login).await.unwrap();
        let rest = format!(
            "[[route]]\nurl = '{url}'\nscopes = ['read']\n{route}\n[proxy]\n{proxy}\n{upstream}",
            url = api.url(),
            upstream = upstream("/api", &api.url()),
        );
        let proxy = Proxy::start(&config(&login, &rest)).await;
        Self { login, api, proxy }
    }
}

/// The source, and what comes behind it.
pub(crate) fn config(login: &AuthorizationServer, rest: &str) -> String {
    format!(
        "[source]\ntype = 'client_credentials'\ntoken_url = '{}'\nclient_id = 'client'\nclient_secret = 'secret'\n{rest}",
        login.token_url()
    )
}

pub(crate) fn upstream(prefix: &str, url: &str) -> String {
    format!("[[proxy.upstream]]\nprefix = '{prefix}'\nurl = '{url}'\n")
}

/// A file in a folder of its own, which goes with it.
pub(crate) struct ConfigFile(PathBuf);

impl ConfigFile {
    pub(crate) fn new(text: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "tower-bearer-proxy-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Relaxed)
        );
        let folder = env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.toml"), text).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    pub(crate) fn sibling(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The proxy, running; killed when this goes.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    child: Child,
    /// What it has logged so far.
    log: Arc<Mutex<String>>,
    _config: ConfigFile,
}

impl Proxy {
    pub(crate) async fn start(config: &str) -> Self {
        Self::start_with(config, &[]).await
    }

    /// With these environment variables.
    pub(crate) async fn start_with(config: &str, variables: &[(&str, &str)]) -> Self {
        let config = ConfigFile::new(config);
        let mut child = command(&config.path())
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        let kept = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = errors.next_line().await {
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = timeout(LIMIT, out.next_line()).await.unwrap().unwrap();
        let Some(first) = first else {
            child.wait().await.unwrap();
            panic!("it did not start: {}", log.lock().unwrap());
        };
        let address = first.strip_prefix("listening on http://").unwrap();
        Self {
            address: address.parse().unwrap(),
            child,
            log,
            _config: config,
        }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Sends it a signal, such as `TERM`.
    pub(crate) async fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        let kill = kill.arg(format!("-{name}")).arg(self.pid().to_string());
        assert!(kill.status().await.unwrap().success());
    }

    /// How it ended, once it has.
    pub(crate) async fn end(&mut self) -> ExitStatus {
        timeout(LIMIT, self.child.wait()).await.unwrap().unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[], b"").await
    }

    pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.send("GET", path, headers, b"").await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
            self.address
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.send_raw(&bytes).await
    }

    /// Sends these bytes, and reads what comes until the connection ends.
    pub(crate) async fn send_raw(&self, bytes: &[u8]) -> Response {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut read = Vec::new();
        timeout(LIMIT, async {
            stream.write_all(bytes).await.unwrap();
            // An end that comes while it still has something to read of us may be a reset.
            let _ = stream.read_to_end(&mut read).await;
        })
        .await
        .unwrap();
        Response::parse(&read)
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }
}

/// The proxy with a configuration that can't work: what it says, and no secret in it.
pub(crate) async fn refused(config: &str) -> String {
    let file = ConfigFile::new(config);
    refused_with(&file, &file.path()).await
}

pub(crate) async fn refused_with(_: &ConfigFile, path: &Path) -> String {
    let output = timeout(LIMIT, command(path).output())
        .await
        .unwrap()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(output.stdout.is_empty());
    let message = message.strip_prefix(&format!("{}: ", path.display()));
    let message = message.unwrap().trim_end().to_owned();
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(!message.contains("hunter2"), "{message}");
    message
}

fn command(config: &Path) -> Command {
    // Cargo puts examples beside the folder of the tests.
    let test = env::current_exe().unwrap();
    let example = test.ancestors().nth(2).unwrap().join("examples/proxy");
    let example = example.with_extension(env::consts::EXE_EXTENSION);
    assert!(
        example.exists(),
        "the proxy is not built: `cargo build --all-features --example proxy` does that, and `cargo test`"
    );
    assert_eq!(
        newer_source(&example),
        None,
        "the proxy is older than what it is built from: `cargo build --all-features --example proxy`"
    );
    let mut command = Command::new(example);
    command.arg(config).stdin(Stdio::null()).kill_on_drop(true);
    command.env_remove("RUST_LOG");
    command
}

/// A source that has changed since the example was built, as cargo tells beside it: `cargo test --test proxy` alone does not
/// build it anew.
fn newer_source(example: &Path) -> Option<PathBuf> {
    let built = changed(example)?;
    let told = fs::read_to_string(example.with_extension("d")).ok()?;
    let (_, sources) = told.trim_end().split_once(": ")?;
    // A blank in a path is escaped.
    let sources = sources.replace("\\ ", "\0");
    let mut sources = sources
        .split(' ')
        .map(|path| path.replace('\0', " ").into());
    sources.find(|source: &PathBuf| changed(source).is_some_and(|changed| changed > built))
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// An answer as it came, its body without chunks.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// What stood behind the last chunk.
    pub(crate) trailers: String,
}

impl Response {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head: {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8_lossy(&bytes[..end]);
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let rest = &bytes[end + 4..];
        if status < 200 {
            return Self::parse(rest);
        }
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let chunked = headers
            .iter()
            .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let (body, trailers) = if chunked {
            unchunk(rest)
        } else {
            (rest.to_vec(), String::new())
        };
        Self {
            status,
            headers,
            body,
            trailers,
        }
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let of_that_name = self.headers.iter().filter(|(known, _)| known == name);
        of_that_name.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The problem that the proxy tells of.
    pub(crate) fn problem(&self) -> Value {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        for member in ["type", "title", "detail", "kind"] {
            assert!(
                problem[member]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{problem}"
            );
        }
        problem
    }
}

fn unchunk(mut rest: &[u8]) -> (Vec<u8>, String) {
    let mut body = Vec::new();
    loop {
        let end = rest
            .windows(2)
            .position(|two| two == b"\r\n")
            .expect("a chunk's head");
        let size = std::str::from_utf8(&rest[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        rest = &rest[end + 2..];
        if size == 0 {
            let trailers = String::from_utf8_lossy(rest).trim_end().to_owned();
            return (body, trailers);
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

/// An upstream that answers each connection's first request with the same bytes, and ends the connection.
pub(crate) struct CannedUpstream {
    pub(crate) url: String,
    seen: mpsc::UnboundedReceiver<Vec<u8>>,
    task: JoinHandle<()>,
}

impl CannedUpstream {
    pub(crate) async fn start(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (told, seen) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read_request(&mut stream).await;
                let _ = told.send(request);
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { url, seen, task }
    }

    /// The next request, byte for byte.
    pub(crate) async fn request(&mut self) -> String {
        let request = timeout(LIMIT, self.seen.recv()).await.unwrap().unwrap();
        String::from_utf8(request).unwrap()
    }
}

impl Drop for CannedUpstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A head, and as much of a body as it announces.
pub(crate) async fn read_request(stream: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let head = read.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            let chunked = text.contains("transfer-encoding: chunked");
            let all = if chunked {
                read.ends_with(b"\r\n\r\n")
                    && read[head..].windows(3).any(|three| three == b"0\r\n")
            } else {
                read.len() >= head + 4 + length
            };
            if all {
                return read;
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return read,
            Ok(count) => read.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Reads until this stands at the end of what came.
pub(crate) async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = String::new();
    let mut buffer = [0; 4096];
    while !read.ends_with(end) {
        let count = timeout(LIMIT, stream.read(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        assert!(count > 0, "it ended: {read}");
        read.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    read
}
