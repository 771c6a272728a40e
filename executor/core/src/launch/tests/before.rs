//! Until the API server has the pod: questions, creates, doubt.

use super::*;

#[test]
fn an_unanswered_create_is_repeated_only_after_pod_and_row_were_read() {
    // Found by the simulator: the second create landed when the first one's pod had ended and gone (seed 119858), or
    // was decided on a row read before that pod's body began (seed 306196).
    let mut story = Story::claimed();
    story.tell(Fact::Turn);
    story.tell(Fact::CreateAnswered(CreateAnswer::Unknown { error: "time-out".into() }));
    assert!(story.launch.may_still_start());
    assert_eq!(story.tell(Fact::Turn), vec![Action::GetPod]);
    let spec = queued_task().spec;
    assert_eq!(story.tell(Fact::SpecRead(Some(spec.clone()))), vec![], "read before the pod was found gone");
    assert_eq!(story.tell(Fact::GetAnswered(GetAnswer::Gone)), vec![Action::ReadSpec]);
    assert_eq!(story.tell(Fact::SpecRead(Some(spec))), vec![Action::Create]);
    let adopted = story.tell(Fact::CreateAnswered(CreateAnswer::Adopted(running(&story.launch))));
    assert_eq!(adopted.len(), 2, "created and running are stored: {adopted:?}");
}

#[test]
fn the_watch_alone_does_not_say_which_pod_a_lost_create_made() {
    // Found by the simulator (seed 115425): the late end of an earlier pod of that name failed a healthy task.
    let mut story = Story::claimed();
    story.tell(Fact::Turn);
    story.tell(Fact::CreateAnswered(CreateAnswer::Unknown { error: "cut".into() }));
    let stale = ended(&story.launch, 143, "Error");
    assert_eq!(story.tell(Fact::PodSeen(stale.clone())), vec![Action::GetPod]);
    let there = Box::new(PodView { uid: PodUid("u2".into()), ..*running(&story.launch) });
    story.tell(Fact::GetAnswered(GetAnswer::Found(Some(there))));
    assert_eq!(story.launch.uid(), Some(&PodUid("u2".into())));
    assert_eq!(story.tell(Fact::PodSeen(stale)), vec![Action::GetPod]);
    assert!(matches!(story.launch.stage, Stage::Alive(_)), "{:?}", story.launch.stage);
}

#[test]
fn a_create_that_was_given_up_may_land_and_nothing_is_closed_or_launched_again_before() {
    // Found by the simulator (seed 729): attempt 2 was created while attempt 1's first create was still on its way.
    let policy = Policy::default();
    let mut story = Story::claimed();
    story.tell(Fact::Turn);
    story.tell(Fact::CreateAnswered(CreateAnswer::Unknown { error: "cut".into() }));
    let by = T0.plus(policy.landing_ms());
    assert!(!story.launch.proves_gone(T0) && story.launch.proves_gone(by));
    story.launch.stage = Stage::Judging { end: PodEnd::Gone, left: PodLeft::Nothing, asked: T0 };
    assert_eq!(story.judged(Some(row(&story.launch, TaskState::Queued))), vec![]);
    assert!(matches!(story.launch.stage, Stage::Judging { .. }), "{:?}", story.launch.stage);
}

#[test]
fn a_refused_pod_fails_its_task_alone_with_the_servers_words() {
    let mut story = Story::claimed();
    story.tell(Fact::Turn);
    let refused = CreateAnswer::Refused { reason: Reason::PodRejected, message: "image is required".into() };
    let actions = story.tell(Fact::CreateAnswered(refused));
    assert!(
        matches!(&actions[..], [Action::Save(LaunchChange::Settle { outcome })] if outcome.message == "image is required")
    );
}

#[test]
fn every_question_without_an_answer_is_asked_again() {
    let mut story = Story::started();
    story.ends(0, "Completed");
    story.settled(Some(row(&story.launch, TaskState::Success)));
    for _ in 0..3 {
        let wake = story.launch.wake_at(&story.policy).unwrap();
        assert!(wake > story.now);
        story.now = wake;
        assert!(matches!(&story.tell(Fact::Tick)[..], [Action::Save(LaunchChange::Settle { .. })]));
    }
}

