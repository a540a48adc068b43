//! The authorization server and the API of the `testing` feature, over real sockets.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
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
const ASK: &str = "grant_type=client_credentials&client_id=client&client_secret=secret";
const SOON: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn token_opens_the_api_and_the_body_comes_back() {
    let (server, api) = servers().await;
    let client = Client::http1();
    let token = client
        .token(
            &server,
            "scope=read+write&resource=https://a&resource=https://b&audience=c",
        )
        .await;
    assert!(server.is_valid(&token, Some("write read")));
    assert!(!server.is_valid(&token, Some("admin")));
    assert_eq!(server.scopes_of(&token).unwrap(), ["read", "write"]);

    let body: Vec<u8> = (0..300_000_u32).map(|i| i as u8).collect();
    let request = Request::put(api.url_of("/x?y=z"))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/octet-stream")
        .body(Full::from(body.clone()))
        .unwrap();
    let answer = client.send(request).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/octet-stream");
    assert!(answer.body == body);

    let calls = api.requests();
    assert_eq!(
        (&calls[0].method, calls[0].uri.path(), calls[0].status),
        (&Method::PUT, "/x", Some(StatusCode::OK))
    );
    assert_eq!(calls[0].token.as_ref(), Some(&token));
    assert!(calls[0].body == body);
    assert_eq!(api.counts().body_bytes, 300_000);
}

#[tokio::test]
async fn token_answer_has_the_headers_that_the_rfc_wants() {
    let server = AuthorizationServer::start().await.unwrap();
    server.set_refresh_in(Some(Duration::from_secs(60)));
    let answer = Client::http1()
        .post(server.token_url(), &format!("{ASK}&scope=a"), None)
        .await;
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["content-type"], "application/json");
    assert!(answer.headers.contains_key("date"));
    let json = answer.json();
    assert_eq!(json["token_type"], "Bearer");
    assert_eq!(
        (&json["expires_in"], &json["refresh_in"], &json["scope"]),
        (&json!(3600), &json!(60), &json!("a"))
    );
}

#[tokio::test]
async fn secret_with_special_characters_works_by_both_methods() {
    let (id, secret) = ("my client:1", "a b:c%d+e/é=&\"");
    let server = AuthorizationServer::builder()
        .with_client(id, secret)
        .start()
        .await
        .unwrap();
    let client = Client::http1();

    let posted = form(&[
        ("grant_type", "client_credentials"),
        ("client_id", id),
        ("client_secret", secret),
    ]);
    assert_eq!(
        client.post(server.token_url(), &posted, None).await.status,
        200
    );

    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let (plus, percent) = (encode(secret), encode(secret).replace('+', "%20"));
    assert_ne!(plus, percent);
    for encoded in [plus, percent] {
        let basic = basic(&encode(id), &encoded);
        let answer = client
            .post(
                server.token_url(),
                "grant_type=client_credentials",
                Some(&basic),
            )
            .await;
        assert_eq!(answer.status, 200, "{encoded}");
    }

    let methods: Vec<_> = server.requests().iter().map(|call| call.auth).collect();
    assert_eq!(
        methods,
        [AuthMethod::Post, AuthMethod::Basic, AuthMethod::Basic]
    );
    assert_eq!(
        server.requests()[0].parameter("client_secret"),
        Some(secret)
    );
    assert_eq!(server.counts().of_grant("client_credentials"), 3);
    // With a client of its own it doesn't know the default one.
    assert_eq!(client.post(server.token_url(), ASK, None).await.status, 401);
}

#[tokio::test]
async fn wrong_secret_is_challenged_only_if_it_came_in_the_header() {
    let server = AuthorizationServer::start().await.unwrap();
    let client = Client::http1();
    let grant = "grant_type=client_credentials";
    let basic = client
        .post(server.token_url(), grant, Some(&basic("client", "wrong")))
        .await;
    let post = client
        .post(server.token_url(), &format!("{ASK}x"), None)
        .await;
    let none = client.post(server.token_url(), grant, None).await;
    for answer in [&basic, &post, &none] {
        assert_eq!(
            (answer.status, answer.error()),
            (401, "invalid_client".into())
        );
    }
    assert!(
        basic.headers["www-authenticate"]
            .to_str()
            .unwrap()
            .starts_with("Basic")
    );
    assert!(!post.headers.contains_key("www-authenticate"));
    assert_eq!(server.requests()[2].auth, AuthMethod::None);

    server.set_client_secret("client", "secretx");
    assert_eq!(
        client
            .post(server.token_url(), &format!("{ASK}x"), None)
            .await
            .status,
        200
    );
    let counts = server.counts();
    assert_eq!(
        (
            counts.requests,
            counts.issued,
            counts.refused,
            counts.faulted
        ),
        (4, 1, 3, 0)
    );
}

