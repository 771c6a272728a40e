//! What the engine asks of the world, and what the world tells it.

use std::sync::Arc;

use windlass_core::cluster::{CreateAnswer, DeleteAnswer, GetAnswer, PodEvent, PodNote};
use windlass_core::ids::{Attempt, Epoch, LaunchId, PodRef, PodUid, Queueing};
use windlass_core::store::{
    Claim, ClaimAnswer, IntakePass, LaunchRow, LaunchUpdate, QueuedTask, SaveAnswer, TermAnswer,
};
use windlass_core::task::{TaskSpec, TaskView};
use windlass_core::time::Millis;

use crate::branches::Capacity;

/// Names one command, so that its answer is told from a late one to an earlier term's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// Something to do. Every command is answered once, by `Input::Answer` with its id; the driver answers for a call
/// that did not come back in its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Which.
    pub id: CommandId,
    /// What.
    pub ask: Ask,
}

/// What can be asked for. A word in brackets names the answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Take the term if it is free [`Answer::Term`].
    AcquireTerm {
        /// How long it is to hold without a renewal.
        lease_ms: u64,
    },
    /// Keep it [`Answer::Term`].
    RenewTerm {
        /// Ours.
        epoch: Epoch,
        /// As above.
        lease_ms: u64,
    },
    /// Give it up [`Answer::Term`].
    ReleaseTerm {
        /// Ours.
        epoch: Epoch,
    },
    /// Read all launches that are not closed, and make them ours [`Answer::Loaded`].
    Load {
        /// Ours.
        epoch: Epoch,
    },
    /// After a failover that may have lost commits: insert launches for pods that no launch is of, bring those up to
    /// their pods that are behind, note that it was done, and read all as `Load` does [`Answer::Recovered`].
    Recover {
        /// Ours.
        epoch: Epoch,
    },
    /// Look for queueings without a launch [`Answer::Intake`].
    Intake {
        /// Which way.
        pass: IntakePass,
        /// At most so many.
        limit: u32,
    },
    /// Insert launches [`Answer::Claimed`].
    Claim {
        /// Ours.
        epoch: Epoch,
        /// Rows.
        claims: Vec<Claim>,
    },
    /// Read rows of Airflow [`Answer::Tasks`].
    ReadTasks(Vec<(LaunchId, Queueing)>),
    /// Read what to run, where the row is still this queueing in `queued` [`Answer::Specs`].
    ReadSpecs(Vec<(LaunchId, Queueing)>),
    /// Look for unstarted launches that Airflow took back [`Answer::Tasks`].
    FindWithdrawn {
        /// At most so many.
        limit: u32,
    },
    /// Read launches by id, whatever their stage [`Answer::Launches`].
    FindLaunches(Vec<LaunchId>),
    /// Write launches [`Answer::Saved`].
    Save {
        /// Ours.
        epoch: Epoch,
        /// Guarded changes.
        updates: Vec<LaunchUpdate>,
    },
    /// Write the pods' names to `external_executor_id`, best effort [`Answer::Done`].
    NotePods(Vec<(Queueing, PodRef)>),
    /// Keep the last lines of a failed pod's log with its launch, best effort [`Answer::Done`]. Its delete comes later.
    KeepLog {
        /// Ours.
        epoch: Epoch,
        /// Whose.
        launch: LaunchId,
        /// Where.
        pod: PodRef,
        /// Which of that name.
        uid: PodUid,
    },
    /// Delete old closed and delivered launches [`Answer::Done`].
    Purge {
        /// Ours.
        epoch: Epoch,
    },
    /// Label pods anew whose task instance was adopted by another scheduler, best effort [`Answer::Done`].
    FollowOwners {
        /// Ours.
        epoch: Epoch,
    },
    /// Create a pod [`Answer::Created`].
    Create {
        /// Whose.
        launch: LaunchId,
        /// Which.
        attempt: Attempt,
        /// Where.
        pod: PodRef,
        /// From what.
        spec: Arc<TaskSpec>,
        /// `?timeout=` of the request; the client waits little longer.
        timeout_ms: u64,
        /// The last moment at which the request may leave: later it could land after the term. The process may have
        /// stood still since it was decided, so the driver looks at the clock again (I4).
        start_by: Millis,
    },
    /// GET by name without resourceVersion [`Answer::Got`].
    GetPod {
        /// Whose.
        launch: LaunchId,
        /// Which.
        attempt: Attempt,
        /// Where.
        pod: PodRef,
    },
    /// PATCH that takes Windlass's scheduling gate away [`Answer::Got`].
    OpenGate {
        /// Whose.
        launch: LaunchId,
        /// Which.
        attempt: Attempt,
        /// Where.
        pod: PodRef,
        /// Which of that name.
        uid: PodUid,
    },
    /// DELETE with preconditions [`Answer::Deleted`].
    DeletePod {
        /// Where.
        pod: PodRef,
        /// Which of that name.
        uid: PodUid,
        /// Only in this state.
        resource_version: Option<String>,
    },
    /// Start or stop watching pods; events come as `Input::Pod` [`Answer::Done`].
    Watch(bool),
    /// Nothing is left to do: end the process. Not answered.
    Exit,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Time has passed (`Engine::wake_at`).
    Tick,
    /// The plugin says that it handed something over.
    Woken,
    /// SIGTERM: finish what is under way, hand the term over, exit.
    Stop,
    /// A command was answered.
    Answer {
        /// Which.
        id: CommandId,
        /// With what.
        answer: Answer,
    },
    /// The watch has news.
    Pod(PodEvent),
    /// A controller warns of a pod, which may be anybody's.
    Noted(PodNote),
    /// The nodes have so many branch network interfaces.
    Branches(Capacity),
}

/// What to run, by launch; None where the row is not this queueing in `queued` any more.
pub type Specs = Vec<(LaunchId, Option<Arc<TaskSpec>>)>;

/// Answers. An `Err` says that it is not known whether anything was done.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Of the term.
    Term(TermAnswer),
    /// None: fenced.
    Loaded(Result<Option<Vec<LaunchRow>>, String>),
    /// How many launches were made or brought up, and all; None: fenced.
    Recovered(Result<Option<(u64, Vec<LaunchRow>)>, String>),
    /// Of both passes.
    Intake(Result<Vec<QueuedTask>, String>),
    /// None: fenced.
    Claimed(Result<Option<Vec<ClaimAnswer>>, String>),
    /// Of rows.
    Tasks(Result<Vec<TaskView>, String>),
    /// Of rows and what to run.
    Specs(Result<Specs, String>),
    /// Of launches by id.
    Launches(Result<Vec<LaunchRow>, String>),
    /// Of writes.
    Saved(SaveAnswer),
    /// Of a create.
    Created(CreateAnswer),
    /// Of a GET.
    Got(GetAnswer),
    /// Of a DELETE.
    Deleted(DeleteAnswer),
    /// Of best-effort work.
    Done,
}
