//! Branch coverage of the state machine of one launch, by its unit tests and the simulator together.
//!
//! Branches need nightly's instrumentation and an LLVM that reads it. Where one of them is missing this says so and is
//! no failure: no test hangs on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use windlass_lab_prepare::workspace;

use crate::step;

const WHAT: &str = "executor/core/src/launch";
/// Each branch that nothing takes is quoted there, with the reason.
const EXPLAINED: &str = "tests/sim/README.md";
const SEEDS: &str = "20000";

/// The tools of the LLVM that nightly's compiler is built with.
struct Llvm {
    profdata: String,
    cov: String,
}

pub(crate) fn run(verbose: bool) -> Result<bool> {
    let Some(llvm) = find_llvm() else {
        println!(
            "skipped: branch coverage needs the nightly toolchain (`rustup toolchain install nightly`) and llvm-cov of \
             the same LLVM (Debian: `apt-get install llvm-22`)"
        );
        return Ok(true);
    };
    let target = workspace().join("target/coverage");
    let raw = target.join("raw");
    if raw.exists() {
        fs::remove_dir_all(&raw).with_context(|| format!("remove {}", raw.display()))?;
    }
    let cargo = |arguments: &[&str]| {
        let mut cargo = Command::new("cargo");
        cargo
            .arg("+nightly")
            .args(arguments)
            .env_remove("RUSTUP_TOOLCHAIN")
            .env("CARGO_TARGET_DIR", &target)
            .env("RUSTFLAGS", "-C instrument-coverage -Z coverage-options=branch")
            .env("LLVM_PROFILE_FILE", raw.join("%p-%m.profraw"));
        cargo
    };
    let seeds = ["run", "--release", "-p", "windlass-sim", "--", "--seeds", SEEDS];
    let tests = ["test", "--release", "-p", "windlass-core", "--lib", "launch"];
    for (name, arguments) in [("seeds", &seeds[..]), ("unit tests", &tests[..])] {
        if !step::run(name, cargo(arguments), verbose)?.success {
            bail!("the {name} failed under coverage");
        }
    }
    report(&llvm, &target, &raw, verbose)
}

/// The table, and each branch that nothing takes. Fails for one that is not explained.
fn report(llvm: &Llvm, target: &Path, raw: &Path, verbose: bool) -> Result<bool> {
    let profile = target.join("all.profdata");
    let mut merge = Command::new(&llvm.profdata);
    merge.args(["merge", "-sparse"]).arg(raw).arg("-o").arg(&profile);
    if !step::run("merge", merge, verbose)?.success {
        bail!("`{}` cannot read the profiles: is it of nightly's LLVM?", llvm.profdata);
    }
    let cov = |what: &[&str]| -> Result<String> {
        let mut cov = Command::new(&llvm.cov);
        cov.args(what)
            .arg(target.join("release/windlass-sim"))
            .arg("-object")
            .arg(newest_test(&target.join("release/deps"))?)
            .arg("-instr-profile")
            .arg(&profile)
            .arg(workspace().join(WHAT));
        let output = cov.output().with_context(|| format!("start {}", llvm.cov))?;
        if !output.status.success() {
            bail!("{} failed: {}", llvm.cov, String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    println!("{}", cov(&["report", "--show-branch-summary", "--show-region-summary=false"])?);
    let explained = fs::read_to_string(workspace().join(EXPLAINED)).context(EXPLAINED)?;
    let mut open = 0;
    for (file, line) in not_taken(&cov(&["export", "-format=lcov"])?) {
        let text = fs::read_to_string(&file).with_context(|| file.clone())?;
        let code = text.lines().nth(line - 1).unwrap_or_default().trim();
        let name = file.rsplit('/').next().unwrap_or_default();
        if !file.contains("/tests/") && !explained.contains(&format!("`{code}`")) {
            open += 1;
            println!("{name}:{line}: not both ways: `{code}`");
        }
    }
    if open > 0 {
        println!("{open} branches are neither taken both ways nor explained in {EXPLAINED}");
    }
    Ok(open == 0)
}

/// Lines with a branch that was not taken both ways: `BRDA:line,block,branch,count`.
fn not_taken(lcov: &str) -> Vec<(String, usize)> {
    let (mut file, mut all) = (String::new(), Vec::new());
    for line in lcov.lines() {
        if let Some(path) = line.strip_prefix("SF:") {
            path.clone_into(&mut file);
        } else if let Some(fields) = line.strip_prefix("BRDA:") {
            let fields: Vec<&str> = fields.split(',').collect();
            if let [line, _, _, "0" | "-"] = fields[..]
                && let Ok(line) = line.parse()
            {
                all.push((file.clone(), line));
            }
        }
    }
    all.dedup();
    all
}

fn find_llvm() -> Option<Llvm> {
    let said =
        Command::new("rustc").args(["+nightly", "-vV"]).env_remove("RUSTUP_TOOLCHAIN").output().ok()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let version = said.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    let major = version.split('.').next()?;
    let tool = |name: &str| {
        let works = |tool: &String| {
            let output = Command::new(tool).arg("--version").output();
            output.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains(&format!("version {major}.")))
        };
        [format!("{name}-{major}"), name.to_owned()].into_iter().find(works)
    };
    // The old `llvm-profdata` has no --version: what stands beside llvm-cov is taken.
    let cov = tool("llvm-cov")?;
    Some(Llvm { profdata: cov.replace("llvm-cov", "llvm-profdata"), cov })
}

/// The executable of the unit tests that was built last.
fn newest_test(folder: &Path) -> Result<PathBuf> {
    let mut newest = None;
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("windlass_core-") && path.extension().is_none() {
            let built = fs::metadata(&path)?.modified()?;
            newest = newest.max(Some((built, path)));
        }
    }
    newest.map(|(_, path)| path).context("the unit tests of windlass-core are not built")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_that_were_not_taken_are_read_from_lcov() {
        let lcov =
            "SF:/a/x.rs\nBRDA:7,0,0,12\nBRDA:7,0,1,0\nBRDA:9,0,0,-\nBRDA:9,0,1,-\nSF:/a/y.rs\nBRDA:1,0,0,3";
        assert_eq!(not_taken(lcov), [("/a/x.rs".to_owned(), 7), ("/a/x.rs".to_owned(), 9)]);
    }
}