#[tokio::test]
async fn token_requests_that_are_wrong_get_the_error_of_the_rfc() {
    let server = AuthorizationServer::start().await.unwrap();
    server.allow_scopes(Some(vec!["read".into()]));
    let client = Client::http1();
    let me = "client_id=client&client_secret=secret";
    for (form, error) in [
        (me.to_owned(), "invalid_request"),
        (format!("{me}&grant_type="), "invalid_request"),
        (
            format!("{me}&grant_type=implicit"),
            "unsupported_grant_type",
        ),
        (
            format!("{ASK}&grant_type=client_credentials"),
            "invalid_request",
        ),
        (format!("{ASK}&scope=write"), "invalid_scope"),
        (format!("{ASK}&scope=%22"), "invalid_scope"),
    ] {
        let answer = client.post(server.token_url(), &form, None).await;
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (400, error),
            "{form}"
        );
    }
    assert_eq!(
        client
            .post(server.token_url(), &format!("{ASK}&scope=read"), None)
            .await
            .status,
        200
    );
    assert_eq!(client.get(server.token_url(), None).await.status, 405);
    assert_eq!(
        client
            .get(format!("{}/nowhere", server.issuer()), None)
            .await
            .status,
        404
    );
    let json = Request::post(server.token_url()).header("content-type", "application/json");
    assert_eq!(
        client
            .send(json.body(Full::from(ASK)).unwrap())
            .await
            .error(),
        "invalid_request"
    );
    let long = client
        .post(server.token_url(), &"x".repeat(2 << 20), None)
        .await;
    assert_eq!(long.status, 400);
}

#[tokio::test]
async fn expired_token_is_refused() {
    let (server, api) = servers().await;
    let client = Client::http1();
    server.set_lifetime(Some(SOON));
    let short = client.token(&server, "").await;
    server.set_lifetime(None);
    let endless = client.token(&server, "").await;
    sleep(SOON).await;
    assert!(!server.is_valid(&short, None));
    let refused = client.get(api.url(), Some(&short)).await;
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.headers["www-authenticate"],
        "Bearer error=\"invalid_token\""
    );
    assert_eq!(client.get(api.url(), Some(&endless)).await.status, 200);
}

#[tokio::test]
async fn revoked_token_is_refused_and_the_others_are_not() {
    let (server, api) = servers().await;
    let client = Client::http1();
    let (one, other) = (
        client.token(&server, "").await,
        client.token(&server, "").await,
    );
    server.revoke(&one);
    assert_eq!(client.get(api.url(), Some(&one)).await.status, 401);
    assert_eq!(client.get(api.url(), Some(&other)).await.status, 200);
    server.revoke_all();
    assert_eq!(client.get(api.url(), Some(&other)).await.status, 401);
    server.repeat_token(true);
    assert_eq!(client.token(&server, "").await, other);
    assert_eq!(client.get(api.url(), Some(&other)).await.status, 401);
}

#[tokio::test]
async fn introspection_and_revocation_are_for_authenticated_clients() {
    let server = AuthorizationServer::builder()
        .with_client("client", "secret")
        .with_client("other", "secret")
        .with_lifetime(Duration::from_secs(60))
        .start()
        .await
        .unwrap();
    let client = Client::http1();
    let token = client.token(&server, "scope=a+b&resource=https://r").await;
    let (introspect, revoke) = (
        format!("{}/introspect", server.issuer()),
        format!("{}/revoke", server.issuer()),
    );
    let (ours, theirs) = (basic("client", "secret"), basic("other", "secret"));
    let form = format!("token={token}");

    assert_eq!(
        client.post(introspect.clone(), &form, None).await.error(),
        "invalid_client"
    );
    let active = client
        .post(introspect.clone(), &form, Some(&theirs))
        .await
        .json();
    assert_eq!(
        (&active["active"], &active["scope"], &active["client_id"]),
        (&json!(true), &json!("a b"), &json!("client"))
    );
    assert_eq!(active["aud"], json!(["https://r"]));
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!((now..=now + 60).contains(&active["exp"].as_u64().unwrap()));

    assert_eq!(
        client
            .post(revoke.clone(), &form, Some(&theirs))
            .await
            .error(),
        "invalid_grant"
    );
    assert!(server.is_valid(&token, None));
    assert_eq!(
        client.post(revoke.clone(), &form, Some(&ours)).await.status,
        200
    );
    assert_eq!(
        client
            .post(revoke, "token=unknown", Some(&ours))
            .await
            .status,
        200
    );
    assert_eq!(
        client.post(introspect, &form, Some(&ours)).await.json(),
        json!({ "active": false })
    );
    // Only token requests are counted.
    assert_eq!(server.counts().requests, 1);
}

