//! DAG runs, triggered one after the other over the time of the faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use windlass_lab::airflow::Airflow;

use crate::story::Story;

/// The one DAG.
pub(crate) const DAG: &str = "faults";
/// After an error: the database may be away.
const AGAIN: Duration = Duration::from_millis(500);
/// A run that can't be made for so long never will be.
const TRIGGER_WITHIN: Duration = Duration::from_secs(120);

/// Triggers runs, one each `every`: `least` of them, and more until the faults are over, which need something to strike.
pub(crate) struct Load {
    task: JoinHandle<Result<()>>,
    is_over: Arc<AtomicBool>,
}

impl Load {
    pub(crate) fn start(airflow: Arc<Airflow>, story: Arc<Story>, least: u32, every: Duration) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let task = tokio::spawn(async move {
            for number in 0.. {
                if number >= least && over.load(Ordering::Relaxed) {
                    break;
                }
                let begun = Instant::now();
                trigger(&airflow, &format!("run{number}")).await?;
                story.say(&format!("run{number} is triggered"));
                sleep(every.saturating_sub(begun.elapsed())).await;
            }
            Ok(())
        });
        Self { task, is_over }
    }

    /// The faults are over; waits until the last run is made.
    pub(crate) async fn end(self) -> Result<()> {
        self.is_over.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

/// Makes a run, also while the database comes and goes.
pub(crate) async fn trigger(airflow: &Airflow, run_id: &str) -> Result<()> {
    let deadline = Instant::now() + TRIGGER_WITHIN;
    loop {
        match airflow.trigger(DAG, run_id, json!({})).await {
            Ok(()) => return Ok(()),
            // The commit whose answer was lost.
            Err(error) if format!("{error:#}").contains("DagRunAlreadyExists") => return Ok(()),
            Err(_) if Instant::now() < deadline => sleep(AGAIN).await,
            Err(error) => bail!("{run_id} could not be triggered within {TRIGGER_WITHIN:?}: {error:#}"),
        }
    }
}
