//! Tests the authorization server and the API of the `testing` feature over real sockets.

use std::convert::Infallible;
use std::fmt::Debug;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::client::legacy::Client as Legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tower_bearer::testing::{Api, AuthMethod, AuthorizationServer, Fault};

const FORM: &str = "application/x-www-form-urlencoded";
const REQUEST: &str = "grant_type=client_credentials&client_id=client&client_secret=secret";
const SOON: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn valid_token_is_accepted_and_the_body_echoed() {
    let (server, api, client) = servers().await;
    let parameters = "scope=read+write&resource=https://a&resource=https://b&audience=c";
    let token = client.token(&server, parameters).await;
    assert!(server.is_valid(&token, Some("write read")));
    assert!(!server.is_valid(&token, Some("admin")));
    assert_eq!(server.scopes_of(&token).unwrap(), ["read", "write"]);

    let body: Vec<u8> = (0..300_000_u32).map(|i| i as u8).collect();
    let request = Request::put(api.url_of("/x?y=z"))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/octet-stream")
        .body(Full::from(body.clone()))
        .unwrap();
    let reply = client.send(request).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), "application/octet-stream");
    assert!(reply.body == body);

    let call = &api.requests()[0];
    assert_eq!((&call.method, call.uri.path()), (&Method::PUT, "/x"));
    assert_eq!(call.status, Some(StatusCode::OK));
    assert_eq!(call.token.as_ref(), Some(&token));
    assert!(call.body == body);
    assert_eq!(api.counts().body_bytes, 300_000);
}

#[tokio::test]
async fn token_response_has_the_headers_and_members_of_the_rfc() {
    let (server, _, client) = servers().await;
    server.set_refresh_in(Some(Duration::from_secs(60)));
    let reply = client.fetch(&server, "scope=a").await;
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_eq!(reply.header("content-type"), "application/json");
    assert!(reply.headers.contains_key("date"));
    let json = reply.json();
    assert_eq!(json["token_type"], "Bearer");
    assert_eq!(json["expires_in"], 3600);
    assert_eq!(json["refresh_in"], 60);
    assert_eq!(json["scope"], "a");
}

#[tokio::test]
async fn special_characters_in_secrets_work_by_both_methods() {
    let (id, secret) = ("my client:1", "a b:c%d+e/é=&\"");
    let builder = AuthorizationServer::builder().with_client(id, secret);
    let server = builder.start().await.unwrap();
    let client = Client::http1();
    let grant = "grant_type=client_credentials";

    let credentials = form(&[("client_id", id), ("client_secret", secret)]);
    let posted = format!("{grant}&{credentials}");
    let reply = client.post(server.token_url(), &posted, None).await;
    assert_eq!(reply.status, 200);

    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let (plus, percent) = (encode(secret), encode(secret).replace('+', "%20"));
    assert_ne!(plus, percent);
    for encoded in [plus, percent] {
        let basic = basic(&encode(id), &encoded);
        let reply = client.post(server.token_url(), grant, Some(&basic)).await;
        assert_eq!(reply.status, 200, "{encoded}");
    }

    let calls = server.requests();
    let methods: Vec<_> = calls.iter().map(|call| call.auth).collect();
    let basic = AuthMethod::Basic;
    assert_eq!(methods, [AuthMethod::Post, basic, basic]);
    assert_eq!(calls[0].parameter("client_secret"), Some(secret));
    assert_eq!(server.counts().of_grant("client_credentials"), 3);
    // The default client does not exist next to others.
    assert_eq!(client.fetch(&server, "").await.status, 401);
}

