//! One healthy world, from which each test makes one change: for each finding (`examine`), for each reason to wait
//! (`why`).

mod examine;
mod why;

use std::collections::BTreeSet;

use super::*;
use crate::ids::{Attempt, InstallationId, LaunchId, PodRef, PodUid, Queueing, TaskKey};
use crate::outcome::{Outcome, Reason};
use crate::pod_view::{Branch, ContainerState, Gate, PodPhase, PodView};
use crate::store::{LaunchRow, StoredStage};
use crate::task::TaskState;
use crate::time::UtcMicros;

/// 2026-11-24T03:00:00Z, by the database's clock.
const NOW: UtcMicros = UtcMicros(1_795_489_200_000_000);

fn before(seconds: i64) -> UtcMicros {
    UtcMicros(NOW.0 - seconds * 1_000_000)
}

fn home() -> InstallationId {
    InstallationId("6f1c0f8e-0000-4000-8000-000000000000".into())
}

fn key() -> TaskKey {
    TaskKey { dag_id: "etl".into(), task_id: "load".into(), run_id: "r1".into(), map_index: -1 }
}

/// Queued two minutes ago.
fn queueing() -> Queueing {
    Queueing { key: key(), try_number: 1, queued_at: before(120) }
}

fn job(id: i64, kind: &str) -> Job {
    Job { id, kind: kind.into(), state: "running".into(), heartbeat: Some(before(2)) }
}

fn silent(id: i64, kind: &str) -> Job {
    Job { heartbeat: Some(before(90)), ..job(id, kind) }
}

fn scheduler(id: i64) -> Scheduler {
    Scheduler {
        job_id: id,
        hostname: format!("scheduler-{id}"),
        airflow_version: "2.11.2".into(),
        plugin_version: "0.1.0".into(),
        executor_names: vec!["windlass".into()],
        is_default: true,
        has_pod_mutation_hook: false,
        seen_at: before(5),
        job: Some(job(id, "SchedulerJob")),
    }
}

fn task(state: TaskState) -> TaskFacts {
    let runs = matches!(state, TaskState::Running | TaskState::Restarting);
    TaskFacts {
        key: key(),
        state,
        try_number: 1,
        queued_at: Some(queueing().queued_at),
        queued_by: Some(7),
        queued_by_job: Some(job(7, "SchedulerJob")),
        executor: None,
        hostname: runs.then(|| "etl-load-1".into()),
        worker: runs.then(|| job(101, "LocalTaskJob")),
        run_type: Some("manual".into()),
        run_state: Some("running".into()),
    }
}

fn launch(stage: StoredStage) -> LaunchFacts {
    let decided = matches!(stage, StoredStage::Settled | StoredStage::Closed);
    let created = stage != StoredStage::Claimed;
    LaunchFacts {
        row: LaunchRow {
            launch: LaunchId::of(&home(), &queueing()),
            queueing: queueing(),
            stage,
            attempt: Attempt::FIRST,
            pod: PodRef { namespace: "etl".into(), name: "etl-load-1".into() },
            uid: created.then(|| PodUid("u1".into())),
            outcome: decided.then(|| Outcome::failure(Reason::OomKilled, "out of memory")),
            scheduler_job_id: 7,
            priority_weight: 1,
        },
        epoch: 5,
        lost: None,
        claimed_at: before(118),
        created_at: created.then(|| before(117)),
        running_at: (stage == StoredStage::Running).then(|| before(110)),
        settled_at: decided.then(|| before(100)),
        closed_at: (stage == StoredStage::Closed).then(|| before(99)),
        withdrawn_at: None,
        callback_sent_at: None,
        delivered_at: None,
    }
}

fn pod(worker: ContainerState) -> ListedPod {
    let phase = match &worker {
        ContainerState::Running => PodPhase::Running,
        ContainerState::Terminated { .. } => PodPhase::Failed,
        ContainerState::Unknown | ContainerState::Waiting { .. } => PodPhase::Pending,
    };
    let bound = worker != ContainerState::Unknown;
    ListedPod {
        view: PodView {
            pod: PodRef { namespace: "etl".into(), name: "etl-load-1".into() },
            uid: PodUid("u1".into()),
            resource_version: "42".into(),
            launch: LaunchId::of(&home(), &queueing()),
            attempt: Attempt::FIRST,
            deleting: false,
            bound,
            phase,
            status_reason: String::new(),
            status_message: String::new(),
            worker,
            failed_init: None,
            unschedulable: (!bound).then(|| "0/3 nodes are available".into()),
            disruption: None,
            gate: Gate::Open,
            branch: Branch::NotDemanded,
        },
        node: if bound { "node-1".into() } else { String::new() },
        task: Some(key()),
        launch: None,
    }
}

fn waiting() -> ListedPod {
    pod(ContainerState::Unknown)
}

fn started() -> ListedPod {
    pod(ContainerState::Running)
}

fn ended() -> ListedPod {
    pod(ContainerState::Terminated { exit_code: 1, reason: "Error".into(), message: String::new() })
}

/// A living leader and scheduler, a known cluster, no work.
fn world() -> Facts {
    let term = Term { epoch: 5, holder: Some("9f1c/windlass".into()), expires_at: before(-4) };
    let database =
        DatabaseFacts { now: NOW, term, schedulers: vec![scheduler(7)], ..DatabaseFacts::default() };
    let cluster = ClusterFacts { complete: true, ..ClusterFacts::default() };
    let limits = Limits { version: "0.1.3".into(), ..Limits::default() };
    Facts { installation: home(), database, cluster: Some(cluster), limits }
}

/// With one launch, its task instance and its pods.
fn with(launch: LaunchFacts, task: Option<TaskFacts>, pods: Vec<ListedPod>) -> Facts {
    let mut facts = world();
    facts.database.open.push(OpenLaunch { launch, task });
    facts.cluster.as_mut().unwrap().pods = pods;
    facts
}
