//! The codes of the installation itself: configuration, database, schedulers, leader, API server.

use super::code::{About, Code, Severity, row};
use Severity::{Error, Warning};

/// In the order of [`Code`].
pub(super) static SETUP: [About; 25] = [
    row(
        Code::Configuration,
        "configuration",
        Error,
        [
            "a setting is wrong or contradicts another one",
            "nothing: the daemon does not start with it",
            "correct the setting; `windlass config` shows every value and where it comes from",
        ],
    ),
    row(
        Code::DatabaseUnreachable,
        "database-unreachable",
        Error,
        [
            "the metadata database does not answer or does not let Windlass in",
            "the daemon keeps trying; queued tasks wait, running ones go on",
            "check address, credentials and network policy of [database] sql_alchemy_conn",
        ],
    ),
    row(
        Code::DatabaseReadOnly,
        "database-read-only",
        Error,
        [
            "the database that answers is a read-only replica",
            "the daemon waits for a primary and writes nothing meanwhile",
            "point [database] sql_alchemy_conn at the primary (on RDS: the writer's endpoint)",
        ],
    ),
    row(
        Code::AirflowUnknown,
        "airflow-unknown",
        Error,
        [
            "Airflow's tables are missing, or of a version that this Windlass does not know",
            "the daemon waits and launches nothing",
            "run `airflow db migrate`, or use a Windlass release that lists your Airflow",
        ],
    ),
    row(
        Code::SchemaVersion,
        "schema-version",
        Error,
        [
            "the schema `windlass` is missing, or of another version than this binary",
            "the daemon waits and launches nothing",
            "run `windlass migrate`, then deploy/sql/grants.sql",
        ],
    ),
    row(
        Code::GrantsMissing,
        "grants-missing",
        Error,
        [
            "Windlass's database role lacks privileges",
            "the daemon waits and launches nothing",
            "run the statements that are named as the tables' owner, or the whole of deploy/sql/grants.sql",
        ],
    ),
    row(
        Code::DatabaseFailed,
        "database-failed",
        Error,
        [
            "the database answers, and a read that the doctor needs failed",
            "the daemon asks again what it needs itself",
            "see the cause in the database's own log; run `windlass doctor` again",
        ],
    ),
    row(
        Code::NoSchedulerRegistered,
        "no-scheduler-registered",
        Error,
        [
            "no scheduler has ever registered: the plugin is not loaded anywhere",
            "nothing is launched until one does",
            "set [core] executor = windlass_airflow.WindlassExecutor for the schedulers and restart them",
        ],
    ),
    row(
        Code::NoSchedulerAlive,
        "no-scheduler-alive",
        Error,
        [
            "none of the registered schedulers runs",
            "Airflow queues nothing, and outcomes wait until a scheduler is back and adopts their tasks",
            "see why the scheduler pods do not run: `kubectl get pods`, their logs",
        ],
    ),
    row(
        Code::SchedulerGone,
        "scheduler-gone",
        Warning,
        [
            "task instances belong to a scheduler that does not run any more",
            "a living scheduler adopts them with its next orphan check ([scheduler] \
             orphaned_tasks_check_interval, 300 s)",
            "nothing, if another scheduler lives; else start one",
        ],
    ),
    row(
        Code::SchedulerNotRegistered,
        "scheduler-not-registered",
        Warning,
        [
            "a scheduler runs that has not registered: it does not use Windlass, or its plugin cannot reach the \
             schema",
            "Windlass launches none of its tasks",
            "give every scheduler the same [core] executor and package `windlass-airflow`; see its log for \
             WindlassExecutor",
        ],
    ),
    row(
        Code::PluginSilent,
        "plugin-silent",
        Error,
        [
            "a scheduler runs, but its plugin has not refreshed its row for over a minute",
            "its tasks are found by the daemon's full pass; its outcomes are not delivered meanwhile",
            "see the scheduler's log for WindlassExecutor: it names what fails (lock, grant, connection)",
        ],
    ),
    row(
        Code::PluginVersion,
        "plugin-version",
        Warning,
        [
            "plugin and daemon are of different releases",
            "both go on; during a rollout this passes by itself",
            "bring the package `windlass-airflow` in the Airflow image and the daemon's image to one release",
        ],
    ),
    row(
        Code::AirflowVersion,
        "airflow-version",
        Warning,
        [
            "the scheduler's Airflow is of a release that this Windlass was not made for",
            "it works as far as its tables do",
            "use a Windlass release that lists your Airflow version",
        ],
    ),
    row(
        Code::PodMutationHook,
        "pod-mutation-hook",
        Error,
        [
            "the schedulers have a pod_mutation_hook, and nothing says whether it is to be called",
            "no pod is made of their tasks: they stay queued",
            "set pod.mutation-hook to `helper` to have it called, or to `ignore` to make pods without it",
        ],
    ),
    row(
        Code::MutationHelper,
        "mutation-helper",
        Error,
        [
            "the helper that calls pod_mutation_hook does not answer",
            "no pod is made of the tasks of schedulers that have the hook: they stay queued",
            "share the folder of wake.socket between scheduler and daemon, and read the scheduler's log; run the doctor \
             in the daemon's container",
        ],
    ),
    row(
        Code::NoLeader,
        "no-leader",
        Error,
        [
            "no daemon holds the term: nothing is launched, nothing is settled",
            "a daemon that runs takes the term within a second or two",
            "see that the container `windlass` of the scheduler pods runs: `kubectl logs`, /readyz",
        ],
    ),
    row(
        Code::TermExpiring,
        "term-expiring",
        Warning,
        [
            "the leader renews its term late: its calls to the database are slow, or it was paused",
            "when the term ends, a standby takes over, else the leader takes it again",
            "see the database's latency and the CPU limit of the container; raise term.lease-ms",
        ],
    ),
    row(
        Code::HandoverBacklog,
        "handover-backlog",
        Warning,
        [
            "keys that a scheduler handed over wait to be taken",
            "the full pass finds the tasks all the same, every few seconds",
            "see that a daemon leads and that the database is not overloaded",
        ],
    ),
    row(
        Code::HoldOverQueuedTimeout,
        "hold-over-queued-timeout",
        Warning,
        [
            "Windlass may hold a task in queued for longer than Airflow's task_queued_timeout",
            "Airflow queues such a task again, and fails it without a retry at the third time",
            "raise [scheduler] task_queued_timeout above it, or lower launch.pending-timeout-seconds and \
             launch.node-unreachable-seconds",
        ],
    ),
    row(
        Code::ApiServer,
        "api-server",
        Error,
        [
            "the Kubernetes API server cannot be asked",
            "the daemon keeps trying; queued tasks wait, running ones go on",
            "check address, network policy and service account token of the daemon's container",
        ],
    ),
    row(
        Code::KubernetesAccess,
        "kubernetes-access",
        Error,
        [
            "the daemon may not do what it has to in a namespace",
            "pods there are not created, seen or deleted",
            "create the namespace and bind Windlass's service account to the Role of deploy/rbac in it",
        ],
    ),
    row(
        Code::KubernetesLimited,
        "kubernetes-limited",
        Warning,
        [
            "the daemon lacks a right without which it works with a loss, or a plain pod is not admitted",
            "failures have less to say; pods that pass admission are created",
            "bind the Role of deploy/rbac; see that the pod template passes the namespace's admission",
        ],
    ),
    row(
        Code::TemplateInvalid,
        "template-invalid",
        Error,
        [
            "the pod template does not make a pod",
            "tasks that use it fail with the reason TemplateInvalid",
            "correct [kubernetes_executor] pod_template_file; `windlass render pod --from-flags` shows the pod",
        ],
    ),
    row(
        Code::TemplateMissing,
        "template-missing",
        Warning,
        [
            "the file that [kubernetes_executor] pod_template_file names is not there",
            "pods are made without what it says, as Airflow makes them",
            "mount it into the daemon's container as into the scheduler's, or leave the option out",
        ],
    ),
];
