//! Asks everything that there is to ask, and goes on after a failure where it can.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use scheduler_bridge::{BridgeError, LookLimits, Store};
use windlass_cluster::{Cluster, Level, NoObserver, Selection};
use windlass_core::doctor::{ClusterFacts, Code, Facts, Finding, confirmed, examine as judge};
use windlass_core::ids::{Attempt, InstallationId, LaunchId, TaskKey};

use super::report::{CHECKS, ROLES, Report};
use super::{assume, eks};
use crate::cli::Failure;
use crate::config::Config;
use crate::config::fault::{Fault, Faults};
use crate::config::settings::MutationHook;
use crate::hook::Hook;
use crate::login;
use crate::pods::{Renderer, imaginary};
use crate::surroundings::looks;

/// Between two looks: longer than what a leader needs for any one step.
const SECOND_LOOK: Duration = Duration::from_secs(5);
/// Pods and rows of each kind that are read: some 20 MB.
const ROWS_MAX: u32 = 20_000;
/// Checks that need the database's rows.
const OF_THE_LOOK: [&str; 3] = ["schedulers", "leader", "tasks"];
/// Ids and keys per statement.
const BATCH: usize = 1_000;

/// What was found, and the doors for mending it.
pub(super) struct Seen {
    /// For people.
    pub(super) report: Report,
    /// Open.
    pub(super) store: Option<Store>,
    /// Connected.
    pub(super) cluster: Option<Cluster>,
}

impl Seen {
    /// Closes the doors.
    pub(super) async fn close(self) {
        if let Some(store) = self.store {
            store.close().await;
        }
    }
}

/// All checks in their order. `roles`: also whether they can be had; `on_eks`: what those need, without rules too.
pub(super) async fn examine(
    config: Option<&Config>,
    faults: &[Fault],
    (roles, on_eks): (bool, bool),
) -> Seen {
    let mut seen = Seen { report: Report::default(), store: None, cluster: None };
    let report = &mut seen.report;
    report.found("configuration", faults.iter().map(of_fault).collect(), "no faults");
    let Some(config) = config else {
        for check in CHECKS.into_iter().skip(1).filter(|check| roles || *check != ROLES) {
            report.skipped(check, "without a configuration there is nothing to look at");
        }
        return seen;
    };
    seen.store = database(config, report).await;
    let installation = match &seen.store {
        Some(store) => store.installation().await.map_err(|error| report.failed(of_bridge(&error))).ok(),
        None => None,
    };
    let (cluster, answered) = cluster(config, report).await;
    seen.cluster = cluster;
    if roles {
        assume::roles(config, seen.cluster.as_ref().filter(|_| answered), report).await;
    }
    let hook = has_hook(seen.store.as_ref()).await;
    pods(config, installation.clone(), hook, report).await;
    let known = installation.clone().unwrap_or_else(no_installation);
    eks::examine(config, seen.cluster.as_ref().filter(|_| answered), known, on_eks, report).await;
    let (Some(store), Some(installation)) = (&seen.store, installation) else {
        for check in OF_THE_LOOK {
            report.skipped(check, "the database does not tell");
        }
        report.in_order();
        return seen;
    };
    let cluster = seen.cluster.as_ref().filter(|_| answered);
    let eyes = Eyes { store, cluster, installation, config };
    if let Err(error) = eyes.look_twice(report).await {
        for check in OF_THE_LOOK {
            report.skipped(check, &error.chain());
        }
        report.failed(of_bridge(&error));
    }
    report.in_order();
    seen
}

fn of_fault(fault: &Fault) -> Finding {
    Finding::new(Code::Configuration, &fault.place, fault.what.clone()).remedy(fault.remedy.clone())
}

fn of_bridge(error: &BridgeError) -> Finding {
    let code = match error {
        BridgeError::Connect { .. }
        | BridgeError::Tls { .. }
        | BridgeError::NoPassword { .. }
        | BridgeError::AuthenticationFailed { .. }
        | BridgeError::NoSuchDatabase { .. }
        | BridgeError::Url(_) => Code::DatabaseUnreachable,
        BridgeError::ReadOnly { .. } => Code::DatabaseReadOnly,
        BridgeError::NoAirflow { .. } | BridgeError::UnknownRevision { .. } => Code::AirflowUnknown,
        BridgeError::SchemaMissing | BridgeError::SchemaOlder { .. } | BridgeError::SchemaNewer { .. } => {
            Code::SchemaVersion
        }
        BridgeError::MissingGrants { .. } | BridgeError::Denied { .. } => Code::GrantsMissing,
        BridgeError::Fenced { .. }
        | BridgeError::TimedOut { .. }
        | BridgeError::Query { .. }
        | BridgeError::ForeignValue { .. }
        | BridgeError::Pooler { .. }
        | BridgeError::MigrationLocked { .. }
        | BridgeError::Migration { .. } => Code::DatabaseFailed,
    };
    let finding = Finding::new(code, "database", error.chain());
    match error.hint() {
        Some(hint) => finding.remedy(hint),
        None => finding,
    }
}

