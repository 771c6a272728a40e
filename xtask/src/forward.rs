//! Tasks that another binary of the workspace does.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use windlass_lab_prepare::workspace;

use crate::profile::Profile;
use crate::step::{self, cargo};

fn build_binaries(profile: Profile) -> Result<()> {
    if !step::run("build", profile.binaries(), false)?.success {
        bail!("the build failed");
    }
    Ok(())
}

pub(crate) fn sim(arguments: &[String]) -> Result<bool> {
    build_binaries(Profile::Release)?;
    run(Command::new(Profile::Release.binary("windlass-sim")).args(arguments))
}

pub(crate) fn bench(name: Option<&str>, arguments: &[String]) -> Result<bool> {
    windlass_lab_prepare::control_plane_binary()?;
    build_binaries(Profile::Release)?;
    let mut bench = cargo();
    // The bench profile is the release profile of Cargo.toml; naming it keeps one set of build products.
    // The whole workspace for the same reason: each selection of packages has features of its own.
    bench.args(["bench", "--profile", "release", "--workspace", "--bench", name.unwrap_or("*")]);
    if !arguments.is_empty() {
        bench.arg("--").args(arguments);
    }
    run(&mut bench)
}

pub(crate) fn docs(check: bool) -> Result<bool> {
    build_binaries(Profile::Dev)?;
    let mut docs = Command::new(Profile::Dev.binary("windlass"));
    docs.current_dir(workspace()).args(["docs", "--dir", "docs"]);
    if check {
        docs.arg("--check");
    }
    Ok(docs.status().context("run `windlass docs`")?.success())
}

pub(crate) fn demo(keep: bool) -> Result<bool> {
    // First what may be missing: better told now than after minutes of building.
    windlass_lab_prepare::find_python()?;
    build_binaries(Profile::Release)?;
    let mut demo = Command::new(Profile::Release.binary("windlass-demo"));
    if keep {
        demo.arg("--keep");
    }
    run(&mut demo)
}

/// Becomes that command: it has our terminal, and Ctrl-C ends one process, not one of two.
fn run(command: &mut Command) -> Result<bool> {
    let error = command.env("WINDLASS_BINARIES_BUILT", "1").exec();
    Err(error).with_context(|| format!("run {:?}", command.get_program()))
}
