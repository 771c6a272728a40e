//! `cargo xtask check`: what a reviewer should never have to say.

use std::process::Command;

use anyhow::Result;
use windlass_lab_prepare::{Series, workspace};

use crate::step::{self, cargo, in_ci};
use crate::{forward, tidy};

/// Runs everything, also after a failure: one round shows all of it.
pub(crate) fn run(verbose: bool) -> Result<bool> {
    println!("check");
    let mut failed = Vec::new();
    let mut note = |name: &'static str, success: bool| {
        if !success {
            failed.push(name);
        }
    };

    note("tidy", tidy::run()?);
    note("format", step::run("format", command(cargo(), &["fmt", "--all", "--check"]), verbose)?.success);
    note("go format", go_format(verbose)?);
    let lints = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    note("lints", step::run("lints", command(cargo(), &lints), verbose)?.success);
    note("licences and bans", deny(verbose)?);
    note("generated pages", forward::docs(true)?);
    note("python", python(verbose)?);

    if failed.is_empty() {
        println!("check: ok");
    } else {
        println!("check: FAILED: {}", failed.join(", "));
    }
    Ok(failed.is_empty())
}

fn command(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments);
    command
}

/// cargo-deny holds the licences; the direction of dependencies is checked by [`tidy`] too, so that a machine without
/// it (it takes minutes to build) finds the mistake as well.
fn deny(verbose: bool) -> Result<bool> {
    let present = cargo().args(["deny", "--version"]).output().is_ok_and(|output| output.status.success());
    if !present {
        println!("  licences and bans: skipped (cargo install --locked cargo-deny)");
        return Ok(true);
    }
    let arguments = ["deny", "--workspace", "check", "bans", "licenses", "sources"];
    Ok(step::run("licences and bans", command(cargo(), &arguments), verbose)?.success)
}

/// `gofmt -l` succeeds also when it lists files.
fn go_format(verbose: bool) -> Result<bool> {
    if let Err(missing) = windlass_lab_prepare::go_version() {
        println!("  go format: {missing}");
        return Ok(!in_ci());
    }
    let done = step::run("go format", command(Command::new("gofmt"), &["-l", "tests/cluster"]), verbose)?;
    if !done.output.is_empty() {
        println!("not formatted (gofmt -w): {}", done.output.trim());
    }
    Ok(done.success && done.output.is_empty())
}

/// Format, lints and types of the plugin, with the tools of the virtual environment.
fn python(verbose: bool) -> Result<bool> {
    if let Err(missing) = windlass_lab_prepare::find_python() {
        println!("  python: {missing}");
        return Ok(!in_ci());
    }
    let venv = windlass_lab_prepare::venv(Series::default())?;
    let tool = |name: &str, arguments: &[&str]| {
        let mut tool = Command::new(venv.program(name));
        tool.args(arguments).current_dir(workspace().join("scheduler-bridge/python"));
        tool
    };
    let lints = step::run("python lints", tool("ruff", &["check", "--quiet", "."]), verbose)?;
    let format = step::run("python format", tool("ruff", &["format", "--check", "--quiet", "."]), verbose)?;
    let types = step::run("python types", tool("mypy", &["--no-error-summary"]), verbose)?;
    Ok(lints.success && format.success && types.success)
}
