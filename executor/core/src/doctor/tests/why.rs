//! Why one task waits.

use super::*;

fn story(task: Option<TaskFacts>, launch: Option<LaunchFacts>, pods: Vec<ListedPod>) -> Story {
    let mut facts = world();
    facts.cluster.as_mut().unwrap().pods = pods;
    let mut story = Story::empty(key(), home(), facts.limits.clone());
    story.facts = facts;
    story.task = task;
    story.launches.extend(launch);
    story
}

#[test]
fn a_task_that_is_not_queued_or_not_ours_gets_a_clear_answer() {
    let code = |task: Option<TaskFacts>| why(&story(task, None, vec![])).code;
    assert_eq!(code(None), Waits::NoSuchTask);
    for state in [TaskState::None, TaskState::Scheduled, TaskState::Deferred, TaskState::UpForRetry] {
        assert_eq!(code(Some(task(state))), Waits::NotQueued);
    }
    for state in [TaskState::Success, TaskState::Failed, TaskState::Other("skipped".into())] {
        assert_eq!(code(Some(task(state))), Waits::Over);
    }
    let queued = || task(TaskState::Queued);
    assert_eq!(code(Some(TaskFacts { executor: Some("celery".into()), ..queued() })), Waits::OtherExecutor);
    assert_eq!(code(Some(TaskFacts { queued_by: None, ..queued() })), Waits::Unregistered);
    assert_eq!(code(Some(TaskFacts { queued_by: Some(9), ..queued() })), Waits::Unregistered);
}

#[test]
fn a_queued_task_says_what_it_waits_for() {
    let queued = || Some(task(TaskState::Queued));
    let mut intake = story(queued(), None, vec![]);
    intake.handed_over = Some(before(1));
    assert_eq!(
        why(&intake).what,
        "it has been queued for 2 min and has no launch yet; handed over 1.0 s ago"
    );
    assert_eq!(why(&intake).code, Waits::Intake);
    intake.facts.database.term = Term::default();
    assert_eq!(why(&intake).code, Waits::NoLeader);

    let claimed = |pods| story(queued(), Some(launch(StoredStage::Claimed)), pods);
    let mut earlier = started();
    earlier.view.launch = "a".repeat(26).parse().unwrap();
    earlier.view.pod.name = "etl-load-0".into();
    let barred = why(&claimed(vec![earlier]));
    assert_eq!(barred.code, Waits::Barrier);
    assert!(barred.what.starts_with("pod etl/etl-load-0 (node node-1) of an earlier"), "{}", barred.what);
    let mut turn = claimed(vec![]);
    turn.ahead = 3;
    assert_eq!(why(&turn).what, "claimed 118 s ago; 3 launches are created before it in its namespace");
    assert_eq!(why(&turn).code, Waits::Turn);
    for (trial, code) in [
        (Trial::Admitted, Waits::Turn),
        (Trial::Unknown("429".into()), Waits::Turn),
        (Trial::Quota("exceeded quota: pods".into()), Waits::Quota),
        (Trial::NotReady("it is being terminated".into()), Waits::NamespaceNotReady),
        (Trial::NotMade("the helper is away".into()), Waits::MutationHook),
        (Trial::Refused("no image".into()), Waits::Refused),
    ] {
        turn.trial = Some(trial);
        assert_eq!(why(&turn).code, code);
    }
    turn.trial = Some(Trial::NotReady("it is being terminated".into()));
    (turn.facts.limits.namespace_hold_ms, turn.facts.limits.namespace_ready_ms) = (3_000, 40_000);
    assert_eq!(
        why(&turn).until,
        "it is tried again every 3 s while the namespace is held; after 40 s of that the task fails with that reason"
    );
    turn.facts.database.term.holder = None;
    assert_eq!(why(&turn).code, Waits::NoLeader);

    let with = |launch, pods| why(&story(queued(), Some(launch), pods));
    let pending = with(launch(StoredStage::Created), vec![waiting()]);
    assert_eq!(pending.code, Waits::PodPending);
    assert_eq!(pending.what, "pod etl/etl-load-1 has not started: 0/3 nodes are available");
    assert!(
        pending.until.starts_with("from 2026-11-24T03:08:00Z on (task_queued_timeout)"),
        "{}",
        pending.until
    );
    assert_eq!(with(launch(StoredStage::Created), vec![]).code, Waits::PodGone);
    assert_eq!(with(launch(StoredStage::Created), vec![ended()]).code, Waits::Judged);
    assert_eq!(with(launch(StoredStage::Running), vec![started()]).code, Waits::WorkerStarts);
    let withdrawn = LaunchFacts { withdrawn_at: Some(before(1)), ..launch(StoredStage::Created) };
    assert_eq!(with(withdrawn, vec![waiting()]).code, Waits::Withdrawn);
    let mut unwatched = story(queued(), Some(launch(StoredStage::Created)), vec![]);
    unwatched.facts.limits.watched = Some(BTreeSet::new());
    assert_eq!(why(&unwatched).code, Waits::Namespace);
    let mut blind = story(queued(), Some(launch(StoredStage::Created)), vec![]);
    blind.facts.cluster = None;
    assert_eq!(why(&blind).code, Waits::ClusterUnknown);
    blind.facts.limits.pending_ms = 300_000;
    assert_eq!(
        why(&blind).until,
        "it fails with that reason at 2026-11-24T03:03:03Z (launch.pending-timeout-seconds)"
    );
}

