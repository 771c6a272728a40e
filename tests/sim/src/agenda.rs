//! What happens next: events by time, and by the order in which they were put down where times are equal.

use std::collections::BTreeMap;

use windlass_core::ids::{Attempt, LaunchId, PodRef, PodUid};
use windlass_engine::{Ask, CommandId, Input};

/// Who sent a call: a process that died in between gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    pub(crate) daemon: usize,
    pub(crate) incarnation: u32,
    /// Of the command.
    pub(crate) id: CommandId,
}

/// What a transaction saw when it began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// The epoch it was given was the current one.
    pub(crate) in_term: bool,
    /// For a claim: which of its queueings were still queued.
    pub(crate) queued: Vec<bool>,
}

/// A create on its way.
#[derive(Clone, Debug)]
pub(crate) struct CreateCall {
    pub(crate) launch: LaunchId,
    pub(crate) attempt: Attempt,
    pub(crate) pod: PodRef,
    pub(crate) task: usize,
    /// When its request left, and the epoch in which it was decided.
    pub(crate) began: u64,
}

/// A delete on its way.
#[derive(Clone, Debug)]
pub(crate) struct DeleteCall {
    pub(crate) pod: PodRef,
    pub(crate) uid: PodUid,
    pub(crate) resource_version: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    // Daemons.
    Start(usize),
    Wake(usize),
    Deliver { daemon: usize, incarnation: u32, input: Box<Input> },
    Send { sender: Sender, ask: Box<Ask> },
    // The database. `answer_at`: None when the answer is lost.
    DbBegin { sender: Sender, ask: Box<Ask>, commit_in: u64, answer_in: Option<u64> },
    DbCommit { sender: Sender, ask: Box<Ask>, snapshot: Snapshot, answer_in: Option<u64> },
    // The API server.
    Create { sender: Sender, call: Box<CreateCall>, answer_in: Option<u64> },
    CreateConflict { sender: Sender, call: Box<CreateCall>, answer_in: Option<u64> },
    Get { sender: Sender, launch: LaunchId, attempt: Attempt, pod: PodRef, answer_in: Option<u64> },
    Delete { sender: Sender, call: Box<DeleteCall>, answer_in: Option<u64> },
    WatchStep { daemon: usize, generation: u32 },
    Relist { daemon: usize, generation: u32 },
    ListAgain { daemon: usize, generation: u32 },
    // Nodes and what runs on them, by number of the pod.
    Bind(usize),
    StartContainer(usize),
    WorkerLooks(usize),
    BodyEnds(usize),
    WorkerNotices(usize),
    ContainerEnds { pod: usize, exit_code: i32, oom: bool },
    Terminate(usize),
    Remove(usize),
    ImageArrives(usize),
    NodeTainted(usize),
    NodeCollected(usize),
    NodeBack(usize),
    // Airflow.
    Scheduler(usize),
    SchedulerBack(usize),
    Handover { scheduler: usize, tasks: Vec<usize> },
    Requeue(usize),
    Callback(LaunchId),
    // The run.
    Mischief,
    Heal,
    Converged,
}

#[derive(Debug, Default)]
pub(crate) struct Agenda {
    events: BTreeMap<(u64, u64), Event>,
    put_down: u64,
}

impl Agenda {
    pub(crate) fn put(&mut self, at: u64, event: Event) {
        self.put_down += 1;
        self.events.insert((at, self.put_down), event);
    }

    pub(crate) fn next(&mut self) -> Option<((u64, u64), Event)> {
        self.events.pop_first()
    }
}
