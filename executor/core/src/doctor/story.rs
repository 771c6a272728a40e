//! One task instance with all that is known of it, and the words of the answer.

use serde::Serialize;

use super::facts::{DatabaseFacts, Facts, LaunchFacts, Limits, ListedPod, Scheduler, TaskFacts, Term};
use crate::ids::{InstallationId, LaunchId, TaskKey};
use crate::time::UtcMicros;

/// What is known of one task key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// Which.
    pub key: TaskKey,
    /// Its row; None: there is none.
    pub task: Option<TaskFacts>,
    /// When its key was handed over and not taken yet.
    pub handed_over: Option<UtcMicros>,
    /// Its launches, newest first.
    pub launches: Vec<LaunchFacts>,
    /// Claimed launches of the same namespace that are created before this one.
    pub ahead: i64,
    /// What a dry-run create of its pod was answered, where one was tried.
    pub trial: Option<Trial>,
    /// Clock, term, schedulers, pods (of these launches alone), limits.
    pub facts: Facts,
}

/// Answer to a dry-run create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// It would be created.
    Admitted,
    /// It does not fit into the namespace's quota.
    Quota(String),
    /// Its namespace is not ready: being deleted, not there, without our Role.
    NotReady(String),
    /// What would make it is away, or a choice is missing.
    NotMade(String),
    /// It is refused, or cannot be rendered.
    Refused(String),
    /// No answer, or one that says nothing.
    Unknown(String),
}

/// Stable code of why it waits, or that it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Waits {
    /// There is no such task instance.
    NoSuchTask,
    /// Airflow has not queued it.
    NotQueued,
    /// It is over.
    Over,
    /// Another executor has it.
    OtherExecutor,
    /// Its scheduler is not registered.
    Unregistered,
    /// Nobody leads.
    NoLeader,
    /// The intake takes it with its next pass.
    Intake,
    /// An earlier pod of its key must be out of the way first (I11).
    Barrier,
    /// Its namespace is not watched.
    Namespace,
    /// Its namespace has no quota left.
    Quota,
    /// Its namespace is being deleted, is not there, or lacks our Role.
    NamespaceNotReady,
    /// Its pod cannot be made: `pod_mutation_hook` is not called.
    MutationHook,
    /// The API server or the template refuses the pod.
    Refused,
    /// Its turn to be created has not come.
    Turn,
    /// Its pod has not started.
    PodPending,
    /// Its pod is gone.
    PodGone,
    /// Its pod has ended and the launch is being judged.
    Judged,
    /// The container runs, Airflow's worker in it has not begun.
    WorkerStarts,
    /// It runs.
    Runs,
    /// It runs by its row, and its worker is dead.
    WorkerDead,
    /// It was cleared while it ran.
    Restarting,
    /// The scheduler took the queueing back.
    Withdrawn,
    /// Its outcome waits for its scheduler.
    Delivery,
    /// The DAG processor was asked to fail it.
    Callback,
    /// The pods could not be asked for.
    ClusterUnknown,
    /// Its launch is done, and the row stands as before.
    NothingLeft,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    /// Stable.
    pub code: Waits,
    /// Why, in one sentence.
    pub what: String,
    /// What lets it go on, and when.
    pub until: String,
}

impl Why {
    pub(super) fn new(code: Waits, what: impl Into<String>, until: impl Into<String>) -> Self {
        Self { code, what: what.into(), until: until.into() }
    }
}

impl Story {
    /// Without rows and pods: for a key that nothing is known of.
    pub fn empty(key: TaskKey, installation: InstallationId, limits: Limits) -> Self {
        let facts = Facts { installation, database: DatabaseFacts::default(), cluster: None, limits };
        Self { key, task: None, handed_over: None, launches: Vec::new(), ahead: 0, trial: None, facts }
    }

    /// The launch of the queueing that the row stands for.
    pub fn current(&self) -> Option<&LaunchFacts> {
        let task = self.task.as_ref()?;
        self.launches.iter().find(|launch| task.is_of(&launch.row.queueing))
    }

    /// The pods of one of its launches.
    pub fn pods_of<'a>(&'a self, launch: &'a LaunchId) -> impl Iterator<Item = &'a ListedPod> {
        let pods = self.facts.cluster.iter().flat_map(|cluster| &cluster.pods);
        pods.filter(move |pod| pod.view.launch == *launch)
    }

    pub(super) fn term(&self) -> &Term {
        &self.facts.database.term
    }

    pub(super) fn schedulers(&self) -> &[Scheduler] {
        &self.facts.database.schedulers
    }

    pub(super) fn ms_since(&self, at: UtcMicros) -> i64 {
        self.facts.database.now.ms_since(at)
    }
}
