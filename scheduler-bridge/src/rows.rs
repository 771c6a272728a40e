//! Rows of `windlass.launch` as the core knows them; loading those that are not closed; finding some by id.

use sqlx::Row;
use sqlx::postgres::PgRow;
use windlass_core::ids::{Attempt, Epoch, LaunchId, PodRef, PodUid};
use windlass_core::outcome::{Outcome, OutcomeKind, Reason};
use windlass_core::store::{LaunchRow, StoredStage};

use crate::error::BridgeError;
use crate::keys::{id_array, queueing_of};
use crate::store::Store;
use crate::transaction::{Access, airflow_statement};

/// What [`launch_row`] reads, of a table alias `l`.
pub(crate) const LAUNCH_COLUMNS: &str = "l.launch_id, l.dag_id, l.task_id, l.run_id, l.map_index, l.try_number,
    l.queued_dttm, l.stage, l.attempt, l.namespace, l.pod_name, l.pod_uid, l.outcome, l.reason, l.message, l.exit_code,
    l.scheduler_job_id, l.priority_weight";

/// Rows per transaction while a new term loads: some 20 ms each, so that the plugin's writes never wait for long.
const LOAD_BATCH: i64 = 1000;

/// Locks in the order of the key before it writes: the plugin writes single rows, `save` locks in the same order.
const ADOPT: &str = "
    WITH batch AS (
        SELECT launch_id FROM windlass.launch
        WHERE NOT done AND closed_at IS NULL AND launch_id > $2
        ORDER BY launch_id LIMIT $3
        FOR NO KEY UPDATE
    )
    UPDATE windlass.launch l SET epoch = $1 FROM batch WHERE l.launch_id = batch.launch_id
    RETURNING {columns}";

const FIND: &str = "SELECT {columns} FROM windlass.launch l WHERE l.launch_id = ANY($1)";

impl Store {
    /// All launches that are not closed, made ours. A fenced term gets [`BridgeError::Fenced`].
    pub async fn load(&self, epoch: Epoch) -> Result<Vec<LaunchRow>, BridgeError> {
        let sql = ADOPT.replace("{columns}", LAUNCH_COLUMNS);
        let mut all: Vec<LaunchRow> = Vec::new();
        let mut after = String::new();
        loop {
            let mut tx = self.begin(Access::Fenced(epoch), "load launches").await?;
            let query = airflow_statement(sql.clone()).bind(epoch.0).bind(after.clone()).bind(LOAD_BATCH);
            let rows = tx.rows(query).await?;
            tx.commit().await?;
            let mut batch = rows.iter().map(launch_row).collect::<Result<Vec<_>, _>>()?;
            batch.sort_by(|a, b| a.launch.cmp(&b.launch));
            let Some(last) = batch.last() else { return Ok(all) };
            last.launch.as_str().clone_into(&mut after);
            let full = batch.len() as i64 == LOAD_BATCH;
            all.append(&mut batch);
            if !full {
                return Ok(all);
            }
        }
    }

    /// The launches among `ids` that exist, whatever their stage.
    pub async fn find_launches(&self, ids: &[LaunchId]) -> Result<Vec<LaunchRow>, BridgeError> {
        let mut tx = self.begin(Access::Read, "find launches").await?;
        let sql = FIND.replace("{columns}", LAUNCH_COLUMNS);
        let rows = tx.rows(airflow_statement(sql).bind(id_array(ids.iter()))).await?;
        tx.commit().await?;
        rows.iter().map(launch_row).collect()
    }
}

/// Reads a row that has [`LAUNCH_COLUMNS`].
pub(crate) fn launch_row(row: &PgRow) -> Result<LaunchRow, BridgeError> {
    let launch = launch_id(row)?;
    let stage: String = get(row, "stage")?;
    let pod_uid: Option<String> = get(row, "pod_uid")?;
    let attempt: i32 = get(row, "attempt")?;
    Ok(LaunchRow {
        queueing: queueing_of(row).map_err(reading)?,
        stage: StoredStage::from_column(&stage).ok_or_else(|| foreign("stage", stage))?,
        attempt: Attempt(u32::try_from(attempt).map_err(|_| foreign("attempt", attempt.to_string()))?),
        pod: PodRef { namespace: get(row, "namespace")?, name: get(row, "pod_name")? },
        uid: pod_uid.map(PodUid),
        outcome: outcome(row)?,
        scheduler_job_id: get(row, "scheduler_job_id")?,
        priority_weight: get(row, "priority_weight")?,
        launch,
    })
}

/// Reads the column `launch_id`.
pub(crate) fn launch_id(row: &PgRow) -> Result<LaunchId, BridgeError> {
    let id: String = get(row, "launch_id")?;
    id.parse().map_err(|_| foreign("launch_id", id))
}

fn outcome(row: &PgRow) -> Result<Option<Outcome>, BridgeError> {
    let kind: Option<String> = get(row, "outcome")?;
    let Some(kind) = kind else { return Ok(None) };
    let reason: Option<String> = get(row, "reason")?;
    let message: Option<String> = get(row, "message")?;
    Ok(Some(Outcome {
        kind: OutcomeKind::ALL
            .into_iter()
            .find(|k| k.as_str() == kind)
            .ok_or_else(|| foreign("outcome", kind))?,
        reason: reason
            .map(|code| {
                Reason::ALL.into_iter().find(|r| r.as_str() == code).ok_or_else(|| foreign("reason", code))
            })
            .transpose()?,
        message: message.unwrap_or_default(),
        exit_code: get(row, "exit_code")?,
    }))
}

fn get<'r, T>(row: &'r PgRow, column: &'static str) -> Result<T, BridgeError>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(column).map_err(reading)
}

/// A column that is not of the type expected: the schema was changed by hand.
pub(crate) fn reading(source: sqlx::Error) -> BridgeError {
    BridgeError::Query { what: "read its own rows", source }
}

fn foreign(column: &'static str, value: String) -> BridgeError {
    BridgeError::ForeignValue { table: "windlass.launch", column, value }
}
