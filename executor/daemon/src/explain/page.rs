//! The story as one readable page.

use std::fmt::Write as _;

use windlass_core::doctor::{Job, LaunchFacts, ListedPod, Story, TaskFacts, Whose, Why, span, whose};
use windlass_core::launch::{PodStanding, classify};
use windlass_core::pod_view::PodPhase;
use windlass_core::time::UtcMicros;

/// The whole page. `blind`: why the pods are not known.
pub(super) fn text(story: &Story, why: &Why, blind: Option<&str>) -> String {
    let mut page = format!("{}\n", story.key);
    line(&mut page, "now", &format!("{:.3}, by the database's clock", story.facts.database.now));
    line(&mut page, "why", &why.what);
    line(&mut page, "goes on", &why.until);
    if let Some(task) = &story.task {
        page.push_str("\nTask instance\n");
        of_task(&mut page, story, task);
    }
    page.push_str("\nLeader\n");
    line(&mut page, "term", &leader(story));
    for launch in &story.launches {
        of_launch(&mut page, story, launch, blind);
    }
    if story.launches.is_empty() {
        page.push_str("\nNo launch of it is known\n");
    }
    page
}

/// Writing to a String cannot fail, here and below.
fn line(page: &mut String, name: &str, text: &str) {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let _ = writeln!(page, "  {name:<12}{text}");
}

fn ago(story: &Story, time: UtcMicros) -> String {
    format!("{} ago", span(story.facts.database.now.ms_since(time)))
}

fn of_task(page: &mut String, story: &Story, task: &TaskFacts) {
    line(page, "state", &format!("{}, try {}", task.state.as_str(), task.try_number));
    match task.queued_at {
        Some(time) => line(page, "queued", &format!("{time:.3} ({})", ago(story, time))),
        None => line(page, "queued", "never, or taken back"),
    }
    let schedulers = &story.facts.database.schedulers;
    let owner = match task.queued_by {
        None => "nobody".to_owned(),
        Some(id) => {
            let registered = schedulers.iter().find(|s| s.job_id == id).map(|s| {
                format!("on {}, Airflow {}, plugin {}", s.hostname, s.airflow_version, s.plugin_version)
            });
            let registered = registered.unwrap_or_else(|| "which has not registered".into());
            format!("scheduler {id} {registered}; {}", job(story, task.queued_by_job.as_ref()))
        }
    };
    line(page, "belongs to", &owner);
    let executor = task.executor.as_deref().unwrap_or("the default of its scheduler");
    let whose = match whose(task, schedulers) {
        Whose::Ours => "Windlass",
        Whose::Nobody | Whose::Unregistered { .. } => "not taken by Windlass",
        Whose::Other { .. } => "not Windlass",
    };
    line(page, "executor", &format!("{executor}: {whose}"));
    if let Some(time) = story.handed_over {
        line(page, "handed over", &format!("{time:.3} ({}), not taken yet", ago(story, time)));
    }
    line(page, "host", task.hostname.as_deref().unwrap_or("-"));
    line(page, "worker", &job(story, task.worker.as_ref()));
    let kind = task.run_type.as_deref().unwrap_or("its row is gone");
    line(page, "DAG run", &format!("{kind}, {}", task.run_state.as_deref().unwrap_or("-")));
}

fn job(story: &Story, job: Option<&Job>) -> String {
    let Some(job) = job else { return "no job".to_owned() };
    let beat =
        job.heartbeat.map_or("no heartbeat".to_owned(), |time| format!("heartbeat {}", ago(story, time)));
    format!("{} {}, {}, {beat}", job.kind, job.id, job.state)
}

fn leader(story: &Story) -> String {
    let (term, now) = (&story.facts.database.term, story.facts.database.now);
    match &term.holder {
        Some(holder) if term.is_live(now) => {
            format!("{}, held by {holder} for another {}", term.epoch, span(term.expires_at.ms_since(now)))
        }
        Some(holder) => format!("{} of {holder} ended {}", term.epoch, ago(story, term.expires_at)),
        None => format!("{}, handed over; nobody leads", term.epoch),
    }
}

