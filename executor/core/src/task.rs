//! A task instance as Windlass needs it: what to run, and how its row stands.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::identity::rules::Facts;
use crate::ids::{LaunchId, Queueing};
use crate::time::UtcMicros;

/// What a pod is made from: one queued task instance, read from Airflow's tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Which queueing.
    pub queueing: Queueing,
    /// `task_instance.queue`.
    pub queue: String,
    /// `task_instance.pool`.
    pub pool: String,
    /// `task_instance.operator`: the class's name; empty where the row has none.
    pub operator: String,
    /// What identity rules look at beside the task itself.
    pub dag: DagFacts,
    /// `task_instance.priority_weight`: higher starts first.
    pub priority_weight: i32,
    /// `task_instance.queued_by_job_id`: the SchedulerJob that owns the task instance.
    pub scheduler_job_id: i64,
    /// Version of that scheduler's Airflow, as the plugin registered it: the `airflow_version` label.
    pub airflow_version: String,
    /// Whether that scheduler has a `pod_mutation_hook`, which the Python executor calls for each pod.
    pub has_pod_mutation_hook: bool,
    /// The worker's command line (`airflow tasks run ...`).
    pub command: Vec<String>,
    /// Whether the rows of Airflow do not tell that command (a backfill's has options of its own): it is stored with the
    /// launch.
    pub command_is_own: bool,
    /// Nodes whose branch network interfaces its pod competes for. Follows from the identity rules: whoever reads the
    /// row leaves it empty.
    pub branches: Option<BranchPool>,
    /// `task_instance.executor_config`, decoded; `pod_override` is a pod in API form (camelCase JSON).
    /// An error is a sentence for the DAG author: this task alone fails with it.
    pub executor_config: Result<ExecutorConfig, String>,
}

/// Nodes that a pod with security groups may get a branch network interface of, by the node selector that its rule
/// gives: `key=value` pairs, sorted, with commas between them. Empty: any node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BranchPool(pub Arc<str>);

impl BranchPool {
    /// Of a node selector.
    pub fn of(selector: &BTreeMap<String, String>) -> Self {
        let pairs: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Self(pairs.join(",").into())
    }

    /// Whether a node with these labels is one of its nodes. Neither keys nor values of labels hold `=` or `,`.
    pub fn takes(&self, labels: &BTreeMap<String, String>) -> bool {
        let mut pairs = self.0.split(',').filter_map(|pair| pair.split_once('='));
        pairs.all(|(key, value)| labels.get(key).is_some_and(|label| label == value))
    }
}

/// What is known of a task's DAG.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DagFacts {
    /// `dag_tag.name`.
    pub tags: Vec<String>,
    /// `dag.owners`, split at its commas.
    pub owners: Vec<String>,
    /// [`folder_of`](crate::identity::rules::folder_of) its file.
    pub folder: Option<String>,
}

impl DagFacts {
    /// Airflow joins the owners of a DAG's tasks with `, `.
    pub fn split_owners(owners: &str) -> Vec<String> {
        owners.split(',').map(str::trim).filter(|owner| !owner.is_empty()).map(str::to_owned).collect()
    }
}

impl TaskSpec {
    /// As the rules see it.
    pub fn identity_facts(&self) -> Facts<'_> {
        Facts {
            dag_id: &self.queueing.key.dag_id,
            task_id: &self.queueing.key.task_id,
            queue: &self.queue,
            pool: &self.pool,
            operator: &self.operator,
            tags: &self.dag.tags,
            owners: &self.dag.owners,
            folder: self.dag.folder.as_deref(),
        }
    }
}

/// `executor_config` after decoding. Keys that Windlass does not read are dropped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExecutorConfig {
    /// `pod_override` as API JSON.
    pub pod_override: Option<serde_json::Value>,
    /// `pod_template_file`: a template for this task alone.
    pub pod_template_file: Option<String>,
}

/// `task_instance.state`. What Airflow does not know in 2.x is kept as text: nothing is guessed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// NULL: not yet scheduled, or cleared.
    None,
    /// Waits for a slot.
    Scheduled,
    /// Handed to an executor.
    Queued,
    /// A worker runs it.
    Running,
    /// Cleared while it was running: its worker is to end.
    Restarting,
    /// Ended well.
    Success,
    /// Ended badly, no try left.
    Failed,
    /// Ended badly, another try follows.
    UpForRetry,
    /// A sensor that comes back later, same try.
    UpForReschedule,
    /// Waits for a trigger, same try.
    Deferred,
    /// Any other (`skipped`, `upstream_failed`, `removed`, or of a newer Airflow).
    Other(String),
}

impl TaskState {
    /// As in the column; `None` stands for NULL.
    pub fn from_column(text: Option<&str>) -> Self {
        match text {
            None => Self::None,
            Some("scheduled") => Self::Scheduled,
            Some("queued") => Self::Queued,
            Some("running") => Self::Running,
            Some("restarting") => Self::Restarting,
            Some("success") => Self::Success,
            Some("failed") => Self::Failed,
            Some("up_for_retry") => Self::UpForRetry,
            Some("up_for_reschedule") => Self::UpForReschedule,
            Some("deferred") => Self::Deferred,
            Some(other) => Self::Other(other.to_owned()),
        }
    }

    /// For people; NULL is `none`, as Airflow's UI says.
    pub fn as_str(&self) -> &str {
        match self {
            Self::None => "none",
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::UpForRetry => "up_for_retry",
            Self::UpForReschedule => "up_for_reschedule",
            Self::Deferred => "deferred",
            Self::Other(text) => text,
        }
    }
}

/// The row of a launch's task instance, as a re-read found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRow {
    /// Now in this state.
    pub state: TaskState,
    /// Now at this try.
    pub try_number: i32,
    /// NULL after a stuck requeue.
    pub queued_at: Option<UtcMicros>,
    /// Host of the worker that started it last; None if NULL or empty.
    pub hostname: Option<String>,
    /// Whether the LocalTaskJob named by `job_id` is `running` and not two heartbeats late by the database's clock.
    /// None when the row names no job.
    pub worker_alive: Option<bool>,
}

impl TaskRow {
    /// Whether the row still stands for `queueing`. A started worker keeps queued_dttm, so this holds while running.
    pub fn is_of(&self, queueing: &Queueing) -> bool {
        self.try_number == queueing.try_number && self.queued_at == Some(queueing.queued_at)
    }
}

/// A re-read of one launch's task instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskView {
    /// Of this launch.
    pub launch: LaunchId,
    /// None: the row is gone (DAG run deleted).
    pub row: Option<TaskRow>,
    /// The scheduler took the queueing back (`windlass.launch.withdrawn_at`).
    pub withdrawn: bool,
}