/// Some: it can be asked, perhaps with faults.
async fn database(config: &Config, report: &mut Report) -> Option<Store> {
    let connected = match login::to_log_in(config).await {
        Ok(database) => Store::connect(database, config.store_settings()).await,
        Err(Failure::Config(Faults(faults))) => {
            report.found("database", faults.iter().map(of_fault).collect(), "");
            return None;
        }
        Err(failure) => {
            let finding = Finding::new(Code::DatabaseFailed, "database", failure.report());
            report.found("database", vec![finding], "");
            return None;
        }
    };
    let diagnosed = match &connected {
        Ok(store) => store.diagnose().await,
        Err(error) => {
            report.found("database", vec![of_bridge(error)], "");
            return None;
        }
    };
    let (checked, faults) = match diagnosed {
        Ok(diagnosed) => diagnosed,
        Err(error) => {
            report.found("database", vec![of_bridge(&error)], "");
            return None;
        }
    };
    report.found("database", faults.iter().map(of_bridge).collect(), &checked.to_string());
    let readable = |fault: &BridgeError| {
        matches!(fault, BridgeError::ReadOnly { .. } | BridgeError::MissingGrants { .. })
    };
    connected.ok().filter(|_| faults.iter().all(readable))
}

/// The client, and whether the API server answered it.
async fn cluster(config: &Config, report: &mut Report) -> (Option<Cluster>, bool) {
    let connected = Cluster::connect(config.cluster(), Arc::new(NoObserver)).await;
    let cluster = match connected {
        Ok(cluster) => cluster,
        Err(error) => {
            let finding = Finding::new(Code::ApiServer, "API server", error.to_string()).remedy(error.hint());
            report.found("API server", vec![finding], "");
            return (None, false);
        }
    };
    let mut findings = Vec::new();
    let mut version = String::new();
    let mut answered = true;
    for said in cluster.preflight(&config.kubernetes.namespaces, looks(config.rules.as_deref())).await {
        let server = said.subject.starts_with("API server");
        let code = match said.level {
            Level::Ok if server => {
                version = format!("{} at {}", said.detail, cluster.url());
                continue;
            }
            Level::Ok => continue,
            Level::Error if server => {
                answered = false;
                Code::ApiServer
            }
            Level::Error => Code::KubernetesAccess,
            Level::Warning => Code::KubernetesLimited,
        };
        findings.push(Finding::new(code, said.subject, said.detail).remedy(said.remedy));
    }
    report.found("API server", findings, &version);
    (Some(cluster), answered)
}

/// What pods are made with: the template, tried with an imaginary task, and the helper of `pod_mutation_hook`.
async fn pods(config: &Config, installation: Option<InstallationId>, hook: bool, report: &mut Report) {
    let file = config.kubernetes.pod_template_file.as_ref();
    let object = file.map_or("no template".to_owned(), |path| path.display().to_string());
    let mut findings: Vec<Finding> = template(config, installation, &object).into_iter().collect();
    if hook
        && config.own.pod.mutation_hook == MutationHook::Helper
        && let Err(why) = Hook::of(config).probe().await
    {
        findings.push(Finding::new(Code::MutationHelper, "pod_mutation_hook", why));
    }
    report.found("pod template", findings, &format!("{object} makes a pod"));
}

fn no_installation() -> InstallationId {
    InstallationId(crate::render::NO_INSTALLATION.into())
}

