//! One body of a key at a time (I11): older launches, late answers, creates that may still land.

use super::*;

#[test]
fn a_newer_queueing_waits_until_the_older_pod_cannot_start_any_more() {
    let mut world = World::leading();
    let (older, newer) = (task("a", "ns", 1, 1), task("a", "ns", 1, 2));
    world.hand_over(vec![older.clone()]);
    world.claim_all();
    world.answer("create", Answer::Created(CreateAnswer::Created(pod(&older, "u1"))));
    world.hand_over(vec![newer.clone()]);
    world.claim_all();
    assert_eq!(world.created(), Vec::<String>::new(), "barrier I11");
    // The older one's row is read again at once: it is queued anew, so the older launch is withdrawn.
    let row = TaskRow {
        state: TaskState::Queued,
        try_number: 1,
        queued_at: Some(UtcMicros(2)),
        hostname: None,
        worker_alive: None,
    };
    let view = TaskView { launch: older.launch.clone(), row: Some(row), withdrawn: false };
    world.answer("read tasks", Answer::Tasks(Ok(vec![view])));
    while world.count("save") > 0 {
        world.answer("save", Answer::Saved(SaveAnswer::Saved { refused: vec![] }));
    }
    assert_eq!(world.created(), Vec::<String>::new(), "its pod may still start");
    world.answer("delete", Answer::Deleted(windlass_core::cluster::DeleteAnswer::Gone));
    // It has waited: what the intake read is old.
    assert_eq!(world.created(), Vec::<String>::new(), "its row is read again first");
    world.answer("read specs", Answer::Specs(Ok(vec![(newer.launch, Some(newer.spec))])));
    assert_eq!(world.created(), ["a"]);
}

#[test]
fn a_row_read_before_an_older_pod_took_its_task_is_read_again() {
    // Found by the simulator (seed 42533): the older pod ran the newer try, and the newer pod ran it again.
    let mut world = World::leading();
    let (older, newer) = (task("a", "ns", 1, 1), task("a", "ns", 1, 2));
    world.hand_over(vec![older.clone()]);
    world.claim_all();
    let running = PodView {
        phase: PodPhase::Running,
        worker: ContainerState::Running,
        pod: older.pod.clone(),
        ..*pod(&older, "u1")
    };
    world.answer("create", Answer::Created(CreateAnswer::Created(Box::new(running))));
    world.hand_over(vec![newer.clone()]);
    // Before the claim is answered the older pod's worker takes the task: it bars nobody any more.
    let row = TaskRow {
        state: TaskState::Running,
        try_number: 1,
        queued_at: Some(UtcMicros(2)),
        hostname: Some(older.pod.name.clone()),
        worker_alive: Some(true),
    };
    let view = TaskView { launch: older.launch, row: Some(row), withdrawn: false };
    world.answer("read tasks", Answer::Tasks(Ok(vec![view])));
    world.claim_all();
    assert_eq!(world.created(), Vec::<String>::new());
    world.answer("read specs", Answer::Specs(Ok(vec![(newer.launch, None)])));
    assert_eq!(world.created(), Vec::<String>::new(), "the row is not queued any more");
}

#[test]
fn a_launch_that_was_closed_while_the_intake_read_is_no_proof_either() {
    let mut world = World::leading();
    let (older, newer) = (task("a", "ns", 1, 1), task("a", "ns", 1, 2));
    world.hand_over(vec![older.clone()]);
    world.claim_all();
    world.input(Input::Woken);
    let refused = CreateAnswer::Refused { reason: Reason::PodRejected, message: "no image".into() };
    world.answer("create", Answer::Created(refused));
    while world.count("save") > 0 {
        world.answer("save", Answer::Saved(SaveAnswer::Saved { refused: vec![] }));
    }
    assert_eq!(world.engine.launches().count(), 0, "nothing is left of the older one");
    world.answer("handover", Answer::Intake(Ok(vec![newer.clone()])));
    world.claim_all();
    assert_eq!(world.created(), Vec::<String>::new());
    world.answer("read specs", Answer::Specs(Ok(vec![(newer.launch, Some(newer.spec))])));
    assert_eq!(world.created(), ["a"]);
}

/// A launch whose first create was not answered and was given up, and whose second is under way; the first command.
fn created_twice(world: &mut World) -> Command {
    let policy = Policy::default();
    world.hand_over(vec![task("a", "ns", 1, 1)]);
    world.claim_all();
    let first = world.take("create");
    for ms in [policy.create_ms + policy.answer_ms, policy.landing_ms() + policy.backoff_ms, 1] {
        renewed(world, ms);
    }
    world.answer("get", Answer::Got(windlass_core::cluster::GetAnswer::Gone));
    let spec = task("a", "ns", 1, 1);
    world.answer("read specs", Answer::Specs(Ok(vec![(spec.launch, Some(spec.spec))])));
    assert_eq!(world.count("create"), 1, "{:?}", world.names());
    first
}

