//! While the pod exists, and when it no longer does.

use super::*;

#[test]
fn a_pod_evicted_before_the_task_began_is_launched_again_under_another_name() {
    let mut story = Story::created();
    let evicted = PodView { phase: PodPhase::Failed, status_reason: "Evicted".into(), ..view(&story.launch) };
    let first = story.launch.pod.name.clone();
    story.tell(Fact::PodSeen(Box::new(evicted)));
    let actions = story.judged(Some(row(&story.launch, TaskState::Queued)));
    assert!(
        matches!(&actions[..], [Action::Save(LaunchChange::Relaunch { attempt: Attempt(2), .. })]),
        "{actions:?}"
    );
    story.tell(Fact::Saved);
    assert_ne!(story.launch.pod.name, first);
    // The row is read again before a second create (I1), and read once more when it changed meanwhile.
    assert_eq!(story.tell(Fact::Turn), vec![Action::ReadSpec]);
    assert_eq!(story.tell(Fact::SpecRead(None)), vec![Action::ReadTask]);
    let outcome = story.settled(Some(row(&story.launch, TaskState::None)));
    assert_eq!(outcome.kind, OutcomeKind::Withdrawn);
}

#[test]
fn a_pod_that_ran_unseen_is_not_withdrawn_because_its_row_has_ended() {
    // Found by the chaos run: while the API server was away, the rows told of the ends of tasks whose pods had not been
    // seen to start. They were withdrawn, and their pods were deleted from under the upload of their logs.
    for state in [TaskState::Success, TaskState::UpForRetry, TaskState::Deferred] {
        let mut story = Story::created();
        assert_eq!(story.tell(Fact::Saved), vec![]);
        let here = row(&story.launch, state.clone());
        assert_eq!(story.tell(seen(&story.launch, Some(here))), vec![], "{state:?}");
        assert_eq!(story.tell(Fact::PodSeen(ended(&story.launch, 0, "Completed"))), vec![Action::ReadTask]);
        let outcome = story.settled(Some(row(&story.launch, state.clone())));
        assert!(outcome.message.starts_with("the worker reported"), "{outcome:?}");
    }
}

#[test]
fn another_pod_of_its_name_is_followed_once_a_get_has_shown_it() {
    let mut story = Story::started();
    let other = PodView { uid: PodUid("u2".into()), ..view(&story.launch) };
    assert_eq!(story.tell(Fact::PodSeen(Box::new(other.clone()))), vec![Action::GetPod], "the watch may lag");
    let actions = story.tell(Fact::GetAnswered(GetAnswer::Found(Some(Box::new(other)))));
    let created = LaunchChange::Created { attempt: Attempt::FIRST, uid: PodUid("u2".into()) };
    assert_eq!(actions, vec![Action::Save(created)]);
}

#[test]
fn a_pod_of_an_attempt_that_is_not_known_yet_is_left_alone() {
    let mut story = Story::created();
    let ahead = PodView { attempt: Attempt(2), uid: PodUid("u2".into()), ..view(&story.launch) };
    assert_eq!(story.tell(Fact::PodSeen(Box::new(ahead))), vec![]);
}

#[test]
fn a_started_pod_bars_others_until_the_row_names_it_as_host() {
    // Found by the simulator (seed 11): the worker was still starting up and then took the newer queueing's body.
    let mut story = Story::started();
    assert!(story.launch.may_still_start());
    let newer =
        TaskRow { queued_at: Some(UtcMicros(8)), hostname: None, ..row(&story.launch, TaskState::Queued) };
    story.tell(seen(&story.launch, Some(newer.clone())));
    assert!(story.launch.may_still_start());
    let begun = TaskRow { hostname: Some(story.launch.pod.name.clone()), ..newer };
    story.tell(seen(&story.launch, Some(begun)));
    assert!(!story.launch.may_still_start());
}

#[test]
fn the_lost_pods_object_goes_only_after_the_next_attempt_is_stored() {
    // Found by the simulator (seed 9): the delete left together with the write (I3).
    let mut story = Story::started();
    story.launch.stage = Stage::Relaunching {
        why: "lost".into(),
        remove: Some((PodUid("u1".into()), None)),
        pause_ms: 0,
        asked: T0,
    };
    let expected =
        Action::DeletePod { uid: PodUid("u1".into()), resource_version: None, attempt: Attempt::FIRST };
    assert_eq!(story.tell(Fact::Saved), vec![expected]);
    assert_eq!(story.launch.attempt, Attempt(2));
}

