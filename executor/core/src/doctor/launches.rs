//! Launches that are not done, beside their task instance and their pod.

use super::code::Code;
use super::facts::{ClusterFacts, Facts, LaunchFacts, ListedPod, OpenLaunch, TaskFacts};
use super::finding::Finding;
use super::repair::Repair;
use super::setup::over;
use super::words::span;
use crate::launch::{PodStanding, classify};
use crate::store::StoredStage;
use crate::task::TaskState;
use crate::time::UtcMicros;

/// What one look at the cluster says of the pod of a launch's current attempt.
pub(super) enum Seen<'a> {
    /// The API server could not be asked, or not for all namespaces.
    Unknown,
    /// There is none.
    Absent,
    /// It has not started; why, where known.
    Waiting(Option<String>),
    /// Its worker's container runs.
    Started,
    /// It has ended.
    Ended(&'a ListedPod),
}

/// Finds the pod among those of the launch, by attempt; one of another uid than stored is another pod.
pub(super) fn seen<'a>(
    facts: &Facts,
    launch: &LaunchFacts,
    mut pods: impl Iterator<Item = &'a ListedPod>,
) -> Seen<'a> {
    let Some(cluster) = &facts.cluster else { return Seen::Unknown };
    let row = &launch.row;
    let its = |pod: &&ListedPod| {
        pod.view.attempt == row.attempt && row.uid.as_ref().is_none_or(|uid| *uid == pod.view.uid)
    };
    match pods.find(its) {
        None if cluster.complete => Seen::Absent,
        None => Seen::Unknown,
        Some(pod) => match classify(&pod.view, &facts.limits.policy) {
            PodStanding::Waiting(why) => Seen::Waiting(why),
            PodStanding::Stuck { message, .. } => Seen::Waiting(Some(message)),
            PodStanding::Started => Seen::Started,
            PodStanding::Ended(_) => Seen::Ended(pod),
        },
    }
}

pub(super) fn open(facts: &Facts, found: &mut Vec<Finding>) {
    let term = &facts.database.term;
    let pods = facts.cluster.as_ref().map(ClusterFacts::by_launch).unwrap_or_default();
    for open in &facts.database.open {
        let (launch, now) = (&open.launch, facts.database.now);
        let row = &launch.row;
        let not_closed = row.stage != StoredStage::Closed;
        if not_closed && launch.epoch < term.epoch && term.is_live(now) {
            let what = format!("written by term {}, and term {} leads", launch.epoch, term.epoch);
            found.push(Finding::new(Code::LaunchOfOldTerm, &row.queueing, what));
        }
        if not_closed && !facts.limits.watches(&row.pod.namespace) {
            let what = format!("its pod is {}, and that namespace is not watched", row.pod);
            found.push(Finding::new(Code::NamespaceNotWatched, &row.queueing, what));
        }
        let pod = seen(facts, launch, pods.get(&row.launch).into_iter().flatten().copied());
        if row.outcome.is_none() {
            found.extend(undecided(facts, open, &pod));
        } else {
            found.extend(not_closed_in_time(facts, launch, &pod));
            if launch.delivered_at.is_none() {
                found.extend(undelivered(facts, open));
            }
        }
    }
}

/// Without an outcome: the one finding that says most.
fn undecided(facts: &Facts, open: &OpenLaunch, pod: &Seen<'_>) -> Option<Finding> {
    let (launch, now) = (&open.launch, facts.database.now);
    let queueing = &launch.row.queueing;
    let withdrawn = launch.withdrawn_at.map(|at| now.ms_since(at));
    if let Some(since) = withdrawn.filter(|ms| over(*ms, facts.limits.withdrawn_ms))
        && launch.row.stage != StoredStage::Running
    {
        let what = format!("taken back {} ago, still `{}`", span(since), launch.row.stage.as_str());
        return Some(Finding::new(Code::WithdrawnNotSettled, queueing, what));
    }
    let live = open.task.as_ref().filter(|task| task.is_of(queueing) && task.is_live());
    match live {
        None => taken_back(open, pod),
        Some(task) if task.state == TaskState::Queued => queued(facts, launch, task, pod),
        Some(task) => running(facts, launch, task, pod),
    }
}

