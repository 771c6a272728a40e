//! Why one task instance waits now, and what lets it go on.

use super::facts::{LaunchFacts, ListedPod, TaskFacts};
use super::launches::{Seen, seen, who_delivers};
use super::story::{Story, Trial, Waits, Why};
use super::tasks::end_of_dead;
use super::whose::{Whose, whose};
use super::words::{count, span, span_of};
use crate::launch::{PodStanding, classify};
use crate::outcome::OutcomeKind;
use crate::store::StoredStage;
use crate::task::TaskState;

/// Why it waits now.
pub fn why(story: &Story) -> Why {
    let Some(task) = &story.task else {
        let until = "check the ids (map_index for a mapped task); a deleted DAG run takes its rows along";
        return Why::new(Waits::NoSuchTask, format!("there is no task instance {}", story.key), until);
    };
    match &task.state {
        TaskState::None
        | TaskState::Scheduled
        | TaskState::Deferred
        | TaskState::UpForRetry
        | TaskState::UpForReschedule => {
            let until = "Airflow's scheduler puts it into `queued` when its time, dependencies, pool and slots allow it; \
                         Windlass acts from then on";
            Why::new(Waits::NotQueued, format!("Airflow has it in `{}`", task.state.as_str()), until)
        }
        TaskState::Success | TaskState::Failed | TaskState::Other(_) => Why::new(
            Waits::Over,
            format!("it is over: `{}`", task.state.as_str()),
            "nothing: it does not wait",
        ),
        TaskState::Queued => queued(story, task),
        TaskState::Running | TaskState::Restarting => running(story, task),
    }
}

fn queued(story: &Story, task: &TaskFacts) -> Why {
    match story.current() {
        None => unlaunched(story, task),
        Some(launch) if launch.row.outcome.is_some() => decided(story, task, launch),
        Some(launch) => undecided(story, task, launch),
    }
}

fn not_ours(whose: &Whose, task: &TaskFacts) -> Option<Why> {
    Some(match whose {
        Whose::Ours => return None,
        Whose::Other { executor } => Why::new(
            Waits::OtherExecutor,
            format!("it is for another executor: {executor}"),
            "Windlass does not launch it; see that executor",
        ),
        Whose::Nobody => Why::new(
            Waits::Unregistered,
            "its row names no scheduler that queued it",
            "Airflow's orphan check resets it, or clear it",
        ),
        Whose::Unregistered { job } => {
            let kind = task.queued_by_job.as_ref();
            let kind = kind.map_or_else(
                || "is not in Airflow's table job".into(),
                |job| format!("is a {} and `{}`", job.kind, job.state),
            );
            Why::new(
                Waits::Unregistered,
                format!("job {job}, which queued it, has not registered in windlass.scheduler ({kind})"),
                match &task.queued_by_job {
                    Some(job) if job.kind == "BackfillJob" => {
                        "start the backfill where [core] executor names Windlass; a scheduler does not adopt its tasks"
                    }
                    _ => {
                        "a scheduler with the plugin adopts it once that job is dead; give every scheduler the plugin"
                    }
                },
            )
        }
    })
}

fn unlaunched(story: &Story, task: &TaskFacts) -> Why {
    if let Some(why) = not_ours(&whose(task, story.schedulers()), task) {
        return why;
    }
    let since = task.queued_at.map_or(0, |at| story.ms_since(at));
    let term = story.term();
    if !term.is_live(story.facts.database.now) {
        let what = format!("it has been queued for {} and no daemon leads", span(since));
        return Why::new(Waits::NoLeader, what, "a daemon that takes the term launches it within seconds");
    }
    let handed = story.handed_over.map(|at| format!("; handed over {} ago", span(story.ms_since(at))));
    let what =
        format!("it has been queued for {} and has no launch yet{}", span(since), handed.unwrap_or_default());
    let pass = span_of(story.facts.limits.full_pass_ms);
    let until = format!(
        "the leader's full pass is due every {pass} (later if the database is slow or its backlog is full)"
    );
    Why::new(Waits::Intake, what, until)
}