#[tokio::test]
async fn wrong_secret_gets_a_challenge_only_for_basic() {
    let (server, _, client) = servers().await;
    let (grant, wrong) = ("grant_type=client_credentials", format!("{REQUEST}x"));
    for (form, authorization, method) in [
        (grant, Some(basic("client", "wrong")), AuthMethod::Basic),
        (wrong.as_str(), None, AuthMethod::Post),
        (grant, None, AuthMethod::None),
    ] {
        let header = authorization.as_deref();
        let reply = client.post(server.token_url(), form, header).await;
        assert_eq!(
            (reply.status, reply.error()),
            (401, "invalid_client".into())
        );
        let challenge = reply.headers.get("www-authenticate");
        let is_basic = challenge.is_some_and(|value| value.as_bytes().starts_with(b"Basic"));
        assert_eq!(is_basic, authorization.is_some());
        assert_eq!(challenge.is_some(), authorization.is_some());
        assert_eq!(server.requests().last().unwrap().auth, method);
    }

    server.set_client_secret("client", "secretx");
    let reply = client.post(server.token_url(), &wrong, None).await;
    assert_eq!(reply.status, 200);
    assert_eq!(token_counts(&server), [4, 1, 3, 0]);
}

#[tokio::test]
async fn invalid_token_requests_get_the_error_of_the_rfc() {
    let (server, _, client) = servers().await;
    server.allow_scopes(Some(vec!["read".into()]));
    let credentials = "client_id=client&client_secret=secret";
    for (form, error) in [
        (credentials.to_owned(), "invalid_request"),
        (format!("{credentials}&grant_type="), "invalid_request"),
        (
            format!("{credentials}&grant_type=implicit"),
            "unsupported_grant_type",
        ),
        (
            format!("{REQUEST}&grant_type=client_credentials"),
            "invalid_request",
        ),
        (format!("{REQUEST}&scope=write"), "invalid_scope"),
        (format!("{REQUEST}&scope=%22"), "invalid_scope"),
    ] {
        let reply = client.post(server.token_url(), &form, None).await;
        assert_eq!(
            (reply.status, reply.error().as_str()),
            (400, error),
            "{form}"
        );
    }
    assert_eq!(client.fetch(&server, "scope=read").await.status, 200);
    assert_eq!(client.status(server.token_url(), None).await, 405);
    let nowhere = format!("{}/nowhere", server.issuer());
    assert_eq!(client.status(nowhere, None).await, 404);
    let json = Request::post(server.token_url()).header("content-type", "application/json");
    let reply = client.send(json.body(Full::from(REQUEST)).unwrap()).await;
    assert_eq!(reply.error(), "invalid_request");
    let long = "x".repeat(2 << 20);
    assert_eq!(
        client.post(server.token_url(), &long, None).await.status,
        400
    );
}

#[tokio::test]
async fn expired_token_is_rejected() {
    let (server, api, client) = servers().await;
    server.set_lifetime(Some(SOON));
    let short = client.token(&server, "").await;
    server.set_lifetime(None);
    let endless = client.token(&server, "").await;
    sleep(SOON).await;
    assert!(!server.is_valid(&short, None));
    let reply = client.get(api.url(), Some(&short)).await;
    assert_eq!(reply.status, 401);
    assert_eq!(reply.challenge(), "Bearer error=\"invalid_token\"");
    assert_eq!(client.status(api.url(), Some(&endless)).await, 200);
}

#[tokio::test]
async fn only_revoked_tokens_are_rejected() {
    let (server, api, client) = servers().await;
    let one = client.token(&server, "").await;
    let other = client.token(&server, "").await;
    server.revoke(&one);
    assert_eq!(client.status(api.url(), Some(&one)).await, 401);
    assert_eq!(client.status(api.url(), Some(&other)).await, 200);
    server.revoke_all();
    assert_eq!(client.status(api.url(), Some(&other)).await, 401);
    server.repeat_token(true);
    assert_eq!(client.token(&server, "").await, other);
    assert_eq!(client.status(api.url(), Some(&other)).await, 401);
}