#[test]
fn the_late_answer_to_a_create_that_was_given_up_is_not_taken_for_the_next_ones() {
    let mut world = World::leading();
    let first = created_twice(&mut world);
    let reason = windlass_core::outcome::Reason::PodRejected;
    let refused = CreateAnswer::Refused { reason, message: "a webhook".into() };
    world.input(Input::Answer { id: first.id, answer: Answer::Created(refused) });
    // The second may be creating the pod just now: nothing is settled.
    assert_eq!(world.count("save"), 0, "{:?}", world.names());
    assert_eq!(world.engine.report(world.now).stages.get("creating"), Some(&1));
}

#[test]
fn the_late_answer_of_an_earlier_attempt_is_not_taken_for_this_one() {
    // Found by the simulator (seed 1414): attempt 2 was stored with the pod of attempt 1, and waited for it for ever.
    let mut world = World::leading();
    let of = task("a", "ns", 1, 1);
    world.hand_over(vec![of.clone()]);
    world.claim_all();
    let first = world.take("create");
    let evicted = PodView { phase: PodPhase::Failed, status_reason: "Evicted".into(), ..*pod(&of, "u1") };
    renewed(&mut world, Policy::default().create_ms + Policy::default().answer_ms);
    world.input(Input::Pod(PodEvent::Seen(Box::new(evicted.clone()))));
    renewed(&mut world, Policy::default().landing_ms() + 500);
    let got = windlass_core::cluster::GetAnswer::Found(Some(Box::new(evicted)));
    for _ in 0..world.count("get") {
        world.answer("get", Answer::Got(got.clone()));
    }
    let row = TaskRow {
        state: TaskState::Queued,
        try_number: 1,
        queued_at: Some(UtcMicros(1)),
        hostname: None,
        worker_alive: None,
    };
    let view = TaskView { launch: of.launch.clone(), row: Some(row), withdrawn: false };
    for _ in 0..world.count("read tasks") {
        world.answer("read tasks", Answer::Tasks(Ok(vec![view.clone()])));
    }
    while world.count("save") > 0 {
        world.answer("save", Answer::Saved(SaveAnswer::Saved { refused: vec![] }));
    }
    assert_eq!(world.engine.launches().next().map(|launch| launch.attempt), Some(Attempt(2)));
    world.input(Input::Answer {
        id: first.id,
        answer: Answer::Created(CreateAnswer::Created(pod(&of, "u1"))),
    });
    assert_eq!(world.engine.launches().next().and_then(|launch| launch.uid()), None);
}

#[test]
fn a_clock_that_jumps_does_not_end_the_wait_for_a_create_that_may_land() {
    // Found by the simulator (seed 1451): the pod landed beside that of the next queueing.
    let mut world = World::leading();
    world.hand_over(vec![task("a", "ns", 1, 1)]);
    world.claim_all();
    let unknown = CreateAnswer::Unknown { error: "no answer".into() };
    world.answer("create", Answer::Created(unknown));
    let gone = || Answer::Got(windlass_core::cluster::GetAnswer::Gone);
    for _jump in 0..2 {
        world.now = world.now.plus(Policy::default().landing_ms() + 1);
        world.input(Input::Tick);
        world.answer("renew", Answer::Term(TermAnswer::Held { epoch: Epoch(1) }));
        if world.count("get") > 0 {
            world.answer("get", gone());
        }
        assert_eq!(world.count("read specs"), 0, "it may land: {:?}", world.names());
    }
    renewed(&mut world, Policy::default().landing_ms() + Policy::default().answer_ms);
    world.answer("get", gone());
    assert_eq!(world.count("read specs"), 1, "{:?}", world.names());
}

#[test]
fn the_late_answer_to_a_create_is_not_taken_for_the_pod_that_there_is_now() {
    // Found by the simulator (seed 273889): the launch went back to the pod that had gone, and was closed over the other.
    let mut world = World::leading();
    let of = task("a", "ns", 1, 1);
    let first = created_twice(&mut world);
    world.answer("create", Answer::Created(CreateAnswer::Created(pod(&of, "u2"))));
    let late = Answer::Created(CreateAnswer::Created(pod(&of, "u1")));
    world.input(Input::Answer { id: first.id, answer: late });
    let uid = world.engine.launches().next().and_then(|launch| launch.uid().cloned());
    assert_eq!(uid, Some(PodUid("u2".into())));
    assert_eq!(world.count("get"), 1, "a GET tells which of them there is: {:?}", world.names());
}
