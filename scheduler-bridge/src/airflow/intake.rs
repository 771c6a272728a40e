//! Intake: queueings that have no launch yet.
//!
//! A task instance is ours if the scheduler that queued it has registered (`windlass.scheduler`) and the row's executor
//! is one of the names it registered, or NULL where WindlassExecutor is its default. The BackfillJob of Airflow 2 counts
//! as one: it queues the rows of its own runs. Its commands have options that are in no row, so the full pass leaves
//! those rows to the hand-over, which follows within a turn of its loop.
//!
//! Two ways to the same rows:
//! - `Handover` takes the keys that the plugin hands over after the scheduler's commit and joins them by primary key.
//!   It is fast and may lose keys: nothing rests on it.
//! - `Full` is the truth: every queued row of ours without a launch. Airflow has no index on queued_dttm and gets none
//!   from us, so it reads all rows in `queued` by the index `ti_state`, and looks for each into the unique index of
//!   `windlass.launch`: its cost grows with what is queued, not with what is past.
//!
//! `EXPLAIN (ANALYZE, BUFFERS)` of the full pass, limit 500, PostgreSQL 16, 1,000,000 task instances of which 100,000 are
//! queued, 900,000 past launches (shortened; two cores with a load of 9 from other work):
//!
//! ```text
//! Limit (actual time=617.643..635.283 rows=500)
//!   Buffers: shared hit=417325
//!   -> Sort, top-N heapsort, 137kB (rows=500)
//!      -> Nested Loop Anti Join (actual time=5.501..415.218 rows=33333 loops=3)
//!         -> Parallel Bitmap Heap Scan on task_instance (actual time=5.438..66.062 rows=33333 loops=3)
//!            -> Bitmap Index Scan on ti_state (actual time=7.801..7.802 rows=100000)
//!         -> Index Only Scan using launch_queueing on launch (actual time=0.010..0.010 rows=0 loops=100000)
//! then 500 times: task_instance, dag_run, dag by key (7 ms)
//! Execution Time: 650.641 ms
//! ```
//!
//! With no past launches 257 ms; with all 100,000 queued rows launched already (nothing to do) 531 ms. The engine pauses
//! in proportion to what a pass took.

use std::collections::BTreeMap;

use sqlx::Row;
use sqlx::postgres::PgRow;
use windlass_core::ids::TaskKey;
use windlass_core::store::IntakePass;
use windlass_core::task::TaskSpec;

use crate::error::BridgeError;
use crate::keys::key_of;
use crate::rows::reading;
use crate::store::Store;
use crate::transaction::{Access, airflow_statement, statement};

