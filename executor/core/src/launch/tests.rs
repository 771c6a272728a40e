//! The state machine, one story a test.

use std::sync::Arc;

use super::*;
use crate::cluster::{CreateAnswer, DeleteAnswer, GetAnswer};
use crate::ids::TaskKey;
use crate::outcome::{OutcomeKind, Reason};
use crate::pod_view::{ContainerState, PodPhase, PodView};
use crate::store::LaunchChange;
use crate::task::{ExecutorConfig, TaskRow, TaskState, TaskView};
use crate::time::UtcMicros;

const T0: Millis = Millis(1_000);

fn queueing() -> Queueing {
    let key = TaskKey { dag_id: "d".into(), task_id: "t".into(), run_id: "r".into(), map_index: -1 };
    Queueing { key, try_number: 1, queued_at: UtcMicros(7) }
}

fn queued_task() -> QueuedTask {
    let spec = TaskSpec {
        queueing: queueing(),
        queue: "default".into(),
        pool: "default_pool".into(),
        priority_weight: 1,
        scheduler_job_id: 1,
        airflow_version: "2.11.2".into(),
        command: vec!["airflow".into()],
        executor_config: Ok(ExecutorConfig::default()),
    };
    let launch = LaunchId::of(&crate::ids::InstallationId("i".into()), &queueing());
    QueuedTask { launch, spec: Arc::new(spec), pod: PodRef { namespace: "ns".into(), name: "d-t-1".into() } }
}

fn view(launch: &Launch) -> PodView {
    PodView {
        pod: launch.pod.clone(),
        uid: PodUid("u1".into()),
        resource_version: "10".into(),
        launch: launch.id.clone(),
        attempt: launch.attempt,
        deleting: false,
        bound: false,
        phase: PodPhase::Pending,
        status_reason: String::new(),
        status_message: String::new(),
        worker: ContainerState::Unknown,
        failed_init: None,
        unschedulable: None,
        disruption: None,
    }
}

fn running(launch: &Launch) -> Box<PodView> {
    Box::new(PodView {
        phase: PodPhase::Running,
        bound: true,
        worker: ContainerState::Running,
        ..view(launch)
    })
}

fn ended(launch: &Launch, exit_code: i32, reason: &str) -> Box<PodView> {
    let phase = if exit_code == 0 { PodPhase::Succeeded } else { PodPhase::Failed };
    let worker = ContainerState::Terminated { exit_code, reason: reason.into(), message: String::new() };
    Box::new(PodView { phase, bound: true, worker, ..view(launch) })
}

fn row(launch: &Launch, state: TaskState) -> TaskRow {
    TaskRow {
        state,
        try_number: 1,
        queued_at: Some(UtcMicros(7)),
        hostname: Some(launch.pod.name.clone()),
        worker_alive: Some(true),
    }
}

fn seen(launch: &Launch, row: Option<TaskRow>) -> Fact {
    Fact::TaskSeen(TaskView { launch: launch.id.clone(), row, withdrawn: false })
}

/// A launch, and what it has asked for so far.
struct Story {
    launch: Launch,
    policy: Policy,
    now: Millis,
}

impl Story {
    fn claimed() -> Self {
        let mut launch = Launch::seen(&queued_task(), T0);
        let policy = Policy::default();
        assert_eq!(launch.apply(Fact::Claimed, T0, &policy), vec![]);
        Self { launch, policy, now: T0 }
    }

    fn created() -> Self {
        let mut story = Self::claimed();
        assert_eq!(story.tell(Fact::Turn), vec![Action::Create]);
        let view = Box::new(view(&story.launch));
        let actions = story.tell(Fact::CreateAnswered(CreateAnswer::Created(view)));
        assert!(matches!(&actions[..], [Action::Save(LaunchChange::Created { .. })]), "{actions:?}");
        story
    }

    fn started() -> Self {
        let mut story = Self::created();
        let actions = story.tell(Fact::PodSeen(running(&story.launch)));
        assert!(matches!(&actions[..], [Action::Save(LaunchChange::Running { .. })]), "{actions:?}");
        story
    }

    fn tell(&mut self, fact: Fact) -> Vec<Action> {
        self.launch.apply(fact, self.now, &self.policy)
    }

    fn ends(&mut self, exit_code: i32, reason: &str) {
        let actions = self.tell(Fact::PodSeen(ended(&self.launch, exit_code, reason)));
        assert!(actions.ends_with(&[Action::ReadTask]), "{actions:?}");
    }

