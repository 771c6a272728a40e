//! The control plane's binary: `tests/cluster`, built by Go.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::cache::{cache_dir, fingerprint, locked, workspace};
use crate::long_command::run_long;

/// What `go.mod` asks for. Go 1.21 and newer fetch a newer toolchain by themselves where the network allows it.
const GO_MINOR_NEEDED: u32 = 26;
const REMEDY: &str = "install Go 1.26 or newer: https://go.dev/doc/install";

/// The binary, built when it is missing: about 8 minutes on two cores from nothing, 20 s with Go's own cache warm.
pub fn control_plane_binary() -> Result<PathBuf> {
    let source = workspace().join("tests/cluster");
    let binary = cache_dir()?.join(format!("cluster-{}", fingerprint(&sources(&source)?)?));
    if binary.is_file() {
        return Ok(binary);
    }
    locked("control-plane", || {
        if !binary.is_file() {
            build(&source, &binary)?;
        }
        Ok(binary)
    })
}

/// Go's version, or why it does not do and what to install.
pub fn go_version() -> Result<String> {
    let answer = Command::new("go")
        .args(["env", "GOVERSION"])
        .current_dir(workspace().join("tests/cluster"))
        .output()
        .map_err(|error| anyhow!("`go` does not run ({error}): {REMEDY}"))?;
    let version = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    match minor(&version) {
        Some(minor) if minor >= GO_MINOR_NEEDED => Ok(version),
        Some(_) => bail!("{version} is too old for the control plane: {REMEDY}"),
        None => {
            bail!("`go env GOVERSION` failed: {}; {REMEDY}", String::from_utf8_lossy(&answer.stderr).trim())
        }
    }
}

/// `go1.26.8` -> 26.
fn minor(version: &str) -> Option<u32> {
    let rest = version.strip_prefix("go1.")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn sources(source: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(source).with_context(|| format!("list {}", source.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "go" || e == "mod" || e == "sum"));
    files.sort();
    Ok(files)
}

fn build(source: &Path, binary: &Path) -> Result<()> {
    go_version()?;
    let kubernetes = kubernetes_version(&fs::read_to_string(source.join("go.mod"))?)?;
    let unfinished = binary.with_extension("unfinished");
    eprintln!(
        "lab: building the Kubernetes {kubernetes} control plane (from nothing 8 minutes on two cores)"
    );
    let mut command = Command::new("go");
    command
        .current_dir(source)
        .args(["build", "-mod=readonly", "-ldflags", &version_flags(&kubernetes), "-o"])
        .arg(&unfinished)
        .arg(".");
    run_long("building the control plane", command, &binary.with_extension("log"))?;
    fs::rename(&unfinished, binary).with_context(|| format!("move {} into place", unfinished.display()))?;
    Ok(())
}

/// Without the stamp `/version` says v0.0.0-master and clients refuse it.
fn version_flags(kubernetes: &str) -> String {
    let stamp = "-X k8s.io/component-base/version.git";
    let minor = kubernetes.split('.').nth(1).unwrap_or_default();
    format!("-s -w {stamp}Version={kubernetes} {stamp}Major=1 {stamp}Minor={minor} {stamp}TreeState=clean")
}

fn kubernetes_version(go_mod: &str) -> Result<String> {
    go_mod
        .lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "))
        .map(|version| version.trim().to_owned())
        .context("tests/cluster/go.mod does not require k8s.io/kubernetes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go_are_understood() {
        let read: Vec<_> = ["go1.26.8", "go1.27rc1", "go1.9", "devel", ""].into_iter().map(minor).collect();
        assert_eq!(read, [Some(26), Some(27), Some(9), None, None]);
    }

    #[test]
    fn the_version_is_stamped_from_go_mod() -> Result<()> {
        let version = kubernetes_version("require (\n\tk8s.io/kubernetes v1.37.2\n)")?;
        assert!(version_flags(&version).contains("gitVersion=v1.37.2 "));
        assert!(version_flags(&version).contains("gitMinor=37 "));
        Ok(())
    }
}