#[tokio::test]
async fn introspection_and_revocation_require_authentication() {
    let server = AuthorizationServer::builder()
        .with_client("client", "secret")
        .with_client("other", "secret")
        .with_lifetime(Duration::from_secs(60))
        .start()
        .await
        .unwrap();
    let client = Client::http1();
    let token = client.token(&server, "scope=a+b&resource=https://r").await;
    let form = format!("token={token}");
    let (owner, other) = (basic("client", "secret"), basic("other", "secret"));
    let post = async |endpoint: &str, form: &str, authorization: Option<&String>| {
        let url = format!("{}/{endpoint}", server.issuer());
        client
            .post(url, form, authorization.map(String::as_str))
            .await
    };

    let reply = post("introspect", &form, None).await;
    assert_eq!(reply.error(), "invalid_client");
    let active = post("introspect", &form, Some(&other)).await.json();
    assert_eq!(active["active"], true);
    assert_eq!(active["scope"], "a b");
    assert_eq!(active["client_id"], "client");
    assert_eq!(active["aud"], json!(["https://r"]));
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!((now..=now + 60).contains(&active["exp"].as_u64().unwrap()));

    let reply = post("revoke", &form, Some(&other)).await;
    assert_eq!(reply.error(), "invalid_grant");
    assert!(server.is_valid(&token, None));
    for form in [form.as_str(), "token=unknown"] {
        assert_eq!(post("revoke", form, Some(&owner)).await.status, 200);
    }
    let inactive = post("introspect", &form, Some(&owner)).await.json();
    assert_eq!(inactive, json!({ "active": false }));
    // Only token requests are counted.
    assert_eq!(server.counts().requests, 1);
}

#[tokio::test]
async fn metadata_names_the_issuer_and_the_endpoints() {
    let (server, _, client) = servers().await;
    for name in ["openid-configuration", "oauth-authorization-server"] {
        let url = format!("{}/.well-known/{name}", server.issuer());
        let metadata = client.get(url, None).await.json();
        assert_eq!(metadata["issuer"], server.issuer());
        assert_eq!(metadata["token_endpoint"], server.token_url());
    }
}

#[tokio::test]
async fn api_requires_a_token_and_the_scope_of_the_path() {
    let server = AuthorizationServer::start().await.unwrap();
    let builder = Api::builder(&server).with_required_scope("/admin", "write");
    let api = builder.start().await.unwrap();
    let client = Client::http1();
    let token = client.token(&server, "scope=read").await;

    let reply = client.get(api.url_of("/x"), None).await;
    assert_eq!((reply.status, reply.challenge()), (401, "Bearer"));
    assert_eq!(client.status(api.url_of("/open/x"), None).await, 200);
    let reply = client.get(api.url_of("/admin/x"), Some(&token)).await;
    let challenge = "Bearer error=\"insufficient_scope\", scope=\"write\"";
    assert_eq!((reply.status, reply.challenge()), (403, challenge));
    let mut twice = get(api.url(), Some(&token));
    let header = twice.headers()["authorization"].clone();
    twice.headers_mut().append("authorization", header);
    assert_eq!(client.send(twice).await.status, 401);
    api.always_unauthorized(true);
    assert_eq!(client.status(api.url_of("/open"), Some(&token)).await, 401);

    let counts = api.counts();
    assert_eq!((counts.requests, counts.ok), (5, 1));
    assert_eq!((counts.unauthorized, counts.forbidden), (3, 1));
    assert_eq!((counts.with_token, counts.without_token), (3, 2));
    assert_eq!(counts.connections, 1);
}

#[tokio::test]
async fn api_requires_claims_only_after_require_claims() {
    let (server, api, _) = servers().await;
    let client = Client::http2();
    let claims = r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#;
    let old = client.token(&server, "").await;
    assert_eq!(client.status(api.url(), Some(&old)).await, 200);
    api.require_claims(Some(claims));
    let reply = client.get(api.url(), Some(&old)).await;
    let encoded = STANDARD.encode(claims);
    let challenge = format!("Bearer error=\"insufficient_claims\", claims=\"{encoded}\"");
    assert_eq!((reply.status, reply.challenge()), (401, challenge.as_str()));
    let new = client.token(&server, &form(&[("claims", claims)])).await;
    assert_eq!(client.status(api.url(), Some(&new)).await, 200);
    assert_eq!(server.requests()[1].parameter("claims"), Some(claims));
    // Open paths and requests without a token are not affected.
    assert_eq!(client.status(api.url_of("/open"), None).await, 200);
    assert_eq!(client.get(api.url(), None).await.challenge(), "Bearer");
    api.require_claims(None);
    assert_eq!(client.status(api.url(), Some(&old)).await, 200);
}

