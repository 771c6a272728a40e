//! The term: trust in it, its end, the hand-over.

use super::*;

#[test]
fn a_fenced_write_ends_the_term_and_everything_in_memory() {
    let mut world = World::leading();
    world.hand_over(vec![task("a", "ns", 1, 1)]);
    let command = world.take("claim");
    world.input(Input::Answer { id: command.id, answer: Answer::Claimed(Ok(None)) });
    let report = world.engine.report(world.now);
    assert!(!report.leading && report.stages.is_empty());
    assert_eq!(world.count("unwatch"), 1);
}

#[test]
fn trust_in_the_term_ends_before_the_lease_does() {
    let mut world = World::leading();
    let settings = Settings::default();
    world.hand_over(vec![task("a", "ns", 1, 1)]);
    world.now = world.now.plus(settings.lease_ms - settings.margin_ms);
    let before = world.count("create");
    world.claim_all();
    assert_eq!(world.count("create"), before, "the renewal was not answered: no create may begin");
    assert!(!world.engine.report(world.now).leading);
}

#[test]
fn no_create_begins_that_the_term_does_not_cover() {
    let mut world = World::leading();
    let (settings, policy) = (Settings::default(), Policy::default());
    world.hand_over(vec![task("a", "ns", 1, 1)]);
    world.now = world.now.plus(settings.lease_ms - settings.margin_ms - policy.create_ms);
    world.claim_all();
    assert_eq!(world.count("create"), 0);
    world.answer("renew", Answer::Term(TermAnswer::Held { epoch: Epoch(1) }));
    assert_eq!(world.count("create"), 1);
}

#[test]
fn a_stop_finishes_what_is_under_way_and_hands_over_at_once() {
    let mut world = World::leading();
    let one = task("a", "ns", 1, 1);
    world.hand_over(vec![one.clone()]);
    world.claim_all();
    world.input(Input::Stop);
    assert_eq!(world.count("release"), 0, "a create is under way");
    world.answer("create", Answer::Created(CreateAnswer::Created(pod(&one, "u1"))));
    world.answer("save", Answer::Saved(SaveAnswer::Saved { refused: vec![] }));
    world.answer("release", Answer::Term(TermAnswer::Released));
    assert_eq!(world.count("exit"), 1);
}

#[test]
fn a_term_is_not_released_over_a_create_that_trusts_in_it() {
    // Found by the simulator (seed 66483): a create was sent after another daemon had the term.
    let mut world = World::leading();
    let (older, newer) = (task("a", "ns", 1, 1), task("a", "ns", 1, 2));
    world.hand_over(vec![task("b", "ns", 1, 1), older.clone()]);
    world.claim_all();
    let refused = CreateAnswer::Refused { reason: Reason::PodRejected, message: "no image".into() };
    let first = world.take("create");
    world.answer("create", Answer::Created(refused));
    world.hand_over(vec![newer.clone()]);
    world.claim_all();
    world.input(Input::Stop);
    // The row was being read when the stop came: no create follows any more.
    while world.count("read specs") > 0 {
        world.answer("read specs", Answer::Specs(Ok(vec![(newer.launch.clone(), Some(newer.spec.clone()))])));
    }
    assert_eq!(world.created(), Vec::<String>::new());
    while world.count("save") > 0 {
        world.answer("save", Answer::Saved(SaveAnswer::Saved { refused: vec![] }));
    }
    renewed(&mut world, Settings::default().drain_ms);
    assert_eq!(world.count("release"), 0, "the first create is still under way");
    assert!(world.engine.next_wake(world.now) > world.now.plus(100), "only its answer can change that");
    let unknown = CreateAnswer::Unknown { error: "no answer".into() };
    world.input(Input::Answer { id: first.id, answer: Answer::Created(unknown) });
    assert_eq!(world.count("release"), 1);
}

#[test]
fn a_standby_that_is_stopped_exits_at_once() {
    let mut world = World::new();
    world.input(Input::Tick);
    world.answer("acquire", Answer::Term(TermAnswer::HeldByOther { holder: "b".into() }));
    world.input(Input::Stop);
    assert_eq!(world.count("exit"), 1);
}

#[test]
fn a_stopping_daemon_asks_a_database_that_is_away_now_and_then() {
    // Found by the simulator: each turn asked again for the release, and each answer was a turn.
    let mut world = World::leading();
    world.input(Input::Stop);
    for _ in 0..100 {
        world.now = world.now.plus(10);
        world.input(Input::Tick);
    }
    assert_eq!(world.count("release"), 1, "the first has not been answered");
    world.answer("release", Answer::Term(TermAnswer::Failed { error: "away".into() }));
    assert_eq!(world.count("release"), 0);
    assert!(turns(&mut world, 1_000) < 20);
    world.answer("release", Answer::Term(TermAnswer::Released));
    assert_eq!(world.count("exit"), 1);
}
