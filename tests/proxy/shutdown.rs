//! Tests how the proxy shuts down.

use std::time::{Duration, Instant};

use http::Request;
use http_body_util::{BodyExt, Full};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::{
    http_versions::http2_client,
    support::{Fixture, Response},
};

const GET: &str = "GET /api/x HTTP/1.1\r\nHost: HOST\r\n\r\n";

/// A shutdown takes at most a second. A busy machine gets more time, but less than the grace period of thirty seconds.
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn idle_connections_do_not_delay_shutdown() {
    for signal in ["TERM", "INT"] {
        let mut fixture = Fixture::new().await;
        let address = fixture.proxy.address;
        // One connection without a request, and one after a response.
        let _silent = TcpStream::connect(address).await.unwrap();
        let mut kept = fixture.proxy.connect(GET).await;
        let mut read = [0; 1024];
        assert!(kept.read(&mut read).await.unwrap() > 0);

        // An HTTP/2 connection without open streams.
        let client = http2_client();
        let request = Request::get(format!("http://{address}/api/x")).body(Full::default());
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
async fn shutdown_finishes_requests_in_progress() {
    let mut fixture = Fixture::new().await;
    let address = fixture.proxy.address;
    let held = fixture.api.hold();
    let mut busy = fixture.proxy.connect(GET).await;
    fixture.api.wait_for_requests(1).await;
    fixture.proxy.signal("TERM").await;
    // The signal has arrived when it accepts no more connections.
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
async fn grace_period_limits_shutdown() {
    let mut fixture = Fixture::with("", "grace = '100ms'").await;
    let _held = fixture.api.hold();
    let _busy = fixture.proxy.connect(GET).await;
    fixture.api.wait_for_requests(1).await;
    fixture.proxy.signal("TERM").await;
    assert_eq!(fixture.proxy.end().await.code(), Some(0));
}