#[tokio::test]
async fn custom_challenge_is_sent_unchanged() {
    let (_server, api, client) = servers().await;
    let challenge = "Bearer error=\"insufficient_scope\", scope=\"a\", DPoP";
    api.fault(Fault::challenge(403, challenge));
    let reply = client.get(api.url(), None).await;
    assert_eq!((reply.status, reply.challenge()), (403, challenge));
}

#[tokio::test]
async fn unprotected_api_accepts_all_and_records_tokens() {
    let server = AuthorizationServer::start().await.unwrap();
    let api = Api::unprotected(&server).await.unwrap();
    let client = Client::http1();
    assert_eq!(client.status(api.url(), None).await, 200);
    assert_eq!(client.status(api.url(), Some("stray")).await, 200);
    let counts = api.counts();
    assert_eq!((counts.without_token, counts.with_token), (1, 1));
    assert_eq!(api.requests()[1].token.as_deref(), Some("stray"));
}

#[tokio::test]
async fn faults_apply_in_the_order_they_were_queued() {
    let (server, _, client) = servers().await;
    let busy = Fault::status(503).with_header("retry-after", "7");
    server.fault_times(2, busy.with_body("text/plain", "busy"));
    server.fault(Fault::none());
    server.fault(Fault::response(200, None, "{}"));
    server.fault_always(Fault::redirect("/elsewhere"));
    let mut replies = Vec::new();
    for _ in 0..6 {
        replies.push(client.fetch(&server, "").await);
    }
    let statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [503, 503, 200, 200, 307, 307]);
    assert_eq!(replies[0].header("retry-after"), "7");
    assert_eq!(replies[0].header("content-type"), "text/plain");
    assert_eq!(replies[0].body, "busy");
    assert!(replies[2].json()["access_token"].is_string());
    assert_eq!(replies[3].body, "{}");
    assert!(!replies[3].headers.contains_key("content-type"));
    assert_eq!(replies[4].header("location"), "/elsewhere");
    server.clear_faults();
    assert_eq!(client.fetch(&server, "").await.status, 200);
    assert_eq!(token_counts(&server), [7, 2, 0, 6]);
}

#[tokio::test]
async fn faults_set_the_status_and_headers_of_the_response() {
    let (_server, api, client) = servers().await;
    api.fault(Fault::grpc_status(16));
    let reply = client.get(api.url(), None).await;
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    assert_eq!(reply.header("content-type"), "application/grpc");
    assert_eq!(reply.header("grpc-status"), "16");
    api.fault(Fault::status(42));
    assert_eq!(client.status(api.url(), None).await, 500);
    let epoch = "Thu, 01 Jan 1970 00:00:00 GMT";
    api.fault(Fault::none().with_header("date", epoch));
    let reply = client.get(api.url(), None).await;
    assert_eq!((reply.status, reply.header("date")), (401, epoch));
}

#[tokio::test]
async fn delay_precedes_the_response() {
    let (server, _, client) = servers().await;
    server.fault(Fault::delay(SOON));
    server.fault(Fault::status(500).after(SOON));
    for status in [200, 500] {
        let start = Instant::now();
        assert_eq!(client.fetch(&server, "").await.status, status);
        assert!(start.elapsed() >= SOON);
    }
}

#[tokio::test]
async fn dropped_connection_fails_the_request_in_both_protocols() {
    let (server, api, _) = servers().await;
    for client in [Client::http1(), Client::http2()] {
        let token = client.token(&server, "").await;
        server.fault(Fault::drop_connection());
        assert!(client.try_send(token_request(&server)).await.is_err());
        assert!(server.requests().last().unwrap().status.is_none());
        api.fault(Fault::drop_connection());
        let request = get(api.url(), Some(&token));
        assert!(client.try_send(request.clone()).await.is_err());
        assert_eq!(client.send(request).await.status, 200);
    }
}

#[tokio::test]
async fn missing_response_affects_no_other_request() {
    let (server, ..) = servers().await;
    for client in [Client::http1(), Client::http2()] {
        server.fault(Fault::never());
        let unanswered = client.try_send(token_request(&server));
        assert!(timeout(SOON, unanswered).await.is_err());
        assert_eq!(client.fetch(&server, "").await.status, 200);
    }
}