fn of_launch(page: &mut String, story: &Story, launch: &LaunchFacts, blind: Option<&str>) {
    let row = &launch.row;
    let current = story.current().is_some_and(|now| now.row.launch == row.launch);
    let which = if current { "of the queueing that the row stands for" } else { "of an earlier queueing" };
    let _ = writeln!(page, "\nLaunch {} ({which})", row.launch);
    let stage = row.stage.as_str();
    line(
        page,
        "stage",
        &format!("{stage}, attempt {}, last written by term {}", row.attempt.0, launch.epoch),
    );
    line(page, "pod", &row.pod.to_string());
    let mut before = None;
    for (time, what) in events(launch) {
        let step = before.map_or(String::new(), |before| format!("+{}", span(time.ms_since(before))));
        let _ = writeln!(page, "    {time:.3} {step:>9}  {what}");
        before = Some(time);
    }
    if let Some(lost) = &launch.lost {
        line(page, "lost", &format!("attempt {}: {lost}", row.attempt.0.saturating_sub(1)));
    }
    if let Some(outcome) = &row.outcome {
        let reason = outcome.reason.map_or(String::new(), |reason| format!(" {reason}"));
        let code = outcome.exit_code.map_or(String::new(), |code| format!(" (exit code {code})"));
        line(page, "outcome", &format!("{}{reason}{code}: {}", outcome.kind.as_str(), outcome.message));
        if let Some(reason) = outcome.reason {
            line(page, "remedy", &format!("{} (docs/ERRORS.md#{reason})", reason.hint()));
        }
    }
    let mut none = true;
    for pod in story.pods_of(&row.launch) {
        none = false;
        line(page, "pod now", &of_pod(story, launch, pod));
    }
    if none {
        line(page, "pod now", blind.unwrap_or("there is none"));
    }
}

/// What happened, in the order of time: who did it is said where it is known.
pub(super) fn events(launch: &LaunchFacts) -> Vec<(UtcMicros, String)> {
    let row = &launch.row;
    let mut events = vec![
        (
            row.queueing.queued_at,
            format!("queued by scheduler {}, try {}", row.scheduler_job_id, row.queueing.try_number),
        ),
        (launch.claimed_at, "claimed by the leader".to_owned()),
    ];
    let times = [
        (launch.created_at, "pod created"),
        (launch.running_at, "its container was seen running"),
        (launch.withdrawn_at, "withdrawn: the scheduler took the queueing back"),
        (launch.settled_at, "settled: the leader stored the outcome"),
        (launch.callback_sent_at, "callbacks asked for: the scheduler told the DAG processor"),
        (launch.delivered_at, "delivered: the scheduler was seen to have taken the outcome"),
        (launch.closed_at, "closed: no pod of it can start any more"),
    ];
    events.extend(times.into_iter().filter_map(|(time, what)| Some((time?, what.to_owned()))));
    events.sort_by_key(|(time, _)| *time);
    events
}

/// Phase, node, why it waits, and whether it is the one that is stored.
pub(super) fn of_pod(story: &Story, launch: &LaunchFacts, pod: &ListedPod) -> String {
    let view = &pod.view;
    let phase = match view.phase {
        PodPhase::Pending => "Pending",
        PodPhase::Running => "Running",
        PodPhase::Succeeded => "Succeeded",
        PodPhase::Failed => "Failed",
        PodPhase::Unknown => "Unknown",
    };
    let node = if pod.node.is_empty() { "no node".to_owned() } else { format!("node {}", pod.node) };
    let how = match classify(view, &story.facts.limits.policy) {
        PodStanding::Waiting(None) => "has not started".to_owned(),
        PodStanding::Waiting(Some(why)) => format!("waits: {why}"),
        PodStanding::Stuck { reason, message } => format!("will not start ({reason}): {message}"),
        PodStanding::Started => "its worker's container runs".to_owned(),
        PodStanding::Ended(_) => "has ended".to_owned(),
    };
    let deleting = if view.deleting { ", is being deleted" } else { "" };
    let uid = match &launch.row.uid {
        Some(uid) if *uid == view.uid => "the uid that is stored",
        Some(_) => "another uid than is stored",
        None => "no uid is stored yet",
    };
    let attempt = view.attempt.0;
    format!("{} (attempt {attempt}): {phase} on {node}, {how}{deleting}; {uid}", view.pod)
}

#[cfg(test)]
mod tests;
