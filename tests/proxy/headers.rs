//! Tests which headers pass.

use tower_bearer::testing::{AuthorizationServer, Fault};

use crate::support::{CannedUpstream, Fixture, Proxy, config, upstream};

async fn before(answer: &str) -> (CannedUpstream, Proxy) {
    let canned = CannedUpstream::start(answer).await;
    let login = AuthorizationServer::start().await.unwrap();
    let proxy = Proxy::start(&config(&login, &upstream("/a", &canned.url))).await;
    (canned, proxy)
}

#[tokio::test]
async fn hop_by_hop_request_headers_are_removed() {
    let (mut canned, proxy) = before("HTTP/1.1 204 No Content\r\n\r\n").await;
    let headers = [
        ("Connection", "keep-alive, X-Named"),
        ("Connection", " x-named-too ,, @"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "trailers"),
        ("Upgrade", "h2c"),
        ("X-Named", "1"),
        ("X-Named-Too", "1"),
        ("X-Kept", "1"),
        ("X-Kept", "2"),
        ("Cookie", "a"),
        ("Cookie", "b"),
        ("Trailer", "x-sum"),
        ("User-Agent", "test"),
        ("Accept-Encoding", "gzip"),
        ("Expect", ""),
    ];
    assert_eq!(proxy.get_with("/a/x", &headers).await.status, 204);
    let request = canned.request().await.to_ascii_lowercase();
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
        "x-named",
        "x-named-too",
        "transfer-encoding",
    ] {
        let line = format!("\r\n{name}:");
        assert!(!request.contains(&line), "{name}: {request}");
    }
    for line in [
        "x-kept: 1\r\n",
        "x-kept: 2\r\n",
        "cookie: a\r\n",
        "cookie: b\r\n",
        "trailer: x-sum\r\n",
        "user-agent: test\r\n",
        "accept-encoding: gzip\r\n",
    ] {
        assert!(request.contains(line), "{line}: {request}");
    }
}

#[tokio::test]
async fn connection_header_does_not_remove_the_token() {
    let fixture = Fixture::new().await;
    let headers = [("Connection", "authorization, content-type")];
    assert_eq!(fixture.proxy.get_with("/api/x", &headers).await.status, 200);
    assert_eq!(fixture.api.counts().with_token, 1);
}

#[tokio::test]
async fn hop_by_hop_response_headers_are_removed() {
    let answer = "HTTP/1.1 200 Fine\r\nConnection: x-named, close\r\nX-Named: 1\r\nKeep-Alive: timeout=9\r\nProxy-Connection: close\r\n\
        Upgrade: h2c\r\nX-Kept: 1\r\nX-Kept: 2\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nContent-Length: 2\r\n\r\nok";
    let (_canned, proxy) = before(answer).await;
    let answer = proxy.get("/a/x").await;
    assert_eq!((answer.status, answer.text()), (200, "ok".into()));
    for name in ["x-named", "keep-alive", "proxy-connection", "upgrade"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.all("x-kept"), ["1", "2"]);
    assert_eq!(answer.all("set-cookie"), ["a=b", "c=d"]);
}

#[tokio::test]
async fn host_header_is_the_upstreams() {
    let (mut canned, proxy) = before("HTTP/1.1 204 No Content\r\n\r\n").await;
    proxy.get("/a/x").await;
    let request = canned.request().await.to_ascii_lowercase();
    let host = canned.url.strip_prefix("http://").unwrap();
    let line = format!("\r\nhost: {host}\r\n");
    assert!(request.contains(&line), "{request}");
    assert_eq!(request.matches("host:").count(), 1, "{request}");
}

#[tokio::test]
async fn redirects_pass_unchanged() {
    let fixture = Fixture::new().await;
    for location in ["http://elsewhere.example/x?y", "/relative"] {
        fixture.api.fault(Fault::redirect(location));
        let answer = fixture.proxy.get("/api/x").await;
        assert_eq!(answer.status, 307);
        assert_eq!(answer.header("location"), Some(location));
    }
    assert_eq!(fixture.api.counts().requests, 2);
}

#[tokio::test]
async fn content_coding_and_length_pass_unchanged() {
    let fixture = Fixture::new().await;
    // The body is not gzip, which would break a proxy that decodes it.
    let fault =
        Fault::response(200, Some("text/plain"), "12345").with_header("content-encoding", "gzip");
    fixture.api.fault(fault);
    let answer = fixture.proxy.get("/api/x").await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert_eq!(answer.header("content-length"), Some("5"));
    assert_eq!(answer.header("transfer-encoding"), None);
    assert_eq!(answer.text(), "12345");

    let headers = [("Content-Encoding", "br")];
    let body = b"1234567";
    fixture.proxy.send("POST", "/api/x", &headers, body).await;
    let seen = fixture.api.requests().pop().unwrap();
    assert_eq!(seen.headers["content-length"], "7");
    assert_eq!(seen.headers["content-encoding"], "br");
    assert!(!seen.headers.contains_key("transfer-encoding"));
    assert_eq!(seen.body, "1234567");
}

#[tokio::test]
async fn head_response_keeps_its_length() {
    let (_canned, proxy) =
        before("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nETag: \"x\"\r\n\r\n").await;
    let answer = proxy.send("HEAD", "/a/x", &[], b"").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-length"), Some("1234"));
    assert_eq!(answer.header("etag"), Some("\"x\""));
    assert!(answer.body.is_empty());
}

#[tokio::test]
async fn responses_without_bodies_pass_unchanged() {
    for head in ["204 No Content", "304 Not Modified"] {
        let (_canned, proxy) = before(&format!("HTTP/1.1 {head}\r\nX-A: b\r\n\r\n")).await;
        let answer = proxy.get("/a/x").await;
        assert_eq!(answer.status.to_string(), head[..3]);
        assert_eq!(answer.header("x-a"), Some("b"));
        assert!(answer.body.is_empty());
    }
}

#[tokio::test]
async fn oversized_head_is_431() {
    let fixture = Fixture::new().await;
    for (size, status) in [(20 << 10, 200), (200 << 10, 431), (1, 200)] {
        let headers = [("X-Large", &*"x".repeat(size))];
        let answer = fixture.proxy.get_with("/api/x", &headers).await;
        assert_eq!(answer.status, status, "{size}");
    }
    assert_eq!(fixture.api.counts().requests, 2);
}

#[tokio::test]
async fn unknown_transfer_coding_is_an_error() {
    let (_canned, proxy) =
        before("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n").await;
    let coded = [("Transfer-Encoding", "gzip, chunked")];
    let answer = proxy.send("POST", "/a/x", &coded, b"").await;
    answer.assert_problem(501, "bad_request");
    let answer = proxy.get("/a/x").await;
    answer.assert_problem(502, "upstream");
}

#[tokio::test]
async fn proxy_adds_no_header() {
    let Fixture { api, proxy, .. } = Fixture::unprotected(|api| upstream("/a", &api.url())).await;
    proxy.get_with("/a/x", &[("Accept", "*/*")]).await;
    let headers = api.requests().pop().unwrap().headers;
    let mut names: Vec<_> = headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "host"]);
}