#[test]
fn an_outcome_that_waits_says_for_whom() {
    let waits = |change: &dyn Fn(&mut LaunchFacts, &mut TaskFacts)| {
        let (mut launch, mut row) = (launch(StoredStage::Closed), task(TaskState::Queued));
        change(&mut launch, &mut row);
        why(&story(Some(row), Some(launch), vec![]))
    };
    let delivery = waits(&|_, _| {});
    assert_eq!(delivery.code, Waits::Delivery);
    assert!(delivery.what.ends_with("scheduler 7, which lives, has not taken it"), "{}", delivery.what);
    let success = waits(&|launch, _| launch.row.outcome = Some(Outcome::success("done")));
    assert!(success.until.starts_with("the row should have told of its end"), "{}", success.until);
    let dead = waits(&|_, row| row.queued_by_job = Some(silent(7, "SchedulerJob")));
    assert!(dead.until.starts_with("nothing until a scheduler is started"), "{}", dead.until);
    assert_eq!(waits(&|launch, _| launch.callback_sent_at = Some(before(5))).code, Waits::Callback);
    assert_eq!(waits(&|launch, _| launch.delivered_at = Some(before(5))).code, Waits::NothingLeft);
}

#[test]
fn a_running_task_says_whether_its_heart_beats_and_what_ends_it() {
    let runs = |state: TaskState, beats: bool, launch: Option<LaunchFacts>| {
        let mut row = task(state);
        if !beats {
            row.worker = Some(silent(101, "LocalTaskJob"));
        }
        why(&story(Some(row), launch, vec![]))
    };
    let running = || Some(launch(StoredStage::Running));
    assert_eq!(runs(TaskState::Running, true, running()).code, Waits::Runs);
    assert_eq!(runs(TaskState::Restarting, true, running()).code, Waits::Restarting);
    let dead = runs(TaskState::Running, false, running());
    assert_eq!(dead.code, Waits::WorkerDead);
    assert!(
        dead.until.ends_with("zombie detection fails it at 2026-11-24T03:03:30Z (UTC)"),
        "{}",
        dead.until
    );
    let restarting = runs(TaskState::Restarting, false, None);
    assert_eq!(restarting.until, "Airflow's zombie detection does not look at `restarting`");
    let settled = runs(TaskState::Running, false, Some(launch(StoredStage::Closed)));
    assert_eq!(settled.code, Waits::Delivery);
    assert!(settled.until.contains("; the scheduler is handed the outcome"), "{}", settled.until);
}
