//! What happens next: events by time, and by the order in which they were put down where times are equal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

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
    /// A failover ends it.
    pub(crate) timeline: u64,
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

/// A GET on its way.
#[derive(Clone, Debug)]
pub(crate) struct GetCall {
    pub(crate) launch: LaunchId,
    pub(crate) attempt: Attempt,
    pub(crate) pod: PodRef,
}

/// A gate's opening on its way.
#[derive(Clone, Debug)]
pub(crate) struct GateCall {
    pub(crate) launch: LaunchId,
    pub(crate) attempt: Attempt,
    pub(crate) pod: PodRef,
    pub(crate) uid: PodUid,
}

/// A delete on its way.
#[derive(Clone, Debug)]
pub(crate) struct DeleteCall {
    pub(crate) pod: PodRef,
    pub(crate) uid: PodUid,
    pub(crate) resource_version: Option<String>,
}

/// A callback request that the DAG processor will come to.
#[derive(Clone, Debug)]
pub(crate) struct Callback {
    pub(crate) launch: LaunchId,
    /// How often people and Airflow itself had changed the row when it was sent.
    pub(crate) touched: u32,
    /// It was executed before.
    pub(crate) again: bool,
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
    Failover,
    // The API server.
    Create { sender: Sender, call: Box<CreateCall>, answer_in: Option<u64> },
    CreateConflict { sender: Sender, call: Box<CreateCall>, answer_in: Option<u64> },
    Get { sender: Sender, call: Box<GetCall>, answer_in: Option<u64> },
    Gate { sender: Sender, call: Box<GateCall>, answer_in: Option<u64> },
    Delete { sender: Sender, call: Box<DeleteCall>, answer_in: Option<u64> },
    WatchStep { daemon: usize, generation: u32 },
    Relist { daemon: usize, generation: u32 },
    ListAgain { daemon: usize, generation: u32 },
    // Nodes and what runs on them, by number of the pod.
    Bind(usize),
    BranchIsThere(usize),
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
    HandEnds(usize),
    Callback(Box<Callback>),
    // The run.
    Mischief,
    Heal,
    Converged,
}

/// The heap holds times and places only: it moves small things.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    order: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    put_down: u64,
}

impl Agenda {
    pub(crate) fn put(&mut self, at: u64, event: Event) {
        self.put_down += 1;
        let place = match self.free.pop() {
            Some(place) => {
                self.events[place] = Some(event);
                place
            }
            None => {
                self.events.push(Some(event));
                self.events.len() - 1
            }
        };
        self.order.push(Reverse((at, self.put_down, place)));
    }

    /// The next event, its time, and its number in the order of putting down.
    pub(crate) fn next(&mut self) -> Option<((u64, u64), Event)> {
        let Reverse((at, number, place)) = self.order.pop()?;
        let event = self.events[place].take()?;
        self.free.push(place);
        Some(((at, number), event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_in_which_they_were_put_down() {
        let mut agenda = Agenda::default();
        for (at, pod) in [(7, 0), (3, 1), (7, 2), (3, 3)] {
            agenda.put(at, Event::Bind(pod));
        }
        let mut came = Vec::new();
        while let Some(((at, _), Event::Bind(pod))) = agenda.next() {
            came.push((at, pod));
            if came.len() == 2 {
                agenda.put(5, Event::Bind(4));
            }
        }
        assert_eq!(came, [(3, 1), (3, 3), (5, 4), (7, 0), (7, 2)]);
    }
}
