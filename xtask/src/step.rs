//! One command as a step: a line when it starts, signs of life, a line when it ends, its output when it fails.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use windlass_lab_prepare::workspace;

/// Between two signs of life.
const EVERY: Duration = Duration::from_secs(30);

/// What a step came to.
pub(crate) struct Done {
    pub(crate) success: bool,
    /// Standard output, and after it standard error.
    pub(crate) output: String,
}

/// Runs `command` from the root of the workspace. Its output is shown at the end if it fails, and while it runs when
/// `verbose`.
pub(crate) fn run(name: &str, mut command: Command, verbose: bool) -> Result<Done> {
    let started = Instant::now();
    if command.get_current_dir().is_none() {
        command.current_dir(workspace());
    }
    println!("  {name} ...");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {:?} ({name})", command.get_program()))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (stop, stopped) = mpsc::channel::<()>();
    let (status, out, err) = std::thread::scope(|scope| {
        let out = scope.spawn(move || collect(out, verbose));
        let err = scope.spawn(move || collect(err, verbose));
        scope.spawn(move || {
            while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(EVERY) {
                println!("  {name} ... {} s", started.elapsed().as_secs());
            }
        });
        let status = child.wait();
        drop(stop);
        (status, out.join().unwrap_or_default(), err.join().unwrap_or_default())
    });
    let (success, took) = (status?.success(), started.elapsed());
    let done = Done { success, output: out + &err };
    println!("  {name}: {} ({:.1} s)", if success { "ok" } else { "FAILED" }, took.as_secs_f64());
    if !success && !verbose {
        println!("{}", done.output.trim_end());
    }
    Ok(done)
}

fn collect(pipe: Option<impl Read>, verbose: bool) -> String {
    let mut all = String::new();
    let mut pipe = pipe.map(BufReader::new);
    let mut line = Vec::new();
    while let Some(pipe) = pipe.as_mut() {
        line.clear();
        if pipe.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        if verbose {
            print!("{text}");
        }
        all.push_str(&text);
    }
    all
}

/// `cargo` as it was called, else by name; what it prints of its own progress would bury what it has to say.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace()).env("CARGO_TERM_QUIET", "true");
    cargo
}

/// Whether this is CI: there a missing prerequisite is a failure, elsewhere its level is skipped.
pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}
