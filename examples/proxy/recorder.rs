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

/// What there is from the start, so that a rate has a zero to start from.
const KNOWN: &[(&str, Kind, &str)] = &[
    (
        "tower_bearer_hits_total",
        Kind::Counter("state=\"fresh\""),
        "Answers without waiting.",
    ),
    (
        "tower_bearer_misses_total",
        Kind::Counter(""),
        "Answers that waited.",
    ),
    (
        "tower_bearer_fetches_total",
        Kind::Counter("outcome=\"ok\""),
        "Fetches of a token, by their outcome.",
    ),
    (
        "tower_bearer_fetch_seconds",
        Kind::Histogram,
        "How long a fetch took, all its attempts together.",
    ),
    (
        "tower_bearer_token_requests_total",
        Kind::Counter(""),
        "Requests to the token endpoint.",
    ),
    (
        "tower_bearer_rejections_total",
        Kind::Counter(""),
        "Tokens taken out of service because a server refused them.",
    ),
    (
        "tower_bearer_replays_total",
        Kind::Counter("outcome=\"recovered\""),
        "Refused requests, by what was done about them.",
    ),
    (
        "tower_bearer_wait_seconds",
        Kind::Histogram,
        "How long a request waited for its token.",
    ),
    ("tower_bearer_entries", Kind::Gauge, "Tokens in the cache."),
    (
        "tower_bearer_bytes",
        Kind::Gauge,
        "Bytes that they hold, about.",
    ),
    (
        "tower_bearer_storms_total",
        Kind::Counter(""),
        "Refusals that were not believed: too many lately.",
    ),
    (
        "tower_bearer_evictions_total",
        Kind::Counter(""),
        "Tokens that gave way to others.",
    ),
];

#[derive(Clone, Copy)]
enum Kind {
    /// With the labels that one of them has at least.
    Counter(&'static str),
    Gauge,
    Histogram,
}

impl Recorder {
    /// The one recorder of this process.
    pub(crate) fn install() -> Result<Self, String> {
        let recorder = Self::default();
        for (name, kind, _) in KNOWN {
            match *kind {
                Kind::Counter(labels) => drop(recorder.counter(name, labels)),
                Kind::Gauge => drop(recorder.gauge(name, "")),
                Kind::Histogram => drop(recorder.histogram(name, "")),
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
            if let Some((_, _, help)) = KNOWN.iter().find(|(known, _, _)| known == name) {
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
        let fresh = || Sample::Counter(Arc::default());
        self.sample(name, labels, fresh, |sample| match sample {
            Sample::Counter(counter) => Some(Arc::clone(counter)),
            _ => None,
        })
    }

    fn gauge(&self, name: &str, labels: &str) -> Arc<AtomicU64> {
        let fresh = || Sample::Gauge(Arc::default());
        self.sample(name, labels, fresh, |sample| match sample {
            Sample::Gauge(gauge) => Some(Arc::clone(gauge)),
            _ => None,
        })
    }

    fn histogram(&self, name: &str, labels: &str) -> Arc<Buckets> {
        let fresh = || Sample::Histogram(Arc::default());
        self.sample(name, labels, fresh, |sample| match sample {
            Sample::Histogram(buckets) => Some(Arc::clone(buckets)),
            _ => None,
        })
    }

    /// The sample of that name; one that nobody sees if the name is of another kind.
    fn sample<T: Default>(
        &self,
        name: &str,
        labels: &str,
        fresh: impl FnOnce() -> Sample,
        read: impl FnOnce(&Sample) -> Option<T>,
    ) -> T {
        let mut families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name.to_owned()).or_default();
        read(family.entry(labels.to_owned()).or_insert_with(fresh)).unwrap_or_default()
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
