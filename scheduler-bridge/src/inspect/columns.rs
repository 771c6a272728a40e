//! Columns and their decoding: task instances, launches, jobs, schedulers as the doctor knows them.

use sqlx::Row;
use sqlx::postgres::PgRow;
use windlass_core::doctor::{Job, LaunchFacts, Scheduler, TaskFacts};
use windlass_core::ids::TaskKey;
use windlass_core::task::TaskState;
use windlass_core::time::UtcMicros;

use crate::error::BridgeError;
use crate::rows::{launch_row, reading};
use crate::timestamp::Timestamp;

/// What [`task_of`] reads, of `ti`, `w` (job of its worker), `q` (job that queued it) and `r` (its DAG run).
pub(super) const TASK: &str = "ti.dag_id AS ti_dag_id, ti.task_id AS ti_task_id, ti.run_id AS ti_run_id,
    ti.map_index AS ti_map_index, ti.state AS ti_state, coalesce(ti.try_number, 0) AS ti_try_number,
    ti.queued_dttm AS ti_queued_dttm, ti.queued_by_job_id::int8 AS ti_queued_by, ti.executor AS ti_executor,
    nullif(ti.hostname, '') AS ti_hostname, r.run_type, r.state AS run_state,
    w.id::int8 AS w_id, w.job_type AS w_type, w.state AS w_state, w.latest_heartbeat AS w_heartbeat,
    q.id::int8 AS q_id, q.job_type AS q_type, q.state AS q_state, q.latest_heartbeat AS q_heartbeat";

/// The tables beside `ti` that [`TASK`] names.
pub(super) const TASK_JOINS: &str = "LEFT JOIN {airflow}job w ON w.id = ti.job_id
    LEFT JOIN {airflow}job q ON q.id = ti.queued_by_job_id
    LEFT JOIN {airflow}dag_run r ON r.dag_id = ti.dag_id AND r.run_id = ti.run_id";

/// The times of `l`, beside `LAUNCH_COLUMNS`.
pub(super) const LAUNCH_TIMES: &str =
    "l.epoch, l.lost, l.claimed_at, l.created_at, l.running_at, l.settled_at,
    l.closed_at, l.withdrawn_at, l.callback_sent_at, l.delivered_at";

pub(super) const SCHEDULERS: &str = "
    SELECT s.job_id, s.hostname, s.airflow_version, s.plugin_version, s.executor_names, s.is_default,
        s.has_pod_mutation_hook, s.seen_at,
        q.id::int8 AS q_id, q.job_type AS q_type, q.state AS q_state, q.latest_heartbeat AS q_heartbeat
    FROM windlass.scheduler s LEFT JOIN {airflow}job q ON q.id = s.job_id
    ORDER BY s.seen_at DESC, s.job_id LIMIT $1";

/// None: the row of the outer join is not there.
pub(super) fn task_of(row: &PgRow) -> Result<Option<TaskFacts>, BridgeError> {
    decode_task(row).map_err(reading)
}

fn decode_task(row: &PgRow) -> Result<Option<TaskFacts>, sqlx::Error> {
    let Some(dag_id) = row.try_get::<Option<String>, _>("ti_dag_id")? else { return Ok(None) };
    let state: Option<String> = row.try_get("ti_state")?;
    Ok(Some(TaskFacts {
        key: TaskKey {
            dag_id,
            task_id: row.try_get("ti_task_id")?,
            run_id: row.try_get("ti_run_id")?,
            map_index: row.try_get("ti_map_index")?,
        },
        state: TaskState::from_column(state.as_deref()),
        try_number: row.try_get("ti_try_number")?,
        queued_at: time(row, "ti_queued_dttm")?,
        queued_by: row.try_get("ti_queued_by")?,
        queued_by_job: job(row, ["q_id", "q_type", "q_state", "q_heartbeat"])?,
        executor: row.try_get("ti_executor")?,
        hostname: row.try_get("ti_hostname")?,
        worker: job(row, ["w_id", "w_type", "w_state", "w_heartbeat"])?,
        run_type: row.try_get("run_type")?,
        run_state: row.try_get("run_state")?,
    }))
}

/// Id, type, state and heartbeat by these names.
pub(super) fn job(row: &PgRow, [id, kind, state, heartbeat]: [&str; 4]) -> Result<Option<Job>, sqlx::Error> {
    let Some(id) = row.try_get::<Option<i64>, _>(id)? else { return Ok(None) };
    Ok(Some(Job {
        id,
        kind: row.try_get::<Option<String>, _>(kind)?.unwrap_or_default(),
        state: row.try_get::<Option<String>, _>(state)?.unwrap_or_default(),
        heartbeat: time(row, heartbeat)?,
    }))
}

pub(super) fn launch_of(row: &PgRow) -> Result<LaunchFacts, BridgeError> {
    let launch = launch_row(row)?;
    let times = || -> Result<LaunchFacts, sqlx::Error> {
        Ok(LaunchFacts {
            row: launch,
            epoch: row.try_get("epoch")?,
            lost: row.try_get("lost")?,
            claimed_at: row.try_get::<Timestamp, _>("claimed_at")?.0,
            created_at: time(row, "created_at")?,
            running_at: time(row, "running_at")?,
            settled_at: time(row, "settled_at")?,
            closed_at: time(row, "closed_at")?,
            withdrawn_at: time(row, "withdrawn_at")?,
            callback_sent_at: time(row, "callback_sent_at")?,
            delivered_at: time(row, "delivered_at")?,
        })
    };
    times().map_err(reading)
}

pub(super) fn scheduler_of(row: &PgRow) -> Result<Scheduler, sqlx::Error> {
    Ok(Scheduler {
        job_id: row.try_get("job_id")?,
        hostname: row.try_get("hostname")?,
        airflow_version: row.try_get("airflow_version")?,
        plugin_version: row.try_get("plugin_version")?,
        executor_names: row.try_get("executor_names")?,
        is_default: row.try_get("is_default")?,
        has_pod_mutation_hook: row.try_get("has_pod_mutation_hook")?,
        seen_at: row.try_get::<Timestamp, _>("seen_at")?.0,
        job: job(row, ["q_id", "q_type", "q_state", "q_heartbeat"])?,
    })
}

pub(super) fn time(row: &PgRow, column: &str) -> Result<Option<UtcMicros>, sqlx::Error> {
    Ok(row.try_get::<Option<Timestamp>, _>(column)?.map(|time| time.0))
}
