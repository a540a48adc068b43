//! Tests streamed, slow and truncated bodies in both directions.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tower_bearer::testing::{AuthorizationServer, Fault};

use crate::support::{Fixture, LIMIT, Proxy, Response, config, read_request, read_until, upstream};

/// Sends a request. Returns the proxy, the caller's connection, and the proxy's connection to the upstream.
async fn between(request: &str) -> (Proxy, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let login = AuthorizationServer::start().await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let proxy = Proxy::start(&config(&login, &upstream("/a", &url))).await;
    let caller = proxy.connect(request).await;
    let (server, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    (proxy, caller, server)
}

/// Sends pieces, and checks that each arrives before the next is sent.
async fn stream_pieces(from: &mut TcpStream, to: &mut TcpStream) {
    for piece in ["3\r\none\r\n", "3\r\ntwo\r\n", "0\r\n\r\n"] {
        from.write_all(piece.as_bytes()).await.unwrap();
        read_until(to, piece).await;
    }
}

#[tokio::test]
async fn request_body_streams() {
    let head = "POST /a/x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (_proxy, mut caller, mut server) = between(head).await;
    stream_pieces(&mut caller, &mut server).await;
}

#[tokio::test]
async fn response_body_streams() {
    let (_proxy, mut caller, mut server) = between("GET /a/x HTTP/1.1\r\nHost: HOST\r\n\r\n").await;
    read_request(&mut server).await;
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    server.write_all(head.as_bytes()).await.unwrap();
    stream_pieces(&mut server, &mut caller).await;
}

#[tokio::test]
async fn trailers_pass_in_both_directions() {
    let request = "POST /a/x HTTP/1.1\r\nHost: HOST\r\nTE: trailers\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n\
        1\r\na\r\n0\r\nx-sum: 1\r\n\r\n";
    let (_proxy, mut caller, mut server) = between(request).await;
    let seen = read_until(&mut server, "0\r\nx-sum: 1\r\n\r\n").await;
    let seen = seen.to_ascii_lowercase();
    assert!(seen.contains("\r\ntrailer: x-sum\r\n"), "{seen}");
    let answer = "HTTP/1.1 200 OK\r\nTrailer: x-end\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\nx-end: 2\r\n\r\n";
    server.write_all(answer.as_bytes()).await.unwrap();
    let read = read_until(&mut caller, "0\r\nx-end: 2\r\n\r\n").await;
    let answer = Response::parse(read.as_bytes());
    assert_eq!((&*answer.text(), &*answer.trailers), ("b", "x-end: 2"));
}

#[tokio::test]
async fn response_of_unknown_length_ends_with_the_connection() {
    let (_proxy, mut caller, mut server) =
        between("GET /a/x HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n").await;
    read_request(&mut server).await;
    let answer = b"HTTP/1.1 200 OK\r\n\r\nall of it";
    server.write_all(answer).await.unwrap();
    drop(server);
    let mut read = Vec::new();
    caller.read_to_end(&mut read).await.unwrap();
    assert_eq!(Response::parse(&read).text(), "all of it");
}

#[tokio::test]
async fn truncated_response_is_visible_to_the_caller() {
    let (_proxy, mut caller, mut server) = between("GET /a/x HTTP/1.1\r\nHost: HOST\r\n\r\n").await;
    read_request(&mut server).await;
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    server.write_all(answer).await.unwrap();
    read_until(&mut caller, "half").await;
    drop(server);
    let mut rest = Vec::new();
    let _ = caller.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
}

#[tokio::test]
async fn invalid_chunk_is_a_bad_request() {
    let request = "POST /a/x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (_proxy, mut caller, _server) = between(request).await;
    caller.write_all(b"no chunk\r\n").await.unwrap();
    let mut read = Vec::new();
    let _ = caller.read_to_end(&mut read).await;
    let answer = Response::parse(&read);
    answer.assert_problem(400, "bad_request");
}

#[tokio::test]
async fn disconnecting_caller_cancels_the_request() {
    let (_proxy, caller, mut server) = between("GET /a/x HTTP/1.1\r\nHost: HOST\r\n\r\n").await;
    read_request(&mut server).await;
    drop(caller);
    let mut rest = Vec::new();
    let read = timeout(LIMIT, server.read_to_end(&mut rest)).await;
    read.unwrap().unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn expect_header_gets_100_continue() {
    let fixture = Fixture::new().await;
    let head = "POST /api/x HTTP/1.1\r\nHost: HOST\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n";
    let mut caller = fixture.proxy.connect(head).await;
    let interim = read_until(&mut caller, "\r\n\r\n").await;
    assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
    caller.write_all(b"body").await.unwrap();
    let mut read = Vec::new();
    caller.read_to_end(&mut read).await.unwrap();
    let answer = Response::parse(&read);
    assert_eq!((answer.status, answer.text()), (200, "body".into()));
}

#[tokio::test]
async fn upstream_may_respond_before_the_body_ends() {
    let fixture = Fixture::new().await;
    fixture
        .api
        .fault(Fault::response(413, Some("text/plain"), "too much").before_body());
    let head = "POST /api/x HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1000000\r\n\r\nonly this";
    let mut caller = fixture.proxy.connect(head).await;
    let read = read_until(&mut caller, "too much").await;
    assert_eq!(Response::parse(read.as_bytes()).status, 413);
}

#[tokio::test]
async fn early_401_replays_the_whole_body() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.proxy.get("/api/x").await.status, 200);
    fixture.login.revoke_all();
    fixture.api.fault(
        Fault::status(401)
            .with_header("www-authenticate", "Bearer error=\"invalid_token\"")
            .before_body(),
    );
    let answer = fixture.proxy.send("POST", "/api/x", &[], b"the body").await;
    assert_eq!((answer.status, answer.text()), (200, "the body".into()));
}
