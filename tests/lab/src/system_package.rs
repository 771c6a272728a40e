//! What the lab takes from the system's packages.

use std::process::Command;

use anyhow::{Result, bail};
use windlass_lab_prepare::{cache_dir, locked, run_long};

/// Sees that the program of a Debian package is there. The package is installed when we are root and it is missing;
/// otherwise the error names the command.
pub(crate) fn ensure(package: &str, is_installed: impl Fn() -> bool) -> Result<()> {
    if is_installed() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        bail!("there is no {package} here: `sudo apt-get install {package}`");
    }
    locked(package, || {
        if is_installed() {
            return Ok(());
        }
        let mut install = Command::new("apt-get");
        install.args(["install", "--yes", "--no-install-recommends", package]);
        // The package would start a service of its own.
        install.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
        run_long(&format!("installing {package}"), install, &cache_dir()?.join(format!("{package}.log")))
    })
}
