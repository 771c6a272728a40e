//! A started process that can't be left behind: stopped on drop, and by the watchdog if this process dies first.

use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::process_tree::{self, Identity};
use crate::watchdog;

/// Between two looks at something that gives no signal.
pub const POLL: Duration = Duration::from_millis(50);

/// A running child with its log.
#[derive(Debug)]
pub struct Supervised {
    name: String,
    identity: Identity,
    log: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// `None` while it runs. Signals are sent under this lock: the number can't have been given to another.
    status: Mutex<Option<ExitStatus>>,
    ended: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<ExitStatus>> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Supervised {
    /// Starts `command` in a process group of its own, with its output appended to `log`.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let output = open_log(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name} ({:?})", command.get_program()))?;
        Self::supervise(name, child, log)
    }

    /// Starts `command` with a pipe to it and a pipe from it; only its error output goes to `log`.
    pub fn spawn_piped(
        name: &str,
        mut command: Command,
        log: &Path,
    ) -> Result<(Self, std::process::ChildStdin, std::process::ChildStdout)> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(open_log(log)?);
        let mut child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name} ({:?})", command.get_program()))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let supervised = Self::supervise(name, child, log)?;
        let (stdin, stdout) = pipes.with_context(|| format!("no pipes to {name}"))?;
        Ok((supervised, stdin, stdout))
    }

    fn supervise(name: &str, child: Child, log: &Path) -> Result<Self> {
        let pid = child.id() as i32;
        // Not reaped yet, so it is there even if it has ended.
        let start_time =
            process_tree::start_time(pid).with_context(|| format!("no /proc/{pid}/stat of {name}"))?;
        watchdog::kill_at_the_end(pid, start_time)?;
        let shared = Arc::new(Shared { status: Mutex::new(None), ended: Condvar::new() });
        let reaper = Arc::clone(&shared);
        std::thread::Builder::new()
            .name(format!("reap-{name}"))
            .spawn(move || reap(child, &reaper))
            .context("start a thread that waits for a process")?;
        Ok(Self {
            name: name.to_owned(),
            identity: Identity { pid, start_time },
            log: log.to_owned(),
            shared,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.identity.pid
    }

    /// What it was called at the start.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, once it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        *self.shared.lock()
    }

    /// An error with the end of its log, if it has ended.
    pub fn must_run(&self) -> Result<()> {
        match self.ended() {
            None => Ok(()),
            Some(status) => {
                let name = &self.name;
                Err(anyhow!(
                    "{name} has ended ({status}). The end of {}:\n{}",
                    self.log.display(),
                    self.log_tail(30)
                ))
            }
        }
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        let status = self.shared.lock();
        if let Some(pid) = Pid::from_raw(self.pid()).filter(|_| status.is_none()) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for its end; blocks the thread (see [`Self::wait`]).
    pub fn wait_blocking(&self, at_most: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + at_most;
        let mut status = self.shared.lock();
        while status.is_none() {
            let left = deadline.checked_duration_since(Instant::now())?;
            status = self.shared.ended.wait_timeout(status, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *status
    }

    /// Waits for its end.
    pub async fn wait(&self, at_most: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + at_most;
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} still runs after {at_most:?}. Its log: {}", self.name, self.log.display());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until it writes a line that begins with `prefix`, the sign that it is ready; returns the rest of the line.
    pub async fn line(&self, prefix: &str, at_most: Duration) -> Result<String> {
        let deadline = Instant::now() + at_most;
        loop {
            let log = fs::read(&self.log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            // Only whole lines: the last one may be half written.
            let mut lines = log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            if let Some(rest) = lines.find_map(|line| line.strip_prefix(prefix)) {
                return Ok(rest.to_owned());
            }
            self.must_run()?;
            if Instant::now() > deadline {
                bail!("{} is not ready after {at_most:?}:\n{}", self.name, self.log_tail(20));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks it to end (SIGTERM), and kills it after `grace`. Descendants that stay behind are killed.
    pub fn stop(&self, grace: Duration) -> Option<ExitStatus> {
        let family = process_tree::descendants(self.pid());
        self.signal(Signal::TERM);
        let status = self.wait_blocking(grace);
        if status.is_none() {
            tracing::warn!(name = self.name, "did not end within {grace:?} of SIGTERM: killed");
            self.kill();
        } else {
            process_tree::kill_descendants(self.pid(), &family);
        }
        status
    }

    /// Kills it and its descendants with SIGKILL, as the end of its container would.
    pub fn kill(&self) {
        if self.ended().is_some() {
            return;
        }
        self.signal(Signal::STOP);
        let family = process_tree::descendants(self.pid());
        process_tree::kill_descendants(self.pid(), &family);
        self.signal(Signal::KILL);
        let _ = self.wait_blocking(Duration::from_secs(10));
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Kills a process that somebody else started, and all that descend from it, as the end of its container would.
pub fn kill_tree(pid: i32) {
    let Some(start_time) = process_tree::start_time(pid) else { return };
    process_tree::kill_descendants(pid, &[Identity { pid, start_time }]);
}

/// Waits without reaping, then reaps under the lock: whoever holds the lock and sees no status may signal safely.
fn reap(mut child: Child, shared: &Shared) {
    let pid = child.id() as i32;
    if let Some(id) = Pid::from_raw(pid) {
        let until_it_ends = || waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        while matches!(until_it_ends(), Err(rustix::io::Errno::INTR)) {}
    }
    let mut status = shared.lock();
    watchdog::forget(pid);
    *status = child.wait().ok();
    shared.ended.notify_all();
}

fn open_log(log: &Path) -> Result<fs::File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("open the log file {}", log.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;

    fn shell(folder: &Folder, script: &str) -> Result<Supervised> {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(folder.path());
        Supervised::spawn("shell", command, &folder.join("log"))
    }

    async fn number_in(file: PathBuf) -> i32 {
        loop {
            if let Some(pid) = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()) {
                return pid;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn gone(pid: i32, start_time: Option<u64>) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while start_time.is_some() && process_tree::start_time(pid) == start_time {
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if state.contains(") Z ") {
                return; // waits for an init that reaps: dead enough
            }
            assert!(Instant::now() < deadline, "process {pid} still runs: {state}");
            tokio::time::sleep(POLL).await;
        }
    }

    #[tokio::test]
    async fn an_early_end_is_told_with_the_log() -> Result<()> {
        let folder = Folder::new("process")?;
        let process = shell(&folder, "echo the cause; exit 7")?;
        assert_eq!(process.wait(Duration::from_secs(10)).await?.code(), Some(7));
        let error = process.must_run().expect_err("it has ended").to_string();
        assert!(
            error.contains("shell has ended (exit status: 7)") && error.ends_with("the cause"),
            "{error}"
        );
        Ok(())
    }

    #[tokio::test]
    async fn drop_kills_grandchildren_that_left_the_process_group() -> Result<()> {
        let folder = Folder::new("process")?;
        let process = shell(&folder, "setsid sh -c 'echo $$ > inner; exec sleep 1000' & wait")?;
        let inner = number_in(folder.join("inner")).await;
        let start = process_tree::start_time(inner);
        assert!(start.is_some());
        drop(process);
        gone(inner, start).await;
        Ok(())
    }

    #[tokio::test]
    async fn stop_waits_for_the_handler_of_sigterm() -> Result<()> {
        let folder = Folder::new("process")?;
        let process =
            shell(&folder, "trap 'echo bye; exit 3' TERM; echo $$ > ready; while :; do sleep 0.05; done")?;
        number_in(folder.join("ready")).await;
        let status = process.stop(Duration::from_secs(10));
        assert_eq!(status.and_then(|status| status.code()), Some(3));
        assert_eq!(process.log_tail(1), "bye");
        Ok(())
    }

    /// The watchdog itself, played with a process of its own: its pipe ends, and what was named is killed.
    #[tokio::test]
    async fn the_watchdog_kills_the_tree_when_its_pipe_ends() -> Result<()> {
        use std::io::Write;
        let folder = Folder::new("process")?;
        let doomed = folder.join("doomed folder").parent().map(|dir| dir.join("doomed")).unwrap_or_default();
        fs::create_dir_all(&doomed)?;
        let process = shell(&folder, "setsid sh -c 'echo $$ > inner; exec sleep 1000' & wait")?;
        let inner = number_in(folder.join("inner")).await;
        let start = process_tree::start_time(inner);

        let mut dog = Command::new("sh")
            .args(["-c", include_str!("watchdog.sh"), "test-watchdog"])
            .stdin(Stdio::piped())
            .spawn()?;
        let mut pipe = dog.stdin.take().context("a pipe")?;
        writeln!(pipe, "add {} {}", process.pid(), process.identity.start_time)?;
        writeln!(pipe, "add 1 12345")?; // another process has that number now: it must live
        writeln!(pipe, "dir {}", doomed.display())?;
        drop(pipe);
        assert!(dog.wait()?.success());
        gone(inner, start).await;
        process.wait(Duration::from_secs(10)).await?;
        assert!(!doomed.exists());
        Ok(())
    }
}
