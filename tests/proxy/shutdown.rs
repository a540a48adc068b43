//! How it ends.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Fixture, Response};

/// It takes milliseconds, and is to take a second at most. A machine that is busy with other things gets a few; the grace, which
/// it must not take, is thirty.
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn idle_connections_do_not_keep_it_beyond_a_second() {
    for signal in ["TERM", "INT"] {
        let mut fixture = Fixture::new().await;
        let address = fixture.proxy.address;
        // One that has said nothing, and one that was answered.
        let _silent = TcpStream::connect(address).await.unwrap();
        let mut kept = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /api/x HTTP/1.1\r\nHost: {address}\r\n\r\n");
        kept.write_all(request.as_bytes()).await.unwrap();
        let mut read = [0; 1024];
        assert!(kept.read(&mut read).await.unwrap() > 0);

        // And one of many streams, of which none is open.
        let client = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .build_http();
        let request = Request::get(format!("http://{address}/api/x")).body(Empty::<Bytes>::new());
        let response = client.request(request.unwrap()).await.unwrap();
        response.into_body().collect().await.unwrap();

        let start = Instant::now();
        fixture.proxy.signal(signal).await;
        assert_eq!(fixture.proxy.end().await.code(), Some(0));
        assert!(start.elapsed() < AT_ONCE, "{signal}: {:?}", start.elapsed());
        assert_eq!(kept.read(&mut read).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn what_is_under_way_is_finished_and_nothing_new_is_begun() {
    let mut fixture = Fixture::new().await;
    let address = fixture.proxy.address;
    let held = fixture.api.hold();
    let mut busy = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /api/x HTTP/1.1\r\nHost: {address}\r\n\r\n");
    busy.write_all(request.as_bytes()).await.unwrap();
    fixture.api.wait_for_requests(1).await;
    fixture.proxy.signal("TERM").await;
    // It has heard when it accepts no more.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    drop(held);
    let mut read = Vec::new();
    busy.read_to_end(&mut read).await.unwrap();
    assert_eq!(Response::parse(&read).status, 200);
    assert_eq!(fixture.proxy.end().await.code(), Some(0));
}

#[tokio::test]
async fn what_takes_longer_than_the_grace_is_cut_off() {
    let mut fixture = Fixture::with("", "grace = '100ms'").await;
    let address = fixture.proxy.address;
    let _held = fixture.api.hold();
    let mut busy = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /api/x HTTP/1.1\r\nHost: {address}\r\n\r\n");
    busy.write_all(request.as_bytes()).await.unwrap();
    fixture.api.wait_for_requests(1).await;
    fixture.proxy.signal("TERM").await;
    assert_eq!(fixture.proxy.end().await.code(), Some(0));
}
