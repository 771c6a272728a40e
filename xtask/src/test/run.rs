//! Runs one level and counts.

use std::process::Command;

use anyhow::Result;
use windlass_lab_prepare::{SERIES_VARIABLE, Series, workspace};

use super::How;
use super::build::Executable;
use super::level::Level;
use crate::profile::Profile;
use crate::step;

/// Seeds that each run of the tests plays; `cargo xtask sim` plays more.
const SEEDS: &str = "100000";

/// Tests by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: u32,
    pub(super) failed: u32,
    pub(super) skipped: u32,
}

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

pub(super) fn level(
    (level, series): (Level, Series),
    executables: &[Executable],
    how: &How,
) -> Result<Counts> {
    let How { filter, long, verbose } = how;
    let mut counts = Counts::default();
    for executable in executables.iter().filter(|executable| is_of(executable, level, series)) {
        let mut command = Command::new(&executable.path);
        command.current_dir(&executable.folder);
        if !filter.is_empty() {
            command.arg(filter);
        }
        // Also the output of tests that pass: it says what they skipped.
        command.arg("--show-output").env("WINDLASS_BINARIES_BUILT", "1").env("INSTA_UPDATE", "no");
        command.env(SERIES_VARIABLE, series.name());
        if let Some(threads) = level.threads() {
            command.env("RUST_TEST_THREADS", threads.to_string());
        }
        if *long {
            command.env("WINDLASS_FAULTS_LONG", "1").env("WINDLASS_PARITY_LONG", "1");
        }
        let done = step::run(&executable.name, command, *verbose)?;
        if [Level::Faults, Level::Parity].contains(&level) && !verbose {
            done.output
                .lines()
                .filter(|line| line.starts_with("measured: "))
                .for_each(|line| println!("    {line}"));
        }
        counts.add(rust_counts(&done.output, done.success));
    }
    match level {
        Level::Sim if filter.is_empty() => counts.add(seeds(*verbose)?),
        Level::Plugin => counts.add(plugin(series, filter, *verbose)?),
        _ => {}
    }
    Ok(counts)
}

/// With the older series of Airflow only what asks for the series: the others have their own to say.
fn is_of(executable: &Executable, level: Level, series: Series) -> bool {
    executable.level == level && (series == Series::default() || executable.name == "windlass-suite::airflow")
}

fn seeds(verbose: bool) -> Result<Counts> {
    let mut sim = Command::new(Profile::Dev.binary("windlass-sim"));
    sim.args(["--first-seed", "1", "--seeds", SEEDS]);
    let done = step::run(&format!("{SEEDS} seeds"), sim, verbose)?;
    if done.success && !verbose {
        println!("    {}", done.output.trim().lines().next().unwrap_or_default());
    }
    Ok(Counts { passed: u32::from(done.success), failed: u32::from(!done.success), skipped: 0 })
}

fn plugin(series: Series, filter: &str, verbose: bool) -> Result<Counts> {
    let venv = windlass_lab_prepare::venv(series)?;
    let mut pytest = Command::new(venv.program("python"));
    pytest.args(["-m", "pytest", "-rs", "tests"]).current_dir(workspace().join("scheduler-bridge/python"));
    if !filter.is_empty() {
        pytest.args(["-k", filter]);
    }
    let done = step::run(&format!("pytest {series}"), pytest, verbose)?;
    Ok(python_counts(&done.output, done.success))
}

/// From `test result: ok. 5 passed; 0 failed; 0 ignored; ..`, and from the lines of tests that say `skipped: why`.
fn rust_counts(output: &str, success: bool) -> Counts {
    let mut counts = Counts::default();
    for line in output.lines() {
        if let Some(result) = line.strip_prefix("test result: ") {
            counts.passed += number_before(result, " passed");
            counts.failed += number_before(result, " failed");
            counts.skipped += number_before(result, " ignored");
        }
        if let Some(why) = line.strip_prefix("skipped: ") {
            println!("    skipped: {why}");
            counts.skipped += 1;
        }
    }
    // It died without saying how: a crash is a failure too.
    if !success && counts.failed == 0 {
        counts.failed = 1;
    }
    counts
}

/// From `3 failed, 12 passed, 1 skipped, 2 errors in 31.02s`.
fn python_counts(output: &str, success: bool) -> Counts {
    let summary =
        output.lines().rfind(|line| line.contains(" in ") && line.contains("passed")).unwrap_or_default();
    let mut counts = Counts {
        passed: number_before(summary, " passed"),
        failed: number_before(summary, " failed") + number_before(summary, " error"),
        skipped: number_before(summary, " skipped"),
    };
    if !success && counts.failed == 0 {
        counts.failed = 1;
    }
    counts
}

/// The number that ends where `word` begins.
fn number_before(text: &str, word: &str) -> u32 {
    let before = text.split(word).next().filter(|before| before.len() < text.len()).unwrap_or_default();
    let digits = before.rfind(|c: char| !c.is_ascii_digit()).map_or(before, |place| &before[place + 1..]);
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_rust_tests_are_counted() {
        let output = "running 3 tests\ntest a ... ok\nskipped: no pgbouncer here\n\
                      test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(rust_counts(output, false), Counts { passed: 2, failed: 1, skipped: 1 });
        assert_eq!(rust_counts("signal 11", false), Counts { failed: 1, ..Counts::default() });
    }

    #[test]
    fn results_of_pytest_are_counted() {
        let output = "..s.F\n1 failed, 12 passed, 1 skipped in 31.02s";
        assert_eq!(python_counts(output, false), Counts { passed: 12, failed: 1, skipped: 1 });
        assert_eq!(python_counts("", false), Counts { failed: 1, ..Counts::default() });
        assert_eq!(number_before("passed", " passed"), 0);
    }
}
