//! Launches whose task instance has another scheduler by now: Airflow's adoption moves the row on, not the launch.

use sqlx::Row;
use windlass_core::ids::{Epoch, LaunchId, PodRef, PodUid};

use crate::error::BridgeError;
use crate::keys::id_array;
use crate::rows::{launch_id, reading};
use crate::store::Store;
use crate::transaction::{Access, airflow_statement, statement};

/// A pod that exists, and whose task instance was adopted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// Whose.
    pub launch: LaunchId,
    /// Where.
    pub pod: PodRef,
    /// Which of that name.
    pub uid: PodUid,
    /// The SchedulerJob that owns the task instance now.
    pub owner: i64,
}

const ADOPTED: &str = "
    SELECT l.launch_id, l.namespace, l.pod_name, l.pod_uid, ti.queued_by_job_id::int8 AS owner
    FROM windlass.launch l
    JOIN {airflow}task_instance ti
        ON ti.dag_id = l.dag_id AND ti.task_id = l.task_id AND ti.run_id = l.run_id AND ti.map_index = l.map_index
    WHERE NOT l.done AND l.stage IN ('created', 'running') AND l.pod_uid IS NOT NULL
        AND ti.state IN ('queued', 'running', 'restarting')
        AND ti.try_number = l.try_number AND ti.queued_dttm = l.queued_dttm
        AND ti.queued_by_job_id <> l.scheduler_job_id
    ORDER BY l.launch_id
    LIMIT $1";

const FOLLOWED: &str = "
    UPDATE windlass.launch l SET scheduler_job_id = f.owner
    FROM (
        SELECT l.launch_id, f.owner FROM unnest($1::text[], $2::int8[]) AS f (launch_id, owner)
        JOIN windlass.launch l USING (launch_id) ORDER BY l.launch_id FOR NO KEY UPDATE OF l
    ) f
    WHERE l.launch_id = f.launch_id";

impl Store {
    /// Launches with a pod whose task instance belongs to another scheduler than the launch says, at most `limit`.
    pub async fn adopted(&self, limit: u32) -> Result<Vec<Adopted>, BridgeError> {
        let mut tx = self.begin(Access::Scan, "look for adopted task instances").await?;
        let rows = tx.rows(airflow_statement(self.airflow_sql(ADOPTED)).bind(i64::from(limit))).await?;
        tx.commit().await?;
        let read = |row| {
            let launch = launch_id(row)?;
            let columns = || {
                let pod = PodRef { namespace: row.try_get("namespace")?, name: row.try_get("pod_name")? };
                let uid = PodUid(row.try_get("pod_uid")?);
                Ok(Adopted { launch, pod, uid, owner: row.try_get("owner")? })
            };
            columns().map_err(reading)
        };
        rows.iter().map(read).collect()
    }

    /// Notes in the launches who owns their task instances now.
    pub async fn follow_owners(&self, epoch: Epoch, followed: &[Adopted]) -> Result<(), BridgeError> {
        let mut tx = self.begin(Access::Fenced(epoch), "note the owners of launches").await?;
        let query = statement(FOLLOWED)
            .bind(id_array(followed.iter().map(|one| &one.launch)))
            .bind(followed.iter().map(|one| one.owner).collect::<Vec<_>>());
        tx.execute(query).await?;
        tx.commit().await
    }
}
