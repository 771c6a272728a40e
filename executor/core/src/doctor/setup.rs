//! The installation: schedulers, leader, hand-over, and bounds that belong together.

use std::collections::BTreeMap;

use super::code::Code;
use super::facts::{Facts, Scheduler};
use super::finding::Finding;
use super::words::{count, span, span_of};

/// Releases of Airflow whose tables and states this Windlass knows.
const AIRFLOW: [&str; 2] = ["2.10.", "2.11."];

pub(super) fn schedulers(facts: &Facts, found: &mut Vec<Finding>) {
    let (now, limits) = (facts.database.now, &facts.limits);
    for job in &facts.database.unregistered {
        let what = format!("SchedulerJob {} runs and has never registered", job.id);
        found.push(Finding::new(Code::SchedulerNotRegistered, format!("scheduler {}", job.id), what));
    }
    let all = &facts.database.schedulers;
    let lives = |s: &Scheduler| s.job.as_ref().is_some_and(|job| job.alive(now, limits.scheduler_silent_ms));
    if all.is_empty() {
        let what = "the table windlass.scheduler is empty";
        found.push(Finding::new(Code::NoSchedulerRegistered, "schedulers", what));
    } else if !all.iter().any(lives) {
        let last = all.iter().map(|s| s.seen_at).max().unwrap_or(now);
        let known = count(all.len(), "registered scheduler", "registered schedulers");
        let what = format!("{known}, none alive; the last was seen {} ago", span(now.ms_since(last)));
        found.push(Finding::new(Code::NoSchedulerAlive, "schedulers", what));
    }
    gone(facts, found);
    for scheduler in all.iter().filter(|s| lives(s)) {
        living(facts, scheduler, found);
    }
}

fn living(facts: &Facts, scheduler: &Scheduler, found: &mut Vec<Finding>) {
    let object = format!("scheduler {} ({})", scheduler.job_id, scheduler.hostname);
    let silent = facts.database.now.ms_since(scheduler.seen_at);
    if over(silent, facts.limits.plugin_silent_ms) {
        let what = format!("its job is alive, and its plugin was last seen {} ago", span(silent));
        found.push(Finding::new(Code::PluginSilent, &object, what));
    }
    if release(&scheduler.plugin_version) != release(&facts.limits.version) {
        let what = format!("plugin {} beside windlass {}", scheduler.plugin_version, facts.limits.version);
        found.push(Finding::new(Code::PluginVersion, &object, what));
    }
    if !AIRFLOW.iter().any(|known| scheduler.airflow_version.starts_with(known)) {
        let what = format!("Airflow {}; known are 2.10 and 2.11", scheduler.airflow_version);
        found.push(Finding::new(Code::AirflowVersion, &object, what));
    }
    if scheduler.has_pod_mutation_hook && facts.limits.refuses_hook {
        let what = "airflow_local_settings.py or a policy plugin defines pod_mutation_hook, and pod.mutation-hook is `refuse`";
        found.push(Finding::new(Code::PodMutationHook, &object, what));
    }
}

/// Each restart of a scheduler leaves a row behind: one that is gone matters while task instances name it.
fn gone(facts: &Facts, found: &mut Vec<Finding>) {
    let (now, limits) = (facts.database.now, &facts.limits);
    let mut waiting: BTreeMap<i64, usize> = BTreeMap::new();
    let open = facts.database.open.iter().filter_map(|open| open.task.as_ref());
    for task in open.chain(&facts.database.unlaunched).filter(|task| task.is_live()) {
        if let Some(job) = task.queued_by {
            *waiting.entry(job).or_default() += 1;
        }
    }
    for scheduler in &facts.database.schedulers {
        let alive = scheduler.job.as_ref().is_some_and(|job| job.alive(now, limits.scheduler_silent_ms));
        let Some(tasks) = waiting.get(&scheduler.job_id).filter(|_| !alive) else { continue };
        let how = match &scheduler.job {
            None => "its row in Airflow's table job is gone".to_owned(),
            Some(job) if job.state != "running" => format!("its job is `{}`", job.state),
            Some(job) => match job.heartbeat {
                Some(at) => format!("its last heartbeat was {} ago", span(now.ms_since(at))),
                None => "it has no heartbeat".to_owned(),
            },
        };
        let object = format!("scheduler {} ({})", scheduler.job_id, scheduler.hostname);
        let what = format!("{how}, and it owns {}", count(*tasks, "task instance", "task instances"));
        found.push(Finding::new(Code::SchedulerGone, object, what));
    }
}

pub(super) fn leader(facts: &Facts, found: &mut Vec<Finding>) {
    let (now, limits, term) = (facts.database.now, &facts.limits, &facts.database.term);
    let left = term.expires_at.ms_since(now);
    match &term.holder {
        None if term.epoch == 0 => {
            found.push(Finding::new(Code::NoLeader, "term", "no daemon has ever led here"));
        }
        None => {
            let what = format!("term {} was handed over and nobody has taken the next one", term.epoch);
            found.push(Finding::new(Code::NoLeader, "term", what));
        }
        Some(holder) if left <= 0 => {
            let what = format!("term {} of {holder} ended {} ago", term.epoch, span(-left));
            found.push(Finding::new(Code::NoLeader, "term", what));
        }
        Some(holder) if !over(left, limits.lease_ms / 3) => {
            let (left, lease) = (span(left), span_of(limits.lease_ms));
            let what = format!("term {} of {holder} has {left} left of {lease}", term.epoch);
            found.push(Finding::new(Code::TermExpiring, "term", what));
        }
        Some(_) => {}
    }
    let oldest = facts.database.oldest_handover.map(|at| now.ms_since(at));
    if let Some(waits) = oldest.filter(|waits| over(*waits, limits.handover_ms)) {
        let rows = facts.database.handovers;
        let what = format!("{rows} handover rows, the oldest {} old", span(waits));
        found.push(Finding::new(Code::HandoverBacklog, "handover", what));
    }
    let (hold, setting) = if limits.pending_ms > limits.unreachable_ms {
        (limits.pending_ms, "launch.pending-timeout-seconds")
    } else {
        (limits.unreachable_ms, "launch.node-unreachable-seconds")
    };
    if hold >= limits.queued_timeout_ms {
        let what = format!(
            "{setting} is {} and [scheduler] task_queued_timeout {}",
            span_of(hold),
            span_of(limits.queued_timeout_ms)
        );
        found.push(Finding::new(Code::HoldOverQueuedTimeout, setting, what));
    }
}

/// Major and minor number: what is released together.
fn release(version: &str) -> Vec<&str> {
    version.split('.').take(2).collect()
}

/// A span that is longer than a limit.
pub(super) fn over(ms: i64, limit: u64) -> bool {
    ms > i64::try_from(limit).unwrap_or(i64::MAX)
}
