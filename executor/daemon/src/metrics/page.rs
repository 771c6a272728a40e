//! Registers metrics, and remembers them for `docs/METRICS.md`.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// 1 ms: one statement nearby. 10 ms: one API call. 5 s: the Kubernetes objective for starting a pod. 10 min: Airflow's
/// task_queued_timeout.
pub(super) const LATENCY: [f64; 12] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 600.0];

/// What the reference page says of one metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// With unit and `_total`.
    pub name: String,
    /// counter, gauge or histogram.
    pub kind: &'static str,
    /// Label names.
    pub labels: Vec<String>,
    /// One sentence.
    pub help: String,
}

/// The registry and its page. Label values that are known are written as zero, so that rates exist from the start.
pub(super) struct Page {
    pub(super) registry: Registry,
    pub(super) entries: Vec<Entry>,
}

impl Page {
    pub(super) fn new() -> Self {
        Self { registry: Registry::new(), entries: Vec::new() }
    }

    fn add<C: Collector + Clone + 'static>(
        &mut self,
        kind: &'static str,
        metric: C,
    ) -> prometheus::Result<C> {
        for desc in metric.desc() {
            let (name, help) = (desc.fq_name.clone(), desc.help.clone());
            self.entries.push(Entry { name, kind, labels: desc.variable_labels.clone(), help });
        }
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.add("gauge", IntGauge::new(name, help)?)
    }

    pub(super) fn counter(&mut self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.add("counter", IntCounter::new(name, help)?)
    }

    pub(super) fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: &[&str],
    ) -> prometheus::Result<IntGaugeVec> {
        let metric = IntGaugeVec::new(Opts::new(name, help), &[label])?;
        values.iter().for_each(|value| metric.with_label_values(&[value]).set(0));
        self.add("gauge", metric)
    }

    pub(super) fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        let metric = self.counters_of(name, help, &[label])?;
        values.iter().for_each(|value| metric.with_label_values(&[value]).inc_by(0));
        Ok(metric)
    }

    /// With several labels, whose values only show as they come.
    pub(super) fn counters_of(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.add("counter", IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn histogram(
        &mut self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> prometheus::Result<Histogram> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add("histogram", Histogram::with_opts(options)?)
    }

    /// Latencies, by label.
    pub(super) fn latencies(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
    ) -> prometheus::Result<HistogramVec> {
        let options = HistogramOpts::new(name, help).buckets(LATENCY.to_vec());
        self.add("histogram", HistogramVec::new(options, &[label])?)
    }
}