#[test]
fn an_unreachable_pod_that_goes_unseen_is_asked_for_until_a_get_says_so() {
    // Found by the simulator (seed 1476): the GET that would have told was lost, and nobody asked again.
    let policy = Policy::default();
    let mut story = Story::created();
    story.launch.stage = Stage::Judging {
        end: PodEnd::Unreachable,
        left: PodLeft::Waiting { uid: PodUid("u1".into()), resource_version: "10".into(), deleting: true },
        asked: T0,
    };
    let asked = story.launch.apply(Fact::Tick, T0.plus(policy.reread_ms), &policy);
    assert_eq!(asked, vec![Action::ReadTask, Action::GetPod]);
    assert_eq!(story.tell(Fact::GetAnswered(GetAnswer::Gone)), vec![Action::ReadTask]);
}

#[test]
fn a_pod_that_is_only_being_deleted_is_waited_for() {
    let mut story = Story::started();
    let deleting = PodView { deleting: true, ..*running(&story.launch) };
    assert_eq!(story.tell(Fact::PodSeen(Box::new(deleting))), vec![]);
    // On a node that never answers, the heartbeat decides.
    story.now = story.now.plus(story.policy.unreachable_ms);
    assert_eq!(story.tell(Fact::Tick), vec![Action::ReadTask]);
    assert_eq!(story.judged(Some(row(&story.launch, TaskState::Running))), vec![]);
    let dead = TaskRow { worker_alive: Some(false), ..row(&story.launch, TaskState::Running) };
    assert_eq!(story.settled(Some(dead)).reason, Some(Reason::NodeUnreachable));
}

#[test]
fn a_vanished_pod_counts_as_gone_only_after_a_get() {
    let mut story = Story::started();
    assert_eq!(story.tell(Fact::PodDeleted(PodUid("u1".into()))), vec![Action::GetPod]);
    assert_eq!(story.tell(Fact::GetAnswered(GetAnswer::Gone)), vec![Action::ReadTask]);
    let outcome = story.settled(Some(row(&story.launch, TaskState::Running)));
    assert_eq!(outcome.reason, Some(Reason::PodDeleted));
    assert_eq!(story.tell(Fact::Saved), vec![Action::Save(LaunchChange::Close)]);
}

#[test]
fn a_get_that_nobody_asked_for_decides_nothing() {
    let mut story = Story::started();
    assert_eq!(story.tell(Fact::GetAnswered(GetAnswer::Gone)), vec![]);
    assert!(matches!(story.launch.stage, Stage::Alive(_)));
}

#[test]
fn an_image_that_cannot_be_had_fails_the_launch_and_the_pod_is_removed() {
    let mut story = Story::created();
    let worker = ContainerState::Waiting { reason: "ErrImagePull".into(), message: "not found".into() };
    let stuck = PodView { bound: true, worker, ..view(&story.launch) };
    assert_eq!(story.tell(Fact::PodSeen(Box::new(stuck))), vec![Action::ReadTask]);
    let outcome = story.settled(Some(row(&story.launch, TaskState::Queued)));
    assert_eq!(
        (outcome.reason, outcome.message.as_str()),
        (Some(Reason::ImagePull), "the worker's container cannot start: ErrImagePull: not found")
    );
    assert!(matches!(&story.tell(Fact::Saved)[..], [Action::DeletePod { .. }]));
    assert_eq!(story.tell(Fact::DeleteAnswered(DeleteAnswer::Accepted)), vec![Action::GetPod]);
    assert_eq!(story.tell(Fact::GetAnswered(GetAnswer::Gone)), vec![Action::Save(LaunchChange::Close)]);
}

#[test]
fn the_kubelets_own_pull_limit_is_no_failure() {
    let mut story = Story::created();
    let worker =
        ContainerState::Waiting { reason: "ErrImagePull".into(), message: "pull QPS exceeded".into() };
    let waits = PodView { bound: true, worker, ..view(&story.launch) };
    assert_eq!(story.tell(Fact::PodSeen(Box::new(waits))), vec![]);
}

#[test]
fn a_pod_that_does_not_start_in_time_fails_its_launch_with_what_it_waited_for() {
    let waits = [
        (Some("0/3 nodes are available: insufficient cpu"), Reason::Unschedulable),
        (Some("no nodes available to schedule pods"), Reason::Unschedulable),
        (Some("ImagePullBackOff: Back-off pulling image \"a\""), Reason::ImagePull),
        (Some("CreateContainerError: no such device"), Reason::ContainerConfig),
        (Some("ContainerCreating"), Reason::PendingTimeout),
        (None, Reason::PendingTimeout),
    ];
    for (waits_for, reason) in waits {
        let mut story = Story::created();
        story.policy.pending_ms = 60_000;
        let view = PodView { unschedulable: waits_for.map(str::to_owned), ..view(&story.launch) };
        story.tell(Fact::PodSeen(Box::new(view)));
        story.now = story.launch.wake_at(&story.policy).unwrap();
        assert_eq!(story.tell(Fact::Tick), vec![Action::ReadTask]);
        let outcome = story.settled(Some(row(&story.launch, TaskState::Queued)));
        assert_eq!(outcome.reason, Some(reason));
        let waited = waits_for.unwrap_or("its containers have not started");
        assert_eq!(outcome.message, format!("the pod did not start within 60 s: {waited}"));
    }
}

