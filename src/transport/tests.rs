//! These tests run the clients against servers that misbehave, on real sockets.

use std::{
    io::Write,
    net::TcpListener,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Waker},
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    runtime::{self, Runtime},
    sync::mpsc,
};

use super::{
    Transport,
    responder::{Responder, respond},
};
use crate::error::{ErrorKind, TokenError};

fn each() -> Vec<Transport> {
    vec![
        #[cfg(feature = "reqwest")]
        Transport::reqwest(),
        #[cfg(feature = "hyper")]
        Transport::hyper(),
    ]
}

fn post(url: impl AsRef<str>) -> Request<Bytes> {
    Request::post(url.as_ref())
        .body(Bytes::from_static(b"a=b"))
        .unwrap()
}

fn current_thread() -> Runtime {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn multi_thread() -> Runtime {
    runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

async fn send(transport: &Transport, url: impl AsRef<str>) -> Result<Response<Bytes>, TokenError> {
    tokio::time::timeout(Duration::from_secs(20), transport.send(post(url)))
        .await
        .expect("no response within 20 s")
}

fn assert_unreachable(error: &TokenError, origin: &str) {
    assert_eq!(error.kind(), ErrorKind::Network, "{error:?}");
    assert!(error.is_retryable());
    let shown = format!("{error} {error:?}");
    assert!(
        shown.contains(origin) && !shown.contains("hunter2"),
        "{shown}"
    );
}

/// Writes until the peer closes the connection, and returns the number of bytes written.
fn write_until_closed(stream: &mut dyn Write, chunk: &[u8], at_most: usize) -> u64 {
    let mut written = 0;
    for _ in 0..at_most {
        if stream
            .write_all(chunk)
            .and_then(|()| stream.flush())
            .is_err()
        {
            break;
        }
        written += chunk.len() as u64;
    }
    written
}

#[tokio::test]
async fn redirect_is_not_followed() {
    for transport in each() {
        let elsewhere = Responder::json("{}");
        let location = format!("location: {}\r\n", elsewhere.url("/"));
        let server = Responder::start(move |stream| {
            respond(stream, "307 Temporary Redirect", &location, "");
            true
        });
        let response = send(&transport, server.url("/token")).await.unwrap();
        assert_eq!(response.status(), 307);
        assert!(response.headers().contains_key("location"));
        assert_eq!(server.requests().len(), 1);
        assert!(elsewhere.requests().is_empty());
    }
}

#[tokio::test]
async fn body_with_an_excessive_content_length_is_not_read() {
    for transport in each() {
        let (report, mut reported) = mpsc::unbounded_channel();
        let server = Responder::start(move |stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 50000000\r\n\r\n");
            report
                .send(write_until_closed(stream, &[b' '; 50_000], 1000))
                .unwrap();
            false
        });
        let error = send(&transport, server.url("/")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(!error.is_retryable());
        // Only what fits into the buffers of the sockets has been written.
        assert!(reported.recv().await.unwrap() < 20_000_000);
    }
}

#[tokio::test]
async fn endless_body_is_rejected_at_the_limit() {
    for transport in each() {
        let (report, mut reported) = mpsc::unbounded_channel();
        let server = Responder::start(move |stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            let chunk = format!("c350\r\n{}\r\n", " ".repeat(50_000));
            report
                .send(write_until_closed(stream, chunk.as_bytes(), 2000))
                .unwrap();
            false
        });
        let error = send(&transport, server.url("/")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error:?}");
        assert!(reported.recv().await.unwrap() < 20_000_000);
    }
}

#[tokio::test]
async fn body_of_exactly_the_limit_is_read() {
    for transport in each() {
        let server = Responder::start(|stream| {
            respond(stream, "200 OK", "", &" ".repeat(1 << 20));
            true
        });
        let response = send(&transport, server.url("/")).await.unwrap();
        assert_eq!(response.body().len(), 1 << 20);
    }
}

#[tokio::test]
async fn body_in_chunks_of_one_byte_is_collected() {
    for transport in each() {
        let server = Responder::start(|stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            for i in 0..9000 {
                let digit = i % 10;
                let _ = stream.write_all(format!("1\r\n{digit}\r\n").as_bytes());
                let _ = stream.flush();
            }
            let _ = stream.write_all(b"0\r\n\r\n");
            true
        });
        let response = send(&transport, server.url("/")).await.unwrap();
        assert_eq!(response.body(), &"0123456789".repeat(900));
    }
}

#[tokio::test]
async fn response_is_not_decompressed() {
    for transport in each() {
        let server = Responder::start(|stream| {
            respond(stream, "200 OK", "content-encoding: gzip\r\n", "as it is");
            true
        });
        let response = send(&transport, server.url("/")).await.unwrap();
        assert_eq!(response.body(), "as it is");
        assert!(!server.requests()[0].contains("accept-encoding"));
    }
}

