//! Intake: queueings that have no launch yet.
//!
//! A task instance is ours if the scheduler that queued it has registered (`windlass.scheduler`) and the row's executor
//! is one of the names it registered, or NULL where WindlassExecutor is its default. Runs of type `backfill` are not:
//! in 2.x a BackfillJob, not a scheduler, waits for their events.
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

use sqlx::Row;
use windlass_core::store::IntakePass;
use windlass_core::task::TaskSpec;

use crate::error::BridgeError;
use crate::rows::reading;
use crate::store::Store;
use crate::transaction::{Access, airflow_statement};

/// Deletes what it takes. `SKIP LOCKED`: a leader that is going and one that is coming do not wait for each other. A key
/// handed over twice (queued again at once) is one row of task_instance; the later command is taken.
const HANDOVER: &str = "
    WITH taken AS (
        DELETE FROM windlass.handover
        WHERE id IN (SELECT id FROM windlass.handover ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
        RETURNING id, dag_id, task_id, run_id, map_index, try_number, command
    ), handed AS (
        SELECT DISTINCT ON (dag_id, task_id, run_id, map_index) *
        FROM taken ORDER BY dag_id, task_id, run_id, map_index, id DESC
    )
    SELECT {spec}, s.airflow_version, h.command
    FROM handed h
    JOIN {airflow}task_instance ti
        ON ti.dag_id = h.dag_id AND ti.task_id = h.task_id AND ti.run_id = h.run_id AND ti.map_index = h.map_index
        AND ti.try_number = h.try_number
    {whose}
    {run}
    {dag_file}
    WHERE {queued_and_ours}
    {order}";

/// Keys first, everything else for the few that are taken. Joined in one go, the planner (which takes the columns of a
/// key for independent) went through all DAG runs: 2.5 s for the same rows. A batch may be short of a run of type
/// `backfill`, which no registered scheduler queues.
const FULL: &str = "
    WITH picked AS MATERIALIZED (
        SELECT ti.dag_id, ti.task_id, ti.run_id, ti.map_index, s.airflow_version
        FROM {airflow}task_instance ti
        {whose}
        WHERE {queued_and_ours}
        {order}
        LIMIT $1
    )
    SELECT {spec}, p.airflow_version
    FROM picked p
    JOIN {airflow}task_instance ti
        ON ti.dag_id = p.dag_id AND ti.task_id = p.task_id AND ti.run_id = p.run_id AND ti.map_index = p.map_index
    {run}
    {dag_file}
    {order}";

const DEPTH: &str = "SELECT count(*) FROM {airflow}task_instance ti {whose} WHERE {queued_and_ours}";

const WHOSE: &str = "JOIN windlass.scheduler s ON s.job_id = ti.queued_by_job_id";

const RUN: &str =
    "JOIN {airflow}dag_run r ON r.dag_id = ti.dag_id AND r.run_id = ti.run_id AND r.run_type <> 'backfill'";

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

impl Store {
    /// Queueings of ours without a launch, at most `limit`, most urgent first. A row whose `executor_config` cannot be
    /// decoded comes with the error in its place.
    pub async fn intake(&self, pass: IntakePass, limit: u32) -> Result<Vec<TaskSpec>, BridgeError> {
        let (access, template) = match pass {
            IntakePass::Handover => (Access::Write, HANDOVER),
            IntakePass::Full => (Access::Scan, FULL),
        };
        let mut tx = self.begin(access, "look for queued task instances").await?;
        let rows = tx.rows(airflow_statement(self.intake_sql(template)).bind(i64::from(limit))).await?;
        tx.commit().await?;
        let mut specs = Vec::with_capacity(rows.len());
        for row in &rows {
            let command = match pass {
                IntakePass::Handover => Some(row.try_get("command").map_err(reading)?),
                IntakePass::Full => None,
            };
            specs.push(self.spec_of(row, command)?);
        }
        Ok(specs)
    }

    pub(crate) fn intake_sql(&self, template: &'static str) -> String {
        self.spec_sql(template)
            .replace("{whose}", WHOSE)
            .replace("{run}", &self.airflow_sql(RUN))
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
