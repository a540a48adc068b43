//! An egress proxy: programs send plain HTTP to it on this machine, and it calls the real service with the right token.
//!
//! ```text
//! cargo run --release --all-features --example proxy -- config.toml
//! ```
//!
//! It prints `listening on http://127.0.0.1:PORT` when it can serve, and logs to standard error (`RUST_LOG`). SIGTERM or
//! Ctrl-C: it stops accepting, finishes what it has and exits with 0. A configuration that can't work: one message, and 2.
//!
//! | file | what it does |
//! |---|---|
//! | `settings` | reads the configuration: the library's sections, and `[proxy]` |
//! | `server` | accepts connections, and ends well |
//! | `handler` | the way of a request, top to bottom |
//! | `origin_check` | who may come in |
//! | `upstreams` | which upstream a request is for |
//! | `requested_spec` | which token a request asks for |
//! | `headers` | what is between two neighbours alone, and is not passed on |
//! | `body` | the bodies that pass |
//! | `client` | the connections to the upstreams |
//! | `responses` | what the proxy answers by itself |
//! | `pages` | its own pages |
//! | `recorder` | the library's metrics, as Prometheus wants them |
//! | `samples` | counters, gauges and histograms, and their lines |

mod body;
mod client;
mod handler;
mod headers;
mod origin_check;
mod pages;
mod recorder;
mod requested_spec;
mod responses;
mod samples;
mod server;
mod settings;
mod upstreams;

use std::{env, io, path::PathBuf, process::ExitCode};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

use settings::Settings;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let (Some(path), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: proxy CONFIG.toml");
        return ExitCode::from(2);
    };
    log();
    let path = PathBuf::from(path);
    let ended = Settings::load(&path).and_then(|settings| {
        let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
        let ended = runtime.block_on(server::serve(settings));
        // What is still fetched is for nobody.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{}: {message}", path.display());
            ExitCode::from(2)
        }
    }
}

/// To standard error, as `RUST_LOG` says: `warn`, `tower_bearer=debug,info`.
fn log() {
    let wanted = env::var("RUST_LOG").unwrap_or_default();
    let usual = Targets::new().with_default(LevelFilter::INFO);
    let (filter, fault) = match wanted.parse::<Targets>() {
        _ if wanted.is_empty() => (usual, None),
        Ok(targets) => (targets, None),
        Err(fault) => (usual, Some(fault)),
    };
    let lines = fmt::layer().with_writer(io::stderr).with_filter(filter);
    tracing_subscriber::registry().with(lines).init();
    if let Some(fault) = fault {
        tracing::warn!(%fault, "RUST_LOG can't be read: write it as tower_bearer=debug,info");
    }
}
