//! Implements a recorder of the `metrics` facade that renders the library's metrics for Prometheus.
//!
//! An exporter crate would add a server, quantile sketches and a dozen dependencies for a few metrics.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};

use crate::samples::{Count, Sample};

/// The recorded metrics. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Families>>);

/// Samples by name and by rendered labels.
type Families = BTreeMap<String, BTreeMap<String, Sample>>;

/// The metrics that exist from the start, so that a rate starts at zero: kind, name, labels (`-` for none) and help
/// text.
const KNOWN: &str = r#"
counter tower_bearer_hits_total state="fresh" Tokens returned without waiting.
counter tower_bearer_misses_total - Tokens returned after waiting for a fetch.
counter tower_bearer_fetches_total outcome="ok" Fetches of a token, by their outcome.
histogram tower_bearer_fetch_seconds - Duration of a fetch, including all its attempts.
counter tower_bearer_token_requests_total - Requests to the token endpoint.
counter tower_bearer_rejections_total - Tokens dropped because a server rejected them.
counter tower_bearer_replays_total outcome="recovered" Rejected requests, by their recovery.
histogram tower_bearer_wait_seconds - Time that a request waited for its token.
gauge tower_bearer_entries - Tokens in the cache.
gauge tower_bearer_bytes - Approximate size of the cache in bytes.
counter tower_bearer_storms_total - Rejections ignored because the rejection limit was reached.
counter tower_bearer_evictions_total - Tokens evicted from the cache.
"#;

/// Returns the kind, name, labels and help text of each line of [`KNOWN`].
fn known() -> impl Iterator<Item = (&'static str, &'static str, &'static str, &'static str)> {
    KNOWN.lines().filter_map(|line| {
        let (kind, line) = line.split_once(' ')?;
        let (name, line) = line.split_once(' ')?;
        let (labels, help) = line.split_once(' ')?;
        Some((kind, name, labels.trim_matches('-'), help))
    })
}

impl Recorder {
    /// Installs the global recorder of the process.
    pub(crate) fn install() -> Result<Self, String> {
        let recorder = Self::default();
        for (kind, name, labels, _) in known() {
            let new = match kind {
                "counter" => Sample::Counter(Arc::default()),
                "gauge" => Sample::Gauge(Arc::default()),
                _ => Sample::Histogram(Arc::default()),
            };
            recorder.sample(name, labels.to_owned(), new);
        }
        metrics::set_global_recorder(recorder.clone()).map_err(|error| error.to_string())?;
        Ok(recorder)
    }

    /// Renders all metrics in the text format of Prometheus.
    pub(crate) fn render(&self) -> String {
        let families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (name, samples) in &*families {
            if let Some((_, _, _, help)) = known().find(|(_, known, _, _)| known == name) {
                let _ = writeln!(text, "# HELP {name} {help}");
            }
            for (index, (labels, sample)) in samples.iter().enumerate() {
                if index == 0 {
                    let _ = writeln!(text, "# TYPE {name} {}", sample.kind());
                }
                sample.render(name, labels, &mut text);
            }
        }
        text
    }

    /// Returns the sample with this name and these labels, and adds `new` if it is missing.
    fn sample(&self, name: &str, labels: String, new: Sample) -> Sample {
        let mut families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name.to_owned()).or_default();
        family.entry(labels).or_insert(new).clone()
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match self.sample(key.name(), labels(key), Sample::Counter(Arc::default())) {
            Sample::Counter(counter) => Counter::from_arc(Arc::new(Count(counter))),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match self.sample(key.name(), labels(key), Sample::Gauge(Arc::default())) {
            Sample::Gauge(gauge) => Gauge::from_arc(gauge),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        match self.sample(key.name(), labels(key), Sample::Histogram(Arc::default())) {
            Sample::Histogram(buckets) => Histogram::from_arc(buckets),
            _ => Histogram::noop(),
        }
    }
}

/// Renders the labels between the braces.
fn labels(key: &Key) -> String {
    let mut labels: Vec<String> = key
        .labels()
        .map(|label| {
            let value = label
                .value()
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            format!("{}=\"{value}\"", label.key())
        })
        .collect();
    labels.sort();
    labels.join(",")
}