#[tokio::test]
async fn dripping_body_arrives_slowly_and_complete() {
    let (server, _, client) = servers().await;
    server.fault(Fault::drip(Duration::from_millis(1)));
    let response = client.0.request(token_request(&server)).await.unwrap();
    let mut body = response.into_body();
    let (mut frames, mut bytes, start) = (0, Vec::new(), Instant::now());
    while let Some(frame) = body.frame().await {
        frames += 1;
        bytes.extend_from_slice(frame.unwrap().data_ref().unwrap());
    }
    assert!(serde_json::from_slice::<Value>(&bytes).unwrap()["access_token"].is_string());
    // A slow reader may get several bytes in one frame.
    assert!(frames > 1, "{frames}");
    assert!(start.elapsed() > SOON);
}

#[tokio::test]
async fn huge_body_has_the_requested_length() {
    let (server, ..) = servers().await;
    for client in [Client::http1(), Client::http2()] {
        server.fault(Fault::huge(3_000_001));
        let reply = client.fetch(&server, "").await;
        assert_eq!((reply.status, reply.body.len()), (200, 3_000_001));
        assert!(!reply.headers.contains_key("content-length"));
    }
}

#[tokio::test]
async fn response_before_the_body_does_not_wait_for_it() {
    let (_server, api, _) = servers().await;
    api.fault_times(2, Fault::none().before_body());
    for http2 in [false, true] {
        let mut builder = Legacy::builder(TokioExecutor::new());
        let client = builder.http2_only(http2).build_http();
        let request = Request::post(api.url()).body(Endless).unwrap();
        let response = timeout(LATE, client.request(request)).await.unwrap();
        assert_eq!(response.unwrap().status(), 401);
    }
    assert_eq!(api.counts().body_bytes, 0);
}

#[tokio::test]
async fn held_requests_have_arrived_and_wait_for_the_release() {
    let (server, api, client) = servers().await;
    let hold = server.hold();
    let mut requests = JoinSet::new();
    for _ in 0..5 {
        let (client, server) = (client.clone(), server.clone());
        requests.spawn(async move { client.fetch(&server, "").await.status });
    }
    server.wait_for_requests(5).await;
    assert_eq!(server.requests().len(), 5);
    assert_eq!(token_counts(&server), [5, 0, 0, 0]);
    assert!(timeout(SOON, requests.join_next()).await.is_err());
    hold.release();
    assert_eq!(requests.join_all().await, [200; 5]);

    // The API validates the token of a held request after the release.
    let token = client.token(&server, "").await;
    let hold = api.hold();
    let call = tokio::spawn({
        let (client, url, token) = (client.clone(), api.url(), token.clone());
        async move { client.status(url, Some(&token)).await }
    });
    api.wait_for_requests(1).await;
    server.revoke(&token);
    drop(hold);
    assert_eq!(call.await.unwrap(), 401);
}

#[tokio::test]
async fn tls_uses_the_servers_authority_in_both_protocols() {
    let builder = AuthorizationServer::builder().with_tls();
    let server = builder.clone().start().await.unwrap();
    let api = Api::builder(&server).with_tls().start().await.unwrap();
    assert_eq!(api.ca_pem(), server.ca_pem());
    assert!(server.token_url().starts_with("https://localhost:"));
    let roots = roots(&server.ca_pem().unwrap());

    let reply = send_over_tls(&roots, "h2", token_request(&server)).await;
    let token = reply.unwrap().access_token();
    for (alpn, version) in [("h2", Version::HTTP_2), ("http/1.1", Version::HTTP_11)] {
        let reply = send_over_tls(&roots, alpn, get(api.url(), Some(&token))).await;
        assert_eq!(reply.unwrap().status, 200);
        assert_eq!(api.requests().last().unwrap().version, version);
    }

    let stranger = builder.start().await.unwrap();
    let reply = send_over_tls(&roots, "h2", token_request(&stranger)).await;
    assert!(reply.is_err());
    // A plain server has an authority once one of its APIs needs it.
    let plain = AuthorizationServer::start().await.unwrap();
    assert_eq!(plain.ca_pem(), None);
    let api = Api::builder(&plain).with_tls().start().await.unwrap();
    assert!(plain.ca_pem().is_some() && plain.ca_pem() == api.ca_pem());
}

