//! The specification, said to the world: what must never happen (checked at each step) and what must have happened
//! once everything has healed. Knows tasks, rows and pods; knows nothing of how the engine decides.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use windlass_core::ids::{Attempt, LaunchId, Queueing};
use windlass_core::pod_view::{Branch, Gate};
use windlass_core::store::StoredStage;
use windlass_core::task::TaskState;
use windlass_core::time::UtcMicros;

use crate::cluster::{Pod, Process};
use crate::database::{Stored, Task, is_failure};

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// By its number in the design.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
    /// Milliseconds of true time.
    pub at: u64,
    /// The task concerned, by number.
    pub task: Option<usize>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} broken at {} ms: {}", self.invariant, self.at, self.what)
    }
}

/// Which queueing a row carries: try and time.
pub(crate) type RowQueueing = (i32, Option<UtcMicros>);

#[derive(Debug, Default)]
pub(crate) struct Checkers {
    pub(crate) broken: Option<Broken>,
    /// Bodies begun, by task and the queueing that the row carried.
    bodies: BTreeMap<(usize, RowQueueing), usize>,
    callbacks: BTreeMap<LaunchId, u32>,
    /// A failover lost commits of theirs: what was stored is stored no more, and nobody is to blame.
    lost: BTreeSet<LaunchId>,
    /// The same of rows of Airflow.
    pub(crate) tasks_lost: BTreeSet<usize>,
}

impl Checkers {
    pub(crate) fn broke(&mut self, at: u64, invariant: &'static str, task: Option<usize>, what: String) {
        if self.broken.is_none() {
            self.broken = Some(Broken { invariant, what, at, task });
        }
    }

    /// A failover took Airflow's row back: the body that it forgot may run again.
    pub(crate) fn task_lost(&mut self, task: usize) {
        self.bodies.retain(|(of, _), _| *of != task);
        self.tasks_lost.insert(task);
    }

    pub(crate) fn launch_lost(&mut self, launch: &LaunchId) {
        self.callbacks.remove(launch);
        self.lost.insert(launch.clone());
    }

    /// I1: the task body of a queueing runs at most once.
    pub(crate) fn body_begins(&mut self, at: u64, task: usize, of: RowQueueing, pod: usize) {
        if let Some(first) = self.bodies.insert((task, of), pod) {
            let what = format!("the body of try {} runs a second time, in pod {pod} after pod {first}", of.0);
            self.broke(at, "I1", Some(task), what);
        }
    }

    /// I3: no pod is created before its claim, or the relaunch that names its attempt, is committed.
    pub(crate) fn create_begins(
        &mut self,
        at: u64,
        task: usize,
        (launch, row): (&LaunchId, Option<&Stored>),
        attempt: Attempt,
    ) {
        match row {
            _ if self.lost.contains(launch) => {}
            None => self.broke(at, "I3", Some(task), "a create begins and no claim is committed".into()),
            Some(stored) if stored.row.attempt < attempt => {
                let what = format!(
                    "a create of attempt {} begins, the row holds {}",
                    attempt.0, stored.row.attempt.0
                );
                self.broke(at, "I3", Some(task), what);
            }
            Some(_) => {}
        }
    }

    /// I4: a create begins only inside the term, and could end in it.
    pub(crate) fn create_in_term(&mut self, at: u64, task: usize, in_term: bool) {
        if !in_term {
            let what = "a create begins outside of its daemon's term, or could end after it".into();
            self.broke(at, "I4", Some(task), what);
        }
    }

    /// I11: no pod comes to be while another of the key may still start. And of one launch, two attempts never (I1).
    pub(crate) fn pod_created(&mut self, at: u64, new: usize, pods: &[Pod]) {
        let pod = &pods[new];
        let others = pods.iter().enumerate().filter(|(no, other)| *no != new && other.task == pod.task);
        let mut rivals = others.filter(|(_, other)| other.may_still_start());
        if let Some((no, other)) = rivals.next() {
            let same = other.view.launch == pod.view.launch;
            let what = format!(
                "pod {new} (launch {}, attempt {}) is created while pod {no} (launch {}, attempt {}) may still start",
                pod.view.launch, pod.view.attempt.0, other.view.launch, other.view.attempt.0
            );
            self.broke(at, if same { "I1" } else { "I11" }, Some(pod.task), what);
        }
    }

    /// I3: none is deleted before its outcome, or the relaunch that follows it, is committed. And never while the
    /// task's body runs in it.
    pub(crate) fn pod_deleted_by_us(
        &mut self,
        at: u64,
        number: usize,
        (pod, reachable): (&Pod, bool),
        row: Option<&Stored>,
    ) {
        let over = row.is_some_and(|stored| {
            matches!(stored.row.stage, StoredStage::Settled | StoredStage::Closed)
                || stored.row.attempt > pod.view.attempt
        });
        // Nothing is lost with one that has not begun; and one with another identity is not let run (I7).
        let bypassed = pod.warned || matches!(pod.view.branch, Branch::Bypassed { .. });
        let doomed = bypassed || (pod.view.branch == Branch::Awaited && pod.process == Process::None);
        if !over && !doomed && !self.lost.contains(&pod.view.launch) {
            let what = format!("pod {number} is deleted before its outcome is committed");
            self.broke(at, "I3", Some(pod.task), what);
        }
        // While its node is cut off, nobody could know.
        let works = matches!(pod.process, Process::Body | Process::Finishing) && pod.body_of.is_some();
        if reachable && works && !bypassed {
            let what = format!("pod {number} is deleted while it runs the task or sees to its logs");
            self.broke(at, "I11", Some(pod.task), what);
        }
    }

