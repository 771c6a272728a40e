//! A pod with security groups: its branch network interface is waited for, and it must not run without.

use super::*;
use crate::cluster::PodNote;
use crate::launch::PodEnd;
use crate::pod_view::Branch;

fn bound(launch: &Launch, branch: Branch) -> PodView {
    let worker = ContainerState::Waiting { reason: "ContainerCreating".into(), message: String::new() };
    PodView { bound: true, worker, branch, ..view(launch) }
}

fn note(story: &Story, reason: &str, message: &str) -> Fact {
    let (reason, message) = (reason.to_owned(), message.to_owned());
    Fact::PodNoted(PodNote { pod: story.launch.pod.clone(), uid: PodUid("u1".into()), reason, message })
}

/// Its pod is bound and waits for the controller.
fn waiting() -> Story {
    let mut story = Story::claimed();
    story.tell(Fact::Turn);
    let created = Box::new(PodView { branch: Branch::Awaited, ..view(&story.launch) });
    story.tell(Fact::CreateAnswered(CreateAnswer::Created(created)));
    let awaits = bound(&story.launch, Branch::Awaited);
    story.shows(awaits);
    story
}

fn alive(story: &Story) -> &Alive {
    match &story.launch.stage {
        Stage::Alive(alive) => alive,
        other => panic!("{other:?}"),
    }
}

fn queued(story: &Story) -> Option<TaskRow> {
    Some(TaskRow { hostname: None, ..row(&story.launch, TaskState::Queued) })
}

#[test]
fn a_dropped_job_costs_the_pod_and_the_next_one_is_another_job() {
    let mut story = waiting();
    assert_eq!(alive(&story).waits_for.as_deref(), Some("its branch network interface"));
    let said = note(&story, "BranchAllocationFailed", "failed to allocate branch ENI to pod: throttled");
    story.tell(said);
    let awaits = bound(&story.launch, Branch::Awaited);
    story.shows(awaits);
    assert!(alive(&story).waits_for.as_ref().unwrap().ends_with("pod: throttled"));
    story.now = story.launch.wake_at(&story.policy).unwrap();
    assert_eq!(story.now, T0.plus(story.policy.branch_ms));
    let actions = story.tell(Fact::Tick);
    let [Action::DeletePod { resource_version: Some(_), .. }] = &actions[..] else { panic!("{actions:?}") };
    // Not answered: asked for again, still only as it was judged.
    story.now = story.launch.wake_at(&story.policy).unwrap();
    assert_eq!(story.tell(Fact::Tick), actions);
    assert_eq!(story.tell(Fact::DeleteAnswered(DeleteAnswer::Accepted)), vec![]);
    assert_eq!(story.tell(Fact::PodDeleted(PodUid("u1".into()))), vec![Action::GetPod]);
    story.tell(Fact::GetAnswered(GetAnswer::Gone));
    let row = queued(&story);
    let actions = story.judged(row);
    let [Action::Save(LaunchChange::Relaunch { why, .. })] = &actions[..] else { panic!("{actions:?}") };
    assert!(
        why.starts_with(
            "NoBranchInterface: the pod got no branch network interface within 150 s of its binding"
        ) && why.contains("last said: BranchAllocationFailed: failed to allocate"),
        "{why}"
    );
}

#[test]
fn one_that_moved_is_judged_anew_and_one_that_got_its_interface_goes_on() {
    let mut story = waiting();
    story.now = story.launch.wake_at(&story.policy).unwrap();
    story.tell(Fact::Tick);
    assert_eq!(story.tell(Fact::DeleteAnswered(DeleteAnswer::Moved)), vec![Action::GetPod]);
    let attached = Box::new(bound(&story.launch, Branch::Attached));
    assert_eq!(story.tell(Fact::GetAnswered(GetAnswer::Found(Some(attached)))), vec![]);
    assert_eq!(alive(&story).doom, None);
    assert_eq!(story.launch.wake_at(&story.policy), None);
}

