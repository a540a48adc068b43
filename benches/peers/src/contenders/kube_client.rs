//! Measures the Kubernetes client's layer, built from a kubeconfig: with an exec plugin, and with a token file.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use ::kube_client::{
    Config,
    client::{ConfigExt, middleware::AuthLayer},
    config::{AuthInfo, ExecConfig},
};
use serde_json::{Value, json};
use tower::{BoxError, Layer};

use crate::{
    contender::{Contender, caller, nothing, through},
    endpoint,
    issuer::Issuer,
    services::{Api, Nothing, URL},
};

const NAME: &str = "kube-client";

/// The argument that makes this program act as the plugin. The URL of the token endpoint follows it.
pub const PLUGIN: &str = "--plugin";

pub async fn exec_plugin() -> Contender {
    let layer = with_plugin(endpoint::serve(Issuer::new()).await).await;
    Contender {
        package: NAME,
        what: "`AuthLayer`, exec plugin",
        without: nothing(),
        with: through(layer.layer(Nothing::<BoxError>::new())),
        cold: Some(Box::new(|issuer| {
            Box::pin(async move {
                let url = endpoint::serve(Arc::clone(&issuer)).await;
                // The layer runs its plugin when it is built. That token has expired already, so the first request runs
                // the plugin again.
                let delay = issuer.delay();
                issuer.set_delay(Duration::ZERO);
                issuer.set_lifetime(Some(Duration::ZERO));
                let layer = with_plugin(url).await;
                issuer.set_lifetime(None);
                issuer.set_delay(delay);
                issuer.reset_counts();
                caller(layer.layer(Api::<BoxError>::new(issuer)))
            })
        })),
        reacts: false,
        scopes: false,
        note: "runs a process for each fetch; the one that its constructor runs is not counted; does not react to a 401",
    }
}

pub fn token_file() -> Contender {
    let file = std::env::temp_dir().join(format!("tower-bearer-peers-{}", std::process::id()));
    fs::write(&file, "t".repeat(1024)).unwrap();
    let layer = layer(AuthInfo {
        token_file: Some(file.display().to_string()),
        ..Default::default()
    });
    // The layer has read the file, and keeps the token when the file is deleted.
    fs::remove_file(&file).unwrap();
    Contender {
        package: NAME,
        what: "`AuthLayer`, token file",
        without: nothing(),
        with: through(layer.layer(Nothing::<BoxError>::new())),
        cold: None,
        reacts: false,
        scopes: false,
        note: "reads a file at most once a minute, and fetches nothing",
    }
}

async fn with_plugin(url: String) -> AuthLayer {
    let program = std::env::current_exe().unwrap();
    let exec = ExecConfig {
        api_version: Some("client.authentication.k8s.io/v1".into()),
        command: Some(program.display().to_string()),
        args: Some(vec![PLUGIN.into(), url]),
        env: None,
        drop_env: None,
        install_hint: None,
        interactive_mode: None,
        provide_cluster_info: false,
        cluster: None,
        other: BTreeMap::new(),
    };
    let auth_info = AuthInfo {
        exec: Some(exec),
        ..Default::default()
    };
    // The constructor blocks its thread until the plugin exits.
    tokio::task::spawn_blocking(|| layer(auth_info))
        .await
        .unwrap()
}

fn layer(auth_info: AuthInfo) -> AuthLayer {
    let mut config = Config::new(URL.parse().unwrap());
    config.auth_info = auth_info;
    config.auth_layer().unwrap().unwrap()
}

/// Acts as the plugin: fetches a token from the endpoint and prints it in the format that Kubernetes requires.
pub fn run_plugin(url: &str) {
    let address = url.trim_start_matches("http://").trim_end_matches("/token");
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST /token HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let body = response.split_once("\r\n\r\n").unwrap().1;
    let token: Value = serde_json::from_str(body).unwrap();
    let expires_at = match token["expires_in"].as_u64() {
        Some(0) => "2000-01-01T00:00:00Z",
        _ => "2999-01-01T00:00:00Z",
    };
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": { "token": token["access_token"], "expirationTimestamp": expires_at },
    });
    println!("{credential}");
}