/// The row is gone, of another queueing, or over.
fn taken_back(open: &OpenLaunch, pod: &Seen<'_>) -> Option<Finding> {
    let launch = &open.launch;
    let (queueing, at) = (&launch.row.queueing, &launch.row.pod);
    let queued_again = open.task.as_ref().is_some_and(|task| task.is_live() && !task.is_of(queueing));
    let row = match &open.task {
        None => "its task instance is gone".to_owned(),
        Some(task) if task.is_of(queueing) => format!("its task instance is `{}`", task.state.as_str()),
        Some(task) => format!("its task instance is of a newer queueing (`{}`)", task.state.as_str()),
    };
    let stage = launch.row.stage.as_str();
    Some(match pod {
        Seen::Unknown => return None,
        Seen::Absent => {
            let what = format!("{row}, there is no pod, and the launch is still `{stage}`");
            Finding::new(Code::LaunchNotSettled, queueing, what)
        }
        Seen::Ended(_) => {
            let what = format!("{row}, pod {at} has ended, and the launch is still `{stage}`");
            Finding::new(Code::LaunchNotSettled, queueing, what)
        }
        Seen::Waiting(why) => {
            let why = why.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
            Finding::new(Code::UnwantedPod, queueing, format!("{row}, and pod {at} still waits{why}"))
        }
        Seen::Started if queued_again => {
            Finding::new(Code::SupersededWorker, queueing, format!("{row}, and pod {at} still runs"))
        }
        Seen::Started => {
            Finding::new(Code::WorkerLingers, queueing, format!("{row}, and pod {at} still runs"))
        }
    })
}

/// The row waits in `queued` for this launch.
fn queued(facts: &Facts, launch: &LaunchFacts, task: &TaskFacts, pod: &Seen<'_>) -> Option<Finding> {
    let (now, limits, row) = (facts.database.now, &facts.limits, &launch.row);
    let finding = |code, what: String| Some(Finding::new(code, &row.queueing, what));
    match (row.stage, pod) {
        (StoredStage::Created | StoredStage::Running, Seen::Absent) => {
            return finding(Code::PodGone, format!("pod {} is gone and the task is still queued", row.pod));
        }
        (_, Seen::Ended(pod)) => {
            let what = format!("pod {} has ended and the task is still queued", pod.view.pod);
            return finding(Code::LaunchNotSettled, what);
        }
        (_, Seen::Started) => {
            let since = launch.running_at.map(|at| now.ms_since(at));
            let since = since.filter(|ms| over(*ms, limits.start_ms))?;
            let what = format!("pod {} has run for {} and the task is still queued", row.pod, span(since));
            return finding(Code::WorkerSlowStart, what);
        }
        (_, Seen::Waiting(_) | Seen::Unknown | Seen::Absent) => {}
    }
    if let Some(near) = near_timeout(facts, launch, task, pod) {
        return Some(near);
    }
    let waits = now.ms_since(launch.claimed_at);
    let no_pod = matches!(pod, Seen::Absent) && row.stage == StoredStage::Claimed;
    if no_pod && over(waits, limits.claimed_ms) {
        return finding(
            Code::ClaimedWithoutPod,
            format!("claimed {} ago, and no pod was created", span(waits)),
        );
    }
    None
}

/// Over four fifths of Airflow's patience.
fn near_timeout(facts: &Facts, launch: &LaunchFacts, task: &TaskFacts, pod: &Seen<'_>) -> Option<Finding> {
    let timeout = facts.limits.queued_timeout_ms;
    let queued_at = task.queued_at?;
    let waits = facts.database.now.ms_since(queued_at);
    if !over(waits, timeout / 5 * 4) {
        return None;
    }
    let why = match pod {
        Seen::Waiting(Some(why)) => format!("pod {} waits: {why}", launch.row.pod),
        Seen::Waiting(None) => format!("pod {} has not started", launch.row.pod),
        Seen::Absent => format!("pod {} could not be created yet", launch.row.pod),
        Seen::Unknown | Seen::Started | Seen::Ended(_) => {
            format!("pod {} is not known to run", launch.row.pod)
        }
    };
    let at = queued_at.plus_ms(timeout);
    let next = if launch.row.stage == StoredStage::Claimed {
        format!(
            "from {at:.0} (UTC) on Airflow would queue it again; the plugin holds it for at most [windlass] hold_limit_seconds"
        )
    } else {
        format!(
            "from {at:.0} (UTC) on Airflow queues it again (its next check, every 120 s); the third time it fails without a retry"
        )
    };
    let what = format!("queued for {}: {why}", span(waits));
    Some(Finding::new(Code::QueuedNearTimeout, &launch.row.queueing, what).next(next))
}