fn template(config: &Config, installation: Option<InstallationId>, object: &str) -> Option<Finding> {
    let installation = installation.unwrap_or_else(no_installation);
    let key =
        TaskKey { dag_id: "doctor".into(), task_id: "doctor".into(), run_id: "doctor".into(), map_index: -1 };
    let spec = imaginary(key);
    let renderer = Renderer::for_once(config, installation.clone());
    let launch = LaunchId::of(&installation, &spec.queueing);
    let checked = renderer.of_task(&spec).and_then(|of| of.check(&of.draft(&launch, Attempt::FIRST)?));
    let missing = || config.kubernetes.pod_template_file.as_ref().is_some_and(|path| !path.exists());
    match checked {
        Ok(()) if missing() => {
            let what = "it does not exist, and pods are made without it".to_owned();
            Some(Finding::new(Code::TemplateMissing, object, what))
        }
        Ok(()) => None,
        Err((_, why)) => Some(Finding::new(Code::TemplateInvalid, object, why)),
    }
}

/// Whether a scheduler has registered with a `pod_mutation_hook`.
async fn has_hook(store: Option<&Store>) -> bool {
    let Some(store) = store else { return false };
    let status = store.status(0).await;
    // What keeps it from being read is told by the look.
    status.is_ok_and(|status| status.schedulers.iter().any(|scheduler| scheduler.has_pod_mutation_hook))
}

/// Everything that a look needs.
struct Eyes<'a> {
    store: &'a Store,
    cluster: Option<&'a Cluster>,
    installation: InstallationId,
    config: &'a Config,
}

impl Eyes<'_> {
    async fn look_twice(&self, report: &mut Report) -> Result<(), BridgeError> {
        let (mut facts, mut blind) = self.look().await?;
        let mut found = judge(&facts);
        if !found.is_empty() {
            tokio::time::sleep(SECOND_LOOK).await;
            (facts, blind) = self.look().await?;
            found = confirmed(&found, judge(&facts));
        }
        found.extend(blind);
        report.looked(&facts, found);
        Ok(())
    }

    /// Rows, then pods, then the launches of those pods: a pod's launch is in the database before the pod exists.
    async fn look(&self) -> Result<(Facts, Vec<Finding>), BridgeError> {
        let limits = self.config.doctor_limits();
        let bounds = LookLimits {
            rows: ROWS_MAX,
            unlaunched: Duration::from_millis(limits.unlaunched_ms),
            worker_dead: Duration::from_millis(limits.worker_dead_ms),
            scheduler_dead: Duration::from_millis(limits.scheduler_silent_ms),
        };
        let database = self.store.look(bounds).await?;
        let mut facts = Facts { installation: self.installation.clone(), database, cluster: None, limits };
        let mut blind = Vec::new();
        if let Some(cluster) = self.cluster {
            let max = usize::try_from(ROWS_MAX).unwrap_or(usize::MAX);
            let of = Selection::Installation(&self.installation);
            let listing = cluster.list(&self.config.kubernetes.namespaces, &of, max).await;
            for fault in &listing.faults {
                let finding = Finding::new(Code::ApiServer, "pods", fault.to_string()).remedy(fault.hint());
                blind.push(finding);
            }
            if listing.cut {
                facts.database.cut.push("pods");
            }
            let mut pods = ClusterFacts {
                complete: listing.faults.is_empty() && !listing.cut,
                pods: listing.pods,
                broken: listing.broken,
                ..ClusterFacts::default()
            };
            self.beside(&facts, &mut pods).await?;
            facts.cluster = Some(pods);
        }
        Ok((facts, blind))
    }

    /// Launches and task instances of pods whose launch is not among the open ones.
    async fn beside(&self, facts: &Facts, pods: &mut ClusterFacts) -> Result<(), BridgeError> {
        let open: BTreeSet<&LaunchId> = facts.database.open.iter().map(|o| &o.launch.row.launch).collect();
        let mut unknown: BTreeMap<LaunchId, Option<TaskKey>> = BTreeMap::new();
        for pod in pods.pods.iter().filter(|pod| !open.contains(&pod.view.launch)) {
            unknown.insert(pod.view.launch.clone(), pod.task.clone());
        }
        let ids: Vec<LaunchId> = unknown.keys().cloned().collect();
        for batch in ids.chunks(BATCH) {
            for launch in self.store.launches_by_id(batch).await? {
                unknown.remove(&launch.row.launch);
                pods.done.insert(launch.row.launch.clone(), launch);
            }
        }
        let keys: BTreeSet<TaskKey> = unknown.into_values().flatten().collect();
        let keys: Vec<TaskKey> = keys.into_iter().collect();
        for batch in keys.chunks(BATCH) {
            for task in self.store.tasks_by_key(batch).await? {
                pods.tasks.insert(task.key.clone(), task);
            }
        }
        Ok(())
    }
}
