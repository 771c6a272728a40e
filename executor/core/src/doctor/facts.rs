//! What the doctor is told: rows and pods as one look found them. All times are the database's clock.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{InstallationId, LaunchId, PodRef, Queueing, TaskKey};
use crate::launch::Policy;
use crate::pod_view::PodView;
use crate::store::{LaunchRow, PodLaunch};
use crate::task::TaskState;
use crate::time::UtcMicros;

/// A row of Airflow's `job`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Primary key.
    pub id: i64,
    /// `SchedulerJob`, `LocalTaskJob`, `BackfillJob`, ...; empty if NULL.
    pub kind: String,
    /// `running`, `success`, `failed`, ...; empty if NULL.
    pub state: String,
    /// `latest_heartbeat`.
    pub heartbeat: Option<UtcMicros>,
}

impl Job {
    /// Whether it is `running` and was heard of within `silent_ms`.
    pub fn alive(&self, now: UtcMicros, silent_ms: u64) -> bool {
        let recent = |at| now.ms_since(at) <= i64::try_from(silent_ms).unwrap_or(i64::MAX);
        self.state == "running" && self.heartbeat.is_some_and(recent)
    }
}

/// A scheduler as the plugin registered it, with its job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduler {
    /// `job.id` of the SchedulerJob.
    pub job_id: i64,
    /// Where it runs.
    pub hostname: String,
    /// Of Airflow.
    pub airflow_version: String,
    /// Of the plugin.
    pub plugin_version: String,
    /// The names under which tasks ask for WindlassExecutor.
    pub executor_names: Vec<String>,
    /// Task instances without an executor of their own are ours.
    pub is_default: bool,
    /// It has a Python hook that Windlass does not call.
    pub has_pod_mutation_hook: bool,
    /// When the plugin last refreshed the row.
    pub seen_at: UtcMicros,
    /// None: the row of its job is gone.
    pub job: Option<Job>,
}

/// A task instance with what its row points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFacts {
    /// Primary key.
    pub key: TaskKey,
    /// Now.
    pub state: TaskState,
    /// Now.
    pub try_number: i32,
    /// `queued_dttm`.
    pub queued_at: Option<UtcMicros>,
    /// `queued_by_job_id`: the scheduler that it belongs to.
    pub queued_by: Option<i64>,
    /// That job, if its row is there.
    pub queued_by_job: Option<Job>,
    /// `executor`; None: the default of the scheduler that queued it.
    pub executor: Option<String>,
    /// Host of the worker that started it last.
    pub hostname: Option<String>,
    /// The worker's job, if the row names one that is there.
    pub worker: Option<Job>,
    /// `manual`, `scheduled`, `backfill`, ...; None: the DAG run's row is gone.
    pub run_type: Option<String>,
    /// `running`, `success`, ... of the DAG run.
    pub run_state: Option<String>,
}

impl TaskFacts {
    /// Whether the row still stands for `queueing`.
    pub fn is_of(&self, queueing: &Queueing) -> bool {
        self.key == queueing.key
            && self.try_number == queueing.try_number
            && self.queued_at == Some(queueing.queued_at)
    }

    /// In a state in which it belongs to the executor that it was queued to.
    pub fn is_live(&self) -> bool {
        matches!(self.state, TaskState::Queued | TaskState::Running | TaskState::Restarting)
    }

    /// What the row stands for, if it was queued.
    pub fn queueing(&self) -> Option<Queueing> {
        let queued_at = self.queued_at?;
        Some(Queueing { key: self.key.clone(), try_number: self.try_number, queued_at })
    }

    /// Whether its DAG run is neither queued nor running any more.
    pub fn run_is_over(&self) -> bool {
        !matches!(self.run_state.as_deref(), Some("queued" | "running"))
    }
}

/// A row of `windlass.launch` with its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchFacts {
    /// As the engine knows it.
    pub row: LaunchRow,
    /// Term that wrote it last.
    pub epoch: i64,
    /// Why the attempt before this one was lost.
    pub lost: Option<String>,
    /// INSERT.
    pub claimed_at: UtcMicros,
    /// The current attempt's create was answered.
    pub created_at: Option<UtcMicros>,
    /// Its container was seen running.
    pub running_at: Option<UtcMicros>,
    /// The outcome was stored.
    pub settled_at: Option<UtcMicros>,
    /// No pod of it can start any more.
    pub closed_at: Option<UtcMicros>,
    /// The scheduler took the queueing back.
    pub withdrawn_at: Option<UtcMicros>,
    /// A callback request was sent.
    pub callback_sent_at: Option<UtcMicros>,
    /// The scheduler was seen to have taken the outcome.
    pub delivered_at: Option<UtcMicros>,
}

/// A launch that is not done, beside its task instance (None: that row is gone).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenLaunch {
    /// The launch.
    pub launch: LaunchFacts,
    /// The row of its key, whatever queueing that is of by now.
    pub task: Option<TaskFacts>,
}

/// A task instance that runs, by its row, and whose worker is not heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadTask {
    /// The task instance.
    pub task: TaskFacts,
    /// The launch of its queueing, whatever its stage.
    pub launch: Option<LaunchFacts>,
}

/// `windlass.term`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Term {
    /// Number of the term.
    pub epoch: i64,
    /// Who holds it; None: given up, or never taken.
    pub holder: Option<String>,
    /// Until when.
    pub expires_at: UtcMicros,
}

impl Term {
    /// Somebody leads now.
    pub fn is_live(&self, now: UtcMicros) -> bool {
        self.holder.is_some() && self.expires_at > now
    }
}