fn undecided(story: &Story, task: &TaskFacts, launch: &LaunchFacts) -> Why {
    let row = &launch.row;
    let now = story.facts.database.now;
    if !story.term().is_live(now) {
        let what = format!("its launch is `{}` and no daemon leads", row.stage.as_str());
        return Why::new(
            Waits::NoLeader,
            what,
            "a daemon that takes the term goes on with it within seconds",
        );
    }
    if let Some(at) = launch.withdrawn_at {
        let what = format!("its scheduler took the queueing back {} ago", span(story.ms_since(at)));
        return Why::new(
            Waits::Withdrawn,
            what,
            "the leader settles it and removes its pod; then Airflow queues the task again",
        );
    }
    if !story.facts.limits.watches(&row.pod.namespace) {
        let what =
            format!("its pod belongs into namespace {}, which is not watched any more", row.pod.namespace);
        return Why::new(
            Waits::Namespace,
            what,
            "add it to multi_namespace_mode_namespace_list and restart the daemon",
        );
    }
    let bound = bounds(story, task, launch);
    match seen(&story.facts, launch, story.pods_of(&row.launch)) {
        Seen::Waiting(why) => {
            let why = why.unwrap_or_else(|| "its containers have not started".into());
            Why::new(Waits::PodPending, format!("pod {} has not started: {why}", row.pod), bound)
        }
        Seen::Started => {
            let since = launch.running_at.map_or(0, |at| story.ms_since(at));
            let what = format!(
                "the container of pod {} has run for {}, the worker in it has not begun the task",
                row.pod,
                span(since)
            );
            Why::new(
                Waits::WorkerStarts,
                what,
                "the worker imports the DAG file and sets `running`; if it ends before, the task fails with WorkerDidNotStart",
            )
        }
        Seen::Ended(pod) => Why::new(
            Waits::Judged,
            format!("pod {} has ended before the task began", pod.view.pod),
            "the leader starts another attempt, or fails the task with the pod's reason, within seconds",
        ),
        Seen::Unknown => Why::new(
            Waits::ClusterUnknown,
            format!("its launch is `{}`; the API server did not tell of pod {}", row.stage.as_str(), row.pod),
            bound,
        ),
        Seen::Absent if row.stage == StoredStage::Claimed => not_created(story, launch, bound),
        Seen::Absent => Why::new(
            Waits::PodGone,
            format!("pod {} is gone", row.pod),
            "the leader asks for it by name, then starts another attempt or fails the task with PodDeleted",
        ),
    }
}

/// Claimed and without a pod: barrier, quota, refusal, or its turn.
fn not_created(story: &Story, launch: &LaunchFacts, bound: String) -> Why {
    if let Some(rival) = rival(story, launch) {
        return Why::new(
            Waits::Barrier,
            format!(
                "{rival} of an earlier queueing or attempt of this task may still start or has not ended (I11)"
            ),
            "it is created once that pod is gone, has ended, or has begun its own task",
        );
    }
    let waited = span(story.ms_since(launch.claimed_at));
    let limits = &story.facts.limits;
    let again = format!("it is tried again every {} s", limits.namespace_hold_ms / 1_000);
    match &story.trial {
        Some(Trial::Quota(said)) => Why::new(
            Waits::Quota,
            format!("namespace {} has no quota left: {said}", launch.row.pod.namespace),
            format!("{again} while the namespace is held; {bound}"),
        ),
        Some(Trial::NotReady(said)) => Why::new(
            Waits::NamespaceNotReady,
            format!("namespace {} is not ready: {said}", launch.row.pod.namespace),
            format!(
                "{again} while the namespace is held; after {} s of that the task fails with that reason",
                limits.namespace_ready_ms / 1_000
            ),
        ),
        Some(Trial::NotMade(said)) => Why::new(
            Waits::MutationHook,
            format!("its pod cannot be made: {said}"),
            format!("{again}; {bound}"),
        ),
        Some(Trial::Refused(said)) => Why::new(
            Waits::Refused,
            format!("its pod would be refused: {said}"),
            "the task fails with that reason at its next create",
        ),
        Some(Trial::Admitted | Trial::Unknown(_)) | None => {
            let ahead = usize::try_from(story.ahead).unwrap_or(usize::MAX);
            let ahead = count(ahead, "launch is", "launches are");
            let said = match &story.trial {
                Some(Trial::Admitted) => "; a dry run of its create is admitted".to_owned(),
                Some(Trial::Unknown(said)) => format!("; a dry run of its create was not answered: {said}"),
                Some(Trial::Quota(_) | Trial::NotReady(_) | Trial::NotMade(_) | Trial::Refused(_)) | None => {
                    String::new()
                }
            };
            let what = format!("claimed {waited} ago; {ahead} created before it in its namespace{said}");
            Why::new(
                Waits::Turn,
                what,
                format!(
                    "creates are paced by the API server's latency, highest priority_weight first; {bound}"
                ),
            )
        }
    }
}