#[tokio::test]
async fn metadata_name_the_issuer_and_the_endpoints() {
    let server = AuthorizationServer::start().await.unwrap();
    for name in ["openid-configuration", "oauth-authorization-server"] {
        let metadata = Client::http1()
            .get(format!("{}/.well-known/{name}", server.issuer()), None)
            .await
            .json();
        assert_eq!(metadata["issuer"], server.issuer());
        assert_eq!(metadata["token_endpoint"], server.token_url());
    }
}

#[tokio::test]
async fn api_wants_a_token_and_its_scope_where_it_says_so() {
    let server = AuthorizationServer::start().await.unwrap();
    let api = Api::builder(&server)
        .with_required_scope("/admin", "write")
        .start()
        .await
        .unwrap();
    let client = Client::http1();
    let token = client.token(&server, "scope=read").await;

    let none = client.get(api.url_of("/x"), None).await;
    assert_eq!(
        (
            none.status,
            none.headers["www-authenticate"].to_str().unwrap()
        ),
        (401, "Bearer")
    );
    assert_eq!(client.get(api.url_of("/open/x"), None).await.status, 200);
    let forbidden = client.get(api.url_of("/admin/x"), Some(&token)).await;
    assert_eq!(forbidden.status, 403);
    assert_eq!(
        forbidden.headers["www-authenticate"],
        "Bearer error=\"insufficient_scope\", scope=\"write\""
    );
    let twice = Request::get(api.url()).header("authorization", format!("Bearer {token}"));
    let twice = twice
        .header("authorization", format!("Bearer {token}"))
        .body(Full::default())
        .unwrap();
    assert_eq!(client.send(twice).await.status, 401);
    api.always_unauthorized(true);
    assert_eq!(
        client.get(api.url_of("/open"), Some(&token)).await.status,
        401
    );

    let counts = api.counts();
    assert_eq!(
        (
            counts.requests,
            counts.ok,
            counts.unauthorized,
            counts.forbidden
        ),
        (5, 1, 3, 1)
    );
    assert_eq!(
        (counts.with_token, counts.without_token, counts.connections),
        (3, 2, 1)
    );
}

#[tokio::test]
async fn api_wants_claims_once_it_was_told_to() {
    let (server, api) = servers().await;
    let client = Client::http2();
    let claims = r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#;
    let old = client.token(&server, "").await;
    assert_eq!(client.get(api.url(), Some(&old)).await.status, 200);
    api.require_claims(Some(claims));
    let refused = client.get(api.url(), Some(&old)).await;
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.headers["www-authenticate"].to_str().unwrap(),
        format!(
            "Bearer error=\"insufficient_claims\", claims=\"{}\"",
            STANDARD.encode(claims)
        )
    );
    let new = client.token(&server, &form(&[("claims", claims)])).await;
    assert_eq!(client.get(api.url(), Some(&new)).await.status, 200);
    assert_eq!(server.requests()[1].parameter("claims"), Some(claims));
    // A path without protection has none against this either, and no token is none.
    assert_eq!(client.get(api.url_of("/open"), None).await.status, 200);
    let bare = client.get(api.url(), None).await;
    assert_eq!(bare.headers["www-authenticate"], "Bearer");
    api.require_claims(None);
    assert_eq!(client.get(api.url(), Some(&old)).await.status, 200);
}

#[tokio::test]
async fn challenge_of_ones_own_is_sent_as_it_is() {
    let (_server, api) = servers().await;
    let challenge = "Bearer error=\"insufficient_scope\", scope=\"a\", DPoP";
    api.fault(Fault::challenge(403, challenge));
    let answer = Client::http1().get(api.url(), None).await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.headers["www-authenticate"], challenge);
}

#[tokio::test]
async fn unprotected_api_answers_all_and_tells_who_sent_a_token() {
    let server = AuthorizationServer::start().await.unwrap();
    let api = Api::unprotected(&server).await.unwrap();
    let client = Client::http1();
    assert_eq!(client.get(api.url(), None).await.status, 200);
    assert_eq!(client.get(api.url(), Some("stray")).await.status, 200);
    assert_eq!(
        (api.counts().without_token, api.counts().with_token),
        (1, 1)
    );
    assert_eq!(api.requests()[1].token.as_deref(), Some("stray"));
}