#[tokio::test]
async fn request_after_a_cancelled_one_succeeds() {
    for transport in each() {
        let count = AtomicU64::new(0);
        let server = Responder::start(move |stream| {
            if count.fetch_add(1, Ordering::Relaxed) == 0 {
                // Keeps the connection open without a response.
                loop {
                    thread::park();
                }
            }
            respond(stream, "200 OK", "", "{}");
            true
        });
        let silent = transport.send(post(server.url("/")));
        let given_up = tokio::time::timeout(Duration::from_millis(100), silent).await;
        assert!(given_up.is_err());
        assert!(send(&transport, server.url("/")).await.is_ok());
    }
}

#[tokio::test]
async fn closed_connection_is_a_network_error() {
    for transport in each() {
        for half in [
            "",
            "HTTP/1.1 200 OK\r\nx: y",
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
        ] {
            let server = Responder::start(move |stream| {
                let _ = stream.write_all(half.as_bytes());
                false
            });
            let url = server.url("/?secret=hunter2");
            let error = send(&transport, url).await.unwrap_err();
            assert_unreachable(&error, &server.url(""));
        }
    }
}

#[tokio::test]
async fn error_of_a_closed_port_names_host_and_port() {
    for transport in each() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let url = format!("{origin}/?secret=hunter2");
        let error = send(&transport, url).await.unwrap_err();
        assert_unreachable(&error, &origin);
        assert!(error.to_string().starts_with("can't reach"), "{error}");
    }
}

#[tokio::test]
async fn plain_http_to_a_remote_host_is_not_sent() {
    let mut transports = each();
    transports.push(Transport::from_fn(async |_| panic!("sent")));
    for transport in transports {
        let url = "http://login.example/?secret=hunter2";
        let error = send(&transport, url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn body_limit_applies_to_a_custom_client() {
    let transport =
        Transport::from_fn(async |_| Ok(Response::new(Bytes::from(vec![0; (1 << 20) + 1]))));
    let error = send(&transport, "https://x/").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
}

#[test]
fn request_outside_a_runtime_returns_an_error() {
    for transport in each() {
        let transport = transport.with_connect_timeout(Duration::from_secs(1));
        let mut sending = pin!(transport.send(post("https://127.0.0.1:1/")));
        let polled = sending
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        let std::task::Poll::Ready(Err(error)) = polled else {
            panic!("{polled:?}");
        };
        assert_eq!(error.kind(), ErrorKind::Configuration);
    }
}

#[test]
fn client_works_after_its_first_runtime_has_ended() {
    for transport in each() {
        let server = Responder::json("{}");
        let flavors: [fn() -> Runtime; 2] = [current_thread, multi_thread];
        for runtime in flavors.repeat(2) {
            let runtime = runtime();
            for _ in 0..3 {
                runtime.block_on(send(&transport, server.url("/"))).unwrap();
            }
        }
        assert_eq!(server.requests().len(), 12);
    }
}

/// Starts a TLS server on loopback, and returns it with the root certificate of its issuer.
fn tls_server() -> (Responder, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned()];
    let leaf = CertificateParams::new(names).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let server = Responder::start_over(
        move |tcp| {
            let connection = ServerConnection::new(config.clone()).unwrap();
            Box::new(StreamOwned::new(connection, tcp))
        },
        |stream| {
            respond(stream, "200 OK", "", "{}");
            true
        },
    );
    (server, root.pem())
}

#[tokio::test]
async fn root_certificate_is_trusted_only_if_configured() {
    let (server, root) = tls_server();
    let origin = format!("https://{}", server.address);
    for transport in each() {
        let error = send(&transport, format!("{origin}/?hunter2"))
            .await
            .unwrap_err();
        assert_unreachable(&error, &origin);
        assert!(error.to_string().contains("certificate"), "{error}");

        let transport = transport
            .with_root_certificate_pem(root.as_bytes())
            .unwrap()
            .with_connect_timeout(Duration::from_secs(9));
        let response = send(&transport, &origin).await.unwrap();
        assert_eq!(response.body(), "{}");
    }
}

#[tokio::test]
async fn connect_timeout_includes_the_tls_handshake() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    for transport in each() {
        let transport = transport.with_connect_timeout(Duration::from_millis(100));
        let error = send(&transport, &url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
        assert!(error.is_retryable());
    }
}

#[test]
fn text_without_a_root_certificate_is_rejected() {
    for transport in each() {
        for pem in [
            "",
            "junk",
            "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
        ] {
            let error = transport
                .clone()
                .with_root_certificate_pem(pem.as_bytes())
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
        }
    }
    let custom = Transport::from_fn(async |_| Ok(Response::new(Bytes::new())));
    assert!(custom.with_root_certificate_pem(b"").is_err());
}

#[tokio::test]
async fn malformed_root_certificate_is_a_configuration_error() {
    for transport in each() {
        let pem = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = match transport.with_root_certificate_pem(pem) {
            Ok(transport) => send(&transport, "https://127.0.0.1:1/").await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error:?}");
    }
}

#[test]
fn idle_runtime_does_not_block_requests_in_another() {
    for transport in each() {
        let server = Responder::json("{}");
        let (idle, busy) = (current_thread(), current_thread());
        idle.block_on(send(&transport, server.url("/"))).unwrap();
        busy.block_on(send(&transport, server.url("/"))).unwrap();
        multi_thread()
            .block_on(send(&transport, server.url("/")))
            .unwrap();
    }
}
