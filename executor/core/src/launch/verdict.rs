//! What a pod's end means for its task: the table of the design's section 7, read with the row at hand.
//!
//! The worker's exit code decides nothing: it exits 0 for a failed task, for a child that the kernel killed, and as
//! the second pod of a running try.

use super::{Launch, PodEnd, Policy};
use crate::outcome::{Outcome, Reason};
use crate::task::{TaskRow, TaskState, TaskView};

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Store this outcome.
    Settle(Outcome),
    /// The task has not begun and the pod was lost through no fault of its own: another attempt.
    Relaunch(String),
    /// The task runs in a pod whose end this is not, or it is not known: read the row again later.
    Wait,
    /// Nothing is wrong: the pod is still wanted.
    StillWanted,
}

/// The pod ended (or went, or never will start) and the row stands so.
pub fn judge_end(launch: &Launch, end: &PodEnd, view: &TaskView, policy: &Policy) -> Judgement {
    let Some(row) = &view.row else {
        return Judgement::Settle(Outcome::withdrawn(
            "the task instance was removed from Airflow's database",
        ));
    };
    if !row.is_of(&launch.queueing) {
        return Judgement::Settle(taken_back(end, "the task instance was queued again or cleared"));
    }
    match &row.state {
        TaskState::Queued if view.withdrawn => Judgement::Settle(withdrawn_by_scheduler()),
        TaskState::Queued => before_the_body(launch, end, policy),
        TaskState::Running | TaskState::Restarting => in_the_body(launch, end, row),
        // A body that ran elsewhere, by hand or in an earlier queueing's pod, or a state that a person set. What this
        // pod may still begin is its own.
        TaskState::Success
        | TaskState::Deferred
        | TaskState::UpForReschedule
        | TaskState::Failed
        | TaskState::UpForRetry
            if matches!(end, PodEnd::Never | PodEnd::Stuck { .. } | PodEnd::Unfit { .. })
                && !launch.is_host(view) =>
        {
            Judgement::Settle(went_before(&row.state))
        }
        TaskState::Success | TaskState::Deferred | TaskState::UpForReschedule => {
            Judgement::Settle(Outcome::success(format!("the worker reported {}", row.state.as_str())))
        }
        TaskState::Failed | TaskState::UpForRetry => Judgement::Settle(reported_failure(end, row)),
        TaskState::None | TaskState::Scheduled | TaskState::Other(_) => {
            Judgement::Settle(taken_back(end, &format!("the task instance went to `{}`", row.state.as_str())))
        }
    }
}

/// The pod has not started: is its queueing still wanted? None: yes, or the worker has taken it up.
pub fn judge_unstarted(launch: &Launch, view: &TaskView) -> Option<Outcome> {
    let Some(row) = &view.row else {
        return Some(Outcome::withdrawn("the task instance was removed from Airflow's database"));
    };
    if !row.is_of(&launch.queueing) {
        return Some(Outcome::withdrawn(
            "the task instance was queued again or cleared before its pod started",
        ));
    }
    match &row.state {
        TaskState::Queued if view.withdrawn => Some(withdrawn_by_scheduler()),
        // Running or restarting: a pod of this try has it; this one's own end will tell more.
        TaskState::Queued | TaskState::Running | TaskState::Restarting => None,
        state => Some(went_before(state)),
    }
}

fn went_before(state: &TaskState) -> Outcome {
    Outcome::withdrawn(format!("the task instance went to `{}` before its pod started", state.as_str()))
}

fn withdrawn_by_scheduler() -> Outcome {
    Outcome::withdrawn(
        "Airflow's scheduler took the task instance back: it was queued for longer than task_queued_timeout",
    )
}

/// Superseded where a pod had been at work, withdrawn where none was.
fn taken_back(end: &PodEnd, why: &str) -> Outcome {
    match end {
        PodEnd::Never | PodEnd::Stuck { .. } | PodEnd::Unfit { .. } => Outcome::withdrawn(why),
        PodEnd::Succeeded | PodEnd::Failed { .. } | PodEnd::Gone | PodEnd::Unreachable => {
            Outcome::superseded(why).with_exit_code(exit_code(end))
        }
    }
}

/// The row is still queued: the task body has not begun.
fn before_the_body(launch: &Launch, end: &PodEnd, policy: &Policy) -> Judgement {
    let again = launch.attempt.0.saturating_sub(launch.unfit) < policy.attempts_max;
    let gone = "the pod was deleted before the task began";
    match end {
        PodEnd::Never => Judgement::StillWanted,
        PodEnd::Unreachable => Judgement::Wait,
        PodEnd::Gone if again => Judgement::Relaunch(gone.into()),
        PodEnd::Gone => Judgement::Settle(Outcome::failure(Reason::PodDeleted, gone)),
        PodEnd::Failed { reason, message, container_reason, .. }
            if again && (lost_by_no_fault(*reason) || !policy.final_reasons.contains(container_reason)) =>
        {
            Judgement::Relaunch(format!("{reason}: {message}"))
        }
        PodEnd::Failed { reason, message, exit_code, .. } => Judgement::Settle(
            Outcome::failure(*reason, format!("the task did not begin: {message}"))
                .with_exit_code(*exit_code),
        ),
        PodEnd::Stuck { reason, message } => Judgement::Settle(Outcome::failure(*reason, message.clone())),
        PodEnd::Unfit { why, again: true } if launch.attempt.0 < policy.unfit_attempts_max => {
            Judgement::Relaunch(format!("{}: {why}", Reason::IdentityMissing))
        }
        PodEnd::Unfit { why, again } => {
            let tries = launch.attempt.0;
            let tried = if *again { format!("; {tries} pods came out so") } else { String::new() };
            Judgement::Settle(Outcome::failure(Reason::IdentityMissing, format!("{why}{tried}")))
        }
        PodEnd::Succeeded => Judgement::Settle(
            Outcome::failure(
                Reason::WorkerDidNotStart,
                "the worker ended with exit code 0 and did not run the task",
            )
            .with_exit_code(Some(0)),
        ),
    }
}

