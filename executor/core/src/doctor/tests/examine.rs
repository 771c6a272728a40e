//! What one look finds, and what it offers to mend.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

fn codes(facts: &Facts) -> Vec<&'static str> {
    examine(facts).iter().map(|finding| finding.code.as_str()).collect()
}

fn only(facts: &Facts) -> Finding {
    let mut found = examine(facts);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

#[test]
fn a_healthy_world_has_no_findings() {
    assert_eq!(examine(&world()), []);
    let queued = || Some(task(TaskState::Queued));
    let running = || Some(task(TaskState::Running));
    let fresh = LaunchFacts { claimed_at: before(3), ..launch(StoredStage::Claimed) };
    for (launch, task, pods) in [
        (fresh, queued(), vec![]),
        (launch(StoredStage::Created), queued(), vec![waiting()]),
        (launch(StoredStage::Running), running(), vec![started()]),
        (launch(StoredStage::Settled), running(), vec![started()]),
    ] {
        let mut launch = launch;
        launch.delivered_at = launch.settled_at;
        assert_eq!(examine(&with(launch.clone(), task, pods)), [], "{launch:?}");
    }
}

#[test]
fn schedulers_are_judged_by_registration_heartbeat_and_release() {
    let mut none = world();
    none.database.schedulers.clear();
    none.database.unregistered.push(job(8, "SchedulerJob"));
    assert_eq!(codes(&none), ["no-scheduler-registered", "scheduler-not-registered"]);

    let mut dead = world();
    dead.database.schedulers[0].job = Some(silent(7, "SchedulerJob"));
    dead.database.unlaunched.push(TaskFacts { queued_at: Some(before(40)), ..task(TaskState::Queued) });
    assert_eq!(codes(&dead), ["no-scheduler-alive", "scheduler-gone", "queued-without-launch"]);
    let gone = examine(&dead).swap_remove(1);
    assert_eq!(gone.what, "its last heartbeat was 90 s ago, and it owns 1 task instance");

    let mut odd = world();
    let scheduler = &mut odd.database.schedulers[0];
    scheduler.seen_at = before(70);
    scheduler.plugin_version = "0.2.0".into();
    scheduler.airflow_version = "3.0.1".into();
    scheduler.has_pod_mutation_hook = true;
    odd.limits.refuses_hook = true;
    assert_eq!(codes(&odd), ["plugin-silent", "plugin-version", "airflow-version", "pod-mutation-hook"]);
    odd.limits.refuses_hook = false;
    assert_eq!(codes(&odd).last(), Some(&"airflow-version"), "a choice was made");
}

#[test]
fn a_missing_or_late_leader_and_a_backlog_are_told() {
    let mut facts = world();
    facts.database.term.expires_at = before(30);
    facts.database.handovers = 12;
    facts.database.oldest_handover = Some(before(31));
    assert_eq!(codes(&facts), ["no-leader", "handover-backlog"]);
    assert_eq!(examine(&facts)[0].what, "term 5 of 9f1c/windlass ended 30 s ago");
    facts.database.term = Term { epoch: 5, ..Term::default() };
    assert_eq!(examine(&facts)[0].what, "term 5 was handed over and nobody has taken the next one");
    facts.database.term = Term::default();
    assert_eq!(examine(&facts)[0].what, "no daemon has ever led here");
    let mut late = world();
    late.database.term.expires_at = before(-1);
    assert_eq!(only(&late).code, Code::TermExpiring);
    assert_eq!(only(&late).what, "term 5 of 9f1c/windlass has 1.0 s left of 4.5 s");
    let mut hold = world();
    hold.limits.unreachable_ms = 600_000;
    assert_eq!(only(&hold).code, Code::HoldOverQueuedTimeout);
}

#[test]
fn a_queued_task_without_a_launch_says_whose_it_is() {
    let found = |change: &dyn Fn(&mut TaskFacts)| {
        let mut facts = world();
        let mut waits = task(TaskState::Queued);
        change(&mut waits);
        facts.database.unlaunched.push(waits);
        let finding = only(&facts);
        (finding.code, finding.what)
    };
    assert_eq!(
        found(&|_| {}),
        (Code::QueuedWithoutLaunch, "it has been queued for 2 min and has no launch".into())
    );
    assert_eq!(found(&|task| task.executor = Some("windlass".into())).0, Code::QueuedWithoutLaunch);
    assert_eq!(
        found(&|task| task.executor = Some("celery".into())),
        (
            Code::QueuedForOtherExecutor,
            "1 task instance for another executor; the longest queued is etl.load r1, for celery".into()
        )
    );
    assert_eq!(found(&|task| task.queued_by = None).0, Code::QueuedByUnregistered);
    let stranger = |task: &mut TaskFacts| {
        task.queued_by = Some(9);
        task.queued_by_job = Some(job(9, "SchedulerJob"));
    };
    assert_eq!(
        found(&stranger),
        (
            Code::QueuedByUnregistered,
            "it has been queued for 2 min by SchedulerJob 9, which is `running` and is not registered in \
             windlass.scheduler"
                .into()
        )
    );
}

#[test]
fn a_dead_worker_says_what_ends_its_task() {
    let mut facts = world();
    let mut dead = task(TaskState::Running);
    dead.worker = Some(silent(101, "LocalTaskJob"));
    facts.database.dead.push(DeadTask { task: dead.clone(), launch: Some(launch(StoredStage::Closed)) });
    let finding = only(&facts);
    assert_eq!(finding.code, Code::RunningTaskDead);
    assert!(
        finding
            .what
            .starts_with("it is `running` on etl-load-1, its job 101 was last heard of 90 s ago; launch ")
    );
    assert_eq!(
        finding.next,
        "the scheduler is handed the outcome and fails or retries it; Airflow's zombie detection fails it at \
         2026-11-24T03:03:30Z (UTC)"
    );
    facts.database.dead[0].launch.as_mut().unwrap().callback_sent_at = Some(before(3));
    assert!(only(&facts).next.starts_with("the DAG processor was asked"));
    facts.database.dead[0].launch = None;
    assert_eq!(only(&facts).next, "Airflow's zombie detection fails it at 2026-11-24T03:03:30Z (UTC)");
    facts.database.dead[0].task.state = TaskState::Restarting;
    let finding = only(&facts);
    assert_eq!(finding.code, Code::RestartingTaskDead);
    assert_eq!(finding.next, "Airflow's zombie detection does not look at `restarting`");
    facts.database.dead[0].task.executor = Some("celery".into());
    assert_eq!(examine(&facts), [], "not ours");
}

#[test]
fn a_launch_without_an_outcome_is_held_against_row_and_pod() {
    let queued = || Some(task(TaskState::Queued));
    let code = |launch: LaunchFacts, task, pods| only(&with(launch, task, pods)).code;
    assert_eq!(code(launch(StoredStage::Claimed), queued(), vec![]), Code::ClaimedWithoutPod);
    assert_eq!(code(launch(StoredStage::Created), queued(), vec![]), Code::PodGone);
    assert_eq!(code(launch(StoredStage::Running), queued(), vec![ended()]), Code::LaunchNotSettled);
    assert_eq!(code(launch(StoredStage::Created), None, vec![waiting()]), Code::UnwantedPod);
    assert_eq!(code(launch(StoredStage::Running), None, vec![ended()]), Code::LaunchNotSettled);
    assert_eq!(code(launch(StoredStage::Claimed), None, vec![]), Code::LaunchNotSettled);
    let success = Some(task(TaskState::Success));
    assert_eq!(code(launch(StoredStage::Running), success, vec![started()]), Code::WorkerLingers);
    let again = Some(TaskFacts { queued_at: Some(before(1)), ..task(TaskState::Queued) });
    assert_eq!(code(launch(StoredStage::Running), again, vec![started()]), Code::SupersededWorker);
    let running = Some(task(TaskState::Running));
    assert_eq!(code(launch(StoredStage::Running), running, vec![]), Code::PodGone);

    let slow = LaunchFacts { running_at: Some(before(700)), ..launch(StoredStage::Running) };
    assert_eq!(code(slow, queued(), vec![started()]), Code::WorkerSlowStart);
    let withdrawn = LaunchFacts { withdrawn_at: Some(before(31)), ..launch(StoredStage::Created) };
    assert_eq!(code(withdrawn, queued(), vec![waiting()]), Code::WithdrawnNotSettled);
    let old = LaunchFacts { epoch: 4, ..launch(StoredStage::Created) };
    assert_eq!(code(old, queued(), vec![waiting()]), Code::LaunchOfOldTerm);
    let mut elsewhere = with(launch(StoredStage::Created), queued(), vec![waiting()]);
    elsewhere.limits.watched = Some(BTreeSet::from(["other".to_owned()]));
    assert_eq!(only(&elsewhere).code, Code::NamespaceNotWatched);
}

#[test]
fn a_pod_that_waits_near_airflows_timeout_says_why_and_what_follows() {
    let mut facts = with(launch(StoredStage::Created), Some(task(TaskState::Queued)), vec![waiting()]);
    facts.limits.queued_timeout_ms = 140_000;
    let finding = only(&facts);
    assert_eq!(finding.code, Code::QueuedNearTimeout);
    assert_eq!(finding.what, "queued for 2 min: pod etl/etl-load-1 waits: 0/3 nodes are available");
    assert_eq!(
        finding.next,
        "from 2026-11-24T03:00:20Z (UTC) on Airflow queues it again (its next check, every 120 s); the third time it \
         fails without a retry"
    );
}

#[test]
fn without_the_cluster_nothing_is_said_of_pods() {
    let mut facts = with(launch(StoredStage::Created), Some(task(TaskState::Queued)), vec![]);
    facts.cluster = None;
    assert_eq!(examine(&facts), []);
    facts.cluster = Some(ClusterFacts::default());
    assert_eq!(examine(&facts), [], "one namespace could not be listed");
}

#[test]
fn an_undelivered_outcome_says_who_should_take_it() {
    let running = || task(TaskState::Running);
    let found = |launch: LaunchFacts, task: Option<TaskFacts>| only(&with(launch, task, vec![ended()]));
    let finding = found(launch(StoredStage::Closed), Some(running()));
    assert_eq!(finding.code, Code::OutcomeUndelivered);
    assert_eq!(
        finding.what,
        "it came to OomKilled 100 s ago, the task is still `running`, and scheduler 7, which lives, has not taken it"
    );
    let dead = TaskFacts { queued_by_job: Some(silent(7, "SchedulerJob")), ..running() };
    let finding = found(launch(StoredStage::Closed), Some(dead.clone()));
    assert_eq!(finding.next, "nothing until a scheduler is started: it adopts the task and takes it then");
    let mut two = with(launch(StoredStage::Closed), Some(dead), vec![]);
    two.database.schedulers.push(scheduler(8));
    let two = only(&two);
    assert!(two.next.starts_with("scheduler 8 adopts the task with its next orphan check"), "{}", two.next);
    let over = TaskFacts { run_state: Some("failed".into()), ..running() };
    let finding = found(launch(StoredStage::Closed), Some(over));
    assert!(finding.next.starts_with("the DAG run is over"), "{}", finding.next);
    let nobody = TaskFacts { queued_by: None, ..running() };
    assert!(found(launch(StoredStage::Closed), Some(nobody)).what.ends_with("it belongs to no scheduler"));

    let called = LaunchFacts { callback_sent_at: Some(before(601)), ..launch(StoredStage::Closed) };
    assert_eq!(found(called, Some(running())).code, Code::CallbackUnanswered);
    for moved in [None, Some(task(TaskState::UpForRetry)), Some(TaskFacts { try_number: 2, ..running() })] {
        let finding = found(launch(StoredStage::Closed), moved);
        assert_eq!(finding.code, Code::OutcomeAlreadyTaken);
        let launch = launch(StoredStage::Closed).row.launch;
        assert_eq!(finding.repair, Some(Repair::MarkDelivered { launch }));
    }
    let delivered = LaunchFacts { delivered_at: Some(before(90)), ..launch(StoredStage::Settled) };
    let finding = found(delivered, Some(task(TaskState::Failed)));
    assert_eq!((finding.code, finding.repair), (Code::LaunchNotClosed, None));
}

/// Done launches and pods alone.
fn of_done(launch: LaunchFacts, pods: Vec<ListedPod>) -> Facts {
    let mut facts = world();
    let cluster = facts.cluster.as_mut().unwrap();
    cluster.done = BTreeMap::from([(launch.row.launch.clone(), launch)]);
    cluster.pods = pods;
    facts
}

#[test]
fn pods_of_what_is_over_are_repaired_only_where_they_can_run_nothing() {
    let closed = || launch(StoredStage::Closed);
    let (pod_of, uid) = (waiting().view.pod, PodUid("u1".into()));
    let finding = only(&of_done(closed(), vec![waiting()]));
    assert_eq!(finding.code, Code::PodOfClosedLaunch);
    let delete =
        Repair::DeleteUnboundPod { pod: pod_of.clone(), uid: uid.clone(), resource_version: "42".into() };
    assert_eq!(finding.repair, Some(delete));
    let pulling = ContainerState::Waiting { reason: "ContainerCreating".into(), message: String::new() };
    for may_run in [pod(pulling), started()] {
        let finding = only(&of_done(closed(), vec![may_run]));
        assert_eq!((finding.code, finding.repair), (Code::PodOfClosedLaunch, None));
    }
    let going = |mut pod: ListedPod| {
        pod.view.deleting = true;
        pod
    };
    assert_eq!(examine(&of_done(closed(), vec![going(waiting())])), []);

    assert_eq!(examine(&of_done(closed(), vec![ended()])), [], "failed pods are kept by default");
    let mut deletes = of_done(closed(), vec![ended()]);
    deletes.limits.policy.delete_failed_pods = true;
    let finding = only(&deletes);
    assert_eq!(finding.code, Code::PodLeftOver);
    let delete = Repair::DeleteEndedPod { pod: pod_of, uid, resource_version: "42".into() };
    assert_eq!(finding.repair, Some(delete));
    let mut now = launch(StoredStage::Closed);
    now.closed_at = Some(before(10));
    let mut fresh = of_done(now, vec![ended()]);
    fresh.limits.policy.delete_failed_pods = true;
    assert_eq!(examine(&fresh), [], "the leader is about to");
}

#[test]
fn a_pod_of_an_attempt_that_was_given_up_must_not_wait() {
    let mut second = launch(StoredStage::Created);
    second.row.attempt = Attempt(2);
    second.row.uid = Some(PodUid("u2".into()));
    let mut newer = waiting();
    (newer.view.attempt, newer.view.uid) = (Attempt(2), PodUid("u2".into()));
    newer.view.pod.name = "etl-load-2".into();
    let facts = with(second, Some(task(TaskState::Queued)), vec![waiting(), newer]);
    assert_eq!(codes(&facts), ["pod-of-closed-launch", "several-pods-of-one-task"]);
    let found = examine(&facts);
    assert_eq!(found[0].what, "it is of attempt 1 of a launch that is at attempt 2, not bound to a node");
    assert_eq!(found[1].what, "2 pods have not ended: etl/etl-load-1 waits, etl/etl-load-2 waits");
}

#[test]
fn a_pod_without_a_launch_is_left_alone_unless_it_ended_and_its_queueing_is_over() {
    let facts = |pod: ListedPod, row: Option<TaskFacts>| {
        let mut facts = world();
        facts.limits.policy.delete_failed_pods = true;
        let cluster = facts.cluster.as_mut().unwrap();
        cluster.pods = vec![pod];
        cluster.tasks = row.map(|row| (row.key.clone(), row)).into_iter().collect();
        facts
    };
    let finding = only(&facts(started(), None));
    assert_eq!((finding.code, finding.repair), (Code::PodWithoutLaunch, None));
    // A database that lost the claim: its end is all that is known of a live queueing.
    let finding = only(&facts(ended(), Some(task(TaskState::Queued))));
    assert_eq!((finding.code, finding.repair), (Code::PodWithoutLaunch, None));
    assert!(finding.what.ends_with("it is of the queueing that the task instance stands for now"));
    for row in
        [None, Some(task(TaskState::Success)), Some(TaskFacts { try_number: 2, ..task(TaskState::Queued) })]
    {
        let finding = only(&facts(ended(), row));
        assert_eq!(finding.code, Code::PodLeftOver);
        assert!(matches!(finding.repair, Some(Repair::DeleteEndedPod { .. })));
    }
    let nameless = ListedPod { task: None, ..ended() };
    assert_eq!(only(&facts(nameless, None)).code, Code::PodWithoutLaunch);
    let mut kept = facts(ended(), None);
    kept.limits.policy.delete_failed_pods = false;
    assert_eq!(examine(&kept), [], "policy keeps it, retention took its launch");
}

#[test]
fn what_is_cut_or_broken_is_told() {
    let mut facts = world();
    facts.database.cut.push("open launches");
    let at = PodRef { namespace: "etl".into(), name: "odd".into() };
    facts.cluster.as_mut().unwrap().broken.push((at, "label `windlass.dev/launch` is missing".into()));
    assert_eq!(codes(&facts), ["pod-labels-broken", "list-cut"]);
}

#[test]
fn only_what_two_looks_find_counts() {
    let gone = examine(&with(launch(StoredStage::Created), Some(task(TaskState::Queued)), vec![]));
    assert_eq!(confirmed(&gone, Vec::new()), []);
    assert_eq!(confirmed(&gone, gone.clone()), gone);
    let mut other = with(launch(StoredStage::Created), Some(task(TaskState::Queued)), vec![]);
    other.database.open[0].launch.row.queueing.try_number = 2;
    assert_eq!(confirmed(&gone, examine(&other)), [], "of another queueing");
}

/// Codes that the daemon finds itself: about what it could not read.
const OF_THE_DAEMON: [Code; 13] = [
    Code::Configuration,
    Code::DatabaseUnreachable,
    Code::DatabaseReadOnly,
    Code::AirflowUnknown,
    Code::SchemaVersion,
    Code::GrantsMissing,
    Code::DatabaseFailed,
    Code::ApiServer,
    Code::KubernetesAccess,
    Code::KubernetesLimited,
    Code::MutationHelper,
    Code::TemplateInvalid,
    Code::TemplateMissing,
];

/// Each code that is found here, by `examine_eks` or by `--assume` is named in a test of one of them.
#[test]
fn every_code_has_a_test() {
    let tests = concat!(
        include_str!("examine.rs"),
        include_str!("../eks/tests/accounts.rs"),
        include_str!("../eks/tests/boundary.rs"),
        include_str!("../eks/tests/capacity.rs"),
        include_str!("../eks/tests/cluster.rs"),
        include_str!("../eks/tests/cni.rs"),
        include_str!("../eks/tests/dry_run.rs"),
        include_str!("../eks/tests/mod.rs"),
        include_str!("../eks/tests/nodes.rs"),
        include_str!("../eks/tests/policies.rs"),
        include_str!("../eks/tests/running.rs"),
        include_str!("../eks/tests/template.rs"),
        include_str!("../assume/tests.rs")
    );
    for about in Code::all().filter(|about| !OF_THE_DAEMON.contains(&about.code)) {
        let named = tests.contains(&format!("Code::{:?}", about.code))
            || tests.contains(&format!("\"{}\"", about.name))
            || tests.contains(&format!(" {}: ", about.name));
        assert!(named, "{}", about.name);
    }
}
