//! The one write to a table of Airflow: `task_instance.external_executor_id`, so that people find the pod from the row.

use windlass_core::ids::{PodRef, Queueing};

use crate::error::BridgeError;
use crate::keys::QueueingColumns;
use crate::store::Store;
use crate::transaction::{Access, airflow_statement};

/// Best effort (I5): rows in the order of the key, those that Airflow has locked right now are left out, and only while
/// the row is of this queueing. The column is `varchar(250)`.
const NOTE: &str = "
    WITH noted AS (
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::int4[], $5::int4[], $6::timestamptz[], $7::text[])
            AS q (dag_id, task_id, run_id, map_index, try_number, queued_dttm, pod)
    ), mine AS (
        SELECT ti.dag_id, ti.task_id, ti.run_id, ti.map_index, left(n.pod, 250) AS pod
        FROM {airflow}task_instance ti
        JOIN noted n ON n.dag_id = ti.dag_id AND n.task_id = ti.task_id AND n.run_id = ti.run_id
            AND n.map_index = ti.map_index
        WHERE ti.state IN ('queued', 'running') AND ti.try_number = n.try_number AND ti.queued_dttm = n.queued_dttm
            AND ti.external_executor_id IS DISTINCT FROM left(n.pod, 250)
        ORDER BY ti.dag_id, ti.task_id, ti.run_id, ti.map_index
        FOR NO KEY UPDATE OF ti SKIP LOCKED
    )
    UPDATE {airflow}task_instance ti SET external_executor_id = mine.pod
    FROM mine
    WHERE ti.dag_id = mine.dag_id AND ti.task_id = mine.task_id AND ti.run_id = mine.run_id
        AND ti.map_index = mine.map_index";

impl Store {
    /// Writes `namespace/name` of the pods to their task instances; returns how many rows took it.
    pub async fn note_pods(&self, pods: &[(Queueing, PodRef)]) -> Result<u64, BridgeError> {
        let mut tx = self.begin(Access::Write, "note pods in task instances").await?;
        let keys = QueueingColumns::of(pods.iter().map(|(queueing, _)| queueing));
        let query = keys
            .bind(airflow_statement(self.airflow_sql(NOTE)))
            .bind(pods.iter().map(|(_, pod)| pod.to_string()).collect::<Vec<_>>());
        let written = tx.execute(query).await?;
        tx.commit().await?;
        Ok(written)
    }
}