/// Reasons for which a pod that had not begun its task is tried again without burning one of the task's tries, whatever
/// word its container ended with: the Python executor would fail an evicted one whose worker was killed (`Error`).
fn lost_by_no_fault(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Evicted | Reason::Preempted | Reason::NodeLost | Reason::PodDeleted | Reason::Killed
    )
}

/// The row is running (or restarting). I6: only the end of the pod that runs it counts.
fn in_the_body(launch: &Launch, end: &PodEnd, row: &TaskRow) -> Judgement {
    let names_it = row.hostname.as_deref().is_some_and(|host| is_host_of(host, &launch.pod.name));
    // A host name that does not name the pod hides it (hostname_callable), or names another pod of this try. Both
    // are told apart by the heartbeat alone: while it beats, the task is somebody's; once it has missed two, nobody's.
    let worker_is_dead = row.worker_alive == Some(false);
    if !names_it && !worker_is_dead {
        return Judgement::Wait;
    }
    let died = |reason, message: String, code| {
        Judgement::Settle(Outcome::failure(reason, message).with_exit_code(code))
    };
    match end {
        PodEnd::Succeeded => {
            let message =
                "the worker ended with exit code 0 while the task was running: its task process was killed";
            died(Reason::Killed, message.into(), Some(0))
        }
        PodEnd::Failed { reason, message, exit_code, .. } => {
            died(*reason, format!("the task was running: {message}"), *exit_code)
        }
        PodEnd::Gone => {
            died(Reason::PodDeleted, "the pod was deleted while the task was running".into(), None)
        }
        PodEnd::Unreachable if worker_is_dead => died(
            Reason::NodeUnreachable,
            "the node stopped answering while the task was running".into(),
            None,
        ),
        // An earlier queueing's pod had taken the body up, and that one's end was not this launch's to report.
        PodEnd::Never | PodEnd::Stuck { .. } | PodEnd::Unfit { .. } if worker_is_dead => {
            died(Reason::Killed, "the worker that had taken the task up in another pod died".into(), None)
        }
        PodEnd::Unreachable | PodEnd::Never | PodEnd::Stuck { .. } | PodEnd::Unfit { .. } => Judgement::Wait,
    }
}

impl Launch {
    /// The row names this launch's pod as the host of the body that began last.
    pub(super) fn is_host(&self, view: &TaskView) -> bool {
        let host = view.row.as_ref().and_then(|row| row.hostname.as_deref());
        host.is_some_and(|host| is_host_of(host, &self.pod.name))
    }

    /// The row tells of a body of this queueing, and names this launch's pod as its host.
    pub(super) fn ran_here(&self, view: &TaskView) -> bool {
        self.is_host(view) && view.row.as_ref().is_some_and(|row| row.is_of(&self.queueing))
    }
}

/// `socket.getfqdn()` in a pod gives the pod's name, with or without a domain; the kernel cuts it at 63 characters.
fn is_host_of(host: &str, pod_name: &str) -> bool {
    let name = host.split('.').next().unwrap_or(host);
    name == pod_name || (name.len() == 63 && pod_name.starts_with(name)) || host == pod_name
}

/// The worker wrote the failure itself. Where the cluster knows more than "the task failed", that is the reason.
fn reported_failure(end: &PodEnd, row: &TaskRow) -> Outcome {
    let state = row.state.as_str();
    match end {
        PodEnd::Failed { reason, message, exit_code, .. } if *reason != Reason::WorkerExited => {
            Outcome::failure(*reason, format!("{message}; the worker reported {state}"))
                .with_exit_code(*exit_code)
        }
        PodEnd::Gone => {
            Outcome::failure(Reason::PodDeleted, format!("the pod was deleted; the worker reported {state}"))
        }
        _ => Outcome::failure(Reason::TaskFailed, format!("the worker reported {state}"))
            .with_exit_code(exit_code(end)),
    }
}

fn exit_code(end: &PodEnd) -> Option<i32> {
    match end {
        PodEnd::Succeeded => Some(0),
        PodEnd::Failed { exit_code, .. } => *exit_code,
        PodEnd::Gone | PodEnd::Stuck { .. } | PodEnd::Unfit { .. } | PodEnd::Unreachable | PodEnd::Never => {
            None
        }
    }
}
