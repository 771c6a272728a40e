//! Side by side with the Python executor: the installed provider makes the recorded pods and names again, and of random
//! cases the same pods as `windlass render pod`. A new version of the provider shows here what it does otherwise.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use windlass_lab::prepare::{self, Series};

/// Random cases; some 20 ms each.
const CASES: &str = "1000";

/// Runs `tests/fixtures/generate.py`, whose last line says how many cases differ.
fn generate(arguments: &[&str]) -> Result<()> {
    let venv = prepare::venv(Series::default())?;
    let mut generate = Command::new(venv.program("python"));
    generate.arg("generate.py").args(arguments).current_dir(prepare::workspace().join("tests/fixtures"));
    let done = generate.output().context("run generate.py")?;
    let said = String::from_utf8_lossy(&done.stdout);
    let shown = format!("{said}{}", String::from_utf8_lossy(&done.stderr));
    ensure!(
        done.status.success() && said.trim_end().lines().count() == 1,
        "generate.py {arguments:?}:\n{shown}"
    );
    println!("measured: {}: {}", arguments[0], said.trim_end());
    Ok(())
}

#[test]
fn the_provider_makes_the_recorded_pods_again() -> Result<()> {
    generate(&["--check", "pods"])
}

#[test]
fn its_functions_return_what_was_recorded() -> Result<()> {
    generate(&["functions"])
}

#[test]
fn windlass_makes_the_providers_pods_of_random_cases() -> Result<()> {
    let windlass = windlass_lab::binaries::path("windlass")?;
    generate(&["vary", &windlass.to_string_lossy(), "--seed", "1", "--count", CASES])
}
