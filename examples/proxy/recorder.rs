//! The library's metrics, as Prometheus wants them: a recorder of the `metrics` facade, and its text.
//!
//! An exporter of its own would bring a server, quantile sketches and a dozen crates. There are thirteen metrics here.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};

use crate::samples::{Buckets, Count, Sample};

/// What is counted; a clone shares it.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Families>>);

/// By name, and then by labels as they are printed.
type Families = BTreeMap<String, BTreeMap<String, Sample>>;

/// What there is from the start, so that a rate has a zero to start from: the kind, the name, the labels that one of them
/// has at least (`-`: none), and the help text.
const KNOWN: &str = r#"
counter tower_bearer_hits_total state="fresh" Answers without waiting.
counter tower_bearer_misses_total - Answers that waited.
counter tower_bearer_fetches_total outcome="ok" Fetches of a token, by their outcome.
histogram tower_bearer_fetch_seconds - How long a fetch took, all its attempts together.
counter tower_bearer_token_requests_total - Requests to the token endpoint.
counter tower_bearer_rejections_total - Tokens taken out of service because a server refused them.
counter tower_bearer_replays_total outcome="recovered" Refused requests, by what was done about them.
histogram tower_bearer_wait_seconds - How long a request waited for its token.
gauge tower_bearer_entries - Tokens in the cache.
gauge tower_bearer_bytes - Bytes that they hold, about.
counter tower_bearer_storms_total - Refusals that were not believed: too many lately.
counter tower_bearer_evictions_total - Tokens that gave way to others.
"#;

/// The parts of each line of [`KNOWN`].
fn known() -> impl Iterator<Item = (&'static str, &'static str, &'static str, &'static str)> {
    KNOWN.lines().filter_map(|line| {
        let (kind, line) = line.split_once(' ')?;
        let (name, line) = line.split_once(' ')?;
        let (labels, help) = line.split_once(' ')?;
        Some((kind, name, labels.trim_matches('-'), help))
    })
}

impl Recorder {
    /// The one recorder of this process.
    pub(crate) fn install() -> Result<Self, String> {
        let recorder = Self::default();
        for (kind, name, labels, _) in known() {
            match kind {
                "counter" => drop(recorder.counter(name, labels)),
                "gauge" => drop(recorder.gauge(name, labels)),
                _ => drop(recorder.histogram(name, labels)),
            }
        }
        metrics::set_global_recorder(recorder.clone()).map_err(|error| error.to_string())?;
        Ok(recorder)
    }

    /// The text of a scrape.
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

    fn counter(&self, name: &str, labels: &str) -> Arc<AtomicU64> {
        match self.sample(name, labels, Sample::Counter(Arc::default())) {
            Sample::Counter(counter) => counter,
            _ => Arc::default(),
        }
    }

    fn gauge(&self, name: &str, labels: &str) -> Arc<AtomicU64> {
        match self.sample(name, labels, Sample::Gauge(Arc::default())) {
            Sample::Gauge(gauge) => gauge,
            _ => Arc::default(),
        }
    }

    fn histogram(&self, name: &str, labels: &str) -> Arc<Buckets> {
        match self.sample(name, labels, Sample::Histogram(Arc::default())) {
            Sample::Histogram(buckets) => buckets,
            _ => Arc::default(),
        }
    }

    /// The sample of that name. If it is of another kind than the new one, the caller's is seen by nobody.
    fn sample(&self, name: &str, labels: &str, new: Sample) -> Sample {
        let mut families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name.to_owned()).or_default();
        family.entry(labels.to_owned()).or_insert(new).clone()
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Count(self.counter(key.name(), &labels(key)))))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.gauge(key.name(), &labels(key)))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.histogram(key.name(), &labels(key)))
    }
}

/// The labels as they stand between the braces.
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
