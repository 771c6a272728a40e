//! All metrics, as typed handles. `docs/METRICS.md` is generated from here.
//!
//! Rules: prefix `windlass_`, base units, `_total` for counters only. Label values come from enums or constants; a
//! dag, task, run or pod is never a label. Zeroes are written at start so that rates exist.

mod engine;
mod page;

use std::time::Duration;

pub use page::Entry;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, Registry, TextEncoder,
};
use windlass_cluster::{Observer, Verb};
use windlass_core::ids::PodRef;
use windlass_engine::Report;

use engine::EngineMetrics;
use page::{LATENCY, Page};

const VERBS: [Verb; 8] =
    [Verb::Create, Verb::Get, Verb::Logs, Verb::List, Verb::Watch, Verb::Delete, Verb::Patch, Verb::Review];
/// Reasons of the VPC resource controller's warnings (its version 1.8.2).
const WARNINGS: [&str; 4] =
    ["BranchAllocationFailed", "BranchENIAnnotationFailed", "SecurityGroupRequested", "other"];
/// How the plugin's wake reached us.
pub const WAKES: [&str; 2] = ["socket", "notify"];
/// A turn of the loop costs microseconds; over 100 ms something is wrong.
const TURN: [f64; 6] = [0.0001, 0.001, 0.01, 0.1, 1.0, 10.0];

/// Handles for the driver; the rest follows from the engine's report.
pub struct Metrics {
    registry: Registry,
    entries: Vec<Entry>,
    engine: EngineMetrics,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    skipped_pods: IntCounter,
    watch_restarts: IntCounterVec,
    database_calls: IntCounterVec,
    database_seconds: HistogramVec,
    /// From Airflow's `queued_dttm` to the API server's answer.
    queued_to_created: Histogram,
    /// One turn of the driver's loop, without its waiting.
    pub loop_turn: Histogram,
    /// Wakes by the plugin, by way: one of [`WAKES`].
    pub wakes: IntCounterVec,
    /// A template file that could not be read again; the last good one stays in use.
    pub template_faults: IntCounter,
    controller_warnings: IntCounterVec,
    branch_interfaces: IntGauge,
}

impl Metrics {
    /// All of them, in a registry of their own.
    pub fn new() -> prometheus::Result<Self> {
        let mut page = Page::new();
        page.registry.register(Box::new(ProcessCollector::for_self()))?;
        let version = [env!("CARGO_PKG_VERSION")];
        let info = "Always 1; version: of the release that runs.";
        page.gauges("windlass_build_info", info, "version", &version)?.with_label_values(&version).set(1);
        let engine = EngineMetrics::register(&mut page)?;
        let metrics = Self {
            engine,
            requests: page.counters_of(
                "windlass_kubernetes_requests_total",
                "Calls to the API server. code: HTTP status, `none` without an answer.",
                &["verb", "code"],
            )?,
            request_seconds: page.latencies(
                "windlass_kubernetes_request_seconds",
                "Time of one call to the API server, by verb.",
                "verb",
            )?,
            skipped_pods: page.counter(
                "windlass_pods_skipped_total",
                "Pods with our installation's label and unreadable launch labels; they are left alone.",
            )?,
            watch_restarts: page.counters(
                "windlass_watch_restarts_total",
                "Watches opened again. relist: whether it had to start from a list.",
                "relist",
                &["false", "true"],
            )?,
            database_calls: page.counters_of(
                "windlass_database_calls_total",
                "Calls to the database. result: ok, failed.",
                &["call", "result"],
            )?,
            database_seconds: page.latencies(
                "windlass_database_call_seconds",
                "Time of one call to the database, by call.",
                "call",
            )?,
            queued_to_created: page.histogram(
                "windlass_queued_to_created_seconds",
                "From Airflow's queued_dttm to the API server's answer to the create.",
                &LATENCY,
            )?,
            loop_turn: page.histogram(
                "windlass_loop_turn_seconds",
                "One turn of the driver's loop.",
                &TURN,
            )?,
            wakes: page.counters("windlass_wakes_total", "Wakes by the plugin, by way.", "way", &WAKES)?,
            template_faults: page.counter(
                "windlass_template_faults_total",
                "Times that a changed pod template could not be used; the last good one stays.",
            )?,
            controller_warnings: page.counters(
                "windlass_vpc_controller_warnings_total",
                "Warnings of the VPC resource controller about pods of the watched namespaces, by reason.",
                "reason",
                &WARNINGS,
            )?,
            branch_interfaces: page.gauge(
                "windlass_branch_interfaces",
                "Branch network interfaces of the nodes that identity rules with security groups choose.",
            )?,
            registry: Registry::new(),
            entries: Vec::new(),
        };
        for verb in VERBS {
            metrics.request_seconds.with_label_values(&[verb.as_str()]);
        }
        Ok(Self { registry: page.registry, entries: page.entries, ..metrics })
    }

