//! The two alphabets of the machine: what a launch can learn, and what it can ask for.

use std::sync::Arc;

use crate::cluster::{CreateAnswer, DeleteAnswer, GetAnswer, PodNote};
use crate::ids::{Attempt, PodUid};
use crate::pod_view::PodView;
use crate::store::{LaunchChange, LaunchRow};
use crate::task::{BranchPool, TaskSpec, TaskView};

/// What a launch can learn.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// The INSERT is committed.
    Claimed,
    /// It is its turn: pacing and barrier let it create.
    Turn,
    /// The row is still this queueing, queued; and this is what to run.
    SpecRead(Option<Arc<TaskSpec>>),
    /// It competes for branch network interfaces of these nodes, and has to wait for its turn among those that do.
    TurnBack(BranchPool),
    /// The create was answered.
    CreateAnswered(CreateAnswer),
    /// The watch or a list shows the pod.
    PodSeen(Box<PodView>),
    /// The watch says that the object of this uid is gone.
    PodDeleted(PodUid),
    /// A complete list does not show the pod: no proof, but reason to ask.
    PodNotListed,
    /// A controller warns of the pod.
    PodNoted(PodNote),
    /// The GET was answered.
    GetAnswered(GetAnswer),
    /// The delete was answered.
    DeleteAnswered(DeleteAnswer),
    /// The row was read.
    TaskSeen(TaskView),
    /// The change asked for is committed.
    Saved,
    /// The change's guard did not hold; the row is so.
    Refused(LaunchRow),
    /// Time has passed.
    Tick,
}

/// What a launch can ask for. Any of them may be asked for again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read the row; answer `TaskSeen`.
    ReadTask,
    /// Read the row and what to run; answer `SpecRead`.
    ReadSpec,
    /// Create the pod of the current attempt; answer `CreateAnswered`.
    Create,
    /// GET by name without resourceVersion; answer `GetAnswered`.
    GetPod,
    /// Take the scheduling gate away; answer `GetAnswered` with the pod as it is then.
    OpenGate {
        /// Precondition.
        uid: PodUid,
    },
    /// Delete; answer `DeleteAnswered`.
    DeletePod {
        /// Precondition.
        uid: PodUid,
        /// Precondition, where the decision hangs on the state judged.
        resource_version: Option<String>,
        /// Which attempt's pod: an earlier one is deleted without its answer being awaited.
        attempt: Attempt,
    },
    /// Keep the last lines of the pod that failed; no answer is awaited.
    KeepLog {
        /// Which pod.
        uid: PodUid,
    },
    /// Write; answer `Saved` or `Refused` (none awaited for `Created` and `Running`).
    Save(LaunchChange),
}
