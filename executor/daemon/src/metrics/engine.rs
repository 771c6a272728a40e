//! What the engine says of itself, as metrics. It counts since its start, Prometheus counts by steps.

use std::sync::{Mutex, PoisonError};

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use windlass_core::outcome::{OutcomeKind, Reason};
use windlass_engine::{Counters, Report};

use super::page::Page;

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
const ERROR_SOURCES: [&str; 10] = [
    "database",
    "kubernetes",
    "quota",
    "namespace",
    "hook",
    "identity",
    "pod",
    "intake",
    "watch",
    "recovery",
];
const OUTBOX: [&str; 5] = ["claims", "saves", "reads", "gets", "deletes"];

pub(super) struct EngineMetrics {
    leading: IntGauge,
    epoch: IntGauge,
    launches: IntGaugeVec,
    ready: IntGauge,
    creates_in_flight: IntGauge,
    create_window: IntGauge,
    namespaces_held: IntGauge,
    branches_waiting: IntGauge,
    held_for_branches: IntGauge,
    outbox: IntGaugeVec,
    counts: Counts,
    counted: Mutex<Counters>,
}

struct Counts {
    terms: IntCounter,
    seen: IntCounter,
    claimed: IntCounter,
    created: IntCounter,
    adopted: IntCounter,
    relaunched: IntCounter,
    closed: IntCounter,
    refused: IntCounter,
    orphans: IntCounter,
    recovered: IntCounter,
    outcomes: IntCounterVec,
    failures: IntCounterVec,
    errors: IntCounterVec,
}

impl EngineMetrics {
    pub(super) fn register(page: &mut Page) -> prometheus::Result<Self> {
        Ok(Self {
            leading: page.gauge("windlass_leading", "1 while this daemon holds the term.")?,
            epoch: page.gauge("windlass_term_epoch", "Number of the term held, 0 without one.")?,
            launches: page.gauges("windlass_launches", "Launches in memory, by stage.", "stage", &STAGES)?,
            ready: page.gauge("windlass_launches_ready", "Launches whose pod could be created now.")?,
            creates_in_flight: page.gauge("windlass_creates_in_flight", "Pod creations in flight.")?,
            create_window: page
                .gauge("windlass_create_window", "Pod creations that may be in flight now.")?,
            namespaces_held: page.gauge(
                "windlass_namespaces_held",
                "Namespaces held back: their quota is full, or they are not ready.",
            )?,
            branches_waiting: page.gauge(
                "windlass_pods_waiting_for_branch_interface",
                "Pods with security groups that are being created or have not started.",
            )?,
            held_for_branches: page.gauge(
                "windlass_launches_held_for_branch_interfaces",
                "Launches whose pods are not made yet: others have to get their branch interfaces first.",
            )?,
            outbox: page.gauges(
                "windlass_outbox_depth",
                "Work waiting for its batch, by kind.",
                "kind",
                &OUTBOX,
            )?,
            counts: Counts::register(page)?,
            counted: Mutex::new(Counters::default()),
        })
    }

    pub(super) fn report(&self, report: &Report) {
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
        self.branches_waiting.set(gauge(report.branches_waiting));
        self.held_for_branches.set(gauge(report.held_for_branches));
        self.namespaces_held.set(gauge(report.held_namespaces.len() as u64));
        for (kind, depth) in &report.outbox {
            self.outbox.with_label_values(&[kind]).set(gauge(*depth));
        }
        let mut before = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        self.counts.step(&before, &report.counters);
        before.clone_from(&report.counters);
    }
}

impl Counts {
    fn register(page: &mut Page) -> prometheus::Result<Self> {
        let outcomes = OutcomeKind::ALL.map(OutcomeKind::as_str);
        let reasons = Reason::ALL.map(Reason::as_str);
        Ok(Self {
            terms: page.counter("windlass_terms_total", "Terms gained by this daemon.")?,
            seen: page.counter("windlass_queueings_seen_total", "Queueings seen for the first time.")?,
            claimed: page.counter("windlass_launches_claimed_total", "Launches inserted.")?,
            created: page.counter("windlass_pods_created_total", "Pods created.")?,
            adopted: page
                .counter("windlass_pods_adopted_total", "Pods found already created for our launch.")?,
            relaunched: page
                .counter("windlass_launches_relaunched_total", "Second and later pods of a launch.")?,
            closed: page.counter("windlass_launches_closed_total", "Launches of which nothing is left.")?,
            refused: page.counter("windlass_writes_refused_total", "Writes whose guard did not hold.")?,
            orphans: page.counter("windlass_orphan_pods_total", "Pods of ours that no launch owns.")?,
            recovered: page.counter(
                "windlass_launches_recovered_total",
                "Launches made again from their pods after a failover that lost commits.",
            )?,
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
            errors: page.counters(
                "windlass_errors_total",
                "Errors met, by source.",
                "source",
                &ERROR_SOURCES,
            )?,
        })
    }

    fn step(&self, before: &Counters, now: &Counters) {
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
            (&self.recovered, now.recovered, before.recovered),
        ] {
            metric.inc_by(now.saturating_sub(before));
        }
        for (key, count) in &now.outcomes {
            let step = count.saturating_sub(before.outcomes.get(key).copied().unwrap_or(0));
            let (kind, reason) = key;
            self.outcomes.with_label_values(&[kind.as_str()]).inc_by(step);
            if let (OutcomeKind::Failure, Some(reason)) = (kind, reason) {
                self.failures.with_label_values(&[reason.as_str()]).inc_by(step);
            }
        }
        for (source, count) in &now.errors {
            let step = count.saturating_sub(before.errors.get(source).copied().unwrap_or(0));
            self.errors.with_label_values(&[source]).inc_by(step);
        }
    }
}

fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