    fn judged(&mut self, row: Option<TaskRow>) -> Vec<Action> {
        self.tell(seen(&self.launch, row))
    }

    #[track_caller]
    fn settled(&mut self, row: Option<TaskRow>) -> Outcome {
        match &self.judged(row)[..] {
            [Action::Save(LaunchChange::Settle { outcome })] => outcome.clone(),
            other => panic!("not settled: {other:?}"),
        }
    }
}

#[test]
fn a_task_that_goes_well_is_claimed_created_run_settled_deleted_closed() {
    let mut story = Story::started();
    story.ends(0, "Completed");
    let outcome = story.settled(Some(row(&story.launch, TaskState::Success)));
    assert_eq!(
        (outcome.kind, outcome.message.as_str()),
        (OutcomeKind::Success, "the worker reported success")
    );
    let delete = story.tell(Fact::Saved);
    assert!(matches!(&delete[..], [Action::DeletePod { resource_version: None, .. }]), "{delete:?}");
    assert_eq!(
        story.tell(Fact::DeleteAnswered(DeleteAnswer::Accepted)),
        vec![Action::Save(LaunchChange::Close)]
    );
    story.tell(Fact::Saved);
    assert_eq!(story.launch.stage, Stage::Closed);
}

#[test]
fn the_table_of_a_pods_end() {
    use TaskState as S;
    // exit code, its reason, state of the row, whether the row names the pod, outcome (None: wait), reason
    let table = [
        (0, "Completed", S::Success, true, Some(OutcomeKind::Success), None),
        (0, "Completed", S::Deferred, true, Some(OutcomeKind::Success), None),
        (0, "Completed", S::UpForReschedule, true, Some(OutcomeKind::Success), None),
        (0, "Completed", S::UpForRetry, true, Some(OutcomeKind::Failure), Some(Reason::TaskFailed)),
        (1, "Error", S::Failed, true, Some(OutcomeKind::Failure), Some(Reason::TaskFailed)),
        (143, "Error", S::UpForRetry, true, Some(OutcomeKind::Failure), Some(Reason::Killed)),
        (0, "Completed", S::None, true, Some(OutcomeKind::Superseded), None),
        (0, "Completed", S::Scheduled, true, Some(OutcomeKind::Superseded), None),
        (0, "Completed", S::Running, true, Some(OutcomeKind::Failure), Some(Reason::Killed)),
        (137, "Error", S::Running, true, Some(OutcomeKind::Failure), Some(Reason::Killed)),
        (137, "OOMKilled", S::Running, true, Some(OutcomeKind::Failure), Some(Reason::OomKilled)),
        (1, "Error", S::Restarting, true, Some(OutcomeKind::Failure), Some(Reason::WorkerExited)),
        (0, "Completed", S::Running, false, None, None),
        (137, "Error", S::Running, false, None, None),
        (0, "Completed", S::Queued, false, Some(OutcomeKind::Failure), Some(Reason::WorkerDidNotStart)),
        (2, "Error", S::Queued, false, Some(OutcomeKind::Failure), Some(Reason::WorkerExited)),
    ];
    for (code, why, state, names_it, kind, reason) in table {
        let mut story = Story::started();
        story.ends(code, why);
        let hostname = if names_it { story.launch.pod.name.clone() } else { "another".into() };
        let row = TaskRow { hostname: Some(hostname), ..row(&story.launch, state.clone()) };
        let case = format!("{code} {why} {state:?} {names_it}");
        match kind {
            None => assert_eq!(story.judged(Some(row)), vec![], "{case}"),
            Some(kind) => {
                let outcome = story.settled(Some(row));
                assert_eq!((outcome.kind, outcome.reason), (kind, reason), "{case}");
            }
        }
    }
}

#[test]
fn a_hidden_host_name_waits_for_two_missed_heartbeats() {
    let mut story = Story::started();
    story.ends(137, "Error");
    let hidden = TaskRow { hostname: Some("10.0.0.7".into()), ..row(&story.launch, TaskState::Running) };
    assert_eq!(story.judged(Some(hidden.clone())), vec![]);
    story.now = story.now.plus(story.policy.reread_ms);
    assert_eq!(story.tell(Fact::Tick), vec![Action::ReadTask]);
    let dead = TaskRow { worker_alive: Some(false), ..hidden };
    assert_eq!(story.settled(Some(dead)).reason, Some(Reason::Killed));
}