#[tokio::test]
async fn faults_come_in_the_order_in_which_they_were_ordered() {
    let (server, api) = servers().await;
    let client = Client::http1();
    server.fault_times(
        2,
        Fault::status(503)
            .with_header("retry-after", "7")
            .with_body("text/plain", "busy"),
    );
    server.fault(Fault::none());
    server.fault(Fault::response(200, None, "{}"));
    server.fault_always(Fault::redirect("/elsewhere"));
    let mut answers = Vec::new();
    for _ in 0..6 {
        answers.push(client.post(server.token_url(), ASK, None).await);
    }
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [503, 503, 200, 200, 307, 307]);
    assert_eq!(
        (
            &answers[0].headers["retry-after"],
            &answers[0].headers["content-type"]
        ),
        (&"7".parse().unwrap(), &"text/plain".parse().unwrap())
    );
    assert_eq!(answers[0].body, "busy");
    assert!(answers[2].json()["access_token"].is_string());
    assert_eq!(
        (
            answers[3].body.as_ref(),
            answers[3].headers.get("content-type")
        ),
        (&b"{}"[..], None)
    );
    assert_eq!(answers[4].headers["location"], "/elsewhere");
    server.clear_faults();
    assert_eq!(client.post(server.token_url(), ASK, None).await.status, 200);
    let counts = server.counts();
    assert_eq!(
        (
            counts.requests,
            counts.issued,
            counts.refused,
            counts.faulted
        ),
        (7, 2, 0, 6)
    );

    api.fault(Fault::grpc_status(16));
    let answer = client.get(api.url(), None).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(
        (
            &answer.headers["content-type"],
            &answer.headers["grpc-status"]
        ),
        (&"application/grpc".parse().unwrap(), &"16".parse().unwrap())
    );
    api.fault(Fault::status(42));
    assert_eq!(client.get(api.url(), None).await.status, 500);
    api.fault(Fault::none().with_header("date", "Thu, 01 Jan 1970 00:00:00 GMT"));
    let dated = client.get(api.url(), None).await;
    assert_eq!(
        (dated.status, &dated.headers["date"]),
        (401, &"Thu, 01 Jan 1970 00:00:00 GMT".parse().unwrap())
    );
}

#[tokio::test]
async fn delay_comes_before_the_proper_answer() {
    let server = AuthorizationServer::start().await.unwrap();
    let client = Client::http1();
    server.fault(Fault::delay(SOON));
    server.fault(Fault::status(500).after(SOON));
    for status in [200, 500] {
        let start = Instant::now();
        assert_eq!(
            client.post(server.token_url(), ASK, None).await.status,
            status
        );
        assert!(start.elapsed() >= SOON);
    }
}

#[tokio::test]
async fn dropped_connection_gives_no_answer_over_either_protocol() {
    let (server, api) = servers().await;
    for client in [Client::http1(), Client::http2()] {
        let token = client.token(&server, "").await;
        server.fault(Fault::drop_connection());
        assert!(client.try_post(server.token_url(), ASK).await.is_err());
        assert!(server.requests().last().unwrap().status.is_none());
        api.fault(Fault::drop_connection());
        assert!(client.try_get(api.url(), Some(&token)).await.is_err());
        assert_eq!(client.get(api.url(), Some(&token)).await.status, 200);
    }
}

#[tokio::test]
async fn silence_lasts_and_hurts_no_other_request() {
    let server = AuthorizationServer::start().await.unwrap();
    for client in [Client::http1(), Client::http2()] {
        server.fault(Fault::never());
        assert!(
            timeout(SOON, client.try_post(server.token_url(), ASK))
                .await
                .is_err()
        );
        assert_eq!(client.post(server.token_url(), ASK, None).await.status, 200);
    }
}

#[tokio::test]
async fn dripping_body_comes_slowly_and_whole() {
    let server = AuthorizationServer::start().await.unwrap();
    server.fault(Fault::drip(Duration::from_millis(1)));
    let request = post(server.token_url(), ASK, None);
    let mut body = Client::http1()
        .0
        .request(request)
        .await
        .unwrap()
        .into_body();
    let (mut frames, mut bytes, start) = (0, Vec::new(), Instant::now());
    while let Some(frame) = body.frame().await {
        frames += 1;
        bytes.extend_from_slice(frame.unwrap().data_ref().unwrap());
    }
    assert!(serde_json::from_slice::<Value>(&bytes).unwrap()["access_token"].is_string());
    // Several may be read at once by a reader that is late.
    assert!(frames > 1, "{frames}");
    assert!(start.elapsed() > SOON);
}

