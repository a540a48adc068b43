//! Serves the issuer as a token endpoint on the loopback interface, for the peers that can only fetch over HTTP.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::issuer::Issuer;

/// Serves the issuer until the process exits, and returns the URL of the endpoint.
pub async fn serve(issuer: Arc<Issuer>) -> String {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let issuer = Arc::clone(&issuer);
            let service = service_fn(move |request| respond(Arc::clone(&issuer), request));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    url
}

async fn respond(
    issuer: Arc<Issuer>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let issued = issuer.issue(&scope(&body)).await;
    let json = serde_json::json!({
        "access_token": issued.token,
        "token_type": "Bearer",
        "expires_in": issued.lifetime.as_secs(),
    });
    let mut response = Response::new(Full::from(json.to_string()));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, "application/json".parse().unwrap());
    Ok(response)
}

/// Returns the scope of a token request, which is in a form, in JSON, or in the claims of a signed assertion.
fn scope(body: &[u8]) -> String {
    if let Ok(json) = serde_json::from_slice::<Value>(body) {
        return text(&json, "scopes");
    }
    let mut scope = String::new();
    for (name, value) in url::form_urlencoded::parse(body) {
        match &*name {
            "scope" => scope = value.into_owned(),
            "assertion" => {
                let claims = value.split('.').nth(1).unwrap_or_default();
                let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('='));
                let claims = serde_json::from_slice(&claims.unwrap_or_default());
                scope = text(&claims.unwrap_or_default(), "scope");
            }
            _ => {}
        }
    }
    scope
}

fn text(json: &Value, name: &str) -> String {
    json[name].as_str().unwrap_or_default().to_owned()
}

/// Returns the key file of a service account that uses this endpoint, with a key generated for this run.
pub fn service_account(token_url: &str) -> Value {
    static KEY: LazyLock<String> = LazyLock::new(|| {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        key.serialize_pem()
    });
    serde_json::json!({
        "type": "service_account",
        "project_id": "peers",
        "private_key_id": "1",
        "private_key": *KEY,
        "client_email": "peers@example.com",
        "client_id": "1",
        "token_uri": token_url,
    })
}
