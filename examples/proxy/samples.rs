//! Implements counters, gauges and histograms, and renders them in the text format of Prometheus.

use std::{
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use metrics::{CounterFn, HistogramFn};

/// A metric with one name and one set of labels.
#[derive(Clone)]
pub(crate) enum Sample {
    Counter(Arc<AtomicU64>),
    /// The bits of an `f64`.
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Buckets>),
}

/// A counter of the `metrics` facade.
pub(crate) struct Count(pub(crate) Arc<AtomicU64>);

impl CounterFn for Count {
    fn increment(&self, by: u64) {
        self.0.fetch_add(by, Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Relaxed);
    }
}

/// The upper bounds of the buckets, in seconds.
const BOUNDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

#[derive(Default)]
pub(crate) struct Buckets {
    /// The number of values per bucket; the last bucket is unbounded.
    counts: [AtomicU64; BOUNDS.len() + 1],
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        let _ = self.sum.fetch_update(Relaxed, Relaxed, add);
    }
}

impl Sample {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Counter(_) => "counter",
            Self::Gauge(_) => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }

    pub(crate) fn render(&self, name: &str, labels: &str, text: &mut String) {
        let braced = match labels {
            "" => String::new(),
            labels => format!("{{{labels}}}"),
        };
        // Writing to a string cannot fail.
        let _ = match self {
            Self::Counter(count) => writeln!(text, "{name}{braced} {}", count.load(Relaxed)),
            Self::Gauge(level) => writeln!(
                text,
                "{name}{braced} {}",
                f64::from_bits(level.load(Relaxed))
            ),
            Self::Histogram(buckets) => buckets.render(name, labels, &braced, text),
        };
    }
}

impl Buckets {
    fn render(
        &self,
        name: &str,
        labels: &str,
        braced: &str,
        text: &mut String,
    ) -> std::fmt::Result {
        let comma = if labels.is_empty() { "" } else { "," };
        let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut total = 0;
        for (count, bound) in self.counts.iter().zip(bounds) {
            total += count.load(Relaxed);
            writeln!(
                text,
                "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {total}"
            )?;
        }
        let sum = f64::from_bits(self.sum.load(Relaxed));
        writeln!(
            text,
            "{name}_sum{braced} {sum}\n{name}_count{braced} {total}"
        )
    }
}