#[test]
fn what_a_pod_waited_for_is_told_when_its_queueing_is_taken_back() {
    let mut story = Story::created();
    let unschedulable = Some("0/3 nodes are available".to_owned());
    story.tell(Fact::PodSeen(Box::new(PodView { unschedulable, ..view(&story.launch) })));
    let marked = TaskRow { hostname: None, ..row(&story.launch, TaskState::Failed) };
    let outcome = story.settled(Some(marked));
    assert_eq!(
        outcome.message,
        "the task instance went to `failed` before its pod started; its pod waited for: 0/3 nodes are available"
    );
}

#[test]
fn a_relaunch_that_is_not_answered_is_asked_for_again_and_a_refused_one_reads_the_row() {
    let mut story = Story::created();
    let evicted = PodView { phase: PodPhase::Failed, status_reason: "Evicted".into(), ..view(&story.launch) };
    story.tell(Fact::PodSeen(Box::new(evicted)));
    let again = story.judged(Some(row(&story.launch, TaskState::Queued)));
    assert!(matches!(&again[..], [Action::Save(LaunchChange::Relaunch { .. })]), "{again:?}");
    story.now = story.launch.wake_at(&story.policy).unwrap();
    assert_eq!(story.tell(Fact::Tick), again);
    // The row is at the next attempt already: the first answer was lost.
    let attempt = Attempt(2);
    let refused = LaunchRow {
        launch: story.launch.id.clone(),
        queueing: queueing(),
        stage: StoredStage::Claimed,
        attempt,
        pod: story.launch.pod.clone(),
        uid: None,
        outcome: None,
        scheduler_job_id: 1,
        priority_weight: 1,
    };
    story.tell(Fact::Refused(refused));
    assert_eq!(story.launch.attempt, attempt);
    assert!(matches!(story.launch.stage, Stage::Ready { untried: true, .. }));
}

#[test]
fn a_pod_that_a_lost_leader_made_after_ours_had_gone_is_followed() {
    let mut story = Story::created();
    story.tell(Fact::PodDeleted(PodUid("u1".into())));
    assert_eq!(story.tell(Fact::GetAnswered(GetAnswer::Gone)), vec![Action::ReadTask]);
    let late = Box::new(PodView { uid: PodUid("u2".into()), ..view(&story.launch) });
    assert_eq!(story.tell(Fact::PodSeen(late.clone())), vec![Action::GetPod]);
    story.tell(Fact::GetAnswered(GetAnswer::Found(Some(late))));
    assert_eq!(story.launch.uid(), Some(&PodUid("u2".into())));
    assert!(matches!(story.launch.stage, Stage::Alive(_)));
}

#[test]
fn a_refused_relaunch_goes_on_from_where_the_row_stands() {
    let mut story = Story::started();
    let evicted = PodView { status_reason: "Evicted".into(), ..*ended(&story.launch, 137, "Error") };
    story.tell(Fact::PodSeen(Box::new(evicted)));
    story.judged(Some(row(&story.launch, TaskState::Queued)));
    story.launch.may_land_until(story.now.plus(500));
    let found = LaunchRow {
        launch: story.launch.id.clone(),
        queueing: queueing(),
        stage: StoredStage::Claimed,
        attempt: Attempt(3),
        pod: story.launch.pod.clone(),
        uid: None,
        outcome: None,
        scheduler_job_id: 1,
        priority_weight: 1,
    };
    story.tell(Fact::Refused(found));
    assert_eq!(story.launch.attempt, Attempt(3));
    assert_eq!(
        story.launch.wake_at(&story.policy),
        Some(story.now.plus(500)),
        "what may land is not forgotten"
    );
    let other_name = PodRef { namespace: "ns".into(), name: "d-t-of-somebody".into() };
    let view = PodView { pod: other_name, ..view(&story.launch) };
    assert!(matches!(&story.tell(Fact::PodSeen(Box::new(view)))[..], [Action::DeletePod { .. }]));
}
