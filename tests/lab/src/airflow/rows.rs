//! What Airflow's database says, and waiting for it to say something.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{Airflow, Component};
use crate::process::POLL;

/// A row of `task_instance`. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the columns of task_instance, as Airflow names them")]
pub struct TaskRow {
    pub dag_id: String,
    pub run_id: String,
    pub task_id: String,
    pub map_index: i32,
    pub try_number: i32,
    pub max_tries: i32,
    /// `None`: not scheduled yet, or cleared.
    pub state: Option<String>,
    pub queued_dttm: Option<f64>,
    pub start_date: Option<f64>,
    pub end_date: Option<f64>,
    pub hostname: String,
    pub queued_by_job_id: Option<i32>,
    pub job_id: Option<i32>,
    pub pid: Option<i32>,
    pub external_executor_id: Option<String>,
}

const TASK_COLUMNS: &str = "dag_id, run_id, task_id, map_index, try_number, max_tries, state,
    extract(epoch FROM queued_dttm)::float8 AS queued_dttm, extract(epoch FROM start_date)::float8 AS start_date,
    extract(epoch FROM end_date)::float8 AS end_date, coalesce(hostname, '') AS hostname, queued_by_job_id, job_id,
    pid, external_executor_id";

impl TaskRow {
    fn read(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            dag_id: row.try_get("dag_id")?,
            run_id: row.try_get("run_id")?,
            task_id: row.try_get("task_id")?,
            map_index: row.try_get("map_index")?,
            try_number: row.try_get("try_number")?,
            max_tries: row.try_get("max_tries")?,
            state: row.try_get("state")?,
            queued_dttm: row.try_get("queued_dttm")?,
            start_date: row.try_get("start_date")?,
            end_date: row.try_get("end_date")?,
            hostname: row.try_get("hostname")?,
            queued_by_job_id: row.try_get("queued_by_job_id")?,
            job_id: row.try_get("job_id")?,
            pid: row.try_get("pid")?,
            external_executor_id: row.try_get("external_executor_id")?,
        })
    }

    /// Whether `state` is that one.
    pub fn is(&self, state: &str) -> bool {
        self.state.as_deref() == Some(state)
    }
}

/// A row of `log`: what the UI shows as the task's events.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of log, as Airflow names them")]
pub struct LogRow {
    pub event: String,
    pub task_id: String,
    pub map_index: Option<i32>,
    pub try_number: Option<i32>,
    pub owner: Option<String>,
    pub extra: Option<String>,
}

impl Airflow {
    /// All task instances of a run, by task and map index.
    pub async fn tasks(&self, dag_id: &str, run_id: &str) -> Result<Vec<TaskRow>> {
        let sql = format!(
            "SELECT {TASK_COLUMNS} FROM task_instance WHERE dag_id = $1 AND run_id = $2 ORDER BY task_id, map_index"
        );
        let rows =
            sqlx::query(sqlx::AssertSqlSafe(sql)).bind(dag_id).bind(run_id).fetch_all(self.pool()).await?;
        Ok(rows.iter().map(TaskRow::read).collect::<sqlx::Result<_>>()?)
    }

    /// One task instance; `map_index` is -1 for a task that is not mapped.
    pub async fn task(
        &self,
        dag_id: &str,
        run_id: &str,
        task_id: &str,
        map_index: i32,
    ) -> Result<Option<TaskRow>> {
        let tasks = self.tasks(dag_id, run_id).await?;
        Ok(tasks.into_iter().find(|row| row.task_id == task_id && row.map_index == map_index))
    }

    /// Waits until `wanted` says yes to a task instance, and returns it.
    pub async fn wait_task(
        &self,
        (dag_id, run_id, task_id, map_index): (&str, &str, &str, i32),
        at_most: Duration,
        wanted: impl Fn(&TaskRow) -> bool,
    ) -> Result<TaskRow> {
        let deadline = Instant::now() + at_most;
        loop {
            let row = self.task(dag_id, run_id, task_id, map_index).await?;
            if let Some(row) = row.clone().filter(|row| wanted(row)) {
                return Ok(row);
            }
            if Instant::now() > deadline {
                let log = self.end_of_scheduler_log();
                bail!("task {dag_id}.{task_id} [{map_index}] of {run_id} after {at_most:?}: {row:?}\n{log}");
            }
            self.components_must_run()?;
            tokio::time::sleep(POLL).await;
        }
    }

    /// State of a DAG run.
    pub async fn run_state(&self, dag_id: &str, run_id: &str) -> Result<Option<String>> {
        let sql = "SELECT state FROM dag_run WHERE dag_id = $1 AND run_id = $2";
        Ok(sqlx::query_scalar(sql).bind(dag_id).bind(run_id).fetch_optional(self.pool()).await?)
    }

    /// Waits until a DAG run is over and returns `success` or `failed`.
    pub async fn wait_run(&self, dag_id: &str, run_id: &str, at_most: Duration) -> Result<String> {
        let deadline = Instant::now() + at_most;
        loop {
            let state = self.run_state(dag_id, run_id).await?;
            if let Some(state) = state.clone().filter(|state| state == "success" || state == "failed") {
                return Ok(state);
            }
            if Instant::now() > deadline {
                let tasks: Vec<String> = self
                    .tasks(dag_id, run_id)
                    .await?
                    .into_iter()
                    .map(|row| format!("{}[{}]={:?}", row.task_id, row.map_index, row.state))
                    .collect();
                let log = self.end_of_scheduler_log();
                bail!("run {run_id} of {dag_id} is {state:?} after {at_most:?}: {}\n{log}", tasks.join(" "));
            }
            self.components_must_run()?;
            tokio::time::sleep(POLL).await;
        }
    }

    /// The events of a run in Airflow's log table, oldest first.
    pub async fn log_rows(&self, dag_id: &str, run_id: &str) -> Result<Vec<LogRow>> {
        let sql = "SELECT event, coalesce(task_id, '') AS task_id, map_index, try_number, owner, extra
                   FROM log WHERE dag_id = $1 AND run_id = $2 ORDER BY id";
        let rows = sqlx::query(sql).bind(dag_id).bind(run_id).fetch_all(self.pool()).await?;
        let read = |row: &PgRow| {
            Ok(LogRow {
                event: row.try_get("event")?,
                task_id: row.try_get("task_id")?,
                map_index: row.try_get("map_index")?,
                try_number: row.try_get("try_number")?,
                owner: row.try_get("owner")?,
                extra: row.try_get("extra")?,
            })
        };
        Ok(rows.iter().map(read).collect::<sqlx::Result<_>>()?)
    }

    /// How many jobs of this component have ever started (0 for the webserver, which has none).
    pub(super) async fn job_count(&self, component: Component) -> Result<i64> {
        let job_type = match component {
            Component::Scheduler => "SchedulerJob",
            Component::Triggerer => "TriggererJob",
            Component::DagProcessor => "DagProcessorJob",
            Component::Webserver => return Ok(0),
        };
        Ok(sqlx::query_scalar("SELECT count(*) FROM job WHERE job_type = $1")
            .bind(job_type)
            .fetch_one(self.pool())
            .await?)
    }

    fn components_must_run(&self) -> Result<()> {
        self.components.values().try_for_each(|process| process.must_run())
    }

    fn end_of_scheduler_log(&self) -> String {
        let tail = self.components.get(&Component::Scheduler).map(|process| process.log_tail(25));
        tail.map(|tail| format!("The end of the scheduler's log:\n{tail}")).unwrap_or_default()
    }
}
