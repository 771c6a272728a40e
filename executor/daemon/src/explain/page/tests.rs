use windlass_core::doctor::{ClusterFacts, Limits, Scheduler, Term, why};
use windlass_core::ids::{Attempt, InstallationId, LaunchId, PodRef, PodUid, Queueing, TaskKey};
use windlass_core::outcome::{Outcome, Reason};
use windlass_core::pod_view::{Branch, ContainerState, Gate, PodView};
use windlass_core::store::{LaunchRow, StoredStage};
use windlass_core::task::TaskState;

use super::*;

/// 2026-11-24T03:00:00Z
const NOW: UtcMicros = UtcMicros(1_795_489_200_000_000);

fn before(ms: i64) -> UtcMicros {
    UtcMicros(NOW.0 - ms * 1_000)
}

fn launch(queued_at: UtcMicros, stage: StoredStage) -> LaunchFacts {
    let key = TaskKey { dag_id: "etl".into(), task_id: "load".into(), run_id: "r1".into(), map_index: -1 };
    let queueing = Queueing { key, try_number: 1, queued_at };
    let home = InstallationId("6f1c0f8e-0000-4000-8000-000000000000".into());
    let after = |ms| Some(queued_at.plus_ms(ms));
    LaunchFacts {
        row: LaunchRow {
            launch: LaunchId::of(&home, &queueing),
            queueing,
            stage,
            attempt: Attempt(2),
            pod: PodRef { namespace: "etl".into(), name: "etl-load-2".into() },
            uid: Some(PodUid("u2".into())),
            outcome: None,
            scheduler_job_id: 7,
            priority_weight: 1,
        },
        epoch: 5,
        lost: Some("Evicted: the node was low on memory".into()),
        claimed_at: queued_at.plus_ms(85),
        created_at: after(140),
        running_at: None,
        settled_at: None,
        closed_at: None,
        withdrawn_at: None,
        callback_sent_at: None,
        delivered_at: None,
    }
}

fn a_story() -> Story {
    let now = launch(before(95_000), StoredStage::Created);
    let mut past = launch(before(900_000), StoredStage::Closed);
    past.row.outcome =
        Some(Outcome::failure(Reason::OomKilled, "the worker ran out of memory").with_exit_code(Some(137)));
    past.running_at = Some(before(898_000));
    past.settled_at = Some(before(600_000));
    past.closed_at = Some(before(599_900));
    past.delivered_at = Some(before(599_000));
    let scheduler_job =
        Job { id: 7, kind: "SchedulerJob".into(), state: "running".into(), heartbeat: Some(before(2_000)) };
    let key = now.row.queueing.key.clone();
    let mut story = Story::empty(key.clone(), InstallationId("6f1c".into()), Limits::default());
    story.facts.database.now = NOW;
    story.facts.database.term =
        Term { epoch: 5, holder: Some("9f1c/windlass".into()), expires_at: before(-3_200) };
    story.facts.database.schedulers.push(Scheduler {
        job_id: 7,
        hostname: "scheduler-0".into(),
        airflow_version: "2.11.2".into(),
        plugin_version: "0.1.0".into(),
        executor_names: vec!["windlass".into()],
        is_default: true,
        has_pod_mutation_hook: false,
        seen_at: before(4_000),
        job: Some(scheduler_job.clone()),
    });
    story.task = Some(TaskFacts {
        key,
        state: TaskState::Queued,
        try_number: 1,
        queued_at: Some(before(95_000)),
        queued_by: Some(7),
        queued_by_job: Some(scheduler_job),
        executor: None,
        hostname: None,
        worker: None,
        run_type: Some("manual".into()),
        run_state: Some("running".into()),
    });
    let view = PodView {
        pod: now.row.pod.clone(),
        uid: PodUid("u2".into()),
        resource_version: "42".into(),
        launch: now.row.launch.clone(),
        attempt: Attempt(2),
        deleting: false,
        bound: false,
        phase: PodPhase::Pending,
        status_reason: String::new(),
        status_message: String::new(),
        worker: ContainerState::Unknown,
        failed_init: None,
        unschedulable: Some("0/3 nodes are available: 3 Insufficient cpu".into()),
        disruption: None,
        gate: Gate::Open,
        branch: Branch::NotDemanded,
    };
    let pods = vec![ListedPod { view, node: String::new(), task: None, launch: None }];
    story.facts.cluster = Some(ClusterFacts { pods, complete: true, ..ClusterFacts::default() });
    story.launches = vec![now, past];
    story
}

