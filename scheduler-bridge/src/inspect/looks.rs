//! One look at everything that is live.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::Row;
use windlass_core::doctor::{DatabaseFacts, DeadTask, Job, LaunchFacts, OpenLaunch, TaskFacts, Term};
use windlass_core::ids::{LaunchId, Queueing, TaskKey};

use super::columns::{
    LAUNCH_TIMES, SCHEDULERS, TASK, TASK_JOINS, job, launch_of, scheduler_of, task_of, time,
};
use crate::error::BridgeError;
use crate::keys::{QueueingColumns, id_array};
use crate::rows::{LAUNCH_COLUMNS, reading};
use crate::store::Store;
use crate::timestamp::Timestamp;
use crate::transaction::{Access, Transaction, airflow_statement, statement};

/// Bounds of one look.
#[derive(Clone, Copy, Debug)]
pub struct LookLimits {
    /// Rows of each kind.
    pub rows: u32,
    /// Queued for longer than this without a launch is looked at.
    pub unlaunched: Duration,
    /// A worker or scheduler without a heartbeat for longer than this is dead.
    pub worker_dead: Duration,
    /// The same for a scheduler.
    pub scheduler_dead: Duration,
}

/// Rows of schedulers read: each restart leaves one until retention takes it.
const SCHEDULERS_MAX: i64 = 1_000;

pub(super) const CLOCK: &str = "SELECT clock_timestamp() AS now, t.epoch, t.holder, t.expires_at,
    (SELECT count(*) FROM windlass.handover) AS handovers,
    (SELECT min(made_at) FROM windlass.handover) AS oldest_handover
    FROM windlass.term t";

/// By `job_type_heart`.
const UNREGISTERED: &str = "
    SELECT j.id::int8 AS q_id, j.job_type AS q_type, j.state AS q_state, j.latest_heartbeat AS q_heartbeat
    FROM {airflow}job j
    WHERE j.job_type = 'SchedulerJob' AND j.state = 'running'
        AND j.latest_heartbeat > clock_timestamp() - $2 * interval '1 millisecond'
        AND NOT EXISTS (SELECT FROM windlass.scheduler s WHERE s.job_id = j.id)
    ORDER BY j.id LIMIT $1";

/// By `launch_open`, then each task instance by its key.
const OPEN: &str = "
    SELECT {launch}, {times}, {task}
    FROM (SELECT * FROM windlass.launch WHERE NOT done ORDER BY launch_id LIMIT $1) l
    LEFT JOIN {airflow}task_instance ti
        ON ti.dag_id = l.dag_id AND ti.task_id = l.task_id AND ti.run_id = l.run_id AND ti.map_index = l.map_index
    {joins}
    ORDER BY l.launch_id";

/// By `ti_state`. Ours first: a long queue of another executor must not hide them. Keys are picked before the joins.
const UNLAUNCHED: &str = "
    WITH picked AS MATERIALIZED (
        SELECT ti.dag_id, ti.task_id, ti.run_id, ti.map_index,
            coalesce(s.job_id IS NULL OR ti.executor = ANY(s.executor_names)
                OR ti.executor IS NULL AND s.is_default, false) AS first
        FROM {airflow}task_instance ti
        LEFT JOIN windlass.scheduler s ON s.job_id = ti.queued_by_job_id
        WHERE ti.state = 'queued' AND ti.queued_dttm < clock_timestamp() - $2 * interval '1 millisecond'
            AND NOT EXISTS (
                SELECT FROM windlass.launch l
                WHERE l.dag_id = ti.dag_id AND l.task_id = ti.task_id AND l.run_id = ti.run_id
                    AND l.map_index = ti.map_index AND l.try_number = ti.try_number
                    AND l.queued_dttm = ti.queued_dttm
            )
        ORDER BY first DESC, ti.queued_dttm, ti.dag_id, ti.task_id, ti.run_id, ti.map_index
        LIMIT $1
    )
    SELECT {task}
    FROM picked p
    JOIN {airflow}task_instance ti
        ON ti.dag_id = p.dag_id AND ti.task_id = p.task_id AND ti.run_id = p.run_id AND ti.map_index = p.map_index
    {joins}
    ORDER BY p.first DESC, ti.queued_dttm, ti.dag_id, ti.task_id, ti.run_id, ti.map_index";

