//! The proxy's own pages: `/-/health`, `/-/tokens`, `/-/metrics`.

use std::time::Duration;

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tower_bearer::{TokenCache, cache::Entry};

use crate::{
    answer::{only_get, page, problem},
    body::Payload,
    recorder::Recorder,
};

pub(crate) struct Pages {
    cache: TokenCache,
    recorder: Recorder,
}

impl Pages {
    /// The pages; from here on, the library's metrics are recorded.
    pub(crate) fn new(cache: TokenCache) -> Result<Self, String> {
        let recorder = Recorder::install()?;
        Ok(Self { cache, recorder })
    }

    pub(crate) fn show(&self, method: &Method, name: &str) -> Response<Payload> {
        let known = matches!(name, "health" | "tokens" | "metrics");
        if known && !matches!(*method, Method::GET | Method::HEAD) {
            return only_get();
        }
        match name {
            "health" => page("text/plain; charset=utf-8", "ok\n".into()),
            "tokens" => page("application/json", self.tokens().to_string()),
            "metrics" => {
                self.cache.publish_metrics();
                page(
                    "text/plain; version=0.0.4; charset=utf-8",
                    self.recorder.render(),
                )
            }
            _ => {
                let detail = "the proxy's own pages are /-/health, /-/tokens and /-/metrics";
                problem(StatusCode::NOT_FOUND, "not_found", detail)
            }
        }
    }

    fn tokens(&self) -> Value {
        let stats = self.cache.stats();
        let tokens: Vec<Value> = self.cache.entries().iter().map(shown).collect();
        json!({
            "entries": stats.entries,
            "bytes": stats.bytes,
            "hits": stats.hits,
            "misses": stats.misses,
            "fetches": stats.fetches,
            "fetch_failures": stats.fetch_failures,
            "rejections": stats.rejections,
            "replays": stats.replays,
            "tokens": tokens,
        })
    }
}

/// What is known of one token. The token is not in it.
fn shown(entry: &Entry) -> Value {
    let seconds = |left: Option<Duration>| left.map(|left| left.as_secs());
    json!({
        "scopes": entry.spec.iter_scopes().collect::<Vec<_>>(),
        "resource": entry.spec.iter_resources().collect::<Vec<_>>(),
        "tenant": entry.spec.tenant(),
        "state": entry.state.as_str(),
        "expires_in": seconds(entry.expires_in),
        "refresh_in": seconds(entry.refresh_in),
        "generation": entry.generation,
        "from": entry.origin.map(|origin| origin.as_str()),
        "last_error": entry.last_error.as_ref().map(|error| format!("{}: {error}", error.kind())),
    })
}