#[test]
fn the_page_says_first_why_it_waits_then_the_whole_story() {
    let story = a_story();
    insta::assert_snapshot!(text(&story, &why(&story), None), @r"
    etl.load r1
      now         2026-11-24T03:00:00.000Z, by the database's clock
      why         pod etl/etl-load-2 has not started: 0/3 nodes are available: 3 Insufficient cpu
      goes on     from 2026-11-24T03:08:25Z on (task_queued_timeout) Airflow queues it again, and fails it without a retry the third time

    Task instance
      state       queued, try 1
      queued      2026-11-24T02:58:25.000Z (95 s ago)
      belongs to  scheduler 7 on scheduler-0, Airflow 2.11.2, plugin 0.1.0; SchedulerJob 7, running, heartbeat 2.0 s ago
      executor    the default of its scheduler: Windlass
      host        -
      worker      no job
      DAG run     manual, running

    Leader
      term        5, held by 9f1c/windlass for another 3.2 s

    Launch qc7twdrlsho456pj2u57el6kow (of the queueing that the row stands for)
      stage       created, attempt 2, last written by term 5
      pod         etl/etl-load-2
        2026-11-24T02:58:25.000Z            queued by scheduler 7, try 1
        2026-11-24T02:58:25.085Z    +85 ms  claimed by the leader
        2026-11-24T02:58:25.140Z    +55 ms  pod created
      lost        attempt 1: Evicted: the node was low on memory
      pod now     etl/etl-load-2 (attempt 2): Pending on no node, waits: 0/3 nodes are available: 3 Insufficient cpu; the uid that is stored

    Launch t4hmkcvon5d2fpcafuxarm2dxo (of an earlier queueing)
      stage       closed, attempt 2, last written by term 5
      pod         etl/etl-load-2
        2026-11-24T02:45:00.000Z            queued by scheduler 7, try 1
        2026-11-24T02:45:00.085Z    +85 ms  claimed by the leader
        2026-11-24T02:45:00.140Z    +55 ms  pod created
        2026-11-24T02:45:02.000Z    +1.8 s  its container was seen running
        2026-11-24T02:50:00.000Z    +4 min  settled: the leader stored the outcome
        2026-11-24T02:50:00.100Z   +100 ms  closed: no pod of it can start any more
        2026-11-24T02:50:01.000Z   +900 ms  delivered: the scheduler was seen to have taken the outcome
      lost        attempt 1: Evicted: the node was low on memory
      outcome     failure OomKilled (exit code 137): the worker ran out of memory
      remedy      raise resources.limits.memory in pod_override or the pod template (docs/ERRORS.md#OomKilled)
      pod now     there is none
    ");
}

#[test]
fn a_task_without_launches_and_an_unknown_cluster_are_told() {
    let mut story = a_story();
    story.facts.database.term = Term::default();
    story.launches.truncate(1);
    story.facts.cluster = None;
    let page = text(&story, &why(&story), Some("the API server cannot be reached"));
    assert!(page.contains("  term        0, handed over; nobody leads\n"), "{page}");
    assert!(page.contains("  pod now     the API server cannot be reached\n"), "{page}");
    story.launches.clear();
    assert!(text(&story, &why(&story), None).ends_with("\nNo launch of it is known\n"));
}

#[test]
fn the_document_tells_the_same() {
    let story = a_story();
    let document = super::super::document::json(&story, &why(&story), None);
    assert_eq!(document["why"]["code"], "pod-pending");
    assert_eq!(document["now"], "2026-11-24T03:00:00.000000Z");
    assert_eq!(document["launches"][0]["current"], true);
    assert_eq!(document["launches"][0]["pods"][0]["view"]["resource_version"], "42");
    assert_eq!(document["launches"][1]["outcome"]["reason"], "OomKilled");
    assert_eq!(document["launches"][1]["remedy"], Reason::OomKilled.hint());
    assert_eq!(document["task_instance"]["state"], "queued");
}