#[tokio::test]
async fn huge_body_has_as_many_bytes_as_ordered() {
    let server = AuthorizationServer::start().await.unwrap();
    for client in [Client::http1(), Client::http2()] {
        server.fault(Fault::huge(3_000_001));
        let answer = client.post(server.token_url(), ASK, None).await;
        assert_eq!((answer.status, answer.body.len()), (200, 3_000_001));
        assert!(!answer.headers.contains_key("content-length"));
    }
}

#[tokio::test]
async fn answer_before_the_body_does_not_wait_for_it() {
    let (_server, api) = servers().await;
    api.fault_times(2, Fault::none().before_body());
    for http2 in [false, true] {
        let client = Legacy::builder(TokioExecutor::new())
            .http2_only(http2)
            .build_http();
        let request = Request::post(api.url()).body(Endless).unwrap();
        let answer = timeout(LATE, client.request(request))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(answer.status(), 401);
    }
    assert_eq!(api.counts().body_bytes, 0);
}

#[tokio::test]
async fn held_requests_have_arrived_and_wait_until_released() {
    let (server, api) = servers().await;
    let client = Client::http1();
    let hold = server.hold();
    let mut asking = JoinSet::new();
    for _ in 0..5 {
        let (client, server) = (client.clone(), server.clone());
        asking.spawn(async move { client.post(server.token_url(), ASK, None).await.status });
    }
    server.wait_for_requests(5).await;
    assert_eq!(server.requests().len(), 5);
    assert_eq!((server.counts().requests, server.counts().issued), (5, 0));
    assert!(timeout(SOON, asking.join_next()).await.is_err());
    hold.release();
    assert_eq!(asking.join_all().await, [200; 5]);

    // The API judges a held request by what holds when it is let go.
    let token = client.token(&server, "").await;
    let hold = api.hold();
    let call = tokio::spawn({
        let (client, url, token) = (client.clone(), api.url(), token.clone());
        async move { client.get(url, Some(&token)).await.status }
    });
    api.wait_for_requests(1).await;
    server.revoke(&token);
    drop(hold);
    assert_eq!(call.await.unwrap(), 401);
}

#[tokio::test]
async fn tls_is_trusted_by_the_authority_alone_and_speaks_both_protocols() {
    let server = AuthorizationServer::builder()
        .with_tls()
        .start()
        .await
        .unwrap();
    let api = Api::builder(&server).with_tls().start().await.unwrap();
    assert_eq!(api.ca_pem(), server.ca_pem());
    assert!(server.token_url().starts_with("https://localhost:"));
    let roots = roots(&server.ca_pem().unwrap());

    let answer = over_tls(&roots, "h2", post(server.token_url(), ASK, None))
        .await
        .unwrap();
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    for (alpn, version) in [("h2", Version::HTTP_2), ("http/1.1", Version::HTTP_11)] {
        let answer = over_tls(&roots, alpn, get(api.url(), Some(&token)))
            .await
            .unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(api.requests().last().unwrap().version, version);
    }

    let stranger = AuthorizationServer::builder()
        .with_tls()
        .start()
        .await
        .unwrap();
    assert!(
        over_tls(&roots, "h2", post(stranger.token_url(), ASK, None))
            .await
            .is_err()
    );
    // A plain server has an authority as soon as an API of it needs one.
    let plain = AuthorizationServer::start().await.unwrap();
    assert_eq!(plain.ca_pem(), None);
    let api = Api::builder(&plain).with_tls().start().await.unwrap();
    assert!(plain.ca_pem().is_some() && plain.ca_pem() == api.ca_pem());
}

#[tokio::test]
async fn thousand_requests_at_once_over_one_http2_connection() {
    let (server, api) = servers().await;
    let client = Client::http2();
    let token = client.token(&server, "").await;
    let hold = api.hold();
    let mut calls = JoinSet::new();
    for _ in 0..1000 {
        let (client, url, token) = (client.clone(), api.url(), token.clone());
        calls.spawn(async move { client.get(url, Some(&token)).await.status });
    }
    api.wait_for_requests(1000).await;
    hold.release();
    assert_eq!(calls.join_all().await, vec![200; 1000]);
    let requests = api.requests();
    assert!(
        requests.iter().all(
            |call| call.version == Version::HTTP_2 && call.connection == requests[0].connection
        )
    );
}

