//! A database that lost its last commits in a failover.

use super::*;

#[test]
fn a_term_after_a_loss_creates_nothing_before_pods_have_their_launches_again() {
    let mut world = World::new();
    world.input(Input::Tick);
    world.answer("acquire", Answer::Term(TermAnswer::HeldAfterLoss { epoch: Epoch(1_001) }));
    // A leader of before may trust in a renewal that was lost, and its last create may land after that.
    let policy = Policy::default();
    let settings = Settings::default();
    renewed(&mut world, settings.lease_ms + policy.landing_ms() - 100);
    world.input(Input::Woken);
    assert_eq!((world.count("recover"), world.count("load"), world.count("full")), (0, 0, 0));
    renewed(&mut world, 200);
    world.answer("recover", Answer::Recovered(Err("no answer".into())));
    renewed(&mut world, settings.retry_ms);
    let (lost, next) = (task("a", "ns", 1, 1), task("a", "ns", 1, 2));
    world.answer("recover", Answer::Recovered(Ok(Some((1, vec![row(&lost, StoredStage::Created)])))));
    assert_eq!((world.count("watch"), world.engine.report(world.now).counters.recovered), (1, 1));
    // Its next queueing is barred by the pod that the database had forgotten.
    world.answer("full", Answer::Intake(Ok(vec![next])));
    world.claim_all();
    assert_eq!(world.created(), Vec::<String>::new());
}

#[test]
fn a_clock_that_jumps_does_not_shorten_the_wait_before_it() {
    let mut world = World::new();
    world.input(Input::Tick);
    world.answer("acquire", Answer::Term(TermAnswer::HeldAfterLoss { epoch: Epoch(1_001) }));
    let whole = Settings::default().lease_ms + Policy::default().landing_ms();
    renewed(&mut world, 1_000);
    world.now = world.now.plus(3_500);
    renewed(&mut world, whole - 2_000);
    assert_eq!(world.count("recover"), 0);
    renewed(&mut world, 1_100);
    assert_eq!(world.count("recover"), 1, "{:?}", world.names());
}

#[test]
fn a_row_that_is_gone_makes_the_term_begin_anew() {
    let mut world = World::leading();
    let lost = task("a", "ns", 1, 1);
    world.hand_over(vec![lost.clone()]);
    world.claim_all();
    world.answer("create", Answer::Created(CreateAnswer::Created(pod(&lost, "u1"))));
    let refused = vec![(lost.launch.clone(), None)];
    world.answer("save", Answer::Saved(SaveAnswer::Saved { refused }));
    assert_eq!(world.engine.launches().count(), 0);
    world.now = world.now.plus(Settings::default().standby_ms);
    world.input(Input::Tick);
    assert_eq!(world.count("acquire"), 1, "{:?}", world.names());
}
