//! An egress proxy: local programs send plain HTTP to it, and it calls the real service with the right token.
//!
//! ```text
//! cargo run --release --all-features --example proxy -- config.toml
//! ```
//!
//! It prints `listening on http://127.0.0.1:PORT` when it is ready, and logs to standard error (`RUST_LOG`). After SIGTERM
//! or Ctrl-C it finishes requests in progress and exits with 0. An invalid configuration ends it with one message and 2.
//!
//! | file | purpose |
//! |---|---|
//! | `settings` | reads the configuration: the library's sections, and `[proxy]` |
//! | `server` | accepts connections, and shuts down gracefully |
//! | `handler` | handles a request from top to bottom |
//! | `origin_check` | rejects requests of web pages and for foreign hosts |
//! | `upstreams` | selects the upstream of a request |
//! | `requested_spec` | reads the headers that request another token |
//! | `headers` | removes hop-by-hop headers |
//! | `body` | the body type |
//! | `client` | the HTTP client for upstreams |
//! | `responses` | the proxy's own responses |
//! | `pages` | its pages |
//! | `recorder` | records metrics for Prometheus |
//! | `samples` | counters, gauges and histograms |

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
        // No caller waits for a fetch that is still running.
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

/// Logs to standard error with the filter in `RUST_LOG`, such as `warn` or `tower_bearer=debug,info`.
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
        tracing::warn!(%fault, "RUST_LOG is not valid: write it as tower_bearer=debug,info");
    }
}
