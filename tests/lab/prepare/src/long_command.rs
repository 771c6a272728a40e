//! Runs a command that takes minutes: a line now and then, its output only when it fails.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Between two signs of life.
const EVERY: Duration = Duration::from_secs(20);
/// Of the command's output, when it fails.
const LINES_SHOWN: usize = 40;

/// Runs `command` with its output in `log`. `what` names it in progress lines and in the error.
pub fn run_long(what: &str, mut command: Command, log: &Path) -> Result<()> {
    let output = File::create(log).with_context(|| format!("create {}", log.display()))?;
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("start {:?} ({what})", command.get_program()))?;
    let (stop, stopped) = mpsc::channel::<()>();
    let status = std::thread::scope(|scope| {
        scope.spawn(move || {
            while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(EVERY) {
                eprintln!("lab: {what} ({} s)", started.elapsed().as_secs());
            }
        });
        let status = child.wait();
        drop(stop);
        status
    })?;
    if !status.success() {
        bail!("{what} failed ({status}). The end of {}:\n{}", log.display(), tail(log));
    }
    Ok(())
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_work_and_shows_the_output() -> Result<()> {
        let log = crate::cache_dir()?.join(format!("long-command-test-{}.log", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "echo the cause; exit 3"]);
        let error = run_long("building a thing", command, &log).expect_err("exit code 3");
        let text = format!("{error:#}");
        assert!(text.contains("building a thing failed (exit status: 3)"), "{text}");
        assert!(text.ends_with("the cause"), "{text}");
        fs::remove_file(log)?;
        Ok(())
    }
}
