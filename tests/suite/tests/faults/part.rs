//! A process that is kept running: started again when a fault, or its own death, has ended it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::Signal;
use windlass_lab::process::Supervised;

/// A container that ended is started again after this.
const RESTART: Duration = Duration::from_secs(1);

/// One of them.
#[derive(Debug)]
pub(crate) struct Part {
    name: String,
    program: PathBuf,
    argument: &'static str,
    env: BTreeMap<String, String>,
    log: PathBuf,
    process: Option<Supervised>,
    back_at: Option<Instant>,
    continues_at: Option<Instant>,
}

impl Part {
    pub(crate) fn new(
        name: String,
        program: PathBuf,
        argument: &'static str,
        env: BTreeMap<String, String>,
        log: PathBuf,
    ) -> Self {
        Self { name, program, argument, env, log, process: None, back_at: None, continues_at: None }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn log(&self) -> &PathBuf {
        &self.log
    }

    pub(crate) fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.arg(self.argument).envs(&self.env).current_dir("/");
        self.process = Some(Supervised::spawn(&self.name, command, &self.log)?);
        self.back_at = None;
        Ok(())
    }

    /// Whether it runs and is not paused.
    pub(crate) fn is_up(&self) -> bool {
        self.continues_at.is_none() && self.process.as_ref().is_some_and(|process| process.ended().is_none())
    }

    /// SIGKILL to it and its descendants; it is back after `down`.
    pub(crate) fn kill(&mut self, down: Duration) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
        self.continues_at = None;
        self.back_at = Some(Instant::now() + down);
    }

    /// SIGTERM; whoever calls this starts it again.
    pub(crate) fn terminate(&mut self) -> Option<Supervised> {
        let process = self.process.take()?;
        process.signal(Signal::TERM);
        Some(process)
    }

    pub(crate) fn pause(&mut self, pause: Duration) {
        if let Some(process) = &self.process {
            process.signal(Signal::STOP);
            self.continues_at = Some(Instant::now() + pause);
        }
    }

    /// Does what is due. Tells how it ended if it ended by itself.
    pub(crate) fn tick(&mut self) -> Result<Option<String>> {
        if self.continues_at.is_some_and(|at| at <= Instant::now()) {
            self.continues_at = None;
            if let Some(process) = &self.process {
                process.signal(Signal::CONT);
            }
        }
        if self.back_at.is_some_and(|at| at <= Instant::now()) {
            self.start()?;
            return Ok(None);
        }
        let ended = self.process.as_ref().and_then(Supervised::ended);
        let Some(status) = ended else { return Ok(None) };
        let told = format!("{} has ended by itself ({status})", self.name);
        self.kill(RESTART);
        Ok(Some(told))
    }
}
