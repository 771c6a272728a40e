//! One build of everything that the levels will run.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::level::Level;
use crate::profile::Profile;
use crate::step::{self, cargo};

/// From nothing on two cores, with the control plane built beside it.
pub(super) const BUDGET_MINUTES: f64 = 15.0;

/// A test executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Executable {
    pub(super) level: Level,
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// Where Cargo would run it: the folder of its package.
    pub(super) folder: PathBuf,
}

/// Builds tests, and the binaries that tests start. `None` if it fails; the compiler's words are shown.
pub(super) fn build(levels: &[Level], verbose: bool) -> Result<Option<Vec<Executable>>> {
    let mut tests = cargo();
    // Always the whole workspace: a smaller selection of packages has other features, and Cargo would build the
    // dependencies once more for it.
    tests.args(["test", "--workspace", "--no-run", "--message-format", "json-render-diagnostics"]);
    if levels == [Level::Unit] {
        tests.args(["--lib", "--bins"]);
        for name in unit_test_names()? {
            tests.args(["--test", &name]);
        }
    } else {
        tests.arg("--tests");
    }
    let done = step::run("build tests", tests, verbose)?;
    if !done.success {
        return Ok(None);
    }
    if levels.iter().any(|level| *level > Level::Unit)
        && !step::run("build binaries", Profile::Dev.binaries(), verbose)?.success
    {
        return Ok(None);
    }
    let messages = done.output.lines().filter(|line| line.starts_with('{'));
    let found: Result<Vec<Executable>> = messages.filter_map(|line| executable(line).transpose()).collect();
    found.map(Some)
}

/// An artifact message of Cargo, if it is a test executable.
fn executable(line: &str) -> Result<Option<Executable>> {
    let message: Value = serde_json::from_str(line).with_context(|| format!("a message of Cargo: {line}"))?;
    let Some(path) = message["executable"].as_str().filter(|_| message["profile"]["test"] == true) else {
        return Ok(None);
    };
    let folder = PathBuf::from(message["manifest_path"].as_str().unwrap_or_default());
    let folder = folder.parent().context("the manifest has no folder")?.to_owned();
    let package = package_name(message["package_id"].as_str().unwrap_or_default());
    let target = message["target"]["name"].as_str().unwrap_or_default();
    let kind = message["target"]["kind"][0].as_str().unwrap_or_default();
    let Some(level) = Level::of_target(package, kind, target) else {
        bail!(
            "tests/suite/tests/{target}.rs: its name must begin with a level (sim_ store_ cluster_ airflow_ faults ..)"
        );
    };
    let name = if kind == "test" { format!("{package}::{target}") } else { format!("{package} ({kind})") };
    Ok(Some(Executable { level, name, path: PathBuf::from(path), folder }))
}

/// `path+file:///a/b#name@0.1.0` or `path+file:///a/name#0.1.0` -> `name`.
fn package_name(id: &str) -> &str {
    let (path, fragment) = id.rsplit_once('#').unwrap_or(("", id));
    match fragment.split_once('@') {
        Some((name, _)) => name,
        None => path.rsplit('/').next().unwrap_or(path),
    }
}

/// Integration tests that belong to the unit level.
fn unit_test_names() -> Result<Vec<String>> {
    let output = cargo().args(["metadata", "--no-deps", "--format-version", "1", "--offline"]).output()?;
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("read the output of `cargo metadata`")?;
    let mut names = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let package_name = package["name"].as_str().unwrap_or_default();
        for target in package["targets"].as_array().into_iter().flatten() {
            let name = target["name"].as_str().unwrap_or_default();
            let is_test = target["kind"][0] == "test";
            if is_test && Level::of_target(package_name, "test", name) == Some(Level::Unit) {
                names.push(name.to_owned());
            }
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_executable_is_known_by_its_message() -> Result<()> {
        let line = r#"{"reason":"compiler-artifact","package_id":"path+file:///x/tests/suite#windlass-suite@0.1.0",
            "manifest_path":"/x/tests/suite/Cargo.toml","target":{"kind":["test"],"name":"airflow_tasks"},
            "profile":{"test":true},"executable":"/x/target/debug/deps/airflow_tasks-1"}"#;
        let found = executable(line)?.context("an executable")?;
        assert_eq!((found.level, found.name.as_str()), (Level::Airflow, "windlass-suite::airflow_tasks"));
        assert_eq!(found.folder, PathBuf::from("/x/tests/suite"));
        assert_eq!(executable(&line.replace("true", "false"))?, None);
        let error = executable(&line.replace("airflow_tasks", "tasks")).expect_err("no level");
        assert!(error.to_string().contains("tests/suite/tests/tasks.rs: its name must begin with a level"));
        Ok(())
    }

    #[test]
    fn package_ids_of_both_forms_are_read() {
        assert_eq!(package_name("path+file:///x/xtask#0.1.0"), "xtask");
        assert_eq!(package_name("path+file:///x/executor/core#windlass-core@0.1.0"), "windlass-core");
    }
}