    /// I7: what admission did not make as its rule demands never gets a node.
    pub(crate) fn gate_opened(&mut self, at: u64, number: usize, pod: &Pod) {
        if pod.behind != Gate::Fit {
            let what = format!("the gate of pod {number} is opened, which is not what its rule demands");
            self.broke(at, "I7", Some(pod.task), what);
        }
    }

    /// I4: only the current term writes.
    pub(crate) fn committed(&mut self, at: u64, with: i64, current: i64) {
        if with != current {
            let what = format!("a write of epoch {with} commits in epoch {current}");
            self.broke(at, "I4", None, what);
        }
    }

    /// I2: an outcome once stored never changes.
    pub(crate) fn outcome_changed(&mut self, at: u64, task: Option<usize>) {
        self.broke(at, "I2", task, "a stored outcome was replaced by another".into());
    }

    /// I6: what the scheduler applies is of the queueing that the row carries, and no healthy body pays for it.
    pub(crate) fn failure_applied(&mut self, at: u64, no: usize, task: &Task, stored: &Stored, pods: &[Pod]) {
        if !task.is_of(&stored.row.queueing) {
            let what = format!("the outcome of `{}` is applied to a newer queueing", stored.row.queueing);
            self.broke(at, "I6", Some(no), what);
        }
        // A body that was begun for another queueing ends by itself at its next heartbeat, whatever becomes of the row.
        let by_hand = task.job.as_ref().is_some_and(|job| job.pod.is_none() && !job.ended);
        if by_hand && task.state != TaskState::Queued {
            self.broke(at, "I6", Some(no), "the task is failed while somebody runs it by hand".into());
        }
        let of_row = Some((task.try_number, task.queued_at));
        let runs_it = |pod: &Pod| pod.task == no && pod.runs_body() && pod.body_of == of_row;
        if let Some(live) = pods.iter().position(runs_it) {
            let what = format!("the task is failed while its body runs in pod {live}");
            self.broke(at, "I6", Some(no), what);
        }
    }

    /// I5: the name of a pod goes to the row of the queueing that it was made for, and to no other.
    pub(crate) fn noted(
        &mut self,
        at: u64,
        no: usize,
        (task, of): (&Task, &Queueing),
        stored: Option<&Stored>,
    ) {
        if !task.is_of(of) {
            self.broke(at, "I5", Some(no), "a pod's name is written to the row of another queueing".into());
        }
        let lost = task.launch.as_ref().is_some_and(|launch| self.lost.contains(launch));
        if !lost && stored.is_none_or(|stored| stored.row.queueing != *of) {
            self.broke(at, "I5", Some(no), "a pod's name is written for a queueing without a launch".into());
        }
    }

    /// I3: an outcome is forgotten only after the scheduler has taken it: the row left this queueing's queued and
    /// running. One that changes nothing (superseded, withdrawn) may be closed at any time.
    pub(crate) fn outcome_closed(&mut self, at: u64, no: usize, task: &Task, stored: &Stored) {
        let waits = matches!(task.state, TaskState::Queued | TaskState::Running | TaskState::Restarting);
        let of_row = task.is_of(&stored.row.queueing) && waits;
        let failed = stored.row.outcome.as_ref().is_some_and(is_failure);
        if of_row && failed {
            self.broke(
                at,
                "I3",
                Some(no),
                "an outcome is forgotten before its scheduler has taken it".into(),
            );
        }
    }

    /// I6: a callback request is executed whatever the row has become by then, so it is sent only where nobody but a
    /// person, or Airflow for reasons of its own, can change the row before.
    pub(crate) fn callback_runs(
        &mut self,
        at: u64,
        no: usize,
        (task, sent_at): (&Task, u32),
        stored: &Stored,
    ) {
        let waits = matches!(task.state, TaskState::Queued | TaskState::Running | TaskState::Restarting);
        if task.touched == sent_at && !(task.is_of(&stored.row.queueing) && waits) {
            let what =
                format!("the callback of `{}` is executed on a row in {:?}", stored.row.queueing, task.state);
            self.broke(at, "I6", Some(no), what);
        }
    }

    /// I3: a callback request is sent at most once for a launch.
    pub(crate) fn callback_sent(&mut self, at: u64, task: usize, launch: &LaunchId) {
        let sent = self.callbacks.entry(launch.clone()).or_default();
        *sent += 1;
        if *sent > 1 {
            self.broke(at, "I3", Some(task), "a callback request is sent a second time".into());
        }
    }
}
