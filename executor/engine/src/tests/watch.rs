//! What the watches tell while nobody owns the pod here.

use windlass_core::cluster::PodNote;

use super::*;

fn warning(uid: &str) -> Input {
    Input::Noted(PodNote {
        pod: task("a", "ns", 1, 1).pod,
        uid: PodUid(uid.into()),
        reason: "SecurityGroupRequested".into(),
        message: "Pod will get the instance security group".into(),
    })
}

fn running(task: &QueuedTask) -> Input {
    let view = PodView {
        bound: true,
        phase: PodPhase::Running,
        worker: ContainerState::Running,
        branch: Branch::Attached,
        ..*pod(task, "u1")
    };
    Input::Pod(PodEvent::Seen(Box::new(view)))
}

#[test]
fn a_warning_that_a_standby_heard_counts_when_it_leads() {
    let mut world = World::new();
    world.input(Input::Tick);
    world.input(warning("u1"));
    world.answer("acquire", Answer::Term(TermAnswer::Held { epoch: Epoch(1) }));
    let of = task("a", "ns", 1, 1);
    world.answer("load", Answer::Loaded(Ok(Some(vec![row(&of, StoredStage::Created)]))));
    assert_eq!(world.count("delete"), 0);
    world.input(running(&of));
    assert_eq!(world.count("delete"), 1, "it runs with its node's groups: {:?}", world.names());
    // Another pod's warning is not its.
    let mut world = World::new();
    world.input(Input::Tick);
    world.input(warning("u2"));
    world.answer("acquire", Answer::Term(TermAnswer::Held { epoch: Epoch(1) }));
    world.answer("load", Answer::Loaded(Ok(Some(vec![row(&of, StoredStage::Created)]))));
    world.input(running(&of));
    assert_eq!(world.count("delete"), 0);
}

#[test]
fn warnings_of_pods_that_nobody_owns_are_bounded() {
    let mut world = World::leading();
    for number in 0..5_000 {
        world.input(warning(&format!("of-others-{number}")));
    }
    let of = task("a", "ns", 1, 1);
    world.hand_over(vec![of.clone()]);
    world.claim_all();
    // Before the answer to the create.
    world.input(warning("u1"));
    let made = PodView { branch: Branch::Awaited, ..*pod(&of, "u1") };
    world.answer("create", Answer::Created(CreateAnswer::Created(Box::new(made))));
    world.input(running(&of));
    assert_eq!(world.count("delete"), 1);
    assert!(world.engine.warned.len() <= 1_024);
}
