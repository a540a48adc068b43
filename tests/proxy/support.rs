//! Starts the proxy with a configuration, and speaks HTTP to it byte by byte.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
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
use tower_bearer::testing::{Api, AuthorizationServer, Fault};

use crate::temp_folder::TempFolder;

pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// An authorization server, an API that accepts its tokens, and the proxy.
pub(crate) struct Fixture {
    pub(crate) login: AuthorizationServer,
    pub(crate) api: Api,
    pub(crate) proxy: Proxy,
}

impl Fixture {
    /// Routes `/api` to the API, with tokens of the scope `read`.
    pub(crate) async fn new() -> Self {
        Self::with("", "").await
    }

    /// Like [`Self::new`], with additional keys of the route and of `[proxy]`.
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

    /// Starts an API that accepts any request. The configuration continues with `rest` after the source.
    pub(crate) async fn unprotected(rest: impl FnOnce(&Api) -> String) -> Self {
        let login = AuthorizationServer::start().await.unwrap();
        let api = Api::unprotected(&login).await.unwrap();
        let proxy = Proxy::start(&config(&login, &rest(&api))).await;
        Self { login, api, proxy }
    }

    /// Like [`Self::unprotected`], but the API requires tokens. Sets these environment variables.
    pub(crate) async fn protected(
        rest: impl FnOnce(&Api) -> String,
        variables: &[(&str, &str)],
    ) -> Self {
        let login = AuthorizationServer::start().await.unwrap();
        let api = Api::start(&login).await.unwrap();
        let proxy = Proxy::start_with(&config(&login, &rest(&api)), variables).await;
        Self { login, api, proxy }
    }
}

/// Returns a configuration of the source, followed by `rest`.
pub(crate) fn config(login: &AuthorizationServer, rest: &str) -> String {
    format!(
        "[source]\ntype = 'client_credentials'\ntoken_url = '{}'\nclient_id = 'client'\nclient_secret = 'secret'\n{rest}",
        login.token_url()
    )
}

/// Returns a route to the API with these keys, and an upstream `/a`.
pub(crate) fn routed(api: &Api, keys: &str) -> String {
    let url = api.url();
    format!("[[route]]\nurl = '{url}'\n{keys}\n{}", upstream("/a", &url))
}

pub(crate) fn upstream(prefix: &str, url: &str) -> String {
    format!("[[proxy.upstream]]\nprefix = '{prefix}'\nurl = '{url}'\n")
}

/// A running proxy, killed on drop.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    child: Child,
    log: Arc<Mutex<String>>,
    _config: TempFolder,
}

impl Proxy {
    pub(crate) async fn start(config: &str) -> Self {
        Self::start_with(config, &[]).await
    }

    pub(crate) async fn start_with(config: &str, variables: &[(&str, &str)]) -> Self {
        let config = TempFolder::new(config);
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
            panic!("the proxy did not start: {}", log.lock().unwrap());
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

    /// Sends a signal, such as `TERM`.
    pub(crate) async fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        let kill = kill.arg(format!("-{name}")).arg(self.pid().to_string());
        assert!(kill.status().await.unwrap().success());
    }

    /// Waits for the end of the process.
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
        let host = self.address;
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
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

    /// Sends a request on a new connection, with the proxy's address in the place of `HOST`.
    pub(crate) async fn connect(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = request.replace("HOST", &self.address.to_string());
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Sends these bytes, and reads until the connection is closed.
    pub(crate) async fn send_raw(&self, bytes: &[u8]) -> Response {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut read = Vec::new();
        timeout(LIMIT, async {
            stream.write_all(bytes).await.unwrap();
            // The connection may be reset if not all bytes were read.
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

/// Returns the error message for an invalid configuration, and checks that it contains no secret.
pub(crate) async fn refused(config: &str) -> String {
    let file = TempFolder::new(config);
    refused_file(&file.path()).await
}

pub(crate) async fn refused_file(path: &Path) -> String {
    let output = timeout(LIMIT, command(path).output()).await;
    let output = output.unwrap().unwrap();
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
    let test = env::current_exe().unwrap();
    let example = test.ancestors().nth(2).unwrap().join("examples/proxy");
    let example = example.with_extension(env::consts::EXE_EXTENSION);
    assert!(
        example.exists(),
        "the proxy is not built: run `cargo build --all-features --example proxy`"
    );
    assert_eq!(
        newer_source(&example),
        None,
        "the proxy is older than its sources: run `cargo build --all-features --example proxy`"
    );
    let mut command = Command::new(example);
    command.arg(config).stdin(Stdio::null()).kill_on_drop(true);
    command.env_remove("RUST_LOG");
    command
}

/// Returns a source that changed after the example was built, by cargo's `.d` file: `cargo test --test proxy` does not
/// rebuild the example.
fn newer_source(example: &Path) -> Option<PathBuf> {
    let built = changed(example)?;
    let dependencies = fs::read_to_string(example.with_extension("d")).ok()?;
    let (_, sources) = dependencies.trim_end().split_once(": ")?;
    // Spaces in a path are escaped.
    let sources = sources.replace("\\ ", "\0");
    let paths = sources.split(' ').map(|path| path.replace('\0', " "));
    let mut paths = paths.map(PathBuf::from);
    paths.find(|source| changed(source).is_some_and(|changed| changed > built))
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// A response, its body without chunk framing.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: String,
}

impl Response {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head: {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8_lossy(&bytes[..end]);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let status = status.parse().unwrap();
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
        let (body, trailers) = match chunked {
            true => unchunk(rest),
            false => (rest.to_vec(), String::new()),
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

    /// Returns the problem document (RFC 9457) of an error.
    pub(crate) fn problem(&self) -> Value {
        let content_type = self.header("content-type");
        assert_eq!(content_type, Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        for member in ["type", "title", "detail", "kind"] {
            let text = problem[member].as_str().unwrap();
            assert!(!text.is_empty(), "{problem}");
        }
        problem
    }

    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, kind: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.problem()["kind"], kind, "{self:?}");
    }
}

#[track_caller]
pub(crate) fn assert_line(text: &str, line: &str) {
    assert!(text.lines().any(|found| found == line), "{line}: {text}");
}

/// Returns the response of a token endpoint that refuses a request.
pub(crate) fn oauth_error(status: u16, code: &str) -> Fault {
    let body = format!(r#"{{"error":"{code}"}}"#);
    Fault::response(status, Some("application/json"), body)
}

/// Starts a provider that knows the client by this secret.
pub(crate) async fn login_with_secret(secret: &str) -> AuthorizationServer {
    let builder = AuthorizationServer::builder().with_client("client", secret);
    builder.start().await.unwrap()
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

/// An upstream that sends the same bytes on each connection, and closes it.
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
        let (sender, seen) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read_request(&mut stream).await;
                let _ = sender.send(request);
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { url, seen, task }
    }

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

/// Reads a head, and a body of the length that it announces.
pub(crate) async fn read_request(stream: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let head = read.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
            let mut lines = text.lines();
            let length = lines.find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            if read.len() >= head + 4 + length {
                return read;
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return read,
            Ok(count) => read.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Reads until the data ends with `end`.
pub(crate) async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = String::new();
    let mut buffer = [0; 4096];
    while !read.ends_with(end) {
        let count = timeout(LIMIT, stream.read(&mut buffer)).await;
        let count = count.unwrap().unwrap();
        assert!(count > 0, "the connection was closed: {read}");
        read.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    read
}
