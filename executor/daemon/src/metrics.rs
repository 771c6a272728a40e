//! All metrics, as typed handles. `docs/METRICS.md` is generated from here.
//!
//! Rules: prefix `windlass_`, base units, `_total` for counters only. Label values come from enums or constants; a
//! dag, task, run or pod is never a label. Zeroes are written at start so that rates exist.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use windlass_cluster::{Observer, Verb};
use windlass_core::ids::PodRef;
use windlass_core::outcome::{OutcomeKind, Reason};
use windlass_engine::{Counters, Report};

/// Stages as the engine's report names them.
const STAGES: [&str; 12] = [
    "claiming",
    "ready",
    "checking",
    "creating",
    "pending",
    "running",
    "judging",
    "relaunching",
    "settling",
    "settled",
    "closing",
    "closed",
];
const ERROR_SOURCES: [&str; 6] = ["database", "kubernetes", "quota", "pod", "intake", "watch"];
const OUTBOX: [&str; 5] = ["claims", "saves", "reads", "gets", "deletes"];
const VERBS: [Verb; 7] =
    [Verb::Create, Verb::Get, Verb::Logs, Verb::List, Verb::Watch, Verb::Delete, Verb::Review];
/// How the plugin's wake reached us.
pub const WAKES: [&str; 2] = ["socket", "notify"];
/// 1 ms: one statement nearby. 10 ms: one API call. 5 s: the Kubernetes objective for starting a pod. 10 min: Airflow's
/// task_queued_timeout.
const LATENCY: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 600.0];
/// A turn of the loop costs microseconds; over 100 ms something is wrong.
const TURN: [f64; 6] = [0.0001, 0.001, 0.01, 0.1, 1.0, 10.0];

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

/// Handles for the driver; the rest follows from the engine's report.
pub struct Metrics {
    registry: Registry,
    entries: Vec<Entry>,
    leading: IntGauge,
    epoch: IntGauge,
    launches: IntGaugeVec,
    ready: IntGauge,
    creates_in_flight: IntGauge,
    create_window: IntGauge,
    namespaces_held: IntGauge,
    outbox: IntGaugeVec,
    terms: IntCounter,
    seen: IntCounter,
    claimed: IntCounter,
    created: IntCounter,
    adopted: IntCounter,
    relaunched: IntCounter,
    outcomes: IntCounterVec,
    failures: IntCounterVec,
    closed: IntCounter,
    refused: IntCounter,
    orphans: IntCounter,
    errors: IntCounterVec,
    counted: Mutex<Counters>,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    skipped_pods: IntCounter,
    watch_restarts: IntCounterVec,
    /// Calls of the database. call: as in [`Metrics::database_call`]; result: ok, failed.
    database_calls: IntCounterVec,
    database_seconds: HistogramVec,
    /// From Airflow's `queued_dttm` to the API server's answer.
    pub queued_to_created: Histogram,
    /// One turn of the driver's loop, without its waiting.
    pub loop_turn: Histogram,
    /// Wakes by the plugin, by way: one of [`WAKES`].
    pub wakes: IntCounterVec,
    /// A template file that could not be read again; the last good one stays in use.
    pub template_faults: IntCounter,
}

/// Registers and remembers for the page. Collects the first error instead of failing at each step.
struct Page {
    registry: Registry,
    entries: Vec<Entry>,
}

impl Page {
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

    fn gauge(&mut self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.add("gauge", IntGauge::new(name, help)?)
    }

    fn counter(&mut self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.add("counter", IntCounter::new(name, help)?)
    }

    fn gauges(
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

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        let metric = IntCounterVec::new(Opts::new(name, help), &[label])?;
        values.iter().for_each(|value| metric.with_label_values(&[value]).inc_by(0));
        self.add("counter", metric)
    }

    fn histogram(&mut self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add("histogram", Histogram::with_opts(options)?)
    }

    fn histograms(&mut self, name: &str, help: &str, label: &str) -> prometheus::Result<HistogramVec> {
        let options = HistogramOpts::new(name, help).buckets(LATENCY.to_vec());
        self.add("histogram", HistogramVec::new(options, &[label])?)
    }
}

