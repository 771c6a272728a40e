//! What must hold between settings, and what is worth a word though it is no fault.

use windlass_core::identity::rules::Rules;
use windlass_core::ids::InstallationId;

use super::airflow::Airflow;
use super::fault::Fault;
use super::kubernetes::Kubernetes;
use super::options::keys_of;
use super::settings::{MutationHook, Settings};
use super::typed::Values;
use super::{AirflowSettings, options};

/// Trust in an own term ends this much before the database's end of it, in milliseconds: the clocks' drift over one
/// lease (the engine's margin).
const MARGIN_MS: u64 = 500;

/// Every relation that does not hold.
pub(super) fn relations(own: &Settings, airflow: &AirflowSettings) -> Vec<Fault> {
    let mut faults = least(own);
    let mut must = |holds: bool, place: &str, what: String, remedy: &str| {
        if !holds {
            faults.push(Fault::new(place, what, remedy));
        }
    };
    let (lease, renew, create) = (own.term.lease_ms, own.term.renew_ms, own.create.timeout_ms);
    must(
        renew.saturating_mul(3) <= lease,
        "term.renew-ms",
        format!("fewer than three renewals of {renew} ms fit into term.lease-ms = {lease}"),
        "raise the lease or renew more often: one slow answer must not end a term",
    );
    must(
        create.saturating_add(MARGIN_MS) < lease,
        "create.timeout-ms",
        format!(
            "a create of {create} ms and the margin of {MARGIN_MS} ms do not fit into term.lease-ms = {lease}"
        ),
        "lower create.timeout-ms or raise term.lease-ms: a create must end before its term does",
    );
    must(
        own.pod.mutation_hook != MutationHook::Helper || !own.wake.socket.as_os_str().is_empty(),
        "pod.mutation-hook",
        "is `helper`, and wake.socket names no folder that is shared with the scheduler".into(),
        "set WINDLASS_WAKE_SOCKET for both containers",
    );
    let pending = own.launch.pending_timeout_seconds.saturating_mul(1_000);
    let queued = airflow.task_queued_timeout_ms;
    must(
        pending < queued.max(1),
        "launch.pending-timeout-seconds",
        format!(
            "{} s is not shorter than [scheduler] task_queued_timeout = {} s",
            pending / 1_000,
            queued / 1_000
        ),
        "lower it, or raise task_queued_timeout for all of Airflow: else Airflow queues the task again before",
    );
    must(
        (1..=30).contains(&own.observe.watch_timeout_seconds),
        "observe.watch-timeout-seconds",
        format!("{} s is not between 1 and 30", own.observe.watch_timeout_seconds),
        "choose one between",
    );
    faults
}

/// A pod in a namespace that is not watched would run unseen.
pub(super) fn namespaces(path: &str, rules: &Rules, kubernetes: &Kubernetes) -> Vec<Fault> {
    let settings = kubernetes.pod_settings(InstallationId(String::new()));
    let mut faults = Vec::new();
    for rule in rules.all() {
        if let Some(namespace) = rule.gives.namespace.as_ref().filter(|name| !settings.watches(name)) {
            let what =
                format!("identity rule `{}` names namespace `{namespace}`, which is not watched", rule.name);
            let remedy = "set [kubernetes_executor] multi_namespace_mode and add it to \
                          multi_namespace_mode_namespace_list";
            faults.push(Fault::new(format!("{path}:{}", rule.place), what, remedy));
        }
    }
    faults
}

/// Settings of which 0 makes no sense.
fn least(own: &Settings) -> Vec<Fault> {
    let at_least_one = [
        ("create.concurrency", u64::from(own.create.concurrency)),
        ("create.timeout-ms", own.create.timeout_ms),
        ("term.renew-ms", own.term.renew_ms),
        ("term.poll-ms", own.term.poll_ms),
        ("intake.full-pass-seconds", own.intake.full_pass_seconds),
        ("intake.poll-ms", own.intake.poll_ms),
        ("intake.batch", u64::from(own.intake.batch)),
        ("launch.node-unreachable-seconds", own.launch.node_unreachable_seconds),
        ("server.live-timeout-seconds", own.server.live_timeout_seconds),
        ("retention.days", u64::from(own.retention.days)),
    ];
    let zero = at_least_one.into_iter().filter(|(_, value)| *value == 0);
    let mut faults: Vec<_> =
        zero.map(|(name, _)| Fault::new(name, "is 0", "write at least 1, or leave it out")).collect();
    if own.database.pool_size < 3 {
        let remedy = "write at least 3: the term is renewed and wakes are heard beside the other work";
        faults.push(Fault::new("database.pool-size", format!("is {}", own.database.pool_size), remedy));
    }
    faults
}

/// Airflow makes pods without a template that is not there, and so do we: beside a scheduler that has it mounted, all
/// pods would lose what it says.
pub(super) fn missing_template(kubernetes: &Kubernetes, values: &Values) -> Option<String> {
    let path = kubernetes.pod_template_file.as_deref().filter(|path| !path.exists())?;
    let source = values.source("kubernetes_executor", "pod_template_file");
    Some(format!(
        "the pod template `{}` ([kubernetes_executor] pod_template_file, {source}) does not exist: pods are made \
         without it; mount it into the daemon's container as into the scheduler's",
        path.display()
    ))
}

/// What an operator may want to know.
pub(super) fn notes(airflow: &Airflow, settings: &AirflowSettings, values: &Values) -> Vec<String> {
    let mut notes = Vec::new();
    let (path, there) = airflow.file();
    if !there {
        notes.push(format!("{} is not there: Airflow's values are environment and defaults", path.display()));
    }
    for section in ["kubernetes_executor", "kubernetes"] {
        let known = keys_of("kubernetes_executor");
        for (name, line) in airflow.unknown_options(section, &known) {
            let is_command = known.iter().any(|key| name.strip_prefix(key) == Some("_cmd"));
            let why = if is_command {
                "Airflow reads _cmd for secrets only"
            } else {
                "no provider since 10.25 reads it"
            };
            notes.push(format!("{}:{line}: [{section}] {name} has no effect: {why}", path.display()));
        }
    }
    if !settings.executor.to_lowercase().contains("windlass") {
        notes.push(format!(
            "[core] executor = `{}` ({}) does not name Windlass: nothing is launched unless the schedulers' own \
             configuration does",
            settings.executor,
            values.source("core", "executor")
        ));
    }
    for option in options::OPTIONS.iter().filter(|o| matches!(o.stance, options::Stance::NotNeeded(_))) {
        let source = values.source(option.name.section, option.name.key);
        if source != super::Source::Default
            && let options::Stance::NotNeeded(why) = option.stance
        {
            notes.push(format!(
                "[{}] {} ({source}) is not needed: {why}",
                option.name.section, option.name.key
            ));
        }
    }
    notes
}
