//! Binaries of this workspace that tests start as processes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use windlass_lab_prepare::workspace;

/// Cargo was asked in this process.
static BUILT: Mutex<bool> = Mutex::new(false);

/// The binary `name` of this workspace (`windlass`, `windlass-local-cluster`), beside the running test and up to date:
/// under `cargo xtask test` it was built with the tests, else Cargo is asked once.
pub fn path(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe().context("find the running executable")?;
    // <target>/PROFILE/deps/test-hash, or <target>/PROFILE/binary
    let folder = this.parent().context("the running executable has no folder")?;
    let profile = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let mut built = BUILT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !*built && std::env::var_os("WINDLASS_BINARIES_BUILT").is_none() {
        build(profile)?;
    }
    *built = true;
    let binary = profile.join(name);
    if !binary.is_file() {
        bail!("{} does not exist: run `cargo build --workspace --bins` for its profile", binary.display());
    }
    Ok(binary)
}

fn build(profile: &Path) -> Result<()> {
    let target = profile.parent().context("the target folder")?;
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(workspace())
        .args(["build", "--quiet", "--workspace", "--bins", "--target-dir"])
        .arg(target);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let output = cargo.output().context("run `cargo build` for the binaries that the test starts")?;
    if !output.status.success() {
        bail!("building the binaries failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