#[tokio::test]
async fn thousand_concurrent_requests_share_one_http2_connection() {
    let (server, api, _) = servers().await;
    let client = Client::http2();
    let token = client.token(&server, "").await;
    let hold = api.hold();
    let mut calls = JoinSet::new();
    for _ in 0..1000 {
        let (client, url, token) = (client.clone(), api.url(), token.clone());
        calls.spawn(async move { client.status(url, Some(&token)).await });
    }
    api.wait_for_requests(1000).await;
    hold.release();
    assert_eq!(calls.join_all().await, vec![200; 1000]);
    let requests = api.requests();
    let connection = requests[0].connection;
    assert!(requests.iter().all(|call| call.version == Version::HTTP_2));
    assert!(requests.iter().all(|call| call.connection == connection));
}

/// Uses fewer connections than requests, since some machines limit the number of open files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousand_requests_over_a_hundred_http1_connections() {
    let (server, api, client) = servers().await;
    api.record(false);
    let token = client.token(&server, "").await;
    let hold = api.hold();
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let (client, url, token) = (client.clone(), api.url(), token.clone());
        calls.spawn(async move {
            for _ in 0..10 {
                assert_eq!(client.status(url.clone(), Some(&token)).await, 200);
            }
        });
    }
    api.wait_for_requests(100).await;
    assert_eq!(api.counts().connections, 100);
    hold.release();
    calls.join_all().await;
    assert_eq!((api.counts().requests, api.counts().ok), (1000, 1000));
    assert!(api.requests().is_empty());
}

#[tokio::test]
async fn connections_are_counted_and_numbered() {
    let (_server, api, _) = servers().await;
    for _ in 0..2 {
        let client = Client::http1();
        for _ in 0..2 {
            client.get(api.url_of("/open"), None).await;
        }
    }
    let connections: Vec<_> = api.requests().iter().map(|call| call.connection).collect();
    assert_eq!(connections, [1, 1, 2, 2]);
    assert_eq!(api.counts().connections, 2);
}

#[tokio::test]
async fn reset_discards_requests_and_keeps_tokens() {
    let (server, api, client) = servers().await;
    let token = client.token(&server, "").await;
    client.get(api.url(), Some(&token)).await;
    server.reset_counts();
    api.reset_counts();
    assert_eq!((server.counts(), api.counts()), Default::default());
    assert!(server.requests().is_empty() && api.requests().is_empty());
    assert!(server.is_valid(&token, None));
}

