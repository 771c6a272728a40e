//! Retention: what is done with and old is deleted, a bounded batch at a time.

use std::time::Duration;

use windlass_core::ids::Epoch;

use crate::error::BridgeError;
use crate::store::Store;
use crate::transaction::{Access, airflow_statement, statement};

/// What one call deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Launches.
    pub launches: u64,
    /// Rows of schedulers that are gone.
    pub schedulers: u64,
    /// Handover rows that nobody took.
    pub handovers: u64,
}

/// By the index on claimed_at: what closed long ago was claimed before. A launch stays as long as Airflow's row is of its
/// queueing and not finished: without it the full pass would launch that queueing again.
const LAUNCHES: &str = "
    DELETE FROM windlass.launch WHERE launch_id IN (
        SELECT l.launch_id FROM windlass.launch l
        WHERE l.claimed_at < clock_timestamp() - $1 * interval '1 millisecond'
            AND l.closed_at < clock_timestamp() - $1 * interval '1 millisecond'
            AND l.done
            AND NOT EXISTS (
                SELECT FROM {airflow}task_instance ti
                WHERE ti.dag_id = l.dag_id AND ti.task_id = l.task_id AND ti.run_id = l.run_id
                    AND ti.map_index = l.map_index AND ti.try_number = l.try_number AND ti.queued_dttm = l.queued_dttm
                    AND ti.state IN ('queued', 'running', 'restarting')
            )
        ORDER BY l.claimed_at
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    )";

/// A scheduler refreshes seen_at every few seconds. While a task instance still names it, its row says whose that is.
const SCHEDULERS: &str = "
    DELETE FROM windlass.scheduler s
    WHERE s.seen_at < clock_timestamp() - $1 * interval '1 millisecond'
        AND NOT EXISTS (
            SELECT FROM {airflow}task_instance ti
            WHERE ti.state IN ('queued', 'running', 'restarting') AND ti.queued_by_job_id = s.job_id
        )";

/// The full pass has long found what an hour-old handover told of.
const HANDOVERS: &str = "
    DELETE FROM windlass.handover WHERE id IN (
        SELECT id FROM windlass.handover WHERE made_at < clock_timestamp() - interval '1 hour'
        ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
    )";

impl Store {
    /// Deletes at most `limit` launches that are closed and delivered for longer than `age`, and what else is stale.
    pub async fn purge(&self, epoch: Epoch, age: Duration, limit: u32) -> Result<Purged, BridgeError> {
        let mut tx = self.begin(Access::Fenced(epoch), "delete old launches").await?;
        let age_ms = age.as_secs_f64() * 1000.0;
        let limit = i64::from(limit);
        let launches = airflow_statement(self.airflow_sql(LAUNCHES)).bind(age_ms).bind(limit);
        let purged = Purged {
            launches: tx.execute(launches).await?,
            schedulers: tx.execute(airflow_statement(self.airflow_sql(SCHEDULERS)).bind(age_ms)).await?,
            handovers: tx.execute(statement(HANDOVERS).bind(limit)).await?,
        };
        tx.commit().await?;
        Ok(purged)
    }
}
