//! Tests HTTP/2 between caller and proxy, and HTTP/2 with TLS between proxy and upstream.

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower_bearer::testing::{Api, AuthorizationServer};

use crate::support::{Fixture, Proxy, config, routed};
use crate::temp_folder::TempFolder;

pub(crate) fn http2_client() -> Client<HttpConnector, Full<Bytes>> {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.http2_only(true).build_http()
}

#[tokio::test]
async fn http2_callers_are_served() {
    let fixture = Fixture::new().await;
    let client = http2_client();
    let url = format!("http://{}/api/x?y", fixture.proxy.address);
    let request = Request::post(url)
        .header("cookie", "a=b")
        .header("cookie", "c=d")
        .header("te", "trailers")
        .body(Full::<Bytes>::from("over two"))
        .unwrap();
    let response = client.request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.version(), Version::HTTP_2);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "over two");
    let seen = fixture.api.requests().pop().unwrap();
    assert_eq!(seen.version, Version::HTTP_11);
    assert_eq!(seen.uri, "/x?y");
    assert_eq!(seen.headers["cookie"], "a=b; c=d");
    assert_eq!(seen.headers["te"], "trailers");
}

#[tokio::test]
async fn http2_requests_are_checked_for_their_origin() {
    let fixture = Fixture::new().await;
    let client = http2_client();
    for (name, value) in [
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("host", "evil.example"),
    ] {
        let request = Request::get(format!("http://{}/api/x", fixture.proxy.address))
            .header(name, value)
            .body(Full::<Bytes>::default())
            .unwrap();
        let response = client.request(request).await.unwrap();
        assert_eq!(response.status(), 403, "{name}");
    }
    assert_eq!(fixture.api.counts().requests, 0);
}

#[tokio::test]
async fn tls_upstream_uses_http2_and_platform_trust() {
    let login = AuthorizationServer::builder()
        .with_tls()
        .start()
        .await
        .unwrap();
    let api = Api::builder(&login).with_tls().start().await.unwrap();
    let trust = TempFolder::new(&api.ca_pem().unwrap());
    let trust = trust.path().display().to_string();
    let rest = format!("ca = {{ file = '{trust}' }}\n{}", routed(&api, ""));
    let text = config(&login, &rest);

    let trusting = Proxy::start_with(&text, &[("SSL_CERT_FILE", &trust)]).await;
    let answer = trusting.send("PUT", "/a/x", &[], b"by TLS").await;
    assert_eq!((answer.status, answer.text()), (200, "by TLS".into()));
    let seen = api.requests().pop().unwrap();
    assert_eq!(seen.version, Version::HTTP_2);
    assert!(seen.token.is_some());
    // HTTP/2 has no Host header.
    assert!(!seen.headers.contains_key("host"));

    // The CA of the token endpoint is not trusted for upstreams.
    let strict = Proxy::start(&text).await;
    let answer = strict.get("/a/x").await;
    answer.assert_problem(502, "upstream");
    assert_eq!(api.counts().requests, 1);
}