#[tokio::test]
async fn last_handle_closes_the_port_and_ends_all_tasks() {
    let (server, api, _) = servers().await;
    let address = api.url().trim_start_matches("http://").to_owned();
    for client in [Client::http1(), Client::http2()] {
        api.fault(Fault::never());
        let request = get(api.url(), None);
        tokio::spawn(async move { client.try_send(request).await });
    }
    api.wait_for_requests(2).await;

    let clone = api.clone();
    drop(api);
    assert!(TcpStream::connect(&address).await.is_ok());
    drop((clone, server));
    let metrics = tokio::runtime::Handle::current().metrics();
    timeout(LATE, async {
        // The tasks of the clients end with their connections.
        while metrics.num_alive_tasks() > 0 || TcpStream::connect(&address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[test]
fn start_outside_a_runtime_is_an_error() {
    let mut context = Context::from_waker(Waker::noop());
    let started = pin!(AuthorizationServer::start()).poll(&mut context);
    assert!(matches!(started, Poll::Ready(Err(_))));
}

#[tokio::test]
async fn debug_shows_no_secret_and_no_token() {
    let builder = AuthorizationServer::builder().with_client("client", "hidden");
    let server = builder.clone().start().await.unwrap();
    let api = Api::start(&server).await.unwrap();
    let client = Client::http1();
    let request = REQUEST.replace("secret=secret", "secret=hidden");
    let reply = client.post(server.token_url(), &request, None).await;
    let token = reply.access_token();
    let basic = basic("client", "hidden");
    client.post(server.token_url(), "", Some(&basic)).await;
    let url = api.url_of(&format!("/?access_token={token}"));
    client.get(url, Some(&token)).await;
    let values: [&dyn Debug; 8] = [
        &builder,
        &server,
        &api,
        &server.requests(),
        &api.requests(),
        &server.counts(),
        &api.counts(),
        &Api::builder(&server),
    ];
    let shown = format!("{values:?} {values:#?}");
    let encoded = STANDARD.encode("client:hidden");
    for secret in ["hidden", &token, &encoded] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

async fn servers() -> (AuthorizationServer, Api, Client) {
    let server = AuthorizationServer::start().await.unwrap();
    let api = Api::start(&server).await.unwrap();
    (server, api, Client::http1())
}

/// Requests, issued tokens, rejected requests and faults.
fn token_counts(server: &AuthorizationServer) -> [u64; 4] {
    let counts = server.counts();
    [
        counts.requests,
        counts.issued,
        counts.refused,
        counts.faulted,
    ]
}

#[derive(Clone)]
struct Client(Legacy<HttpConnector, Full<Bytes>>);

#[derive(Debug)]
struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Client {
    fn http1() -> Self {
        Self(Legacy::builder(TokioExecutor::new()).build_http())
    }

    fn http2() -> Self {
        let mut builder = Legacy::builder(TokioExecutor::new());
        Self(builder.http2_only(true).build_http())
    }

    /// Requests a token for the default client, with extra parameters.
    async fn fetch(&self, server: &AuthorizationServer, extra: &str) -> Reply {
        let form = format!("{REQUEST}&{extra}");
        self.post(server.token_url(), &form, None).await
    }

    async fn token(&self, server: &AuthorizationServer, extra: &str) -> String {
        self.fetch(server, extra).await.access_token()
    }

    async fn post(&self, url: String, form: &str, authorization: Option<&str>) -> Reply {
        self.send(post(url, form, authorization)).await
    }

    async fn get(&self, url: String, token: Option<&str>) -> Reply {
        self.send(get(url, token)).await
    }

    async fn status(&self, url: String, token: Option<&str>) -> u16 {
        self.get(url, token).await.status
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Reply {
        self.try_send(request).await.unwrap()
    }

    async fn try_send(&self, request: Request<Full<Bytes>>) -> Result<Reply, BoxError> {
        Reply::read(self.0.request(request).await?).await
    }
}

impl Reply {
    async fn read(response: Response<Incoming>) -> Result<Self, BoxError> {
        let (parts, body) = response.into_parts();
        Ok(Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.collect().await?.to_bytes(),
        })
    }

    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    fn challenge(&self) -> &str {
        self.header("www-authenticate")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn access_token(&self) -> String {
        self.json()["access_token"].as_str().unwrap().to_owned()
    }

    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

fn token_request(server: &AuthorizationServer) -> Request<Full<Bytes>> {
    post(server.token_url(), REQUEST, None)
}

fn post(url: String, form: &str, authorization: Option<&str>) -> Request<Full<Bytes>> {
    let mut request = Request::post(url).header(header::CONTENT_TYPE, FORM);
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    request.body(Full::from(form.to_owned())).unwrap()
}

fn get(url: String, token: Option<&str>) -> Request<Full<Bytes>> {
    let mut request = Request::get(url);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    request.body(Full::default()).unwrap()
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

fn form(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

fn roots(pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
        .unwrap();
    roots
}

async fn send_over_tls(
    roots: &RootCertStore,
    alpn: &str,
    request: Request<Full<Bytes>>,
) -> Result<Reply, BoxError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.into()];
    let port = request.uri().port_u16().unwrap();
    let stream = TcpStream::connect(("localhost", port)).await?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("localhost")?, stream)
        .await?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
    let response = match alpn {
        "h2" => {
            let (mut sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            sender.send_request(request).await?
        }
        _ => {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            sender.send_request(request).await?
        }
    };
    Reply::read(response).await
}

/// A body that never yields a frame.
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}
