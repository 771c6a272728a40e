//! Claims: the INSERT that makes a launch exist. One transaction per batch, fenced, a fixed number of statements.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Row;
use sqlx::types::Json;
use windlass_core::ids::{Epoch, LaunchId, Queueing};
use windlass_core::store::{Claim, ClaimAnswer};

use crate::error::BridgeError;
use crate::keys::QueueingColumns;
use crate::rows::{LAUNCH_COLUMNS, launch_row};
use crate::store::Store;
use crate::transaction::{Access, airflow_statement};

/// Answer to a batch of claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimBatch {
    /// One answer per claim, in the order of the claims.
    Answers(Vec<ClaimAnswer>),
    /// The term is over: nothing was inserted.
    Fenced,
}

/// Joined with the row of Airflow: a queueing that is over by now is not claimed. Inserted in the order of the key:
/// two batches that overlap (an answer was lost, the claim was asked for again) wait for each other, never in a circle.
const INSERT: &str = "
    INSERT INTO windlass.launch (launch_id, dag_id, task_id, run_id, map_index, try_number, queued_dttm,
        scheduler_job_id, priority_weight, epoch, stage, namespace, pod_name, command)
    SELECT c.launch_id, c.dag_id, c.task_id, c.run_id, c.map_index, c.try_number, c.queued_dttm,
        c.scheduler_job_id, c.priority_weight, $12, 'claimed', c.namespace, c.pod_name, c.command
    FROM unnest($1::text[], $2::text[], $3::text[], $4::int4[], $5::int4[], $6::timestamptz[],
            $7::text[], $8::int8[], $9::int4[], $10::text[], $11::text[], $13::jsonb[])
        AS c (dag_id, task_id, run_id, map_index, try_number, queued_dttm,
            launch_id, scheduler_job_id, priority_weight, namespace, pod_name, command)
    JOIN {airflow}task_instance ti
        ON ti.dag_id = c.dag_id AND ti.task_id = c.task_id AND ti.run_id = c.run_id AND ti.map_index = c.map_index
    WHERE ti.state = 'queued' AND ti.try_number = c.try_number AND ti.queued_dttm = c.queued_dttm
    ORDER BY c.launch_id
    ON CONFLICT DO NOTHING
    RETURNING launch_id";

/// By queueing, not by id: the unique key is what the INSERT ran into.
const EXISTING: &str = "
    SELECT {columns}
    FROM unnest($1::text[], $2::text[], $3::text[], $4::int4[], $5::int4[], $6::timestamptz[])
        AS q (dag_id, task_id, run_id, map_index, try_number, queued_dttm)
    JOIN windlass.launch l USING (dag_id, task_id, run_id, map_index, try_number, queued_dttm)";

impl Store {
    /// Inserts the launches that are not there yet.
    pub async fn claim(&self, epoch: Epoch, claims: &[Claim]) -> Result<ClaimBatch, BridgeError> {
        let mut tx = match self.begin(Access::Fenced(epoch), "claim launches").await {
            Err(BridgeError::Fenced { .. }) => return Ok(ClaimBatch::Fenced),
            begun => begun?,
        };
        let keys = QueueingColumns::of(claims.iter().map(|c| &c.queueing));
        let insert = keys
            .bind(airflow_statement(self.airflow_sql(INSERT)))
            .bind(claims.iter().map(|c| c.launch.as_str().to_owned()).collect::<Vec<_>>())
            .bind(claims.iter().map(|c| c.scheduler_job_id).collect::<Vec<_>>())
            .bind(claims.iter().map(|c| c.priority_weight).collect::<Vec<_>>())
            .bind(claims.iter().map(|c| c.pod.namespace.clone()).collect::<Vec<_>>())
            .bind(claims.iter().map(|c| c.pod.name.clone()).collect::<Vec<_>>())
            .bind(epoch.0)
            .bind(claims.iter().map(|c| c.command.as_ref().map(Json)).collect::<Vec<_>>());
        let mut inserted: BTreeSet<String> = BTreeSet::new();
        for row in tx.rows(insert).await? {
            inserted.insert(row.try_get(0).map_err(|e| tx.decoding(e))?);
        }
        let missing = claims.iter().filter(|c| !inserted.contains(c.launch.as_str()));
        let missing = QueueingColumns::of(missing.map(|c| &c.queueing));
        let mut existing = BTreeMap::new();
        if !missing.is_empty() {
            let sql = EXISTING.replace("{columns}", LAUNCH_COLUMNS);
            for row in tx.rows(missing.bind(airflow_statement(sql))).await? {
                let row = launch_row(&row)?;
                existing.insert(row.queueing.clone(), row);
            }
        }
        tx.commit().await?;
        Ok(ClaimBatch::Answers(claims.iter().map(|c| answer(c, &inserted, &existing)).collect()))
    }
}

fn answer(
    claim: &Claim,
    inserted: &BTreeSet<String>,
    existing: &BTreeMap<Queueing, windlass_core::store::LaunchRow>,
) -> ClaimAnswer {
    let launch: &LaunchId = &claim.launch;
    if inserted.contains(launch.as_str()) {
        return ClaimAnswer::Claimed(launch.clone());
    }
    match existing.get(&claim.queueing) {
        Some(row) => ClaimAnswer::Exists(Box::new(row.clone())),
        None => ClaimAnswer::Withdrawn(launch.clone()),
    }
}
