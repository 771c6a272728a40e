//! The simulator as a test: seeds that hold, the same seed twice, and planted faults that do not go unseen.

use windlass_sim::{Cut, Plant, Play, catch, replay_command, run, search, shrink, story};

/// Seeds of a plain `cargo test`; `cargo xtask test sim` plays thousands more with the binary.
const SEEDS: u64 = 3_000;

fn jobs() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

#[test]
fn every_invariant_holds_in_every_seed() {
    let found = search(&Play::seed(1), SEEDS, jobs(), 1);
    if let Some(run) = found.broken.first() {
        let least = shrink(&Play::seed(run.seed));
        panic!("seed {}: {}\nreplay: {}", run.seed, story(&least, false), replay_command(&least));
    }
    assert_eq!(found.runs, SEEDS);
    // The world is not asleep: tasks run in every seed, more often than not several times.
    assert!(found.bodies > 2 * SEEDS && found.launches > found.bodies, "{found:?}");
    // Workers start late enough to find their row in every state that Airflow 2.x has for it.
    let all = [
        "none",
        "scheduled",
        "queued",
        "running",
        "restarting",
        "success",
        "failed",
        "up_for_retry",
        "up_for_reschedule",
        "deferred",
    ];
    for state in all {
        assert!(found.looks.get(state).is_some_and(|times| *times >= 1), "{state}: {:?}", found.looks);
    }
}

#[test]
fn the_same_seed_tells_the_same_story_byte_by_byte() {
    for seed in 1..=40 {
        let play = Play::seed(seed);
        assert_eq!(story(&play, true), story(&play, true), "seed {seed}");
        // Telling the story changes nothing in it.
        assert_eq!(run(&play, true).fingerprint, run(&play, false).fingerprint, "seed {seed}");
    }
    assert_ne!(run(&Play::seed(1), false).fingerprint, run(&Play::seed(2), false).fingerprint);
}

/// The seeds within which each planted fault must be caught, and by which checkers: several times what it takes today
/// (`windlass-sim --plants`), so that a small change of the world does not fail the test and a blind checker does.
const CAUGHT: [(Plant, u64, &[&str]); 24] = [
    (Plant::SkipClaim, 20, &["I3"]),
    (Plant::SettleAfterDelete, 100, &["I3"]),
    (Plant::NoFencing, 300, &["I4"]),
    (Plant::FenceBySnapshot, 1_000, &["I4"]),
    (Plant::RandomPodNames, 100, &["I1", "I11", "I2"]),
    (Plant::IgnorePreconditions, 300, &["I3", "I11"]),
    (Plant::ClientRetry, 300, &["I1", "I11"]),
    (Plant::StaleGet, 1_000, &["I1", "I11", "I6", "I2"]),
    (Plant::NoBarrier, 1_000, &["I1", "I11", "I6", "I2"]),
    (Plant::NoReread, 8_000, &["I1", "I11"]),
    (Plant::TermNotChecked, 300, &["I4"]),
    (Plant::DeliverByTry, 5_000, &["I6"]),
    (Plant::EndOfAnyPod, 3_000, &["I11", "I6", "I1"]),
    (Plant::DeliverOnce, 300, &["I3"]),
    (Plant::CallbackAgain, 300, &["I3"]),
    (Plant::NoFullPass, 300, &["I2"]),
    (Plant::SilentWatch, 300, &["I2", "I11", "I1"]),
    (Plant::LaunchIdByTry, 100, &["I2", "I3", "I5", "I11", "I6"]),
    (Plant::NoteUnguarded, 500, &["I5"]),
    (Plant::OutcomeReplaced, 8_000, &["I2"]),
    (Plant::CallbackTooEarly, 20_000, &["I6"]),
    (Plant::NoRecovery, 1_000, &["I2", "I11"]),
    (Plant::GateUnchecked, 200, &["I7"]),
    (Plant::NoSleep, 20, &["I10"]),
];

/// Where people read what catches what.
const TABLE: &str = include_str!("../README.md");

#[test]
fn each_planted_fault_is_caught_by_a_checker_that_is_to_see_it() {
    let listed: Vec<Plant> = CAUGHT.iter().map(|(plant, ..)| *plant).collect();
    assert_eq!(listed, Plant::ALL);
    for (plant, seeds, invariants) in CAUGHT {
        let broken = catch(plant, seeds, jobs()).and_then(|run| run.broken);
        let broken = broken.unwrap_or_else(|| panic!("{plant:?} is not caught in {seeds} seeds"));
        assert!(invariants.contains(&broken.invariant), "{plant:?}: {broken}");
        let row = format!("| `{plant}` | {} |", broken.invariant);
        assert!(TABLE.contains(&row), "tests/sim/README.md lacks `{row}`: see `windlass-sim --plants`");
    }
}

#[test]
fn a_broken_seed_is_reported_with_its_rule_its_time_its_task_and_how_to_see_it_again() {
    let play = Play::seed(1).plant(Some(Plant::SkipClaim));
    let broken = run(&play, false).broken.expect("caught at once");
    assert_eq!(
        broken.to_string(),
        format!("I3 broken at {} ms: a create begins and no claim is committed", broken.at)
    );
    let mut cut = Play::seed(7);
    assert_eq!(replay_command(&cut), "cargo xtask sim --first-seed 7 --seeds 1 --trace");
    cut.cut.without = ["crash", "pause"].map(str::to_owned).into();
    cut.cut.tasks = Some(2);
    assert_eq!(
        replay_command(&cut),
        "cargo xtask sim --first-seed 7 --seeds 1 --tasks 2 --without crash,pause --trace"
    );
    let told = story(&play, false);
    let task = broken.task.expect("of a task");
    assert!(told.ends_with(&format!("{broken}\n")), "{told}");
    let of_others =
        told.lines().filter(|line| line.contains(" task ") && !line.contains(&format!("task {task}:")));
    assert_eq!(of_others.count(), 0, "{told}");
}

#[test]
fn the_shortest_run_breaks_the_same_rule_with_less() {
    let run_of = |play: &Play| run(play, false);
    let first = catch(Plant::NoBarrier, 1_000, jobs()).expect("caught");
    let play = Play::seed(first.seed).plant(Some(Plant::NoBarrier));
    let least = shrink(&play);
    let (before, after) = (run_of(&play), run_of(&least));
    assert_eq!(before.broken.map(|broken| broken.invariant), after.broken.map(|broken| broken.invariant));
    assert!(least.cut.without.len() > Cut::names().len() / 2, "{least}");
    assert_eq!(least, shrink(&play), "the same each time");
    assert_eq!(least, shrink(&least), "nothing more can be left out");
}
