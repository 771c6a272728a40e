//! The log page of the UI: of a running task, and of one whose pod was killed.

use anyhow::{Result, ensure};
use windlass_suite::{Stack, kill_container};

use super::{DEATH, beside};

/// What the webserver's log page calls.
const READ: &str = r#"
import sys
from airflow.models.taskinstance import TaskInstance
from airflow.utils.log.log_reader import TaskLogReader
from airflow.utils.session import create_session

dag_id, task_id, run_id, attempt = sys.argv[1:]
with create_session() as session:
    ti = session.query(TaskInstance).filter_by(dag_id=dag_id, task_id=task_id, run_id=run_id).one()
    ti.dag_run
    logs, _ = TaskLogReader().read_log_chunks(ti, int(attempt), {})
print("LOG", logs)
"#;

/// What a worker writes into the task's log and on its standard output.
const ON_STDOUT: &str = "Running <TaskInstance: single.blocks";

async fn log_page(stack: &Stack, (dag, run, task): (&str, &str, &str), attempt: &str) -> Result<String> {
    let mut python = tokio::process::Command::from(stack.airflow.command("python"));
    // As in the webserver's container: the same settings, and a service account that may read logs.
    python.env("AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER", "False");
    python.env("AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE", stack.plane.kubeconfig());
    python.args(["-c", READ, dag, task, run, attempt]).kill_on_drop(true);
    let output = python.output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_log_page_shows_the_pod_while_it_runs_and_its_last_lines_after_it_was_killed() -> Result<()> {
    beside(async |stack| {
        let run = stack.trigger("single").await?;
        let task = ("single", run.as_str(), "blocks");
        stack.body_began(&run, "blocks -1 1").await?;
        let launch = stack.launch(task, 0, |launch| launch.stage == "running").await?;
        let page = log_page(stack, task, "1").await?;
        ensure!(
            page.contains(&format!("The task runs in pod airflow/{} (launch running)", launch.pod_name)),
            "{page}"
        );
        ensure!(page.contains("of its log, read through the Kubernetes API."), "{page}");
        ensure!(page.contains("the body of blocks writes this line"), "{page}");

        ensure!(kill_container(&launch.pod_name) > 0, "no process of {}", launch.pod_name);
        let left = |row: &windlass_lab::airflow::TaskRow| !row.is("running");
        stack.airflow.wait_task(("single", &run, "blocks", -1), DEATH, left).await?;
        stack
            .until("the reason in the task's own log", super::RUN, async || {
                let page = log_page(stack, task, "1").await?;
                let told = page.contains("Killed: ")
                    && page.contains("Last lines of its log:")
                    && page.matches(ON_STDOUT).count() > 1;
                Ok(told.then_some(()))
            })
            .await?;
        let events = stack.airflow.log_rows("single", &run).await?;
        let told = |row: &windlass_lab::airflow::LogRow| {
            row.event == "windlass failure"
                && row.extra.as_deref().is_some_and(|extra| extra.contains(ON_STDOUT))
        };
        ensure!(events.iter().any(told), "no last lines in the event log: {events:?}");
        stack.go(&run)?;
        ensure!(stack.airflow.wait_run("single", &run, super::RUN).await? == "success");
        Ok(())
    })
}
