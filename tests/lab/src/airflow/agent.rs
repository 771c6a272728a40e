//! A Python process that does what a user does in Airflow's UI.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use crate::process::Supervised;

/// Talks to `agent.py`; one request at a time.
#[derive(Clone, Debug)]
pub(super) struct Agent(Arc<Mutex<Pipes>>);

#[derive(Debug)]
struct Pipes {
    process: Supervised,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Agent {
    pub(super) fn start(mut python: Command, log: &std::path::Path) -> Result<Self> {
        python.args(["-c", include_str!("agent.py")]);
        let (process, to, from) = Supervised::spawn_piped("airflow agent", python, log)?;
        Ok(Self(Arc::new(Mutex::new(Pipes { process, to, from: BufReader::new(from) }))))
    }

    /// `request` names the operation and its arguments; see `agent.py`.
    pub(super) async fn ask(&self, request: Value) -> Result<Value> {
        let pipes = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || {
            let mut pipes = pipes.lock().unwrap_or_else(PoisonError::into_inner);
            pipes.ask(&request).with_context(|| format!("ask Airflow for {request}"))
        })
        .await?
    }
}

impl Pipes {
    fn ask(&mut self, request: &Value) -> Result<Value> {
        let mut line = String::new();
        let sent = writeln!(self.to, "{request}").and_then(|()| self.from.read_line(&mut line));
        if line.is_empty() {
            // It has ended: its log says why.
            self.process.wait_blocking(std::time::Duration::from_secs(5));
            self.process.must_run()?;
            sent.context("talk to the agent")?;
        }
        let mut answer: Value = serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))?;
        match answer.get("error").and_then(Value::as_str) {
            Some(error) => Err(anyhow!("{error}. More in {}", self.process.log().display())),
            None => Ok(answer["result"].take()),
        }
    }
}
