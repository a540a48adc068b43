//! This module implements a server for tests, on separate threads. It records requests and responds with the result of a function.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// A plain or TLS connection.
pub(crate) trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

pub(crate) struct Responder {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Responder {
    /// Starts a server that calls `respond` for each request, and closes the connection when it returns `false`.
    pub(crate) fn start(respond: impl Fn(&mut dyn Stream) -> bool + Send + Sync + 'static) -> Self {
        Self::start_over(|tcp| Box::new(tcp), respond)
    }

    /// Starts a server that wraps each connection, for example in TLS.
    pub(crate) fn start_over(
        wrap: impl Fn(TcpStream) -> Box<dyn Stream> + Send + Sync + 'static,
        respond: impl Fn(&mut dyn Stream) -> bool + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (kept, shared) = (seen.clone(), Arc::new((wrap, respond)));
        thread::spawn(move || {
            for tcp in listener.incoming() {
                let (kept, shared) = (kept.clone(), shared.clone());
                thread::spawn(move || {
                    let mut stream = BufReader::new((shared.0)(tcp.unwrap()));
                    while let Some(request) = read_request(&mut stream) {
                        kept.lock().unwrap().push(request);
                        if !(shared.1)(stream.get_mut()) {
                            break;
                        }
                    }
                });
            }
        });
        Self { address, seen }
    }

    /// Starts a server that responds to each request with this JSON.
    pub(crate) fn json(body: &'static str) -> Self {
        Self::start(move |stream| {
            respond(stream, "200 OK", "content-type: application/json\r\n", body);
            true
        })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the received requests, byte for byte.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// Writes a response with a `content-length`.
pub(crate) fn respond(stream: &mut dyn Stream, status: &str, headers: &str, body: &str) {
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
    let _ = stream.flush();
}

fn read_request(stream: &mut BufReader<Box<dyn Stream>>) -> Option<String> {
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let start = head.len();
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
        if let Some(value) = head[start..].strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(head + &String::from_utf8(body).unwrap())
}
