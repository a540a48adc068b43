//! Tests client authentication over sockets: every method, rejected credentials, and credentials that are replaced at run time.

mod methods;
mod mutual_tls;
mod redaction;
mod rotation;
#[path = "../support/temp_file.rs"]
mod temp_file;

use std::fs;

use temp_file::TempFile;
use tower_bearer::{
    testing::{AuthorizationServer, AuthorizationServerBuilder},
    transport::Transport,
};

async fn start(builder: AuthorizationServerBuilder) -> AuthorizationServer {
    builder.start().await.unwrap()
}

fn transports() -> [Transport; 2] {
    [Transport::reqwest(), Transport::hyper()]
}

fn vector(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/keys");
    fs::read_to_string(format!("{folder}/{name}")).unwrap()
}
