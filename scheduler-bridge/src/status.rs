//! What `windlass status` and the status page show.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::Row;
use windlass_core::ids::Queueing;
use windlass_core::store::StoredStage;

use crate::error::BridgeError;
use crate::keys::queueing_of;
use crate::store::Store;
use crate::timestamp::Timestamp;
use crate::transaction::{Access, Transaction, airflow_statement, statement};

/// How things stand.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Task instances of ours in `queued` without a launch.
    pub queued: i64,
    /// Handover rows that wait for the intake.
    pub handovers: i64,
    /// Launches by stage, closed ones only while they are not delivered; every stage is there.
    pub launches: BTreeMap<&'static str, i64>,
    /// Outcomes that no scheduler has taken yet.
    pub undelivered: i64,
    /// Who leads.
    pub term: TermStatus,
    /// Schedulers that speak to us, last seen first.
    pub schedulers: Vec<SchedulerStatus>,
    /// The last failures, newest first.
    pub failures: Vec<Failure>,
}

/// The term.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TermStatus {
    /// Number of the term.
    pub epoch: i64,
    /// Pod uid and container of the leader; None: given up, or never taken.
    pub holder: Option<String>,
    /// Milliseconds until it expires; negative: since it did. None without a holder.
    pub expires_in_ms: Option<i64>,
}

/// A scheduler as the plugin registered it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SchedulerStatus {
    /// `job.id` of the SchedulerJob.
    pub job_id: i64,
    /// Where it runs.
    pub hostname: String,
    /// Of Airflow.
    pub airflow_version: String,
    /// Of the plugin.
    pub plugin_version: String,
    /// The names under which tasks ask for WindlassExecutor.
    pub executor_names: Vec<String>,
    /// It is the default executor.
    pub is_default: bool,
    /// Its pods would be changed by a Python hook that Windlass cannot run.
    pub has_pod_mutation_hook: bool,
    /// Milliseconds since it was last seen.
    pub seen_ms_ago: i64,
}

/// A launch that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Of which queueing.
    pub queueing: Queueing,
    /// Code.
    pub reason: String,
    /// Sentence.
    pub message: String,
    /// Namespace and name of its last pod.
    pub pod: String,
    /// When the outcome was stored, RFC 3339.
    pub at: String,
}

const COUNTS: &str = "SELECT (SELECT count(*) FROM windlass.handover) AS handovers,
    (SELECT count(*) FROM windlass.launch WHERE outcome IS NOT NULL AND delivered_at IS NULL) AS undelivered,
    t.epoch, t.holder,
    CASE WHEN t.holder IS NOT NULL
        THEN (extract(epoch FROM t.expires_at - clock_timestamp()) * 1000)::int8 END AS expires_in_ms
    FROM windlass.term t";

const STAGES: &str = "SELECT stage, count(*) FROM windlass.launch WHERE NOT done GROUP BY stage";

const SCHEDULERS: &str =
    "SELECT job_id, hostname, airflow_version, plugin_version, executor_names, is_default,
    has_pod_mutation_hook, (extract(epoch FROM clock_timestamp() - seen_at) * 1000)::int8 AS seen_ms_ago
    FROM windlass.scheduler ORDER BY seen_at DESC, job_id";

/// Among the last launches only: failures have no index of their own, and a system without any must not read them all.
const FAILURES: &str = "
    SELECT dag_id, task_id, run_id, map_index, try_number, queued_dttm, reason, coalesce(message, '') AS message,
        namespace || '/' || pod_name AS pod, settled_at
    FROM (SELECT * FROM windlass.launch ORDER BY claimed_at DESC LIMIT 10000) l
    WHERE l.outcome = 'failure'
    ORDER BY l.settled_at DESC LIMIT $1";

impl Store {
    /// Reads it all in one transaction, with the last `failures` failures.
    pub async fn status(&self, failures: u32) -> Result<Status, BridgeError> {
        let mut tx = self.begin(Access::Look, "read the status").await?;
        let status = self.status_in(&mut tx, failures).await?;
        tx.commit().await?;
        Ok(status)
    }

    async fn status_in(&self, tx: &mut Transaction, failures: u32) -> Result<Status, BridgeError> {
        let queued: i64 = tx.scalar(airflow_statement(self.queue_depth_sql())).await?;
        let counts = tx.rows(statement(COUNTS)).await?;
        let counts = counts.first().ok_or_else(|| tx.decoding(sqlx::Error::RowNotFound))?;
        let mut launches: BTreeMap<&'static str, i64> =
            StoredStage::ALL.into_iter().map(|stage| (stage.as_str(), 0)).collect();
        for row in tx.rows(statement(STAGES)).await? {
            let name: String = row.try_get(0).map_err(|e| tx.decoding(e))?;
            if let Some(stage) = StoredStage::from_column(&name) {
                launches.insert(stage.as_str(), row.try_get(1).map_err(|e| tx.decoding(e))?);
            }
        }
        let schedulers = tx.rows(statement(SCHEDULERS)).await?;
        let failed = tx.rows(statement(FAILURES).bind(i64::from(failures))).await?;
        let read = || -> Result<Status, sqlx::Error> {
            Ok(Status {
                queued,
                handovers: counts.try_get("handovers")?,
                launches,
                undelivered: counts.try_get("undelivered")?,
                term: TermStatus {
                    epoch: counts.try_get("epoch")?,
                    holder: counts.try_get("holder")?,
                    expires_in_ms: counts.try_get("expires_in_ms")?,
                },
                schedulers: schedulers.iter().map(scheduler_of).collect::<Result<_, _>>()?,
                failures: failed.iter().map(failure_of).collect::<Result<_, _>>()?,
            })
        };
        read().map_err(|e| tx.decoding(e))
    }
}

fn scheduler_of(row: &sqlx::postgres::PgRow) -> Result<SchedulerStatus, sqlx::Error> {
    Ok(SchedulerStatus {
        job_id: row.try_get("job_id")?,
        hostname: row.try_get("hostname")?,
        airflow_version: row.try_get("airflow_version")?,
        plugin_version: row.try_get("plugin_version")?,
        executor_names: row.try_get("executor_names")?,
        is_default: row.try_get("is_default")?,
        has_pod_mutation_hook: row.try_get("has_pod_mutation_hook")?,
        seen_ms_ago: row.try_get("seen_ms_ago")?,
    })
}

fn failure_of(row: &sqlx::postgres::PgRow) -> Result<Failure, sqlx::Error> {
    let at: Timestamp = row.try_get("settled_at")?;
    Ok(Failure {
        queueing: queueing_of(row)?,
        reason: row.try_get("reason")?,
        message: row.try_get("message")?,
        pod: row.try_get("pod")?,
        at: at.0.to_string(),
    })
}
