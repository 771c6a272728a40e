//! Once the outcome is decided: what is left of the pod.

use super::*;

#[test]
fn a_withdrawn_pod_that_has_not_started_is_deleted_in_the_state_that_was_judged() {
    let mut story = Story::created();
    let cleared = TaskRow { hostname: None, ..row(&story.launch, TaskState::None) };
    assert_eq!(story.settled(Some(cleared)).kind, OutcomeKind::Withdrawn);
    assert!(story.launch.may_still_start());
    let actions = story.tell(Fact::Saved);
    let expected = Action::DeletePod {
        uid: PodUid("u1".into()),
        resource_version: Some("10".into()),
        attempt: Attempt::FIRST,
    };
    assert_eq!(actions, vec![expected]);
    // It started meanwhile: from here on it is left alone, and bars others until its worker is known to have begun.
    assert_eq!(story.tell(Fact::DeleteAnswered(DeleteAnswer::Moved)), vec![Action::GetPod]);
    let actions = story.tell(Fact::GetAnswered(GetAnswer::Found(Some(running(&story.launch)))));
    assert_eq!(actions, vec![]);
    assert!(story.launch.may_still_start());
    story.tell(seen(&story.launch, Some(row(&story.launch, TaskState::Running))));
    assert!(!story.launch.may_still_start());
    story.tell(Fact::PodSeen(ended(&story.launch, 0, "Completed")));
    story.tell(Fact::DeleteAnswered(DeleteAnswer::Accepted));
    assert!(matches!(story.launch.stage, Stage::Closing { .. }), "{:?}", story.launch.stage);
}

#[test]
fn a_missing_pod_is_asked_for_after_its_outcome_too() {
    // Found by the simulator (seed 123): a gap had hidden the end of a pod whose outcome was stored.
    let mut story = Story::started();
    let left = PodLeft::Started { uid: PodUid("u1".into()), began: true };
    story.launch.stage = Stage::Settled { left, asked: None };
    assert_eq!(story.tell(Fact::PodNotListed), vec![Action::GetPod]);
    story.tell(Fact::GetAnswered(GetAnswer::Gone));
    assert!(matches!(story.launch.stage, Stage::Closing { .. }), "{:?}", story.launch.stage);
}

#[test]
fn a_running_pod_is_left_alone_when_its_task_is_taken_back() {
    let mut story = Story::started();
    assert_eq!(story.judged(Some(row(&story.launch, TaskState::Failed))), vec![]);
    assert!(matches!(story.launch.stage, Stage::Alive(_)));
}

#[test]
fn a_pod_of_a_lost_attempt_that_appears_late_is_removed_before_it_starts() {
    let mut story = Story::created();
    story.launch.attempt = Attempt(2);
    let late = PodView { attempt: Attempt(1), uid: PodUid("u0".into()), ..view(&story.launch) };
    let expected = Action::DeletePod {
        uid: PodUid("u0".into()),
        resource_version: Some("10".into()),
        attempt: Attempt(1),
    };
    assert_eq!(story.tell(Fact::PodSeen(Box::new(late))), vec![expected]);
}

#[test]
fn a_refused_settle_whose_row_is_settled_means_that_an_earlier_answer_was_lost() {
    let mut story = Story::started();
    story.ends(0, "Completed");
    let outcome = story.settled(Some(row(&story.launch, TaskState::Success)));
    let stored = LaunchRow {
        launch: story.launch.id.clone(),
        queueing: queueing(),
        stage: StoredStage::Settled,
        attempt: Attempt::FIRST,
        pod: story.launch.pod.clone(),
        uid: Some(PodUid("u1".into())),
        outcome: Some(outcome),
        scheduler_job_id: 1,
        priority_weight: 1,
    };
    let actions = story.tell(Fact::Refused(stored));
    assert!(matches!(&actions[..], [Action::DeletePod { .. }]), "{actions:?}");
}

#[test]
fn another_pod_of_the_name_is_asked_for_after_the_outcome_too() {
    let mut story = Story::started();
    story.ends(0, "Completed");
    story.settled(Some(row(&story.launch, TaskState::Success)));
    let other = PodView { uid: PodUid("u2".into()), ..view(&story.launch) };
    story.tell(Fact::PodSeen(Box::new(other)));
    assert_eq!(story.tell(Fact::Saved), vec![Action::GetPod]);
}
