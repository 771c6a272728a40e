//! The shortest story: leaves out of a broken run what it does not need to break the same rule.

use crate::Run;
use crate::play::{Cut, Play};
use crate::run;

/// What breaks the rule that `play` breaks, with as few faults, tasks, daemons and schedulers as one pass after the
/// other can find. The same for each call; `play` itself where nothing can be left out, or nothing is broken.
pub fn shrink(play: &Play) -> Play {
    let Some(rule) = broken_rule(&run(play, false)) else { return play.clone() };
    let breaks = |smaller: &Play| broken_rule(&run(smaller, false)) == Some(rule);
    let mut best = play.clone();
    loop {
        let before = best.clone();
        for smaller in people(&best).into_iter().chain(halves(&best)) {
            if breaks(&smaller) {
                best = smaller;
                break;
            }
        }
        for name in Cut::names() {
            let mut smaller = best.clone();
            if smaller.cut.without.insert((*name).to_owned()) && breaks(&smaller) {
                best = smaller;
            }
        }
        if best == before {
            return best;
        }
    }
}

fn broken_rule(run: &Run) -> Option<&'static str> {
    run.broken.as_ref().map(|broken| broken.invariant)
}

/// With fewer people; the fewest first.
fn people(play: &Play) -> Vec<Play> {
    let mut all = Vec::new();
    for tasks in 1..play.cut.tasks.unwrap_or(6) {
        all.push(Play { cut: Cut { tasks: Some(tasks), ..play.cut.clone() }, ..play.clone() });
    }
    for daemons in 1..play.cut.daemons.unwrap_or(3) {
        all.push(Play { cut: Cut { daemons: Some(daemons), ..play.cut.clone() }, ..play.clone() });
    }
    if play.cut.schedulers.is_none() {
        all.push(Play { cut: Cut { schedulers: Some(1), ..play.cut.clone() }, ..play.clone() });
    }
    all
}

/// Without one half of the faults: what one fault alone cannot change, many may.
fn halves(play: &Play) -> Vec<Play> {
    let names: Vec<&str> =
        Cut::names().iter().filter(|name| !play.cut.without.contains(**name)).copied().collect();
    let (left, right) = names.split_at(names.len() / 2);
    let without = |some: &[&str]| {
        let mut smaller = play.clone();
        smaller.cut.without.extend(some.iter().map(|name| (*name).to_owned()));
        smaller
    };
    if names.len() < 4 { Vec::new() } else { vec![without(left), without(right)] }
}