#[test]
fn one_that_runs_with_its_nodes_groups_is_stopped_at_once_and_fails_with_the_reason() {
    let mut story = waiting();
    story.policy.attempts_max = 1;
    let why = "it runs with its node's security groups: its address is 10.0.0.1, and that is none of its own";
    let bypassed = PodView {
        worker: ContainerState::Running,
        phase: PodPhase::Running,
        ..bound(&story.launch, Branch::Bypassed { why: why.into() })
    };
    let actions = story.shows(bypassed.clone());
    assert!(
        actions.iter().any(|a| matches!(a, Action::DeletePod { resource_version: None, .. })),
        "{actions:?}"
    );
    assert!(
        !story.shows(bypassed.clone()).iter().any(|a| matches!(a, Action::DeletePod { .. })),
        "asked for once"
    );
    let ended = ContainerState::Terminated { exit_code: 143, reason: "Error".into(), message: String::new() };
    story.shows(PodView { deleting: true, worker: ended, ..bypassed });
    let Stage::Judging { end: PodEnd::Failed { reason, message, exit_code, .. }, .. } = &story.launch.stage
    else {
        panic!("{:?}", story.launch.stage)
    };
    assert_eq!((*reason, message.as_str(), *exit_code), (Reason::IdentityMissing, why, Some(143)));
}

#[test]
fn a_warning_that_no_policy_matches_any_more_dooms_it_before_it_starts() {
    let mut story = waiting();
    let said = "Pod will get the instance security group as the pod didn't match any Security Group";
    let warning = note(&story, "SecurityGroupRequested", said);
    let actions = story.tell(warning);
    assert!(matches!(&actions[..], [Action::DeletePod { .. }]), "{actions:?}");
    assert!(alive(&story).doom.as_ref().unwrap().why.starts_with("it gets its node's security groups"));
    // Of a pod whose rule demands none, it is not our business.
    let mut other = Story::claimed();
    other.tell(Fact::Turn);
    let plain = Box::new(view(&other.launch));
    other.tell(Fact::CreateAnswered(CreateAnswer::Created(plain)));
    let warning = note(&other, "SecurityGroupRequested", said);
    assert_eq!(other.tell(warning), vec![]);
}

#[test]
fn what_is_not_there_yet_is_waited_for_and_fails_when_it_stays_so() {
    let mut story = Story::claimed();
    let answer = || {
        let why = "no SecurityGroupPolicy of namespace etl matches it".to_owned();
        Fact::CreateAnswered(CreateAnswer::NotYet { reason: Reason::IdentityMissing, why })
    };
    for _ in 0..story.policy.unfit_attempts_max {
        let Stage::Ready { not_before, .. } = story.launch.stage else { panic!("{:?}", story.launch.stage) };
        story.now = story.now.max(not_before);
        story.tell(Fact::Turn);
        story.tell(Fact::GetAnswered(GetAnswer::Gone));
        story.tell(Fact::SpecRead(Some(queued_task().spec)));
        assert_eq!(story.tell(answer()), vec![]);
    }
    let Stage::Ready { not_before, .. } = story.launch.stage else { panic!("{:?}", story.launch.stage) };
    story.now = not_before;
    story.tell(Fact::Turn);
    story.tell(Fact::GetAnswered(GetAnswer::Gone));
    story.tell(Fact::SpecRead(Some(queued_task().spec)));
    let actions = story.tell(answer());
    let [Action::Save(LaunchChange::Settle { outcome })] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(outcome.reason, Some(Reason::IdentityMissing));
}

#[test]
fn a_turn_that_is_taken_back_is_had_again_with_nothing_lost() {
    let mut story = Story::claimed();
    story.launch.read_before_create();
    story.tell(Fact::Turn);
    let pool = crate::task::BranchPool("pool=fin".into());
    assert_eq!(story.tell(Fact::TurnBack(pool.clone())), vec![]);
    assert_eq!(story.launch.branches, Some(pool));
    assert!(matches!(story.launch.stage, Stage::Ready { untried: true, spec: None, .. }));
    assert_eq!(story.tell(Fact::Turn), vec![Action::ReadSpec]);
}
