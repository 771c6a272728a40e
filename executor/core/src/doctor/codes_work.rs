//! The codes of the work: task instances, launches and pods that do not fit together.

use super::code::{About, Code, Severity, row};
use Severity::{Error, Info, Warning};

/// In the order of [`Code`].
pub(super) static WORK: [About; 26] = [
    row(
        Code::QueuedWithoutLaunch,
        "queued-without-launch",
        Error,
        [
            "a task instance of ours has been queued for long, and there is no launch of it",
            "the leader's full pass takes it within seconds once it works; the plugin keeps Airflow from \
             queueing it again for at most [windlass] hold_limit_seconds",
            "see that a daemon leads and its log; `windlass explain` tells more of this task",
        ],
    ),
    row(
        Code::QueuedByUnregistered,
        "queued-by-unregistered",
        Warning,
        [
            "a task instance was queued by a job that is no registered scheduler, so Windlass does not take it",
            "a scheduler with the plugin adopts it once that job is gone; else it stays",
            "give that scheduler the plugin, or clear the task",
        ],
    ),
    row(
        Code::QueuedForOtherExecutor,
        "queued-for-other-executor",
        Info,
        [
            "queued task instances ask for another executor",
            "that executor runs them, not Windlass",
            "nothing",
        ],
    ),
    row(
        Code::QueuedNearTimeout,
        "queued-near-timeout",
        Warning,
        [
            "a pod has not started, and Airflow's task_queued_timeout is near",
            "Airflow queues the task again; the third time it fails without a retry",
            "mend what the pod waits for; set launch.pending-timeout-seconds to fail with that reason instead",
        ],
    ),
    row(
        Code::ClaimedWithoutPod,
        "claimed-without-pod",
        Warning,
        [
            "a launch has had no pod for over a minute",
            "the leader creates it as soon as the barrier, the quota of its namespace and the API server let it",
            "`windlass explain` of the task says what it waits for",
        ],
    ),
    row(
        Code::NamespaceNotWatched,
        "namespace-not-watched",
        Error,
        [
            "a launch has its pod in a namespace that is not watched any more",
            "the leader asks for the pod one by one, or not at all",
            "add the namespace to multi_namespace_mode_namespace_list again until its tasks are done",
        ],
    ),
    row(
        Code::LaunchOfOldTerm,
        "launch-of-old-term",
        Error,
        [
            "a launch was last written by an earlier term, and the present leader has not taken it over",
            "a leader loads all open launches when its term begins; this one was missed or its load fails",
            "see the leader's log; restart it: its next term loads again",
        ],
    ),
    row(
        Code::WithdrawnNotSettled,
        "withdrawn-not-settled",
        Warning,
        [
            "a scheduler took the queueing back, and the launch has not been settled",
            "the leader settles and removes the pod within a second or two, unless the task has started",
            "see that a daemon leads; a started task goes on and settles by its own end",
        ],
    ),
    row(
        Code::PodGone,
        "pod-gone",
        Warning,
        [
            "the pod of a launch does not exist any more",
            "the leader asks for it by name, then starts another attempt or settles with PodDeleted",
            "see who deletes pods: PodGC, drains, `airflow kubernetes cleanup-pods`, people",
        ],
    ),
    row(
        Code::UnwantedPod,
        "unwanted-pod",
        Warning,
        [
            "a pod waits to start for a queueing that Airflow has taken back",
            "the leader settles the launch as withdrawn and deletes the pod within a second or two",
            "see that a daemon leads",
        ],
    ),
    row(
        Code::WorkerSlowStart,
        "worker-slow-start",
        Warning,
        [
            "a worker's container runs for long, and the task is still queued",
            "when the container ends, the task fails with WorkerDidNotStart; Airflow may queue it again before",
            "read the pod's log: importing the DAG file, the database, or a wrong entrypoint takes the time",
        ],
    ),
    row(
        Code::WorkerLingers,
        "worker-lingers",
        Info,
        [
            "the task is over, and its pod still runs: logs are uploaded, the mini scheduler works",
            "the launch is settled when the pod ends; Windlass never kills a worker",
            "nothing, unless it stays for many minutes: then read the pod's log",
        ],
    ),
    row(
        Code::SupersededWorker,
        "superseded-worker",
        Warning,
        [
            "a worker of an earlier queueing still runs while the task is queued again",
            "the new pod starts once the old one cannot begin the task any more (I11)",
            "nothing; delete the old pod by hand only if its worker hangs",
        ],
    ),
    row(
        Code::LaunchNotSettled,
        "launch-not-settled",
        Warning,
        [
            "the pod has ended or the task is over, and the launch has no outcome yet",
            "the leader settles within seconds",
            "see that a daemon leads and its log",
        ],
    ),
    row(
        Code::LaunchNotClosed,
        "launch-not-closed",
        Warning,
        [
            "an outcome is stored for over a minute, and the launch is not closed: its pod is not cleared away",
            "the leader closes it when the pod is gone or has ended",
            "see that a daemon leads and may delete pods",
        ],
    ),
    row(
        Code::RunningTaskDead,
        "running-task-dead",
        Error,
        [
            "a task instance is `running` and its worker is dead",
            "the outcome is delivered, or Airflow's zombie detection fails it",
            "see why the worker died: `windlass explain`, the pod's log, the node",
        ],
    ),
    row(
        Code::RestartingTaskDead,
        "restarting-task-dead",
        Error,
        [
            "a task instance is `restarting` (cleared while it ran) and its worker is dead: Airflow 2 itself \
             never ends it",
            "it ends only when an outcome of ours is delivered",
            "see that the scheduler of the task and a daemon live; else mark it failed or clear it again",
        ],
    ),
    row(
        Code::OutcomeUndelivered,
        "outcome-undelivered",
        Warning,
        [
            "an outcome has waited for over a minute for its scheduler",
            "the scheduler that owns the task takes it with its next loop",
            "see that this scheduler lives and its log for WindlassExecutor",
        ],
    ),
    row(
        Code::OutcomeAlreadyTaken,
        "outcome-already-taken",
        Warning,
        [
            "an outcome waits for delivery, and its task instance has moved on: there is nothing left to \
             deliver",
            "any living scheduler closes it after a minute",
            "`windlass doctor --repair` marks it delivered",
        ],
    ),
    row(
        Code::CallbackUnanswered,
        "callback-unanswered",
        Warning,
        [
            "a failure was handed to the DAG processor for its callbacks long ago, and the task stands as \
             before",
            "zombie detection ends a running task; a queued one is queued again by task_queued_timeout",
            "see that a DAG processor runs and can load the DAG file",
        ],
    ),
    row(
        Code::PodWithoutLaunch,
        "pod-without-launch",
        Warning,
        [
            "a pod of this installation belongs to no launch that is known",
            "it runs to its end; Windlass counts it and leaves it alone",
            "if the database lost commits, it may be the worker of a live task: leave it; else delete it by \
             hand",
        ],
    ),
    row(
        Code::PodOfClosedLaunch,
        "pod-of-closed-launch",
        Error,
        [
            "a pod of a launch or attempt that is over exists and has not ended: it must not start a task any \
             more",
            "the leader deletes it while it waits; what runs ends by itself",
            "`windlass doctor --repair` deletes it where it is not bound to a node",
        ],
    ),
    row(
        Code::PodLeftOver,
        "pod-left-over",
        Warning,
        [
            "a pod has ended, its launch is done, and by delete_worker_pods it should be gone",
            "nothing: the leader has forgotten it",
            "`windlass doctor --repair` deletes it",
        ],
    ),
    row(
        Code::SeveralPodsOfOneTask,
        "several-pods-of-one-task",
        Warning,
        [
            "several pods of one task have not ended",
            "the barrier (I11) lets a later one begin only when the earlier one cannot; the body of a queueing \
             runs once",
            "nothing, if it passes within a minute; else `windlass explain` of the task",
        ],
    ),
    row(
        Code::PodLabelsBroken,
        "pod-labels-broken",
        Warning,
        [
            "a pod carries this installation's label, and its other labels name no launch",
            "nothing: nobody watches it",
            "see who made or changed it; delete it by hand if nobody needs it",
        ],
    ),
    row(
        Code::ListCut,
        "list-cut",
        Info,
        [
            "there is more of a kind than the doctor reads, so it has not seen everything",
            "nothing",
            "mend what is shown, and run it again",
        ],
    ),
];
