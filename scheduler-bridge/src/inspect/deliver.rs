//! `windlass doctor --repair`: outcomes that nobody waits for.

use std::time::Duration;

use windlass_core::ids::LaunchId;

use crate::error::BridgeError;
use crate::keys::id_array;
use crate::rows::launch_id;
use crate::store::Store;
use crate::transaction::{Access, airflow_statement};

/// As the plugin closes outcomes of others (`outcome.judge`, `CLOSE_FOR_OTHERS_SECONDS`), with the rows compared in the
/// statement itself. A row that the plugin or a leader has locked is left out.
const MARK: &str = "
    WITH taken AS (
        SELECT l.launch_id
        FROM windlass.launch l
        LEFT JOIN {airflow}task_instance ti
            ON ti.dag_id = l.dag_id AND ti.task_id = l.task_id AND ti.run_id = l.run_id AND ti.map_index = l.map_index
        WHERE l.launch_id = ANY($1) AND l.outcome IS NOT NULL AND l.delivered_at IS NULL
            AND l.settled_at < clock_timestamp() - $2 * interval '1 millisecond'
            AND (ti.state IS NULL
                OR ti.state NOT IN ('queued', 'running', 'restarting')
                OR ti.try_number IS DISTINCT FROM l.try_number
                OR ti.queued_dttm IS DISTINCT FROM l.queued_dttm)
        ORDER BY l.launch_id
        FOR NO KEY UPDATE OF l SKIP LOCKED
    )
    UPDATE windlass.launch l SET delivered_at = clock_timestamp() FROM taken WHERE l.launch_id = taken.launch_id
    RETURNING l.launch_id";

impl Store {
    /// Marks outcomes as delivered that were settled at least `age` ago and whose task instance is gone, of another
    /// queueing, or in no state of an executor any more. Returns those that were marked.
    ///
    /// Needs no term. The leader never writes `delivered_at` and decides nothing by it; the plugin writes it under the
    /// same condition; and a queueing that is over never comes back, so the condition cannot become false again.
    pub async fn mark_delivered(
        &self,
        launches: &[LaunchId],
        age: Duration,
    ) -> Result<Vec<LaunchId>, BridgeError> {
        let mut tx = self.begin(Access::Write, "mark outcomes as delivered").await?;
        let query = airflow_statement(self.airflow_sql(MARK))
            .bind(id_array(launches.iter()))
            .bind(age.as_secs_f64() * 1_000.0);
        let rows = tx.rows(query).await?;
        tx.commit().await?;
        rows.iter().map(launch_id).collect()
    }
}
