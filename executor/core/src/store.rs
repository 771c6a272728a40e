//! What the database is asked for, and what it answers. The bridge (PostgreSQL) and the simulator both speak this.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{Attempt, Epoch, LaunchId, PodRef, PodUid, Queueing};
use crate::outcome::Outcome;
use crate::task::TaskSpec;

/// A queued task instance that has no launch yet.
#[derive(Clone, Debug, PartialEq)]
pub struct QueuedTask {
    /// Of installation and queueing.
    pub launch: LaunchId,
    /// What to run.
    pub spec: Arc<TaskSpec>,
    /// Namespace and name of its first pod. The namespace is a pure function of settings and executor_config.
    pub pod: PodRef,
}

/// A launch to be claimed: the row that the INSERT makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Primary key.
    pub launch: LaunchId,
    /// Unique key.
    pub queueing: Queueing,
    /// Of attempt 1.
    pub pod: PodRef,
    /// Owner of the task instance when it was seen.
    pub scheduler_job_id: i64,
    /// For `windlass status`.
    pub priority_weight: i32,
    /// The worker's command, where the rows do not tell it.
    pub command: Option<Vec<String>>,
}

/// What became of one claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimAnswer {
    /// The row was inserted by us.
    Claimed(LaunchId),
    /// It was there: by an earlier term, or by our own INSERT whose answer was lost.
    Exists(Box<LaunchRow>),
    /// The task instance is no longer this queueing in `queued`: nothing was inserted.
    Withdrawn(LaunchId),
}

/// Stage of a launch as stored (`windlass.launch.stage`); each also guards the writes that follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredStage {
    /// Inserted. A create of the current attempt may be in flight.
    Claimed,
    /// The API server has the pod of the current attempt.
    Created,
    /// The worker's container has started.
    Running,
    /// The outcome is stored. The pod may still exist.
    Settled,
    /// The outcome is stored and no pod of this launch can start any more.
    Closed,
}

impl StoredStage {
    /// All, in order.
    pub const ALL: [Self; 5] = [Self::Claimed, Self::Created, Self::Running, Self::Settled, Self::Closed];

    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Created => "created",
            Self::Running => "running",
            Self::Settled => "settled",
            Self::Closed => "closed",
        }
    }

    /// As read.
    pub fn from_column(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }
}

/// A launch that is not closed, as a new term finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchRow {
    /// Primary key.
    pub launch: LaunchId,
    /// Unique key.
    pub queueing: Queueing,
    /// Where it stands.
    pub stage: StoredStage,
    /// Current attempt.
    pub attempt: Attempt,
    /// Pod of the current attempt.
    pub pod: PodRef,
    /// Known once created.
    pub uid: Option<PodUid>,
    /// From `settled` on.
    pub outcome: Option<Outcome>,
    /// Owner of the task instance when it was claimed.
    pub scheduler_job_id: i64,
    /// As claimed.
    pub priority_weight: i32,
}

/// A launch as its pod tells of it: what its row is made from again where the database has lost it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLaunch {
    /// From the label.
    pub launch: LaunchId,
    /// From the annotations.
    pub queueing: Queueing,
    /// From the label.
    pub attempt: Attempt,
    /// Where it is.
    pub pod: PodRef,
    /// Which of that name.
    pub uid: PodUid,
    /// Owner of the task instance when the pod was made.
    pub scheduler_job_id: i64,
}

/// One guarded write to a launch. Each holds only if the row is where the write expects it ("set X if still Y").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchUpdate {
    /// Which.
    pub launch: LaunchId,
    /// What.
    pub change: LaunchChange,
}

/// What is written. The guard is stated with each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchChange {
    /// `claimed -> created`, attempt unchanged.
    Created {
        /// Of this attempt.
        attempt: Attempt,
        /// Of the pod.
        uid: PodUid,
    },
    /// `claimed | created -> running`, attempt unchanged.
    Running {
        /// Of this attempt.
        attempt: Attempt,
        /// Of the pod.
        uid: PodUid,
    },
    /// `claimed | created | running -> claimed` with the next attempt; sets the pod's name, forgets its uid.
    Relaunch {
        /// The new attempt; the row must hold the one before it.
        attempt: Attempt,
        /// Its pod.
        pod: PodRef,
        /// Why the earlier pod was lost, for `windlass status`.
        why: String,
    },
    /// `claimed | created | running -> settled` with the outcome. An outcome once stored never changes.
    Settle {
        /// What it came to.
        outcome: Outcome,
    },
    /// `settled -> closed`: no pod of the launch can start any more.
    Close,
}

/// Answer to a batch of updates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaveAnswer {
    /// Committed. Updates whose guard did not hold are listed with the row as it is (None: the row is gone).
    Saved {
        /// Guard did not hold.
        refused: Vec<(LaunchId, Option<LaunchRow>)>,
    },
    /// The term is over: nothing was written.
    Fenced,
    /// Not known whether it was committed, or surely not: ask again.
    Failed {
        /// For the log and `status`.
        error: String,
    },
}

/// Answer to a question about the term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TermAnswer {
    /// We hold it, for `lease_ms` from when the database was asked.
    Held {
        /// Its number.
        epoch: Epoch,
    },
    /// As `Held`, and the database may have lost commits since an earlier term: it failed over to a replica that was
    /// behind. Pods may exist whose launches it does not know.
    HeldAfterLoss {
        /// Its number.
        epoch: Epoch,
    },
    /// Somebody else does.
    HeldByOther {
        /// Who.
        holder: String,
    },
    /// We gave it up, or it was no longer ours.
    Released,
    /// The database did not say.
    Failed {
        /// For the log and `status`.
        error: String,
    },
}

/// Which queueings an intake pass looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntakePass {
    /// The keys that the plugin handed over; consumes the handover rows.
    Handover,
    /// Ground truth: every queued task instance of ours without a launch.
    Full,
}
