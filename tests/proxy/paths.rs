//! Tests which upstream and which path a request is sent to.

use crate::support::{CannedUpstream, Fixture, Proxy, config, upstream};
use tower_bearer::testing::{Api, AuthorizationServer};

#[tokio::test]
async fn unmatched_prefix_is_404() {
    let login = AuthorizationServer::start().await.unwrap();
    let outer = Api::unprotected(&login).await.unwrap();
    let inner = Api::unprotected(&login).await.unwrap();
    let upstreams = upstream("/a", &outer.url()) + &upstream("/a/b", &inner.url_of("/base"));
    let proxy = Proxy::start(&config(&login, &upstreams)).await;
    for path in ["/a/bc", "/a?q=1", "/a/b/c?d"] {
        assert_eq!(proxy.get(path).await.status, 200, "{path}");
    }
    for path in ["/", "/ab", "/A/x", "/%61/x", "//a/x"] {
        proxy.get(path).await.assert_problem(404, "not_found");
    }
    let seen = |api: &Api| {
        api.requests()
            .into_iter()
            .map(|call| call.uri.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(seen(&outer), ["/bc", "/?q=1"]);
    assert_eq!(seen(&inner), ["/base/c?d"]);
}

#[tokio::test]
async fn path_and_query_pass_unchanged() {
    let mut canned = CannedUpstream::start("HTTP/1.1 204 No Content\r\n\r\n").await;
    let login = AuthorizationServer::start().await.unwrap();
    let proxy = Proxy::start(&config(&login, &upstream("/a", &canned.url))).await;
    for rest in [
        "/%2F%7e%C3%A9;p=1,2//x/",
        "/?",
        "/x?a=b&a=%20+&c?d=/../e&{}|",
        "/../x/./y",
        "/%2e%2E/x",
        "/%zz",
        "/caf\u{e9}",
        "/?a=b?c=d&&",
    ] {
        assert_eq!(proxy.get(&format!("/a{rest}")).await.status, 204, "{rest}");
        let request = canned.request().await;
        let expected = format!("GET {rest} HTTP/1.1\r\n");
        assert!(request.starts_with(&expected), "{request}");
    }
}

#[tokio::test]
async fn absolute_target_is_routed_by_its_path() {
    let fixture = Fixture::new().await;
    let address = fixture.proxy.address;
    let request = format!(
        "GET http://{address}/api/x?y HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(fixture.proxy.send_raw(request.as_bytes()).await.status, 200);
    assert_eq!(fixture.api.requests()[0].uri, "/x?y");
}

#[tokio::test]
async fn reserved_paths_never_reach_an_upstream() {
    let Fixture { api, proxy, .. } = Fixture::unprotected(|api| upstream("/", &api.url())).await;
    for path in ["/-/other", "/-/", "/-/health/x", "/-/../x", "/-/%2e%2e/x"] {
        assert_eq!(proxy.get(path).await.status, 404, "{path}");
    }
    assert_eq!(proxy.get("/-/health").await.status, 200);
    assert_eq!(api.counts().requests, 0);
    assert_eq!(proxy.get("/-x").await.status, 200);
    assert_eq!(api.counts().requests, 1);
}

#[tokio::test]
async fn every_method_but_connect_passes() {
    let fixture = Fixture::new().await;
    for method in ["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
        let answer = fixture.proxy.send(method, "/api/x", &[], b"").await;
        assert_eq!(answer.status, 200, "{method}");
        assert_eq!(fixture.api.requests().last().unwrap().method, method);
    }
    let address = fixture.proxy.address;
    let connect =
        format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let answer = fixture.proxy.send_raw(connect.as_bytes()).await;
    answer.assert_problem(405, "method_not_allowed");
}