/// By `ti_state`: what runs now, and whose worker is not heard of.
const DEAD: &str = "
    SELECT {task}
    FROM {airflow}task_instance ti
    JOIN windlass.scheduler s ON s.job_id = ti.queued_by_job_id
    {joins}
    WHERE ti.state IN ('running', 'restarting')
        AND NOT coalesce(w.state = 'running'
            AND w.latest_heartbeat > clock_timestamp() - $2 * interval '1 millisecond', false)
    ORDER BY ti.dag_id, ti.task_id, ti.run_id, ti.map_index
    LIMIT $1";

const OF_QUEUEINGS: &str = "
    SELECT {launch}, {times}
    FROM unnest($1::text[], $2::text[], $3::text[], $4::int4[], $5::int4[], $6::timestamptz[])
        AS k (dag_id, task_id, run_id, map_index, try_number, queued_dttm)
    JOIN windlass.launch l USING (dag_id, task_id, run_id, map_index, try_number, queued_dttm)";

const BY_ID: &str = "SELECT {launch}, {times} FROM windlass.launch l WHERE l.launch_id = ANY($1)";

const BY_KEY: &str = "
    SELECT {task}
    FROM unnest($1::text[], $2::text[], $3::text[], $4::int4[]) AS k (dag_id, task_id, run_id, map_index)
    JOIN {airflow}task_instance ti
        ON ti.dag_id = k.dag_id AND ti.task_id = k.task_id AND ti.run_id = k.run_id AND ti.map_index = k.map_index
    {joins}";

impl Store {
    /// All that is live: term, schedulers, open launches beside their task instances, queued task instances without a
    /// launch, running ones without a worker. What is cut is named.
    pub async fn look(&self, limits: LookLimits) -> Result<DatabaseFacts, BridgeError> {
        let mut tx = self.begin(Access::Look, "look for what does not fit together").await?;
        let mut facts = self.clock(&mut tx).await?;
        let limit = i64::from(limits.rows);
        let ms = |of: Duration| of.as_secs_f64() * 1_000.0;
        facts.unregistered = self.unregistered(&mut tx, limit, ms(limits.scheduler_dead)).await?;
        let open = airflow_statement(self.inspect_sql(OPEN)).bind(limit);
        for row in tx.rows(open).await? {
            facts.open.push(OpenLaunch { launch: launch_of(&row)?, task: task_of(&row)? });
        }
        let unlaunched =
            airflow_statement(self.inspect_sql(UNLAUNCHED)).bind(limit).bind(ms(limits.unlaunched));
        for row in tx.rows(unlaunched).await? {
            facts.unlaunched.extend(task_of(&row)?);
        }
        let dead = airflow_statement(self.inspect_sql(DEAD)).bind(limit).bind(ms(limits.worker_dead));
        let mut tasks: Vec<TaskFacts> = Vec::new();
        for row in tx.rows(dead).await? {
            tasks.extend(task_of(&row)?);
        }
        let mut launches = self.launches_of(&mut tx, &tasks).await?;
        tx.commit().await?;
        let lists = [
            ("open launches", facts.open.len()),
            ("queued task instances", facts.unlaunched.len()),
            ("running task instances without a worker", tasks.len()),
        ];
        facts.cut = lists.iter().filter(|(_, n)| *n as i64 == limit).map(|(what, _)| *what).collect();
        let with_launch = |task: TaskFacts| {
            let launch = task.queueing().and_then(|queueing| launches.remove(&queueing));
            DeadTask { task, launch }
        };
        facts.dead = tasks.into_iter().map(with_launch).collect();
        Ok(facts)
    }

    /// Launches by id, whatever their stage.
    pub async fn launches_by_id(&self, ids: &[LaunchId]) -> Result<Vec<LaunchFacts>, BridgeError> {
        let mut tx = self.begin(Access::Look, "find launches").await?;
        let query = airflow_statement(self.inspect_sql(BY_ID)).bind(id_array(ids.iter()));
        let rows = tx.rows(query).await?;
        tx.commit().await?;
        rows.iter().map(launch_of).collect()
    }