/// Fewer connections than requests: not every machine lets a process have thousands of files open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousand_requests_over_a_hundred_http1_connections_and_two_threads() {
    let (server, api) = servers().await;
    api.record(false);
    let client = Client::http1();
    let token = client.token(&server, "").await;
    let hold = api.hold();
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let (client, url, token) = (client.clone(), api.url(), token.clone());
        calls.spawn(async move {
            for _ in 0..10 {
                assert_eq!(client.get(url.clone(), Some(&token)).await.status, 200);
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
    let (_server, api) = servers().await;
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
async fn reset_forgets_requests_and_keeps_tokens() {
    let (server, api) = servers().await;
    let client = Client::http1();
    let token = client.token(&server, "").await;
    client.get(api.url(), Some(&token)).await;
    server.reset_counts();
    api.reset_counts();
    assert_eq!((server.counts(), api.counts()), Default::default());
    assert!(server.requests().is_empty() && api.requests().is_empty());
    assert!(server.is_valid(&token, None));
}

#[tokio::test]
async fn last_handle_closes_the_port_and_ends_every_task() {
    let (server, api) = servers().await;
    let address = api.url().trim_start_matches("http://").to_owned();
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    for client in [Client::http1(), Client::http2()] {
        api.fault(Fault::never());
        let url = api.url();
        tokio::spawn(async move { client.try_get(url, None).await });
    }
    api.wait_for_requests(2).await;

    let clone = api.clone();
    drop(api);
    assert!(TcpStream::connect(&address).await.is_ok());
    drop((clone, server));
    timeout(LATE, async {
        // The clients' own tasks end with their connections.
        while tasks() > 0 || TcpStream::connect(&address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[test]
fn start_outside_of_a_runtime_is_an_error() {
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
    let ask = ASK.replace("secret=secret", "secret=hidden");
    let answer = client.post(server.token_url(), &ask, None).await.json();
    let token = answer["access_token"].as_str().unwrap();
    client
        .post(server.token_url(), "", Some(&basic("client", "hidden")))
        .await;
    client
        .get(api.url_of(&format!("/?access_token={token}")), Some(token))
        .await;
    let shown = format!(
        "{builder:?} {server:?} {api:?} {:?} {:?}",
        server.requests(),
        api.requests()
    );
    let shown = format!(
        "{shown} {:?} {:?} {:#?}",
        server.counts(),
        api.counts(),
        Api::builder(&server)
    );
    let encoded = STANDARD.encode("client:hidden");
    assert!(
        !shown.contains("hidden") && !shown.contains(token) && !shown.contains(&encoded),
        "{shown}"
    );
}

async fn servers() -> (AuthorizationServer, Api) {
    let server = AuthorizationServer::start().await.unwrap();
    let api = Api::start(&server).await.unwrap();
    (server, api)
}

#[derive(Clone)]
struct Client(Legacy<HttpConnector, Full<Bytes>>);

#[derive(Debug)]
struct Answer {
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
        Self(
            Legacy::builder(TokioExecutor::new())
                .http2_only(true)
                .build_http(),
        )
    }

    async fn token(&self, server: &AuthorizationServer, more: &str) -> String {
        let answer = self
            .post(server.token_url(), &format!("{ASK}&{more}"), None)
            .await;
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    async fn post(&self, url: String, form: &str, authorization: Option<&str>) -> Answer {
        self.send(post(url, form, authorization)).await
    }

    async fn try_post(&self, url: String, form: &str) -> Result<Answer, BoxError> {
        self.try_send(post(url, form, None)).await
    }

    async fn get(&self, url: String, token: Option<&str>) -> Answer {
        self.send(get(url, token)).await
    }

    async fn try_get(&self, url: String, token: Option<&str>) -> Result<Answer, BoxError> {
        self.try_send(get(url, token)).await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        self.try_send(request).await.unwrap()
    }

    async fn try_send(&self, request: Request<Full<Bytes>>) -> Result<Answer, BoxError> {
        answer(self.0.request(request).await?).await
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

async fn answer(response: Response<hyper::body::Incoming>) -> Result<Answer, BoxError> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body,
    })
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

async fn over_tls(
    roots: &RootCertStore,
    alpn: &str,
    request: Request<Full<Bytes>>,
) -> Result<Answer, BoxError> {
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
    answer(response).await
}

/// A body that is announced and never comes.
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