/// A pod of another queueing or attempt of the key that has not ended.
fn rival(story: &Story, launch: &LaunchFacts) -> Option<String> {
    let cluster = story.facts.cluster.as_ref()?;
    let other = |pod: &&ListedPod| {
        let its = pod.view.launch == launch.row.launch && pod.view.attempt == launch.row.attempt;
        !its && !matches!(classify(&pod.view, &story.facts.limits.policy), PodStanding::Ended(_))
    };
    let pod = cluster.pods.iter().find(other)?;
    let node = if pod.node.is_empty() { "no node".to_owned() } else { format!("node {}", pod.node) };
    Some(format!("pod {} ({node})", pod.view.pod))
}

/// Until when at most a queued task waits for its pod.
fn bounds(story: &Story, task: &TaskFacts, launch: &LaunchFacts) -> String {
    let limits = &story.facts.limits;
    let Some(queued_at) = task.queued_at else { return "Airflow has no time for it".into() };
    if let Some(created) = launch.created_at.filter(|_| limits.pending_ms > 0) {
        let at = created.plus_ms(limits.pending_ms);
        return format!("it fails with that reason at {at:.0} (launch.pending-timeout-seconds)");
    }
    let at = queued_at.plus_ms(limits.queued_timeout_ms);
    if launch.row.stage == StoredStage::Claimed {
        return format!(
            "from {at:.0} on (task_queued_timeout) the plugin holds it for at most [windlass] hold_limit_seconds more"
        );
    }
    format!(
        "from {at:.0} on (task_queued_timeout) Airflow queues it again, and fails it without a retry the third time"
    )
}

/// The outcome is stored and the row stands as before.
fn decided(story: &Story, task: &TaskFacts, launch: &LaunchFacts) -> Why {
    let Some(outcome) = &launch.row.outcome else { return undecided(story, task, launch) };
    let since = launch.settled_at.map_or(0, |at| story.ms_since(at));
    let came = outcome.reason.map_or(outcome.kind.as_str(), |reason| reason.as_str());
    if launch.delivered_at.is_some() {
        let what = format!(
            "its launch came to {came} {} ago and is done, and the row is still `{}`",
            span(since),
            task.state.as_str()
        );
        let until = if task.state == TaskState::Queued {
            "Airflow queues it again after task_queued_timeout"
        } else {
            "another pod of this task runs it, or Airflow's zombie detection ends it"
        };
        return Why::new(Waits::NothingLeft, what, until);
    }
    if let Some(sent) = launch.callback_sent_at {
        let what = format!(
            "it came to {came}; the DAG processor was asked {} ago to fail it and run its callbacks",
            span(story.ms_since(sent))
        );
        return Why::new(
            Waits::Callback,
            what,
            "the DAG processor takes it with its next pass over the file (min_file_process_interval, 30 s)",
        );
    }
    let (owner, next) = who_delivers(&story.facts, task, story.facts.database.now);
    let what = format!("its launch came to {came} {} ago, which waits to be delivered: {owner}", span(since));
    let next = match outcome.kind {
        OutcomeKind::Success => {
            format!("the row should have told of its end: after a minute the task is failed; {next}")
        }
        OutcomeKind::Failure | OutcomeKind::Superseded | OutcomeKind::Withdrawn => next,
    };
    Why::new(Waits::Delivery, what, next)
}

fn running(story: &Story, task: &TaskFacts) -> Why {
    let now = story.facts.database.now;
    let host = task.hostname.as_deref().unwrap_or("an unknown host");
    let alive = task.worker.as_ref().is_some_and(|job| job.alive(now, story.facts.limits.worker_dead_ms));
    if alive && task.state == TaskState::Running {
        return Why::new(
            Waits::Runs,
            format!("it runs on {host}, and its worker's heart beats"),
            "its own end",
        );
    }
    if alive {
        let what = format!("it was cleared while it ran on {host}; its worker is to end");
        return Why::new(
            Waits::Restarting,
            what,
            "the worker notices with its next heartbeat and ends; Airflow then queues the task again",
        );
    }
    if let Some(why) = not_ours(&whose(task, story.schedulers()), task) {
        return why;
    }
    let launch = story.current();
    match launch {
        Some(launch) if launch.row.outcome.is_some() && launch.delivered_at.is_none() => {
            let mut why = decided(story, task, launch);
            why.until = format!("{}; {}", why.until, end_of_dead(&story.facts, task, Some(launch)));
            why
        }
        _ => {
            let beat = task.worker.as_ref().and_then(|job| job.heartbeat);
            let heard = beat.map_or("never".to_owned(), |at| format!("{} ago", span(story.ms_since(at))));
            let what = format!(
                "it is `{}` on {host}, and its worker is dead (last heartbeat {heard})",
                task.state.as_str()
            );
            Why::new(Waits::WorkerDead, what, end_of_dead(&story.facts, task, launch))
        }
    }
}
