//! `cargo xtask test`: what can run here runs, level by level; what cannot says why and what to install.

mod build;
mod level;
mod run;
mod table;

use std::process::{Child, Command};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use windlass_lab_prepare::Series;

pub(crate) use level::Level;

use crate::step::in_ci;
use run::Counts;
use table::{Row, Table};

/// What is asked for besides the levels.
#[derive(Debug)]
pub(crate) struct How {
    /// Only tests whose name contains this.
    pub(crate) filter: String,
    /// The long form of levels that have one.
    pub(crate) long: bool,
    /// Show the output of what succeeds too.
    pub(crate) verbose: bool,
}

/// Builds once, then runs the levels in order, all of them even if one fails.
pub(crate) fn run(asked: &[Level], how: &How) -> Result<bool> {
    let levels = level::expand(asked);
    let mut table = Table::default();
    let beside = Beside::start(&levels)?;

    let started = Instant::now();
    println!("build");
    let Some(products) = build::build(&levels, how.verbose)? else {
        println!("0 passed, 1 failed, 0 skipped");
        return Ok(false);
    };
    beside.finish();
    table.add(Row::new("build", started.elapsed(), build::BUDGET_MINUTES, Counts::default()));

    for level in levels {
        for round in level.rounds() {
            let (name, budget) = (name(level, round), level.budget_minutes(round, how.long));
            println!("{name}: {}", level.about());
            let started = Instant::now();
            let counts = match level.missing() {
                None => at_once(round, |series| run::level((level, series), &products, how))?,
                Some(missing) if in_ci() => {
                    println!("  FAILED: {missing}");
                    Counts { failed: 1, ..Counts::default() }
                }
                Some(missing) => {
                    println!("  skipped: {missing}");
                    Counts { skipped: 1, ..Counts::default() }
                }
            };
            table.add(Row::new(&name, started.elapsed(), budget, counts));
        }
    }
    println!("\n{table}");
    let total = table.total();
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    // A skipped test is a failure in CI: nothing is left out there.
    Ok(total.failed == 0 && !(in_ci() && total.skipped > 0))
}

/// A round of a level, as the table names it.
fn name(level: Level, round: &[Series]) -> String {
    match round {
        [series] if *series != Series::default() => format!("{level} {series}"),
        _ => level.to_string(),
    }
}

/// Runs the series of a round at once and sums what came of them.
fn at_once(round: &[Series], run: impl Fn(Series) -> Result<Counts> + Sync) -> Result<Counts> {
    std::thread::scope(|scope| {
        let running: Vec<_> = round.iter().map(|series| scope.spawn(|| run(*series))).collect();
        let mut sum = Counts::default();
        for one in running {
            sum.add(one.join().map_err(|_| anyhow!("a level's thread panicked"))??);
        }
        Ok(sum)
    })
}

/// The control plane (8 minutes of Go from nothing) and the virtual environments are made while Cargo builds, at a lower
/// priority. What goes wrong there is told again, in full, by the level that needs it.
struct Beside(Option<Child>);

impl Beside {
    fn start(levels: &[Level]) -> Result<Self> {
        if !levels.iter().any(|level| level.needs_preparation()) {
            return Ok(Self(None));
        }
        let this = std::env::current_exe().context("find the running xtask")?;
        let child = Command::new("nice")
            .args(["-n", "10"])
            .arg(this)
            .arg("prepare")
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .context("start the preparation beside the build (`nice` is part of coreutils)")?;
        Ok(Self(Some(child)))
    }

    fn finish(self) {
        if let Some(mut child) = self.0 {
            let _ = child.wait();
        }
    }
}
