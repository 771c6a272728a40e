//! The simulator as a test: seeds that hold, the same seed twice, and planted faults that do not go unseen.

use windlass_sim::{Plant, catch, replay_command, run, search, story};

/// Seeds of a plain `cargo test`; `cargo xtask test sim` plays thousands more with the binary.
const SEEDS: u64 = 1_500;

fn jobs() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

#[test]
fn every_invariant_holds_in_every_seed() {
    let found = search(1, SEEDS, jobs(), 1, None);
    if let Some(run) = found.broken.first() {
        panic!("{}\nreplay: {}", story(run.seed, None, false), replay_command(run.seed));
    }
    assert_eq!(found.runs, SEEDS);
    // The world is not asleep: tasks run in every seed, more often than not several times.
    assert!(found.bodies > 2 * SEEDS && found.launches > found.bodies, "{found:?}");
}

#[test]
fn the_same_seed_tells_the_same_story_byte_by_byte() {
    for seed in 1..=40 {
        assert_eq!(story(seed, None, true), story(seed, None, true), "seed {seed}");
        // Telling the story changes nothing in it.
        assert_eq!(run(seed, None, true).fingerprint, run(seed, None, false).fingerprint, "seed {seed}");
    }
    assert_ne!(run(1, None, false).fingerprint, run(2, None, false).fingerprint);
}

/// The seeds within which each planted fault must be caught, and by which checkers: several times what it takes today
/// (`windlass-sim --plants`), so that a small change of the world does not fail the test and a blind checker does.
const CAUGHT: [(Plant, u64, &[&str]); 18] = [
    (Plant::SkipClaim, 20, &["I3"]),
    (Plant::AnswerBeforeCommit, 50, &["I3"]),
    (Plant::NoFencing, 300, &["I4"]),
    (Plant::FenceBySnapshot, 1_000, &["I4"]),
    (Plant::RandomPodNames, 100, &["I1", "I11"]),
    (Plant::IgnorePreconditions, 300, &["I3", "I11"]),
    (Plant::ClientRetry, 300, &["I1", "I11"]),
    (Plant::StaleGet, 1_000, &["I1", "I11", "I6", "I2"]),
    (Plant::NoBarrier, 1_000, &["I1", "I11", "I6", "I2"]),
    (Plant::NoReread, 8_000, &["I1", "I11"]),
    (Plant::TermNotChecked, 300, &["I4"]),
    (Plant::DeliverByTry, 5_000, &["I6"]),
    (Plant::EndOfAnyPod, 3_000, &["I11", "I6", "I1"]),
    (Plant::DeliverOnce, 300, &["I2"]),
    (Plant::CallbackAgain, 300, &["I3"]),
    (Plant::NoFullPass, 300, &["I2"]),
    (Plant::SilentWatch, 100, &["I2", "I11", "I1"]),
    (Plant::LaunchIdByTry, 50, &["I2", "I3", "I11", "I6"]),
];

#[test]
fn each_planted_fault_is_caught_by_a_checker_that_is_to_see_it() {
    let listed: Vec<Plant> = CAUGHT.iter().map(|(plant, ..)| *plant).collect();
    assert_eq!(listed, Plant::ALL);
    for (plant, seeds, invariants) in CAUGHT {
        let broken = catch(plant, seeds, jobs()).and_then(|run| run.broken);
        let broken = broken.unwrap_or_else(|| panic!("{plant:?} is not caught in {seeds} seeds"));
        assert!(invariants.contains(&broken.invariant), "{plant:?}: {broken}");
    }
}

#[test]
fn a_broken_seed_is_reported_with_its_rule_its_time_its_task_and_how_to_see_it_again() {
    let broken = run(1, Some(Plant::SkipClaim), false).broken.expect("caught at once");
    assert_eq!(
        broken.to_string(),
        format!("I3 broken at {} ms: a create begins and no claim is committed", broken.at)
    );
    assert_eq!(replay_command(7), "cargo xtask sim --first-seed 7 --seeds 1 --trace");
    let told = story(1, Some(Plant::SkipClaim), false);
    let task = broken.task.expect("of a task");
    assert!(told.ends_with(&format!("{broken}\n")), "{told}");
    let of_others =
        told.lines().filter(|line| line.contains(" task ") && !line.contains(&format!("task {task}:")));
    assert_eq!(of_others.count(), 0, "{told}");
}