/// Deletes what it takes. `SKIP LOCKED`: a leader that is going and one that is coming do not wait for each other. A
/// statement of its own: with nothing handed over, planning the joins would be all the cost of an idle poll.
const TAKE: &str = "
    DELETE FROM windlass.handover
    WHERE id IN (SELECT id FROM windlass.handover ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
    RETURNING id, dag_id, task_id, run_id, map_index, try_number, command";

const HANDED: &str = "
    SELECT {spec}, s.airflow_version, s.has_pod_mutation_hook
    FROM unnest($1::text[], $2::text[], $3::text[], $4::int4[], $5::int4[])
        AS h (dag_id, task_id, run_id, map_index, try_number)
    JOIN {airflow}task_instance ti
        ON ti.dag_id = h.dag_id AND ti.task_id = h.task_id AND ti.run_id = h.run_id AND ti.map_index = h.map_index
        AND ti.try_number = h.try_number
    {whose}
    {dag_file}
    WHERE {queued_and_ours}
    {order}";

/// Keys first, everything else for the few that are taken. Joined in one go, the planner (which takes the columns of a
/// key for independent) went through all DAG runs: 2.5 s for the same rows. A batch may be short of runs of type
/// `backfill` whose hand-over is on its way; it was lost if it is not there after a minute.
const FULL: &str = "
    WITH picked AS MATERIALIZED (
        SELECT ti.dag_id, ti.task_id, ti.run_id, ti.map_index, s.airflow_version,
            s.has_pod_mutation_hook
        FROM {airflow}task_instance ti
        {whose}
        WHERE {queued_and_ours}
        {order}
        LIMIT $1
    )
    SELECT {spec}, p.airflow_version, p.has_pod_mutation_hook, h.command AS handed_over
    FROM picked p
    JOIN {airflow}task_instance ti
        ON ti.dag_id = p.dag_id AND ti.task_id = p.task_id AND ti.run_id = p.run_id AND ti.map_index = p.map_index
    JOIN {airflow}dag_run r ON r.dag_id = ti.dag_id AND r.run_id = ti.run_id
    LEFT JOIN LATERAL (
        SELECT command FROM windlass.handover h
        WHERE r.run_type = 'backfill' AND h.dag_id = ti.dag_id AND h.task_id = ti.task_id AND h.run_id = ti.run_id
            AND h.map_index = ti.map_index AND h.try_number = ti.try_number
        ORDER BY h.id DESC LIMIT 1
    ) h ON true
    {dag_file}
    WHERE r.run_type <> 'backfill' OR h.command IS NOT NULL OR ti.queued_dttm < now() - interval '60 s'
    {order}";

const DEPTH: &str = "SELECT count(*) FROM {airflow}task_instance ti {whose} WHERE {queued_and_ours}";

const WHOSE: &str = "JOIN windlass.scheduler s ON s.job_id = ti.queued_by_job_id";

const QUEUED_AND_OURS: &str = "ti.state = 'queued' AND ti.queued_dttm IS NOT NULL
    AND (ti.executor = ANY(s.executor_names) OR ti.executor IS NULL AND s.is_default)
    AND NOT EXISTS (
        SELECT FROM windlass.launch l
        WHERE l.dag_id = ti.dag_id AND l.task_id = ti.task_id AND l.run_id = ti.run_id AND l.map_index = ti.map_index
            AND l.try_number = ti.try_number AND l.queued_dttm = ti.queued_dttm
    )";

/// The order in which Airflow itself would start them; the key makes it total.
const ORDER: &str =
    "ORDER BY coalesce(ti.priority_weight, 1) DESC, ti.queued_dttm, ti.dag_id, ti.task_id, ti.run_id,
    ti.map_index";

/// One handover row.
struct Handed {
    id: i64,
    try_number: i32,
    command: Vec<String>,
}

impl Store {
    /// Queueings of ours without a launch, at most `limit`, most urgent first. A row whose `executor_config` cannot be
    /// decoded comes with the error in its place.
    pub async fn intake(&self, pass: IntakePass, limit: u32) -> Result<Vec<TaskSpec>, BridgeError> {
        match pass {
            IntakePass::Handover => self.take_handed_over(limit).await,
            IntakePass::Full => self.look_at_all(limit).await,
        }
    }

    async fn take_handed_over(&self, limit: u32) -> Result<Vec<TaskSpec>, BridgeError> {
        let mut tx = self.begin(Access::Write, "take what was handed over").await?;
        let taken = tx.rows(statement(TAKE).bind(i64::from(limit))).await?;
        if taken.is_empty() {
            tx.commit().await?;
            return Ok(Vec::new());
        }
        let mut handed: BTreeMap<TaskKey, Handed> = BTreeMap::new();
        for row in &taken {
            let (key, row) = handed_of(row).map_err(reading)?;
            // A key handed over twice (queued again at once) is one row of task_instance: the later one stands.
            if handed.get(&key).is_none_or(|other| other.id < row.id) {
                handed.insert(key, row);
            }
        }
        let query = airflow_statement(self.intake_sql(HANDED))
            .bind(handed.keys().map(|key| key.dag_id.clone()).collect::<Vec<_>>())
            .bind(handed.keys().map(|key| key.task_id.clone()).collect::<Vec<_>>())
            .bind(handed.keys().map(|key| key.run_id.clone()).collect::<Vec<_>>())
            .bind(handed.keys().map(|key| key.map_index).collect::<Vec<_>>())
            .bind(handed.values().map(|row| row.try_number).collect::<Vec<_>>());
        let rows = tx.rows(query).await?;
        tx.commit().await?;
        let mut specs = Vec::with_capacity(rows.len());
        for row in &rows {
            let key = key_of(row).map_err(reading)?;
            let command = handed.remove(&key).map(|row| row.command).filter(|command| !command.is_empty());
            specs.push(self.spec_of(row, command)?);
        }
        Ok(specs)
    }

    async fn look_at_all(&self, limit: u32) -> Result<Vec<TaskSpec>, BridgeError> {
        let mut tx = self.begin(Access::Scan, "look for queued task instances").await?;
        let rows = tx.rows(airflow_statement(self.intake_sql(FULL)).bind(i64::from(limit))).await?;
        tx.commit().await?;
        let spec = |row: &PgRow| {
            let handed_over = row.try_get("handed_over").map_err(reading)?;
            self.spec_of(row, handed_over)
        };
        rows.iter().map(spec).collect()
    }

    pub(crate) fn intake_sql(&self, template: &'static str) -> String {
        self.spec_sql(template)
            .replace("{whose}", WHOSE)
            .replace("{queued_and_ours}", QUEUED_AND_OURS)
            .replace("{order}", ORDER)
    }

    /// How many there are.
    pub(crate) fn queue_depth_sql(&self) -> String {
        self.intake_sql(DEPTH)
    }

    /// The full pass as SQL, for `EXPLAIN`.
    #[doc(hidden)]
    pub fn full_pass_sql(&self) -> String {
        self.intake_sql(FULL)
    }
}

fn handed_of(row: &PgRow) -> Result<(TaskKey, Handed), sqlx::Error> {
    let handed = Handed {
        id: row.try_get("id")?,
        try_number: row.try_get("try_number")?,
        command: row.try_get("command")?,
    };
    Ok((key_of(row)?, handed))
}