impl Metrics {
    /// All of them, in a registry of their own.
    pub fn new() -> prometheus::Result<Self> {
        let mut page = Page { registry: Registry::new(), entries: Vec::new() };
        page.registry.register(Box::new(ProcessCollector::for_self()))?;
        let info = "The running binary. version: of the release.";
        page.gauges("windlass_build_info", info, "version", &[])?
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        let outcomes = OutcomeKind::ALL.map(OutcomeKind::as_str);
        let reasons = Reason::ALL.map(Reason::as_str);
        let metrics = Self {
            leading: page.gauge("windlass_leading", "1 while this daemon holds the term.")?,
            epoch: page.gauge("windlass_term_epoch", "Number of the term held, 0 without one.")?,
            terms: page.counter("windlass_terms_total", "Terms gained by this daemon.")?,
            launches: page.gauges("windlass_launches", "Launches in memory, by stage.", "stage", &STAGES)?,
            ready: page.gauge("windlass_launches_ready", "Launches whose pod could be created now.")?,
            seen: page.counter("windlass_queueings_seen_total", "Queueings seen for the first time.")?,
            claimed: page.counter("windlass_launches_claimed_total", "Launches inserted.")?,
            created: page.counter("windlass_pods_created_total", "Pods created.")?,
            adopted: page
                .counter("windlass_pods_adopted_total", "Pods found already created for our launch.")?,
            relaunched: page
                .counter("windlass_launches_relaunched_total", "Second and later pods of a launch.")?,
            outcomes: page.counters(
                "windlass_outcomes_total",
                "Launches that ended.",
                "outcome",
                &outcomes,
            )?,
            failures: page.counters(
                "windlass_failures_total",
                "Launches that failed, by reason.",
                "reason",
                &reasons,
            )?,
            closed: page.counter("windlass_launches_closed_total", "Launches of which nothing is left.")?,
            refused: page.counter("windlass_writes_refused_total", "Writes whose guard did not hold.")?,
            orphans: page.counter("windlass_orphan_pods_total", "Pods of ours that no launch owns.")?,
            errors: page.counters(
                "windlass_errors_total",
                "Errors met, by source.",
                "source",
                &ERROR_SOURCES,
            )?,
            creates_in_flight: page.gauge("windlass_creates_in_flight", "Pod creations in flight.")?,
            create_window: page
                .gauge("windlass_create_window", "Pod creations that may be in flight now.")?,
            namespaces_held: page
                .gauge("windlass_namespaces_held", "Namespaces held back for their quota.")?,
            outbox: page.gauges(
                "windlass_outbox_depth",
                "Work waiting for its batch, by kind.",
                "kind",
                &OUTBOX,
            )?,
            requests: page.add("counter", request_counter()?)?,
            request_seconds: page.histograms(
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
            database_calls: page.add("counter", database_counter()?)?,
            database_seconds: page.histograms(
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
            counted: Mutex::new(Counters::default()),
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

    /// What the engine says of itself, now and then.
    pub fn report(&self, report: &Report) {
        self.leading.set(i64::from(report.leading));
        self.epoch.set(report.epoch.unwrap_or(0));
        for stage in STAGES {
            self.launches
                .with_label_values(&[stage])
                .set(gauge(report.stages.get(stage).copied().unwrap_or(0)));
        }
        self.ready.set(gauge(report.ready));
        self.creates_in_flight.set(gauge(report.creates_in_flight));
        self.create_window.set(i64::from(report.window));
        self.namespaces_held.set(gauge(report.held_namespaces.len() as u64));
        for (kind, depth) in &report.outbox {
            self.outbox.with_label_values(&[kind]).set(gauge(*depth));
        }
        self.count(&report.counters);
    }

    /// The engine counts since its start, Prometheus counts by steps.
    fn count(&self, now: &Counters) {
        let mut before = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        for (metric, now, before) in [
            (&self.terms, now.terms, before.terms),
            (&self.seen, now.seen, before.seen),
            (&self.claimed, now.claimed, before.claimed),
            (&self.created, now.created, before.created),
            (&self.adopted, now.adopted, before.adopted),
            (&self.relaunched, now.relaunched, before.relaunched),
            (&self.closed, now.closed, before.closed),
            (&self.refused, now.refused, before.refused),
            (&self.orphans, now.orphans, before.orphans),
        ] {
            metric.inc_by(now.saturating_sub(before));
        }
        for (key, count) in &now.outcomes {
            let step = count.saturating_sub(before.outcomes.get(key).copied().unwrap_or(0));
            let (kind, reason) = key;
            self.outcomes.with_label_values(&[kind.as_str()]).inc_by(step);
            if let Some(reason) = reason {
                self.failures.with_label_values(&[reason.as_str()]).inc_by(step);
            }
        }
        for (source, count) in &now.errors {
            let step = count.saturating_sub(before.errors.get(source).copied().unwrap_or(0));
            self.errors.with_label_values(&[source]).inc_by(step);
        }
        before.clone_from(now);
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

fn request_counter() -> prometheus::Result<IntCounterVec> {
    let help = "Calls to the API server. code: HTTP status, `none` without an answer.";
    IntCounterVec::new(Opts::new("windlass_kubernetes_requests_total", help), &["verb", "code"])
}

fn database_counter() -> prometheus::Result<IntCounterVec> {
    let help = "Calls to the database. result: ok, failed.";
    IntCounterVec::new(Opts::new("windlass_database_calls_total", help), &["call", "result"])
}

fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