#[test]
fn each_waking_finds_something_to_do() {
    // Found by the simulator: a question whose answer could prove nothing before `lands_by` was woken for then, and
    // asked again only when it was overdue; in between the engine turned without a pause.
    let mut story = Story::claimed();
    story.tell(Fact::Turn);
    story.tell(Fact::CreateAnswered(CreateAnswer::Unknown { error: "cut".into() }));
    // A turn that comes early: the pod is asked for while the create may still land.
    assert_eq!(story.tell(Fact::Turn), vec![Action::GetPod]);
    story.now = story.launch.wake_at(&story.policy).unwrap();
    assert_eq!(story.now, T0.plus(story.policy.landing_ms()));
    assert_eq!(story.tell(Fact::Tick), vec![Action::GetPod]);
    assert!(story.launch.wake_at(&story.policy).unwrap() > story.now);
}

#[test]
fn an_answer_to_a_create_that_nobody_waits_for_changes_nothing() {
    let mut story = Story::claimed();
    story.tell(Fact::Turn);
    let taken = || Fact::CreateAnswered(CreateAnswer::NameTaken { why: "terminating".into() });
    story.tell(taken());
    let before = story.launch.clone();
    assert_eq!((story.tell(taken()), story.launch), (vec![], before));
}

#[test]
fn a_tick_that_comes_early_asks_for_nothing() {
    let mut story = Story::claimed();
    story.tell(Fact::Turn);
    assert_eq!(story.tell(Fact::Tick), vec![], "creating");
    story.tell(Fact::CreateAnswered(CreateAnswer::NameTaken { why: "terminating".into() }));
    story.tell(Fact::Turn);
    assert_eq!(story.tell(Fact::Tick), vec![], "checking");
    let mut story = Story::started();
    story.ends(1, "Error");
    assert_eq!(story.tell(Fact::Tick), vec![], "judging");
    let evicted = PodView { status_reason: "Evicted".into(), ..*ended(&story.launch, 137, "Error") };
    story.tell(Fact::PodSeen(Box::new(evicted)));
    let again = story.judged(Some(row(&story.launch, TaskState::Queued)));
    assert!(matches!(story.launch.stage, Stage::Relaunching { .. }), "{again:?}");
    assert_eq!(story.tell(Fact::Tick), vec![], "relaunching");
    let mut story = Story::started();
    story.ends(0, "Completed");
    story.settled(Some(row(&story.launch, TaskState::Success)));
    assert_eq!(story.tell(Fact::Tick), vec![], "settling");
    story.tell(Fact::Saved);
    assert_eq!(story.tell(Fact::Tick), vec![], "settled");
    story.tell(Fact::DeleteAnswered(DeleteAnswer::Accepted));
    assert_eq!(story.tell(Fact::Tick), vec![], "closing");
}

#[test]
fn a_refused_create_whose_pod_the_watch_has_seen_is_in_doubt() {
    let mut story = Story::claimed();
    story.tell(Fact::Turn);
    // An earlier leader's create landed.
    story.tell(Fact::PodSeen(Box::new(view(&story.launch))));
    let refused = CreateAnswer::Refused { reason: Reason::PodRejected, message: "a webhook".into() };
    story.tell(Fact::CreateAnswered(refused));
    assert_eq!(story.tell(Fact::Saved), vec![Action::GetPod]);
}

#[test]
fn a_body_that_ran_while_nobody_led_is_no_withdrawal() {
    // Seen in the simulator: a daemon died before it had stored its pod, and the task deferred before the next one led.
    let mut story = Story::created();
    story.launch.stage = Stage::Ready { spec: None, untried: false, not_before: T0, failures: 0 };
    let deferred = row(&story.launch, TaskState::Deferred);
    assert_eq!(story.tell(seen(&story.launch, Some(deferred.clone()))), vec![]);
    let elsewhere = TaskRow { hostname: Some("another".into()), ..deferred };
    assert_eq!(story.settled(Some(elsewhere)).kind, OutcomeKind::Withdrawn);
}

#[test]
fn a_get_from_before_a_create_whose_answer_was_lost_proves_nothing_however_late_it_is_answered() {
    let mut story = Story::claimed();
    let before = story.now;
    story.now = before.plus(10_000);
    assert_eq!(story.tell(Fact::Turn), vec![Action::Create]);
    let meanwhile = story.now.plus(1);
    story.now = story.now.plus(100);
    story.tell(Fact::CreateAnswered(CreateAnswer::Unknown { error: "cut".into() }));
    let by = story.launch.lands_by.unwrap();
    // A GET from after that time has found it.
    story.launch.landed();
    for asked in [before, meanwhile, by.plus(0)] {
        assert_eq!(story.launch.proves_gone(asked), asked >= by, "{asked:?}");
    }
}
