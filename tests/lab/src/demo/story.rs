//! What happens in the demo, and what Airflow's semantics say must come of it.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use windlass_lab::airflow::TaskRow;
use windlass_lab::process::{POLL, kill_tree};

use crate::progress::Progress;
use crate::stack::Stack;

/// The DAGs of `tests/lab/dags`, and how a run of each ends.
pub(crate) const RUNS: [(&str, &str); 6] = [
    ("chain", "success"),
    ("mapped", "success"),
    ("retry", "success"),
    ("deferrable", "success"),
    ("override", "success"),
    ("killed", "failed"),
];
pub(crate) const RUN_ID: &str = "demo";
/// Tasks whose container is killed in their first try.
const VICTIMS: [&str; 2] = ["has_a_retry", "has_none"];
/// The task that fails for good: it was killed and has no retry.
pub(crate) const FAILS: (&str, &str) = ("killed", "has_none");
/// Sixty Python workers on two busy cores took three minutes.
const AT_MOST: Duration = Duration::from_secs(900);

/// Runs all DAGs, kills the victims, waits for the ends.
pub(crate) async fn play(stack: &Stack, progress: &Progress) -> Result<()> {
    // The one that waits for a kill first: mapped tasks fill the slots.
    for (dag, _) in RUNS.iter().rev() {
        stack.airflow.trigger(dag, RUN_ID, serde_json::json!({})).await?;
    }
    progress.say(&format!("{} DAG runs triggered", RUNS.len()));
    tokio::select! {
        both = async { tokio::try_join!(kill_victims(stack, progress), see_ends(stack, progress)) } => both.map(|_| ())?,
        broken = follow(stack, progress) => broken?,
    }
    until_delivered(stack).await
}

async fn kill_victims(stack: &Stack, progress: &Progress) -> Result<()> {
    for victim in VICTIMS {
        kill(stack, victim, progress).await?;
    }
    Ok(())
}

async fn see_ends(stack: &Stack, progress: &Progress) -> Result<()> {
    for (dag, expected) in RUNS.iter().rev() {
        let state = stack.airflow.wait_run(dag, RUN_ID, AT_MOST).await?;
        progress.say(&format!("{dag}: {state}{}", if state == *expected { "" } else { " (not expected)" }));
    }
    Ok(())
}

/// A worker writes its task's state before its pod ends: the last outcomes come a moment after the runs' ends.
async fn until_delivered(stack: &Stack) -> Result<()> {
    let open = "SELECT count(*) FROM windlass.launch WHERE closed_at IS NULL OR delivered_at IS NULL";
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let open: i64 = sqlx::query_scalar(open).fetch_one(stack.airflow.pool()).await?;
        if open == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{open} launches have no delivered outcome a minute after the end of all runs");
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Says now and then how far it is; ends only when a part of the stack has died.
async fn follow(stack: &Stack, progress: &Progress) -> Result<()> {
    let mut told = Instant::now();
    loop {
        stack.daemon.must_run()?;
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            let (mut done, mut running, mut all) = (0, 0, 0);
            for (dag, _) in RUNS {
                for task in stack.airflow.tasks(dag, RUN_ID).await? {
                    all += 1;
                    done += u32::from(task.is("success") || task.is("failed"));
                    running += u32::from(task.is("running"));
                }
            }
            progress.say(&format!("{done} of {all} tasks are done, {running} run"));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// SIGKILL to the container of the first try, once its body runs.
async fn kill(stack: &Stack, task: &str, progress: &Progress) -> Result<()> {
    let runs = |row: &TaskRow| row.is("running") && row.try_number == 1 && row.pid.is_some();
    let row = stack.airflow.wait_task(("killed", RUN_ID, task, -1), AT_MOST, runs).await?;
    let pod = pod_of(stack, task).await?;
    let pids = processes_of(&pod);
    if pids.is_empty() {
        bail!("task {task} runs (process {:?}), but no process of its pod {pod} was found", row.pid);
    }
    for pid in pids {
        kill_tree(pid);
    }
    progress.say(&format!("killed.{task}: container killed (SIGKILL)"));
    Ok(())
}

async fn pod_of(stack: &Stack, task: &str) -> Result<String> {
    let sql =
        "SELECT pod_name FROM windlass.launch WHERE dag_id = 'killed' AND task_id = $1 AND try_number = 1";
    Ok(sqlx::query_scalar(sql).bind(task).fetch_one(stack.airflow.pool()).await?)
}

/// The kubelet gives each container its pod's name as HOSTNAME.
fn processes_of(pod: &str) -> Vec<i32> {
    let variable = format!("HOSTNAME={pod}");
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|found| found == variable.as_bytes())
    })
    .collect()
}
