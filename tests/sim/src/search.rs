//! Many seeds on several threads, and what to show of the first that breaks something.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::{Plant, Play, Run, run};

/// What a search came to.
#[derive(Debug, Default)]
pub struct Found {
    /// Runs played.
    pub runs: u64,
    /// Events of all runs.
    pub events: u64,
    /// Bodies of all runs.
    pub bodies: u64,
    /// Launches of all runs.
    pub launches: u64,
    /// Starting workers of all runs, by the state in which they found their row.
    pub looks: BTreeMap<String, u64>,
    /// Those that broke something, by seed.
    pub broken: Vec<Run>,
}

/// Plays `count` seeds from that of `play` on, on `jobs` threads. Stops after `enough` broken runs.
pub fn search(play: &Play, count: u64, jobs: usize, enough: usize) -> Found {
    let first = play.seed;
    let next = AtomicU64::new(first);
    let stop = AtomicBool::new(false);
    let found = Mutex::new(Found::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                let mut mine = Found::default();
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first.saturating_add(count) {
                        break;
                    }
                    let run = run(&Play { seed, ..play.clone() }, false);
                    mine.runs += 1;
                    mine.events += run.events;
                    mine.bodies += run.bodies;
                    mine.launches += run.launches;
                    add(&mut mine.looks, &run.looks);
                    if run.broken.is_some() {
                        mine.broken.push(run);
                        if mine.broken.len() >= enough {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                }
                let mut all = found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                all.runs += mine.runs;
                all.events += mine.events;
                all.bodies += mine.bodies;
                all.launches += mine.launches;
                add(&mut all.looks, &mine.looks);
                all.broken.append(&mut mine.broken);
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    found.broken.sort_by_key(|run| run.seed);
    found
}

fn add(all: &mut BTreeMap<String, u64>, some: &BTreeMap<String, u64>) {
    for (name, count) in some {
        *all.entry(name.clone()).or_default() += count;
    }
}

/// The first run, from seed 1, in which a checker catches a planted fault; none within `seeds`: None.
pub fn catch(plant: Plant, seeds: u64, jobs: usize) -> Option<Run> {
    // In steps, so that a fault that is caught at once costs little.
    let mut first = 1;
    while first <= seeds {
        let count = first.max(jobs as u64).min(seeds + 1 - first);
        let found = search(&Play::seed(first).plant(Some(plant)), count, jobs, usize::MAX);
        if let Some(run) = found.broken.into_iter().next() {
            return Some(run);
        }
        first += count;
    }
    None
}

/// The command that plays a run again.
pub fn replay_command(play: &Play) -> String {
    format!("cargo xtask sim {play} --trace")
}

/// The story of one run. Without `all`: of the task concerned alone, and only what changed something.
pub fn story(play: &Play, all: bool) -> String {
    let run = run(play, true);
    let task = run.broken.as_ref().and_then(|broken| broken.task);
    let concerns = |line: &&crate::Line| match (all, line.task) {
        (true, _) => true,
        (false, None) => !line.text.contains("<-") && !line.text.starts_with("database:"),
        (false, of) => task.is_none() || of == task,
    };
    let mut text: String = run.trace.iter().filter(concerns).map(|line| format!("{line}\n")).collect();
    if let Some(broken) = &run.broken {
        text.push_str(&format!("{broken}\n"));
    }
    text
}