/// What the database holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// Its clock.
    pub now: UtcMicros,
    /// Who leads.
    pub term: Term,
    /// All that ever registered and were not purged.
    pub schedulers: Vec<Scheduler>,
    /// Jobs of living schedulers that never registered.
    pub unregistered: Vec<Job>,
    /// Handover rows.
    pub handovers: i64,
    /// When the oldest of them was made.
    pub oldest_handover: Option<UtcMicros>,
    /// Launches that are not done.
    pub open: Vec<OpenLaunch>,
    /// Queued for a while, and without a launch.
    pub unlaunched: Vec<TaskFacts>,
    /// Running without a living worker.
    pub dead: Vec<DeadTask>,
    /// Lists that have more than was read.
    pub cut: Vec<&'static str>,
}

/// A pod of this installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPod {
    /// As far as it decides.
    pub view: PodView,
    /// `spec.nodeName`; empty: not bound.
    pub node: String,
    /// The task that its annotations name.
    pub task: Option<TaskKey>,
    /// The launch that it is of, if its annotations tell all of it.
    pub launch: Option<PodLaunch>,
}

/// What the cluster holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Pods with the label of this installation.
    pub pods: Vec<ListedPod>,
    /// All namespaces were listed to the end: what is missing is not there.
    pub complete: bool,
    /// Pods with the installation's label whose other labels say nothing, and why.
    pub broken: Vec<(PodRef, String)>,
    /// Launches of those pods among the done ones; looked for after the pods were listed.
    pub done: BTreeMap<LaunchId, LaunchFacts>,
    /// Task instances that pods without a launch name.
    pub tasks: BTreeMap<TaskKey, TaskFacts>,
}

impl ClusterFacts {
    /// Its pods by the launch that they name.
    pub(super) fn by_launch(&self) -> BTreeMap<&LaunchId, Vec<&ListedPod>> {
        let mut pods: BTreeMap<&LaunchId, Vec<&ListedPod>> = BTreeMap::new();
        for pod in &self.pods {
            pods.entry(&pod.view.launch).or_default().push(pod);
        }
        pods
    }
}

/// One look at everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Part of every launch id.
    pub installation: InstallationId,
    /// Rows.
    pub database: DatabaseFacts,
    /// Pods; None: the API server could not be asked.
    pub cluster: Option<ClusterFacts>,
    /// What counts as long.
    pub limits: Limits,
}

/// From when on something is worth a word. Milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Queued without a launch.
    pub unlaunched_ms: u64,
    /// The oldest handover row waits.
    pub handover_ms: u64,
    /// The plugin has not refreshed its row (it does every 20 s).
    pub plugin_silent_ms: u64,
    /// A scheduler's job is not heard of: Airflow's `scheduler_health_check_threshold`.
    pub scheduler_silent_ms: u64,
    /// An outcome is not delivered, a launch not closed.
    pub undelivered_ms: u64,
    /// A claim has no pod.
    pub claimed_ms: u64,
    /// A withdrawn launch is not settled.
    pub withdrawn_ms: u64,
    /// A callback request was sent, and the task stands as before (the plugin's CALLBACK_PATIENCE_SECONDS).
    pub callback_ms: u64,
    /// A started container has not begun the task (the plugin's WORKER_START_SECONDS).
    pub start_ms: u64,
    /// A worker without a heartbeat for so long is dead.
    pub worker_dead_ms: u64,
    /// `[scheduler] scheduler_zombie_task_threshold`.
    pub zombie_ms: u64,
    /// `[scheduler] task_queued_timeout`.
    pub queued_timeout_ms: u64,
    /// `launch.pending-timeout-seconds`; 0: none.
    pub pending_ms: u64,
    /// `launch.node-unreachable-seconds`.
    pub unreachable_ms: u64,
    /// `term.lease-ms`.
    pub lease_ms: u64,
    /// `intake.full-pass-seconds`.
    pub full_pass_ms: u64,
    /// A namespace whose quota is full, or that is not ready, is left alone for so long (the engine's).
    pub namespace_hold_ms: u64,
    /// A namespace that is not ready is waited for so long (the engine's).
    pub namespace_ready_ms: u64,
    /// Whether a `pod_mutation_hook` keeps pods from being made (pod.mutation-hook = refuse).
    pub refuses_hook: bool,
    /// How pods are read and which are deleted.
    pub policy: Policy,
    /// Namespaces that are watched; None: all.
    pub watched: Option<BTreeSet<String>>,
    /// Version of this binary.
    pub version: String,
}

impl Limits {
    /// Whether pods of `namespace` are watched.
    pub fn watches(&self, namespace: &str) -> bool {
        self.watched.as_ref().is_none_or(|names| names.contains(namespace))
    }
}

impl Default for Limits {
    /// Airflow's and Windlass's own defaults.
    fn default() -> Self {
        let policy = Policy::default();
        Self {
            unlaunched_ms: 30_000,
            handover_ms: 30_000,
            plugin_silent_ms: 60_000,
            scheduler_silent_ms: 30_000,
            undelivered_ms: 60_000,
            claimed_ms: 60_000,
            withdrawn_ms: 30_000,
            callback_ms: 600_000,
            start_ms: 600_000,
            worker_dead_ms: 10_500,
            zombie_ms: 300_000,
            queued_timeout_ms: 600_000,
            pending_ms: policy.pending_ms,
            unreachable_ms: policy.unreachable_ms,
            lease_ms: 4_500,
            full_pass_ms: 5_000,
            namespace_hold_ms: 2_000,
            namespace_ready_ms: 30_000,
            refuses_hook: false,
            policy,
            watched: None,
            version: String::new(),
        }
    }
}
