//! Tests that the proxy rejects requests of web pages and for foreign hosts.

use tower_bearer::testing::{Api, AuthorizationServer};

use crate::support::{Fixture, Proxy, Response, config, upstream};

async fn with_host(fixture: &Fixture, host: &str, path: &str) -> Response {
    let request = format!("GET {path} HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
    fixture.proxy.send_raw(request.as_bytes()).await
}

#[tokio::test]
async fn foreign_host_is_403_on_every_path() {
    let fixture = Fixture::new().await;
    let port = fixture.proxy.address.port();
    for path in ["/api/x", "/-/health", "/-/tokens", "/-/metrics", "/none"] {
        for host in [
            "Host: evil.example\r\n".into(),
            format!("Host: evil.example:{port}\r\n"),
            format!("Host: 127.0.0.1.evil.example:{port}\r\n"),
            format!("Host: 127.0.0.1.nip.io:{port}\r\n"),
            format!("Host: localhost.:{port}\r\n"),
            "Host: 127.0.0.1\r\n".into(),
            "Host: localhost\r\n".into(),
            "Host: \r\n".into(),
            "Host: localhost:1\r\n".into(),
            format!("Host: user@127.0.0.1:{port}\r\n"),
            format!("Host: 127.0.0.1:{port}\r\nHost: evil.example\r\n"),
            String::new(),
        ] {
            let answer = with_host(&fixture, &host, path).await;
            answer.assert_problem(403, "forbidden");
        }
    }
    let absolute = format!("http://evil.example:{port}/api/x");
    let own = format!("Host: 127.0.0.1:{port}\r\n");
    assert_eq!(with_host(&fixture, &own, &absolute).await.status, 403);
    assert_eq!(fixture.api.counts().requests, 0);
    assert_eq!(fixture.login.counts().requests, 0);
}

#[tokio::test]
async fn own_address_and_localhost_are_accepted() {
    let fixture = Fixture::new().await;
    let port = fixture.proxy.address.port();
    for host in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("LOCALHOST:{port}"),
    ] {
        let answer = with_host(&fixture, &format!("Host: {host}\r\n"), "/api/x").await;
        assert_eq!(answer.status, 200, "{host}");
    }
}

#[tokio::test]
async fn request_of_a_web_page_is_403() {
    let fixture = Fixture::new().await;
    let own = format!("http://{}", fixture.proxy.address);
    for path in ["/api/x", "/-/health", "/-/tokens", "/-/metrics"] {
        for (header, expected) in [
            (("Origin", "https://evil.example"), 403),
            (("Origin", "null"), 403),
            (("Origin", &*own), 403),
            (("Sec-Fetch-Site", "cross-site"), 403),
            (("Sec-Fetch-Site", "same-site"), 403),
            (("Sec-Fetch-Site", "None"), 403),
            (("Sec-Fetch-Site", "none"), 200),
            (("Sec-Fetch-Site", "same-origin"), 200),
        ] {
            let answer = fixture.proxy.get_with(path, &[header]).await;
            assert_eq!(answer.status, expected, "{header:?} {path}");
        }
    }
    assert_eq!(fixture.api.counts().requests, 2);
}

#[tokio::test]
async fn dot_segments_on_a_route_with_a_path_are_400() {
    let rest = |api: &Api| {
        let route = format!("[[route]]\nurl = '{}'\n", api.url_of("/v2"));
        route + &upstream("/a", &api.url())
    };
    let Fixture { login, api, proxy } = Fixture::unprotected(rest).await;
    for path in [
        "/v2/../admin",
        "/v2/./x",
        "/v2/%2e%2e/admin",
        "/v2/.%2E/admin",
        "/v2/x/..",
        "/v2/..%2fadmin",
        "/v2/..\\admin",
        "/../v2",
    ] {
        let answer = proxy.get(&format!("/a{path}")).await;
        answer.assert_problem(400, "bad_request");
    }
    assert_eq!((api.counts().requests, login.counts().requests), (0, 0));
    for path in ["/v2/...", "/v2/x.y", "/v2/a?b=/../c"] {
        assert_eq!(proxy.get(&format!("/a{path}")).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn allow_remote_permits_an_unspecified_address() {
    let login = AuthorizationServer::start().await.unwrap();
    let rest = "[proxy]\nlisten = '0.0.0.0:0'\nallow_remote = true\n";
    let mut proxy = Proxy::start(&config(&login, rest)).await;
    assert!(proxy.address.ip().is_unspecified());
    proxy.address.set_ip([127, 0, 0, 1].into());
    assert_eq!(proxy.get("/-/health").await.status, 200);
}
