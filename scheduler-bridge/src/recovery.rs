//! Commits that a failover lost. A replica that is promoted while it lags behind misses the primary's last commits:
//! launches whose pods exist, and the term itself. Each promotion begins a new timeline of the WAL, so the term notes
//! the timeline up to which all is known to be there; on another one, launches are made again from their pods.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use windlass_core::ids::Epoch;
use windlass_core::store::{LaunchRow, PodLaunch};

use crate::error::BridgeError;
use crate::keys::QueueingColumns;
use crate::store::Store;
use crate::transaction::{Access, airflow_statement, statement};

/// The timeline that is written now: the first part of the WAL file's name. Not of the control file, which has the old
/// one until the first checkpoint after the promotion.
const TIMELINE: &str = "left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)";

/// Stage `created`, whatever the pod has come to: its state is looked at next, as for every launch of an earlier term.
/// One that is there already knows more than its pod, unless the pod is of a later attempt: then that attempt was lost.
const INSERT: &str = "
    INSERT INTO windlass.launch AS l (launch_id, dag_id, task_id, run_id, map_index, try_number, queued_dttm,
        scheduler_job_id, priority_weight, epoch, stage, attempt, namespace, pod_name, pod_uid, created_at)
    SELECT DISTINCT ON (p.launch_id) p.launch_id, p.dag_id, p.task_id, p.run_id, p.map_index, p.try_number, p.queued_dttm,
        p.scheduler_job_id, 1, $13, 'created', p.attempt, p.namespace, p.pod_name, p.pod_uid, clock_timestamp()
    FROM unnest($1::text[], $2::text[], $3::text[], $4::int4[], $5::int4[], $6::timestamptz[],
            $7::text[], $8::int8[], $9::int4[], $10::text[], $11::text[], $12::text[])
        AS p (dag_id, task_id, run_id, map_index, try_number, queued_dttm,
            launch_id, scheduler_job_id, attempt, namespace, pod_name, pod_uid)
    ORDER BY p.launch_id, p.attempt DESC
    ON CONFLICT (launch_id) DO UPDATE SET epoch = excluded.epoch, stage = excluded.stage, attempt = excluded.attempt,
        namespace = excluded.namespace, pod_name = excluded.pod_name, pod_uid = excluded.pod_uid,
        created_at = excluded.created_at, running_at = NULL
    WHERE l.attempt < excluded.attempt AND l.outcome IS NULL
    RETURNING l.launch_id";

const RECOVERED: &str = "UPDATE windlass.term SET timeline = {timeline} WHERE epoch = $1";

impl Store {
    /// Makes launches of pods that no launch is of, brings those up to their pod's attempt that are behind, and notes that nothing is lost up to here. Returns how many, and all
    /// that are open: those made may be of an earlier call whose answer was lost.
    pub async fn recover(
        &self,
        epoch: Epoch,
        pods: &[PodLaunch],
    ) -> Result<(u64, Vec<LaunchRow>), BridgeError> {
        let mut tx = self.begin(Access::Fenced(epoch), "make lost launches again from their pods").await?;
        let insert = QueueingColumns::of(pods.iter().map(|pod| &pod.queueing))
            .bind(statement(INSERT))
            .bind(pods.iter().map(|pod| pod.launch.as_str().to_owned()).collect::<Vec<_>>())
            .bind(pods.iter().map(|pod| pod.scheduler_job_id).collect::<Vec<_>>())
            .bind(pods.iter().map(|pod| pod.attempt.0.cast_signed()).collect::<Vec<_>>())
            .bind(pods.iter().map(|pod| pod.pod.namespace.clone()).collect::<Vec<_>>())
            .bind(pods.iter().map(|pod| pod.pod.name.clone()).collect::<Vec<_>>())
            .bind(pods.iter().map(|pod| pod.uid.0.clone()).collect::<Vec<_>>())
            .bind(epoch.0);
        let made = tx.rows(insert).await?.len() as u64;
        tx.execute(airflow_statement(self.timeline_sql(RECOVERED)).bind(epoch.0)).await?;
        tx.commit().await?;
        Ok((made, self.load(epoch).await?))
    }

    /// Whether this server tells its timeline; if not, lost commits go unnoticed. (Aurora, whose storage loses none,
    /// has no WAL to ask about.) An answer that does not come is no answer.
    pub(crate) async fn learn_timeline(&self) -> Result<bool, BridgeError> {
        let mut tx = self.begin(Access::Read, "read the timeline").await?;
        let known = match tx.scalar::<String>(airflow_statement(format!("SELECT {TIMELINE}"))).await {
            Ok(_) => {
                tx.commit().await?;
                true
            }
            Err(BridgeError::Query { source, .. }) if source.as_database_error().is_some() => false,
            Err(BridgeError::Denied { .. }) => false,
            Err(error) => return Err(error),
        };
        self.timeline().known.store(known, Ordering::Relaxed);
        Ok(known)
    }

    /// The statement with the timeline put in.
    pub(crate) fn timeline_sql(&self, template: &'static str) -> String {
        let known = self.timeline().known.load(Ordering::Relaxed);
        template.replace("{timeline}", if known { TIMELINE } else { "''::text" })
    }

    /// Our term began on this one.
    pub(crate) fn begun_on(&self, timeline: String) {
        *self.timeline().begun_on.lock().unwrap_or_else(PoisonError::into_inner) = timeline;
    }

    pub(crate) fn timeline_begun_on(&self) -> String {
        self.timeline().begun_on.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