    /// Task instances by key; those that are not there are left out.
    pub async fn tasks_by_key(&self, keys: &[TaskKey]) -> Result<Vec<TaskFacts>, BridgeError> {
        let mut tx = self.begin(Access::Look, "read task instances").await?;
        let query = airflow_statement(self.inspect_sql(BY_KEY))
            .bind(keys.iter().map(|key| key.dag_id.clone()).collect::<Vec<_>>())
            .bind(keys.iter().map(|key| key.task_id.clone()).collect::<Vec<_>>())
            .bind(keys.iter().map(|key| key.run_id.clone()).collect::<Vec<_>>())
            .bind(keys.iter().map(|key| key.map_index).collect::<Vec<_>>());
        let rows = tx.rows(query).await?;
        tx.commit().await?;
        let tasks: Result<Vec<Option<TaskFacts>>, BridgeError> = rows.iter().map(task_of).collect();
        Ok(tasks?.into_iter().flatten().collect())
    }

    /// Clock, term, handovers and schedulers.
    pub(super) async fn clock(&self, tx: &mut Transaction) -> Result<DatabaseFacts, BridgeError> {
        let rows = tx.rows(statement(CLOCK)).await?;
        let row = rows.first().ok_or_else(|| tx.decoding(sqlx::Error::RowNotFound))?;
        let read = || -> Result<DatabaseFacts, sqlx::Error> {
            Ok(DatabaseFacts {
                now: row.try_get::<Timestamp, _>("now")?.0,
                term: Term {
                    epoch: row.try_get("epoch")?,
                    holder: row.try_get("holder")?,
                    expires_at: row.try_get::<Timestamp, _>("expires_at")?.0,
                },
                handovers: row.try_get("handovers")?,
                oldest_handover: time(row, "oldest_handover")?,
                ..DatabaseFacts::default()
            })
        };
        let mut facts = read().map_err(reading)?;
        let schedulers = airflow_statement(self.airflow_sql(SCHEDULERS)).bind(SCHEDULERS_MAX);
        let rows = tx.rows(schedulers).await?;
        facts.schedulers = rows.iter().map(scheduler_of).collect::<Result<_, _>>().map_err(reading)?;
        Ok(facts)
    }

    async fn unregistered(&self, tx: &mut Transaction, limit: i64, ms: f64) -> Result<Vec<Job>, BridgeError> {
        let query = airflow_statement(self.airflow_sql(UNREGISTERED)).bind(limit).bind(ms);
        let rows = tx.rows(query).await?;
        let jobs: Result<Vec<Option<Job>>, sqlx::Error> =
            rows.iter().map(|row| job(row, ["q_id", "q_type", "q_state", "q_heartbeat"])).collect();
        Ok(jobs.map_err(reading)?.into_iter().flatten().collect())
    }

    async fn launches_of(
        &self,
        tx: &mut Transaction,
        tasks: &[TaskFacts],
    ) -> Result<BTreeMap<Queueing, LaunchFacts>, BridgeError> {
        let queueings: Vec<Queueing> = tasks.iter().filter_map(TaskFacts::queueing).collect();
        let query =
            QueueingColumns::of(queueings.iter()).bind(airflow_statement(self.inspect_sql(OF_QUEUEINGS)));
        let mut found = BTreeMap::new();
        for row in tx.rows(query).await? {
            let launch = launch_of(&row)?;
            found.insert(launch.row.queueing.clone(), launch);
        }
        Ok(found)
    }

    /// Fills a template in that has `{launch}`, `{times}`, `{task}` and `{joins}`.
    pub(super) fn inspect_sql(&self, template: &'static str) -> String {
        let filled = template.replace("{launch}", LAUNCH_COLUMNS).replace("{times}", LAUNCH_TIMES);
        let filled = filled.replace("{task}", TASK).replace("{joins}", TASK_JOINS);
        filled.replace("{airflow}", &self.airflow_sql("{airflow}"))
    }

    /// The statements of [`Store::look`] that go through Airflow's task instances, for `EXPLAIN`.
    #[doc(hidden)]
    pub fn look_sql(&self) -> [String; 3] {
        [OPEN, UNLAUNCHED, DEAD].map(|template| self.inspect_sql(template))
    }
}
