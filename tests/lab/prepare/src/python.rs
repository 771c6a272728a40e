//! The virtual environments that Airflow's parts run in: the pins of `tests/lab/airflow2.lock` or
//! `tests/lab/airflow210.lock`, plus the plugin of this repository in editable form. And that of a local AWS, by the pins
//! of `tests/lab/moto.lock`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cache::{cache_dir, fingerprint, locked, workspace};
use crate::long_command::run_long;
use crate::series::Series;

/// Airflow 2.10 and 2.11 support these (and older ones, which have left support).
const PYTHONS: [(u32, u32); 3] = [(3, 12), (3, 11), (3, 10)];
/// Installs 190 pinned packages in seconds where pip takes minutes.
const UV: &str = "uv==0.13.9";

/// A virtual environment that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Venv {
    root: PathBuf,
}

impl Venv {
    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A program in it: `python`, `airflow`, `pytest`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.root.join("bin").join(name)
    }

    /// `PATH` with its programs first, as `activate` would set it.
    pub fn path(&self) -> String {
        let inherited = std::env::var("PATH").unwrap_or_default();
        format!("{}:{inherited}", self.root.join("bin").display())
    }
}

/// Name of the pins of the local AWS.
const MOTO: &str = "moto";

/// The virtual environment of an Airflow, made when it is missing: half a minute to minutes, by the network.
pub fn venv(series: Series) -> Result<Venv> {
    let plugin = workspace().join("scheduler-bridge/python");
    let project = plugin.join("pyproject.toml");
    made(series.pins(), std::slice::from_ref(&project), |venv, log| {
        if !project.is_file() {
            return Ok(());
        }
        let mut package = uv(venv);
        package.args(["--no-deps", "--editable"]).arg(&plugin);
        run_long("installing windlass-airflow", package, log)
    })
}

/// The virtual environment with `moto_server`, a local AWS; made when it is missing, in seconds.
pub fn moto() -> Result<Venv> {
    made(MOTO, &[], |_, _| Ok(()))
}

/// The virtual environment of some pins; `more`: other files that it is made from, `finish`: what else is installed.
fn made(pins: &str, more: &[PathBuf], finish: impl FnOnce(&Venv, &Path) -> Result<()>) -> Result<Venv> {
    let (python, (major, minor)) = find_python()?;
    let lock = lock_file(pins);
    let inputs: Vec<PathBuf> =
        std::iter::once(&lock).chain(more).filter(|file| file.is_file()).cloned().collect();
    let name = format!("venv-{pins}-py{major}.{minor}-{}", fingerprint(&inputs)?);
    let venv = Venv { root: cache_dir()?.join(name) };
    if complete(&venv) {
        return Ok(venv);
    }
    locked("venv", || {
        if !complete(&venv) {
            install(&python, &venv, pins, &lock, finish)?;
        }
        Ok(venv)
    })
}

/// The pins, each exact.
pub(crate) fn lock_file(pins: &str) -> PathBuf {
    workspace().join(format!("tests/lab/{pins}.lock"))
}

/// A Python that Airflow 2.11 runs on and that can make a virtual environment. `WINDLASS_PYTHON` names one.
pub fn find_python() -> Result<(PathBuf, (u32, u32))> {
    if let Some(named) = std::env::var_os("WINDLASS_PYTHON").filter(|name| !name.is_empty()) {
        let version =
            version_of(Path::new(&named)).filter(|version| PYTHONS.contains(version)).with_context(|| {
                format!("WINDLASS_PYTHON={} is no Python 3.10 to 3.12 with venv", named.display())
            })?;
        return Ok((PathBuf::from(named), version));
    }
    for name in ["python3", "python3.11", "python3.12", "python3.10", "python"] {
        if let Some(version) = version_of(Path::new(name)).filter(|version| PYTHONS.contains(version)) {
            return Ok((PathBuf::from(name), version));
        }
    }
    bail!(
        "no Python 3.10 to 3.12 with the venv module is on PATH (Airflow 2.11 needs one). Install it, for example \
         `apt-get install python3.11 python3.11-venv`, or name one by WINDLASS_PYTHON=/path/to/python3.11"
    )
}

/// `None` when it does not run or cannot make a virtual environment (Debian splits `ensurepip` off).
fn version_of(python: &Path) -> Option<(u32, u32)> {
    let code = "import ensurepip, sys, venv; print(*sys.version_info[:2])";
    let answer =
        Command::new(python).args(["-c", code]).output().ok().filter(|answer| answer.status.success())?;
    let text = String::from_utf8(answer.stdout).ok()?;
    let (major, minor) = text.trim().split_once(' ')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Written last.
fn marker(venv: &Venv) -> PathBuf {
    venv.root.join(".complete")
}

fn complete(venv: &Venv) -> bool {
    marker(venv).is_file()
}

fn install(
    python: &Path,
    venv: &Venv,
    pins: &str,
    lock: &Path,
    finish: impl FnOnce(&Venv, &Path) -> Result<()>,
) -> Result<()> {
    if venv.root.exists() {
        fs::remove_dir_all(&venv.root).with_context(|| format!("remove {}", venv.root.display()))?;
    }
    eprintln!("lab: making a virtual environment from tests/lab/{pins}.lock");
    // Beside it, not in it: the folder is removed before another try. (with_extension would cut at the dot of 3.11.)
    let log = PathBuf::from(format!("{}.log", venv.root.display()));

    let mut make = Command::new(python);
    make.args(["-m", "venv"]).arg(&venv.root);
    run_long("making the virtual environment", make, &log)?;

    let mut pip = Command::new(venv.program("python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV]);
    run_long("installing uv", pip, &log)?;

    let mut packages = uv(venv);
    packages.arg("-r").arg(lock);
    run_long(&format!("installing {pins}"), packages, &log)?;

    finish(venv, &log)?;
    fs::write(marker(venv), "").context("mark the virtual environment as complete")
}

fn uv(venv: &Venv) -> Command {
    let mut uv = Command::new(venv.program("uv"));
    uv.args(["pip", "install", "--python"]).arg(venv.program("python"));
    uv
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_python_is_no_version() {
        assert_eq!(version_of(Path::new("no-such-python")), None);
    }

    #[test]
    fn every_pin_is_exact() -> Result<()> {
        for pins in Series::ALL.map(Series::pins).into_iter().chain([MOTO]) {
            let lock = fs::read_to_string(lock_file(pins))?;
            let loose: Vec<_> =
                lock.lines().filter(|line| !line.starts_with('#') && !line.contains("==")).collect();
            assert!(loose.is_empty(), "{loose:?}");
        }
        Ok(())
    }
}