/// The row runs. A dead worker is `tasks::dead`'s to tell.
fn running(facts: &Facts, launch: &LaunchFacts, task: &TaskFacts, pod: &Seen<'_>) -> Option<Finding> {
    let beats = task.worker.as_ref();
    let alive = beats.is_some_and(|job| job.alive(facts.database.now, facts.limits.worker_dead_ms));
    let created = launch.row.stage != StoredStage::Claimed;
    match pod {
        Seen::Absent if alive && created => {
            let host = task.hostname.as_deref().unwrap_or("an unknown host");
            let what =
                format!("pod {} is gone, and the task runs on {host} with a beating heart", launch.row.pod);
            let next = "the launch waits for the row: another pod of the task key runs it";
            Some(Finding::new(Code::PodGone, &launch.row.queueing, what).next(next))
        }
        Seen::Absent | Seen::Unknown | Seen::Waiting(_) | Seen::Started | Seen::Ended(_) => None,
    }
}

/// The outcome is there; the pod may still run, else the launch should be closed.
fn not_closed_in_time(facts: &Facts, launch: &LaunchFacts, pod: &Seen<'_>) -> Option<Finding> {
    let since = launch.settled_at.map(|at| facts.database.now.ms_since(at))?;
    if launch.row.stage != StoredStage::Settled || !over(since, facts.limits.undelivered_ms) {
        return None;
    }
    let pod = match pod {
        Seen::Absent => "its pod is gone".to_owned(),
        Seen::Ended(pod) => format!("pod {} has ended", pod.view.pod),
        Seen::Unknown | Seen::Waiting(_) | Seen::Started => return None,
    };
    let what = format!("settled {} ago, {pod}, and the launch is not closed", span(since));
    Some(Finding::new(Code::LaunchNotClosed, &launch.row.queueing, what))
}

fn undelivered(facts: &Facts, open: &OpenLaunch) -> Option<Finding> {
    let (launch, now, limits) = (&open.launch, facts.database.now, &facts.limits);
    let (queueing, since) = (&launch.row.queueing, now.ms_since(launch.settled_at?));
    if !over(since, limits.undelivered_ms) {
        return None;
    }
    let outcome = launch.row.outcome.as_ref()?;
    let kind = outcome.reason.map_or(outcome.kind.as_str(), |reason| reason.as_str());
    let came_to = format!("it came to {kind} {} ago", span(since));
    let live = open.task.as_ref().filter(|task| task.is_of(queueing) && task.is_live());
    let Some(task) = live else {
        let row = open.task.as_ref().map_or("gone", |task| task.state.as_str());
        let what = format!("{came_to}, and its task instance has moved on (`{row}`)");
        let repair = Repair::MarkDelivered { launch: launch.row.launch.clone() };
        return Some(Finding::new(Code::OutcomeAlreadyTaken, queueing, what).repair(repair));
    };
    let state = task.state.as_str();
    if let Some(sent) = launch.callback_sent_at {
        let waits = now.ms_since(sent);
        let what = format!("callbacks were asked for {} ago, and the task is still `{state}`", span(waits));
        let late = over(waits, limits.callback_ms);
        return late.then(|| Finding::new(Code::CallbackUnanswered, queueing, what));
    }
    let (owner, next) = who_delivers(facts, task, now);
    let what = format!("{came_to}, the task is still `{state}`, and {owner}");
    Some(Finding::new(Code::OutcomeUndelivered, queueing, what).next(next))
}

/// Which scheduler should take the outcome of a task that stands as before, and what will come of it.
pub(super) fn who_delivers(facts: &Facts, task: &TaskFacts, now: UtcMicros) -> (String, String) {
    let silent = facts.limits.scheduler_silent_ms;
    let alive = task.queued_by_job.as_ref().is_some_and(|job| job.alive(now, silent));
    let Some(job) = task.queued_by else {
        let next = "nobody delivers it: no scheduler owns the task";
        return ("it belongs to no scheduler".into(), next.into());
    };
    if task.run_is_over() {
        let next = "the DAG run is over: any registered scheduler closes it after a minute, without a write to the task";
        return (format!("its DAG run is over (scheduler {job})"), next.into());
    }
    if alive {
        let next = format!("scheduler {job} offers it again within 30 s until the row has moved");
        return (format!("scheduler {job}, which lives, has not taken it"), next);
    }
    let others = facts.database.schedulers.iter();
    let other =
        others.filter(|s| s.job_id != job).find(|s| s.job.as_ref().is_some_and(|j| j.alive(now, silent)));
    let next = match other {
        Some(other) => format!(
            "scheduler {} adopts the task with its next orphan check (every 300 s by default) and takes it then",
            other.job_id
        ),
        None => "nothing until a scheduler is started: it adopts the task and takes it then".to_owned(),
    };
    (format!("its scheduler {job} is not alive"), next)
}
