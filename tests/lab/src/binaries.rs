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
    // <target>/release/deps/test-hash, or <target>/release/binary
    let profile = this.ancestors().find(|dir| dir.ends_with("release")).map(Path::to_path_buf);
    let profile = profile.with_context(|| format!("{} was not built with --release", this.display()))?;
    let mut built = BUILT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !*built && std::env::var_os("WINDLASS_BINARIES_BUILT").is_none() {
        build(&profile)?;
    }
    *built = true;
    let binary = profile.join(name);
    if !binary.is_file() {
        bail!("{} does not exist: run `cargo build --release --workspace --bins`", binary.display());
    }
    Ok(binary)
}

fn build(profile: &Path) -> Result<()> {
    let target = profile.parent().context("the target folder")?;
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(workspace())
        .args(["build", "--quiet", "--release", "--workspace", "--bins", "--target-dir"])
        .arg(target);
    let output = cargo.output().context("run `cargo build` for the binaries that the test starts")?;
    if !output.status.success() {
        bail!("building the binaries failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
