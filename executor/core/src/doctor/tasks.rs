//! Task instances: queued without a launch, or running without a worker.

use super::code::Code;
use super::facts::{DeadTask, Facts, LaunchFacts, TaskFacts};
use super::finding::Finding;
use super::whose::{Whose, whose};
use super::words::{count, span};
use crate::outcome::OutcomeKind;
use crate::task::TaskState;

pub(super) fn unlaunched(facts: &Facts, found: &mut Vec<Finding>) {
    let mut elsewhere: Vec<(String, &TaskFacts)> = Vec::new();
    for task in &facts.database.unlaunched {
        let waits = task.queued_at.map_or(0, |at| facts.database.now.ms_since(at));
        let object = named(task);
        let queued = format!("it has been queued for {}", span(waits));
        match whose(task, &facts.database.schedulers) {
            Whose::Ours => {
                let why = if facts.database.term.is_live(facts.database.now) { "" } else { "; nobody leads" };
                let what = format!("{queued} and has no launch{why}");
                found.push(Finding::new(Code::QueuedWithoutLaunch, object, what));
            }
            Whose::Nobody => {
                let what = format!("{queued} and names no job that queued it");
                found.push(Finding::new(Code::QueuedByUnregistered, object, what));
            }
            Whose::Unregistered { job } => {
                let kind = match &task.queued_by_job {
                    Some(job) => format!("{} {}, which is `{}`", job.kind, job.id, job.state),
                    None => format!("job {job}, which is not in Airflow's table job"),
                };
                let what = format!("{queued} by {kind} and is not registered in windlass.scheduler");
                found.push(Finding::new(Code::QueuedByUnregistered, object, what));
            }
            Whose::Other { executor } => elsewhere.push((executor, task)),
        }
    }
    if let Some((executor, first)) = elsewhere.first() {
        let tasks = count(elsewhere.len(), "task instance", "task instances");
        let what =
            format!("{tasks} for another executor; the longest queued is {}, for {executor}", first.key);
        found.push(Finding::new(Code::QueuedForOtherExecutor, "other executors", what));
    }
}

fn named(task: &TaskFacts) -> String {
    task.queueing().map_or_else(|| task.key.to_string(), |queueing| queueing.to_string())
}

pub(super) fn dead(facts: &Facts, found: &mut Vec<Finding>) {
    for DeadTask { task, launch } in &facts.database.dead {
        if whose(task, &facts.database.schedulers) != Whose::Ours {
            continue;
        }
        let now = facts.database.now;
        let beat = task.worker.as_ref().and_then(|job| job.heartbeat);
        let heard = match (&task.worker, beat) {
            (Some(job), _) if job.state != "running" => format!("its job {} is `{}`", job.id, job.state),
            (Some(job), Some(at)) => {
                format!("its job {} was last heard of {} ago", job.id, span(now.ms_since(at)))
            }
            (Some(job), None) => format!("its job {} has no heartbeat", job.id),
            (None, _) => "it names no job".to_owned(),
        };
        let host = task.hostname.as_deref().unwrap_or("no host");
        let of_launch = match launch {
            Some(launch) => format!("launch {} is {}", launch.row.launch, launch.row.stage.as_str()),
            None => "there is no launch of it".to_owned(),
        };
        let what = format!("it is `{}` on {host}, {heard}; {of_launch}", task.state.as_str());
        let restarting = task.state == TaskState::Restarting;
        let code = if restarting { Code::RestartingTaskDead } else { Code::RunningTaskDead };
        found.push(Finding::new(code, named(task), what).next(end_of_dead(facts, task, launch.as_ref())));
    }
}

/// What ends a task whose worker is dead: our delivery, Airflow's zombie detection, or nothing.
pub(super) fn end_of_dead(facts: &Facts, task: &TaskFacts, launch: Option<&LaunchFacts>) -> String {
    let restarting = task.state == TaskState::Restarting;
    let beat = task.worker.as_ref().and_then(|job| job.heartbeat);
    let zombie = match beat {
        _ if restarting => "Airflow's zombie detection does not look at `restarting`".to_owned(),
        Some(at) => {
            format!("Airflow's zombie detection fails it at {:.0} (UTC)", at.plus_ms(facts.limits.zombie_ms))
        }
        None => "Airflow's zombie detection fails it within its next passes".to_owned(),
    };
    let outcome = launch.and_then(|launch| launch.row.outcome.as_ref());
    match (launch, outcome) {
        (Some(launch), Some(_)) if launch.callback_sent_at.is_some() => {
            format!("the DAG processor was asked to fail it and run its callbacks; {zombie}")
        }
        (Some(launch), Some(outcome))
            if launch.delivered_at.is_none()
                && matches!(outcome.kind, OutcomeKind::Failure | OutcomeKind::Success) =>
        {
            format!("the scheduler is handed the outcome and fails or retries it; {zombie}")
        }
        (Some(_), Some(outcome)) => {
            format!("the launch came to `{}`, nothing is handed over; {zombie}", outcome.kind.as_str())
        }
        (Some(_), None) => format!(
            "the leader settles the launch when its pod has ended, and the scheduler fails or retries the task; {zombie}"
        ),
        (None, _) => zombie,
    }
}
