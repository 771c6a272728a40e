//! Cleans up when this process cannot: Ctrl-C, an abort, `kill -9`.
//!
//! `PR_SET_PDEATHSIG` would not do: it fires when the *thread* that started the child ends (each test has its own), and
//! reaches no grandchildren. The watchdog is a shell in a process group of its own that reads a pipe from us.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};

struct Watchdog {
    pipe: ChildStdin,
    dirs: BTreeSet<PathBuf>,
}

static WATCHDOG: Mutex<Option<Watchdog>> = Mutex::new(None);

/// Has the process killed, with its descendants, when we are gone.
pub(crate) fn kill_at_the_end(pid: i32, start_time: u64) -> Result<()> {
    with_watchdog(|dog| writeln!(dog.pipe, "add {pid} {start_time}"))
}

/// The process has ended and was reaped: its number may be given to another.
pub(crate) fn forget(pid: i32) {
    // An error means that the watchdog is gone; whoever adds the next process is told.
    let _ = with_watchdog(|dog| writeln!(dog.pipe, "del {pid}"));
}

/// Has a folder removed when we are gone.
pub(crate) fn remove_at_the_end(dir: &Path) -> Result<()> {
    if dir.to_string_lossy().contains(char::is_whitespace) {
        bail!("the lab can't work in a folder whose path has blanks: {}", dir.display());
    }
    with_watchdog(|dog| {
        if dog.dirs.insert(dir.to_owned()) { writeln!(dog.pipe, "dir {}", dir.display()) } else { Ok(()) }
    })
}

fn with_watchdog(tell: impl FnOnce(&mut Watchdog) -> std::io::Result<()>) -> Result<()> {
    let mut guard: MutexGuard<'_, Option<Watchdog>> = WATCHDOG.lock().unwrap_or_else(PoisonError::into_inner);
    if guard.is_none() {
        *guard = Some(start()?);
    }
    match guard.as_mut() {
        Some(dog) => tell(dog).context("the lab's watchdog process is gone: was it killed?"),
        None => Ok(()),
    }
}

/// Nobody waits for it: it outlives us by design.
fn start() -> Result<Watchdog> {
    let mut child = Command::new("sh")
        .args(["-c", include_str!("watchdog.sh"), "windlass-lab-watchdog"])
        .process_group(0) // Ctrl-C goes to the group of the terminal
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null()) // else a test runner that waits for the end of our output would wait for it
        .spawn()
        .context("start `sh` as the lab's watchdog")?;
    let pipe = child.stdin.take().context("no pipe to the lab's watchdog")?;
    Ok(Watchdog { pipe, dirs: BTreeSet::new() })
}