    /// For the reference page.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The text that Prometheus scrapes.
    pub fn encode(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// One call of the database by the driver. `call`: a constant such as `claim`.
    pub fn database_call(&self, call: &'static str, ok: bool, took: Duration) {
        self.database_calls.with_label_values(&[call, if ok { "ok" } else { "failed" }]).inc();
        self.database_seconds.with_label_values(&[call]).observe(took.as_secs_f64());
    }

    /// A pod was created so many microseconds after its task was queued. The scheduler's clock may be ahead of ours.
    pub fn created_after(&self, micros: i64) {
        self.queued_to_created.observe(micros.max(0) as f64 / 1e6);
    }

    /// The VPC resource controller warns of a pod.
    pub fn controller_warning(&self, reason: &str) {
        let reason = WARNINGS.into_iter().find(|known| *known == reason).unwrap_or("other");
        self.controller_warnings.with_label_values(&[reason]).inc();
    }

    /// The nodes have so many.
    pub fn branch_interfaces(&self, all: u64) {
        self.branch_interfaces.set(i64::try_from(all).unwrap_or(i64::MAX));
    }

    /// What the engine says of itself, now and then.
    pub fn report(&self, report: &Report) {
        self.engine.report(report);
    }
}

impl Observer for Metrics {
    fn call(&self, verb: Verb, status: Option<u16>, took: Duration) {
        let code = status.map_or("none".to_owned(), |status| status.to_string());
        self.requests.with_label_values(&[verb.as_str(), &code]).inc();
        self.request_seconds.with_label_values(&[verb.as_str()]).observe(took.as_secs_f64());
    }

    fn skipped_pod(&self, pod: &PodRef) {
        tracing::warn!("pod `{pod}` carries our installation's label and no readable launch: left alone");
        self.skipped_pods.inc();
    }

    fn watch_restarted(&self, relist: bool) {
        self.watch_restarts.with_label_values(&[if relist { "true" } else { "false" }]).inc();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use windlass_core::launch::Policy;
    use windlass_core::outcome::{OutcomeKind, Reason};
    use windlass_core::time::Millis;
    use windlass_engine::{Counters, Engine, Settings};

    use super::*;

    fn sample(metrics: &Metrics, line: &str) -> bool {
        String::from_utf8(metrics.encode().unwrap()).unwrap().lines().any(|have| have == line)
    }

    #[test]
    fn the_engines_counts_become_steps() {
        let metrics = Metrics::new().unwrap();
        let mut report = Engine::new(Settings::default(), Policy::default()).report(Millis(0));
        report.stages = BTreeMap::from([("running", 4)]);
        report.counters = Counters { created: 3, ..Counters::default() };
        report.counters.outcomes.insert((OutcomeKind::Failure, Some(Reason::Evicted)), 2);
        metrics.report(&report);
        report.counters.created = 5;
        metrics.report(&report);
        for line in [
            "windlass_pods_created_total 5",
            "windlass_launches{stage=\"running\"} 4",
            "windlass_launches{stage=\"pending\"} 0",
            "windlass_outcomes_total{outcome=\"failure\"} 2",
            "windlass_failures_total{reason=\"Evicted\"} 2",
        ] {
            assert!(sample(&metrics, line), "{line}");
        }
    }

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        for entry in Metrics::new().unwrap().entries() {
            assert!(entry.name.starts_with("windlass_") && entry.help.ends_with('.'), "{entry:?}");
            assert_eq!(entry.kind == "counter", entry.name.ends_with("_total"), "{entry:?}");
            assert_eq!(entry.kind == "histogram", entry.name.ends_with("_seconds"), "{entry:?}");
        }
    }
}
