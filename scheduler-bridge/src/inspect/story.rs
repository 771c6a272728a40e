//! All rows of one task key.

use windlass_core::doctor::{Facts, LaunchFacts, Limits, Story};
use windlass_core::ids::{InstallationId, TaskKey};
use windlass_core::store::StoredStage;

use super::columns::{launch_of, task_of, time};
use crate::error::BridgeError;
use crate::rows::reading;
use crate::store::Store;
use crate::transaction::{Access, Transaction, airflow_statement, statement};

/// Launches of one key that are told of; tries and reschedules make many.
const LAUNCHES_MAX: i64 = 20;

const TASK_OF: &str = "
    SELECT {task} FROM {airflow}task_instance ti
    {joins}
    WHERE ti.dag_id = $1 AND ti.task_id = $2 AND ti.run_id = $3 AND ti.map_index = $4";

/// By `launch_queueing`.
const LAUNCHES: &str = "
    SELECT {launch}, {times} FROM windlass.launch l
    WHERE l.dag_id = $1 AND l.task_id = $2 AND l.run_id = $3 AND l.map_index = $4
    ORDER BY l.claimed_at DESC, l.launch_id LIMIT $5";

const HANDED: &str = "
    SELECT min(made_at) AS made_at FROM windlass.handover
    WHERE dag_id = $1 AND task_id = $2 AND run_id = $3 AND map_index = $4";

/// In the engine's order: weight, then the longest queued. By `launch_open`.
const AHEAD: &str = "
    SELECT count(*) FROM windlass.launch l
    WHERE NOT l.done AND l.stage = 'claimed' AND l.namespace = $1
        AND (l.priority_weight > $2 OR l.priority_weight = $2 AND l.queued_dttm < (
            SELECT queued_dttm FROM windlass.launch WHERE launch_id = $3))";

impl Store {
    /// What the database holds about one task key. The pods are the cluster client's to add.
    pub async fn story(
        &self,
        key: &TaskKey,
        installation: InstallationId,
        limits: Limits,
    ) -> Result<Story, BridgeError> {
        let mut tx = self.begin(Access::Look, "read the story of a task instance").await?;
        let database = self.clock(&mut tx).await?;
        let keyed = |sql: String| {
            airflow_statement(sql)
                .bind(key.dag_id.clone())
                .bind(key.task_id.clone())
                .bind(key.run_id.clone())
                .bind(key.map_index)
        };
        let rows = tx.rows(keyed(self.inspect_sql(TASK_OF))).await?;
        let task = rows.first().map(task_of).transpose()?.flatten();
        let rows = tx.rows(keyed(self.inspect_sql(LAUNCHES)).bind(LAUNCHES_MAX)).await?;
        let launches = rows.iter().map(launch_of).collect::<Result<Vec<_>, _>>()?;
        let rows = tx.rows(keyed(HANDED.to_owned())).await?;
        let handed_over =
            rows.first().map(|row| time(row, "made_at")).transpose().map_err(reading)?.flatten();
        let mut story = Story::empty(key.clone(), installation, limits);
        story.facts = Facts { database, ..story.facts };
        (story.task, story.launches, story.handed_over) = (task, launches, handed_over);
        if let Some(launch) = story.current().filter(|launch| launch.row.stage == StoredStage::Claimed) {
            story.ahead = ahead(&mut tx, launch).await?;
        }
        tx.commit().await?;
        Ok(story)
    }
}

async fn ahead(tx: &mut Transaction, launch: &LaunchFacts) -> Result<i64, BridgeError> {
    let row = &launch.row;
    let query = statement(AHEAD)
        .bind(row.pod.namespace.clone())
        .bind(row.priority_weight)
        .bind(row.launch.as_str().to_owned());
    tx.scalar(query).await
}