#[test]
fn a_late_end_never_touches_a_newer_queueing() {
    let mut story = Story::started();
    story.ends(1, "Error");
    let newer = TaskRow { queued_at: Some(UtcMicros(8)), ..row(&story.launch, TaskState::Queued) };
    assert_eq!(story.settled(Some(newer)).kind, OutcomeKind::Superseded);
}

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
fn what_ran_elsewhere_is_not_reported_by_a_pod_that_could_not_start() {
    // Found by the simulator (seed 70198): a run by hand failed, and the body that began here afterwards was failed too.
    for state in [TaskState::UpForRetry, TaskState::Failed, TaskState::Success, TaskState::Deferred] {
        let mut story = Story::created();
        let worker =
            ContainerState::Waiting { reason: "InvalidImageName".into(), message: "no such image".into() };
        let stuck = Box::new(PodView { bound: true, worker, ..view(&story.launch) });
        assert_eq!(story.tell(Fact::PodSeen(stuck)), vec![Action::ReadTask]);
        let elsewhere = TaskRow { hostname: Some("laptop".into()), ..row(&story.launch, state.clone()) };
        let outcome = story.settled(Some(elsewhere));
        assert_eq!(outcome.kind, OutcomeKind::Withdrawn);
        let message = format!("the task instance went to `{}` before its pod started", state.as_str());
        assert_eq!(outcome.message, message);
    }
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
    story.launch.stage =
        Stage::Relaunching { why: "lost".into(), remove: Some(PodUid("u1".into())), asked: T0 };
    let expected =
        Action::DeletePod { uid: PodUid("u1".into()), resource_version: None, attempt: Attempt::FIRST };
    assert_eq!(story.tell(Fact::Saved), vec![expected]);
    assert_eq!(story.launch.attempt, Attempt(2));
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
fn a_running_pod_is_left_alone_when_its_task_is_taken_back() {
    let mut story = Story::started();
    assert_eq!(story.judged(Some(row(&story.launch, TaskState::Failed))), vec![]);
    assert!(matches!(story.launch.stage, Stage::Alive(_)));
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
        (Some(Reason::ImagePull), "ErrImagePull: not found")
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
    let actions = story.tell(Fact::Refused(Some(stored)));
    assert!(matches!(&actions[..], [Action::DeletePod { .. }]), "{actions:?}");
    // The row is gone: nothing is left to do.
    assert_eq!(story.tell(Fact::Refused(None)), vec![]);
    assert_eq!(story.launch.stage, Stage::Closed);
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

fn reason_of(view: &PodView) -> Option<Reason> {
    match classify(view, &Policy::default()) {
        PodStanding::Ended(PodEnd::Failed { reason, .. }) | PodStanding::Stuck { reason, .. } => Some(reason),
        PodStanding::Ended(_) | PodStanding::Started | PodStanding::Waiting(_) => None,
    }
}

#[test]
fn a_pods_status_is_read_for_its_most_telling_reason() {
    let launch = Launch::seen(&queued_task(), T0);
    let failed = |reason: &str| PodView {
        phase: PodPhase::Failed,
        status_reason: reason.into(),
        ..*ended(&launch, 1, "Error")
    };
    for (said, reason) in [
        ("Evicted", Reason::Evicted),
        ("Preempting", Reason::Preempted),
        ("NodeLost", Reason::NodeLost),
        ("DeadlineExceeded", Reason::DeadlineExceeded),
        ("OutOfcpu", Reason::Evicted),
        ("something new", Reason::WorkerExited),
    ] {
        assert_eq!(reason_of(&failed(said)), Some(reason), "{said}");
    }
    let disrupted = Some(("PreemptionByScheduler".to_owned(), "a pod of higher priority".to_owned()));
    assert_eq!(reason_of(&PodView { disruption: disrupted, ..failed("") }), Some(Reason::Preempted));
    let unknown = Some(("SomethingNew".to_owned(), String::new()));
    assert_eq!(reason_of(&PodView { disruption: unknown, ..failed("") }), Some(Reason::WorkerExited));
    for (of_worker, reason) in [
        ("OOMKilled", Reason::OomKilled),
        ("ContainerCannotRun", Reason::ContainerConfig),
        ("StartError", Reason::ContainerConfig),
        ("Error", Reason::Killed),
    ] {
        assert_eq!(reason_of(&ended(&launch, 137, of_worker)), Some(reason), "{of_worker}");
    }
    let without_status = PodView { worker: ContainerState::Unknown, ..failed("") };
    assert_eq!(reason_of(&without_status), Some(Reason::WorkerExited));
}

#[test]
fn an_init_container_that_failed_or_cannot_start_is_the_reason() {
    let launch = Launch::seen(&queued_task(), T0);
    let init = |exit_code, reason: &str, message: &str| {
        let state = ContainerState::Terminated { exit_code, reason: reason.into(), message: message.into() };
        PodView { phase: PodPhase::Failed, failed_init: Some(("sync".into(), state)), ..view(&launch) }
    };
    assert_eq!(reason_of(&init(137, "OOMKilled", "")), Some(Reason::OomKilled));
    let PodStanding::Ended(PodEnd::Failed { reason, message, exit_code }) =
        classify(&init(3, "Error", "no such branch"), &Policy::default())
    else {
        panic!("not failed")
    };
    assert_eq!(
        (reason, message.as_str(), exit_code),
        (Reason::InitFailed, "init container `sync` ended with exit code 3: no such branch", None)
    );
    for (waits, reason) in
        [("InvalidImageName", Reason::ImagePull), ("CreateContainerConfigError", Reason::ContainerConfig)]
    {
        let state = ContainerState::Waiting { reason: waits.into(), message: String::new() };
        let view = PodView { failed_init: Some(("sync".into(), state)), ..view(&launch) };
        assert_eq!(reason_of(&view), Some(reason), "{waits}");
    }
    let passes = ContainerState::Waiting { reason: "PodInitializing".into(), message: String::new() };
    let waiting = PodView { failed_init: Some(("sync".into(), passes)), ..view(&launch) };
    assert_eq!(classify(&waiting, &Policy::default()), PodStanding::Waiting(None));
}

#[test]
fn the_phase_stands_in_where_the_worker_has_no_status() {
    let launch = Launch::seen(&queued_task(), T0);
    let in_phase = |phase| classify(&PodView { phase, ..view(&launch) }, &Policy::default());
    assert_eq!(in_phase(PodPhase::Succeeded), PodStanding::Ended(PodEnd::Succeeded));
    assert_eq!(in_phase(PodPhase::Running), PodStanding::Started);
    assert_eq!(in_phase(PodPhase::Pending), PodStanding::Waiting(None));
}

#[test]
fn a_host_is_the_pods_also_with_a_domain_or_cut_at_63_characters() {
    let mut story = Story::started();
    story.launch.pod.name = "d".repeat(70);
    let host = |host: String| {
        let row = TaskRow { hostname: Some(host), ..row(&story.launch, TaskState::Running) };
        story.launch.is_host(&TaskView { launch: story.launch.id.clone(), row: Some(row), withdrawn: false })
    };
    assert!(host("d".repeat(70)) && host("d".repeat(63)) && host(format!("{}.pods.svc", "d".repeat(70))));
    assert!(!host("d".repeat(62)) && !host(format!("{}e", "d".repeat(62))) && !host("laptop".into()));
}

#[test]
fn a_pod_that_does_not_start_in_time_fails_its_launch_with_what_it_waited_for() {
    let waits = [
        (Some("0/3 nodes are available: insufficient cpu"), Reason::Unschedulable),
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
fn a_withdrawal_wins_over_the_end_of_a_pod_whose_task_did_not_begin() {
    let mut story = Story::started();
    story.ends(1, "Error");
    let row = Some(row(&story.launch, TaskState::Queued));
    let view = TaskView { launch: story.launch.id.clone(), row, withdrawn: true };
    let actions = story.tell(Fact::TaskSeen(view));
    assert!(
        matches!(&actions[..], [Action::Save(LaunchChange::Settle { outcome })]
            if outcome.kind == OutcomeKind::Withdrawn),
        "{actions:?}"
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
    story.tell(Fact::Refused(Some(refused)));
    assert_eq!(story.launch.attempt, attempt);
    assert!(matches!(story.launch.stage, Stage::Ready { untried: true, .. }));
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
fn another_pod_of_the_name_is_asked_for_after_the_outcome_too() {
    let mut story = Story::started();
    story.ends(0, "Completed");
    story.settled(Some(row(&story.launch, TaskState::Success)));
    let other = PodView { uid: PodUid("u2".into()), ..view(&story.launch) };
    story.tell(Fact::PodSeen(Box::new(other)));
    assert_eq!(story.tell(Fact::Saved), vec![Action::GetPod]);
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
    story.tell(Fact::Refused(Some(found)));
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
