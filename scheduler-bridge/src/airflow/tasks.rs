//! How the rows of launches stand: re-reads before every decision, and the search for what Airflow took back.

use sqlx::Row;
use sqlx::postgres::PgRow;
use windlass_core::ids::{LaunchId, Queueing};
use windlass_core::task::{TaskRow, TaskState, TaskView};

use crate::error::BridgeError;
use crate::keys::{QueueingColumns, id_array};
use crate::rows::{launch_id, reading};
use crate::store::Store;
use crate::timestamp::Timestamp;
use crate::transaction::{Access, airflow_statement};

/// What [`view_of`] reads, of `ti`, `j` (job of its worker) and `l` (launch). $1: milliseconds without a heartbeat
/// after which a worker counts as dead, by the database's clock; the worker writes its own clock, as Airflow's zombie
/// detection has it too.
const VIEW_COLUMNS: &str =
    "ti.dag_id IS NOT NULL AS found, ti.state, coalesce(ti.try_number, 0) AS try_number,
    ti.queued_dttm, nullif(ti.hostname, '') AS hostname,
    CASE WHEN ti.job_id IS NULL THEN NULL ELSE coalesce(
        j.job_type = 'LocalTaskJob' AND j.state = 'running'
            AND j.latest_heartbeat > clock_timestamp() - $1 * interval '1 millisecond', false)
    END AS worker_alive,
    l.withdrawn_at IS NOT NULL AS withdrawn";

const READ: &str = "
    SELECT q.launch_id, {view}
    FROM unnest($2::text[], $3::text[], $4::text[], $5::int4[], $6::text[])
        AS q (dag_id, task_id, run_id, map_index, launch_id)
    LEFT JOIN {airflow}task_instance ti
        ON ti.dag_id = q.dag_id AND ti.task_id = q.task_id AND ti.run_id = q.run_id AND ti.map_index = q.map_index
    LEFT JOIN {airflow}job j ON j.id = ti.job_id
    LEFT JOIN windlass.launch l ON l.launch_id = q.launch_id";

/// `running` and `restarting` are no withdrawal: the pod has started, and how it ends decides. A launch without a pod is
/// shown all the same: somebody else runs its task, and a leader that has lost sight of it finds it here.
const WITHDRAWN: &str = "
    SELECT l.launch_id, {view}
    FROM windlass.launch l
    LEFT JOIN {airflow}task_instance ti
        ON ti.dag_id = l.dag_id AND ti.task_id = l.task_id AND ti.run_id = l.run_id AND ti.map_index = l.map_index
    LEFT JOIN {airflow}job j ON j.id = ti.job_id
    WHERE NOT l.done AND l.stage IN ('claimed', 'created')
        AND (l.withdrawn_at IS NOT NULL
            OR ti.state IS NULL
            OR ti.state NOT IN ('queued', 'running', 'restarting')
            OR (ti.state <> 'queued' AND l.stage = 'claimed')
            OR ti.try_number IS DISTINCT FROM l.try_number
            OR ti.queued_dttm IS DISTINCT FROM l.queued_dttm)
    ORDER BY l.launch_id
    LIMIT $2";

impl Store {
    /// Reads the rows of these launches again, in one statement.
    pub async fn read_tasks(&self, launches: &[(LaunchId, Queueing)]) -> Result<Vec<TaskView>, BridgeError> {
        let mut tx = self.begin(Access::Read, "read task instances").await?;
        let keys = QueueingColumns::of(launches.iter().map(|(_, queueing)| queueing));
        let query = airflow_statement(self.view_sql(READ)).bind(self.dead_after_ms());
        let query = keys.bind_task_keys(query).bind(id_array(launches.iter().map(|(launch, _)| launch)));
        let rows = tx.rows(query).await?;
        tx.commit().await?;
        rows.iter().map(view_of).collect()
    }

    /// Launches whose pod has not started and whose queueing Airflow took back: the row is gone, in another state, of
    /// another queueing, or `revoke_task` said so. At most `limit`.
    pub async fn find_withdrawn(&self, limit: u32) -> Result<Vec<TaskView>, BridgeError> {
        let mut tx = self.begin(Access::Scan, "look for withdrawn launches").await?;
        let query =
            airflow_statement(self.view_sql(WITHDRAWN)).bind(self.dead_after_ms()).bind(i64::from(limit));
        let rows = tx.rows(query).await?;
        tx.commit().await?;
        rows.iter().map(view_of).collect()
    }

    fn view_sql(&self, template: &'static str) -> String {
        self.airflow_sql(template).replace("{view}", VIEW_COLUMNS)
    }

    fn dead_after_ms(&self) -> f64 {
        self.settings().worker_dead_after().as_secs_f64() * 1000.0
    }
}

fn view_of(row: &PgRow) -> Result<TaskView, BridgeError> {
    let launch = launch_id(row)?;
    let found: bool = row.try_get("found").map_err(reading)?;
    let task = if found { Some(task_row(row).map_err(reading)?) } else { None };
    Ok(TaskView { launch, row: task, withdrawn: row.try_get("withdrawn").map_err(reading)? })
}

fn task_row(row: &PgRow) -> Result<TaskRow, sqlx::Error> {
    let state: Option<String> = row.try_get("state")?;
    let queued: Option<Timestamp> = row.try_get("queued_dttm")?;
    Ok(TaskRow {
        state: TaskState::from_column(state.as_deref()),
        try_number: row.try_get("try_number")?,
        queued_at: queued.map(|time| time.0),
        hostname: row.try_get("hostname")?,
        worker_alive: row.try_get("worker_alive")?,
    })
}
