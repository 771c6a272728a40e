//! Airflow's scheduler with the plugin in it, played in the database: what both write, in the order in which they do.
//!
//! Left out is what costs the scheduler and not the executor: choosing what to run, and Python.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, Row};
use tokio::net::UnixDatagram;

/// The one DAG, its task and its SchedulerJob.
pub(crate) const DAG: &str = "bench";
pub(crate) const TASK: &str = "work";
const JOB: i64 = 7;

const REGISTER: &str = "
    WITH job AS (
        INSERT INTO job (id, job_type, state, latest_heartbeat) VALUES ($1, 'SchedulerJob', 'running', now())
    ), dag AS (
        INSERT INTO dag (dag_id, fileloc, is_subdag, max_active_tasks, max_consecutive_failed_dag_runs,
            has_task_concurrency_limits)
        VALUES ($2, '/opt/airflow/dags/bench.py', false, 16, 0, false)
    )
    INSERT INTO windlass.scheduler (job_id, executor_names, is_default, airflow_version, plugin_version)
    VALUES ($1, ARRAY['windlass_airflow.WindlassExecutor'], true, '2.11.2', '0.1.0')";

const NEW_RUN: &str = "
    WITH run AS (
        INSERT INTO dag_run (dag_id, run_id, execution_date, run_type, state)
        VALUES ($1, $3, clock_timestamp(), 'manual', 'running')
    )
    INSERT INTO task_instance (dag_id, task_id, run_id, map_index, state, try_number, max_tries, hostname, pool,
        pool_slots, queue, priority_weight, executor_config)
    SELECT $1, $2, $3, i, 'scheduled', 1, 0, '', 'default_pool', 1, 'default', $5, $6
    FROM generate_series(0, $4 - 1) i";

/// `_executable_task_instances_to_queued`: one UPDATE for the tasks of one turn of the loop.
const QUEUE: &str = "
    UPDATE task_instance SET state = 'queued', queued_dttm = clock_timestamp(), queued_by_job_id = $4,
        updated_at = clock_timestamp()
    WHERE dag_id = $1 AND task_id = $2 AND run_id = $3 AND map_index >= $5 AND map_index < $6 AND state = 'scheduled'";

/// As handover.py has it: rows for what is really queued, and the notification.
const HAND_OVER: &str = "
    WITH noted AS (
        SELECT $1::text AS dag_id, $2::text AS task_id, $3::text AS run_id, i AS map_index, 1 AS try_number,
            NULL::text AS executor,
            ARRAY['airflow', 'tasks', 'run', $1, $2, $3, '--local', '--subdir', 'DAGS_FOLDER/bench.py',
                '--map-index', i::text] AS command
        FROM generate_series($5::int4, $6 - 1) i
    ), seen AS (
        SELECT n.*, ti.state, ti.queued_dttm
        FROM noted n JOIN task_instance ti ON ti.dag_id = n.dag_id AND ti.task_id = n.task_id AND ti.run_id = n.run_id
            AND ti.map_index = n.map_index
        WHERE ti.try_number = n.try_number AND ti.queued_by_job_id = $4 AND ti.queued_dttm IS NOT NULL
            AND ti.state IN ('queued', 'running', 'restarting')
    ), written AS (
        INSERT INTO windlass.handover (dag_id, task_id, run_id, map_index, try_number, job_id, executor, command)
        SELECT dag_id, task_id, run_id, map_index, try_number, $4, executor, command FROM seen WHERE state = 'queued'
    )
    SELECT map_index, queued_dttm, (SELECT CAST(pg_notify('windlass_wake', '') AS text)) FROM seen";

/// The same for a client that knows no database: rows that are queued, by a scheduler that Windlass does not know.
const QUEUE_ELSEWHERE: &str = "
    UPDATE task_instance SET state = 'queued', queued_dttm = clock_timestamp(), queued_by_job_id = 8
    WHERE dag_id = $1 AND run_id = $2";

/// Workers of all pods of a run begin, and do not end.
const BEGIN_ALL: &str = "
    WITH jobs AS (
        INSERT INTO job (dag_id, job_type, state, start_date, latest_heartbeat, hostname)
        SELECT dag_id, 'LocalTaskJob', 'running', now(), now(), pod_name FROM windlass.launch
        WHERE dag_id = $1 AND run_id = $2 RETURNING id, hostname
    )
    UPDATE task_instance ti
    SET state = 'running', hostname = l.pod_name, job_id = j.id, pid = 1, start_date = now(), updated_at = now()
    FROM windlass.launch l JOIN jobs j ON j.hostname = l.pod_name
    WHERE ti.dag_id = $1 AND ti.task_id = l.task_id AND ti.run_id = $2 AND ti.map_index = l.map_index
        AND l.dag_id = $1 AND l.run_id = $2 AND ti.state = 'queued'";

/// Somebody marks the run's tasks: what is queued is taken back.
const TAKE_BACK: &str =
    "UPDATE task_instance SET state = 'success' WHERE dag_id = $1 AND run_id = $2 AND state = 'queued'";

/// What Airflow does with a failure that the plugin offers: these tasks have no retries.
const FAIL: &str = "
    WITH failed AS MATERIALIZED (
        SELECT dag_id, task_id, run_id, map_index, queued_dttm FROM windlass.launch
        WHERE outcome = 'failure' AND delivered_at IS NULL AND dag_id = $1
    )
    UPDATE task_instance ti SET state = 'failed', end_date = now(), updated_at = now()
    FROM failed f
    WHERE ti.dag_id = f.dag_id AND ti.task_id = f.task_id AND ti.run_id = f.run_id AND ti.map_index = f.map_index
        AND ti.queued_dttm = f.queued_dttm AND ti.state = 'queued'";

/// Launches that are not done, and hand-overs that the daemon has not read.
const LEFT: &str = "
    SELECT (SELECT count(*) FROM windlass.launch WHERE dag_id = $1 AND run_id = ANY($2) AND NOT done)
        + (SELECT count(*) FROM windlass.handover WHERE dag_id = $1 AND run_id = ANY($2))";

/// delivery.py: outcomes that the rows show as taken are closed.
const DELIVER: &str = "
    UPDATE windlass.launch SET delivered_at = now()
    WHERE launch_id IN (
        SELECT l.launch_id FROM windlass.launch l
        JOIN task_instance ti ON ti.dag_id = l.dag_id AND ti.task_id = l.task_id AND ti.run_id = l.run_id
            AND ti.map_index = l.map_index
        WHERE l.outcome IS NOT NULL AND l.delivered_at IS NULL
            AND ti.state IS DISTINCT FROM 'queued' AND ti.state IS DISTINCT FROM 'running'
        ORDER BY l.launch_id LIMIT 500 FOR NO KEY UPDATE OF l SKIP LOCKED)";

const STANDING: &str = "
    SELECT count(*) AS launches, count(*) FILTER (WHERE attempt <> 1) AS again,
        coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM created_at - queued_dttm)), 0)::float8
            AS p50,
        coalesce(percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM created_at - queued_dttm)), 0)::float8
            AS p99,
        coalesce(max(extract(epoch FROM created_at - queued_dttm)), 0)::float8 AS worst,
        coalesce(extract(epoch FROM max(created_at) - min(queued_dttm)), 0)::float8 AS creating,
        coalesce(extract(epoch FROM max(closed_at) - min(queued_dttm)), 0)::float8 AS closing
    FROM windlass.launch WHERE dag_id = $1 AND task_id = $2 AND run_id = $3 AND map_index >= $4";

const OUTCOMES: &str = "
    SELECT outcome || coalesce(' ' || reason, '') AS outcome, count(*) FROM windlass.launch
    WHERE dag_id = $1 AND run_id = $2 AND outcome IS NOT NULL GROUP BY 1";

const STATES: &str = "
    SELECT coalesce(state, 'none')::text, count(*) FROM task_instance WHERE dag_id = $1 AND run_id = $2 GROUP BY 1";

/// How the launches of a run stand. Times are in seconds and begin with `queued_dttm`, which the queueing statement
/// takes before it commits; `created_at` is written after the API server's answer. So they are upper bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) launches: usize,
    /// With a second attempt.
    pub(crate) again: usize,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) worst: f64,
    /// From the first queueing to the last create.
    pub(crate) creating: f64,
    /// From the first queueing to the last close.
    pub(crate) closing: f64,
}

/// What the tasks of a run have of their own.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    priority_weight: i32,
    /// Pickled, as Airflow stores it.
    executor_config: Vec<u8>,
}

impl Default for Form {
    /// Nothing: an empty executor_config.
    fn default() -> Self {
        Self { priority_weight: 1, executor_config: b"\x80\x05}\x94.".to_vec() }
    }
}

impl Form {
    /// Goes before others.
    pub(crate) fn with_weight(priority_weight: i32) -> Self {
        Self { priority_weight, ..Self::default() }
    }

    /// A `pod_override` that asks for a namespace.
    pub(crate) fn in_namespace(namespace: &str) -> Self {
        let pod = format!("(dVmetadata\n(dVnamespace\nV{namespace}\nss");
        let executor_config = format!("(dVpod_override\n(dV__type\nVk8s.V1Pod\nsV__var\n{pod}ss.");
        Self { executor_config: executor_config.into_bytes(), ..Self::default() }
    }

    /// A template of its own.
    pub(crate) fn with_template(path: &Path) -> Self {
        let executor_config = format!("(dVpod_template_file\nV{}\ns.", path.display());
        Self { executor_config: executor_config.into_bytes(), ..Self::default() }
    }
}

pub(crate) struct Scheduler {
    pool: PgPool,
    socket: UnixDatagram,
    wake: PathBuf,
}

impl Scheduler {
    /// Registers with Windlass, as the plugin does at its start. `wake`: the daemon's socket.
    pub(crate) async fn start(database_url: &str, wake: &Path) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(4).connect(database_url).await;
        let pool = pool.context("connect to the benchmark's database")?;
        sqlx::query(REGISTER).bind(JOB).bind(DAG).execute(&pool).await.context("register a scheduler")?;
        // Jobs of workers get other ids.
        sqlx::query("SELECT setval('job_id_seq', $1)").bind(JOB + 1).execute(&pool).await?;
        Ok(Self { pool, socket: UnixDatagram::unbound()?, wake: wake.to_owned() })
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// A run of so many mapped tasks, scheduled and not queued.
    pub(crate) async fn new_run(&self, run_id: &str, tasks: usize) -> Result<()> {
        self.new_run_of(run_id, tasks, &Form::default()).await
    }

    /// The same with tasks of a form.
    pub(crate) async fn new_run_of(&self, run_id: &str, tasks: usize, form: &Form) -> Result<()> {
        let new = sqlx::query(NEW_RUN).bind(DAG).bind(TASK).bind(run_id).bind(i32::try_from(tasks)?);
        let new = new.bind(form.priority_weight).bind(&form.executor_config);
        new.execute(&self.pool).await.with_context(|| format!("make run {run_id}"))?;
        self.analyze().await
    }

    /// What autovacuum does where runs come all day.
    pub(crate) async fn analyze(&self) -> Result<()> {
        sqlx::raw_sql("ANALYZE task_instance; ANALYZE windlass.launch").execute(&self.pool).await?;
        Ok(())
    }

    /// One turn of the scheduler's loop: queues the tasks, commits, hands them over, wakes the daemon.
    pub(crate) async fn queue(&self, run_id: &str, tasks: Range<usize>) -> Result<()> {
        let (from, to) = (i32::try_from(tasks.start)?, i32::try_from(tasks.end)?);
        for (statement, what) in [(QUEUE, "queue"), (HAND_OVER, "hand over")] {
            let query =
                sqlx::query(statement).bind(DAG).bind(TASK).bind(run_id).bind(JOB).bind(from).bind(to);
            query.execute(&self.pool).await.with_context(|| format!("{what} tasks of {run_id}"))?;
        }
        // As in the plugin: a wake that is lost costs a poll.
        let _ = self.socket.send_to(b"w", &self.wake).await;
        Ok(())
    }

    /// All of them, in full turns one after the other.
    pub(crate) async fn queue_all(&self, run_id: &str, tasks: usize, batch: usize) -> Result<()> {
        for from in (0..tasks).step_by(batch) {
            self.queue(run_id, from..tasks.min(from + batch)).await?;
        }
        Ok(())
    }

    /// All of them, for another client: Windlass must not take them.
    pub(crate) async fn queue_elsewhere(&self, run_id: &str) -> Result<()> {
        let query = sqlx::query(QUEUE_ELSEWHERE).bind(DAG).bind(run_id);
        query.execute(&self.pool).await.with_context(|| format!("queue tasks of {run_id}"))?;
        Ok(())
    }

    /// All tasks of a run whose pods are created begin to run, for good.
    pub(crate) async fn begin_all(&self, run_id: &str) -> Result<()> {
        let query = sqlx::query(BEGIN_ALL).bind(DAG).bind(run_id);
        query.execute(&self.pool).await.with_context(|| format!("begin the tasks of {run_id}"))?;
        Ok(())
    }

    pub(crate) async fn take_back(&self, run_id: &str) -> Result<()> {
        sqlx::query(TAKE_BACK).bind(DAG).bind(run_id).execute(&self.pool).await.context("take tasks back")?;
        Ok(())
    }

    /// Airflow fails the tasks whose launches have failed.
    pub(crate) async fn fail(&self) -> Result<()> {
        sqlx::query(FAIL).bind(DAG).execute(&self.pool).await.context("fail tasks")?;
        Ok(())
    }

    /// How much of these runs is not over yet.
    pub(crate) async fn left(&self, run_ids: &[&str]) -> Result<usize> {
        let left = sqlx::query_scalar::<_, i64>(LEFT).bind(DAG).bind(run_ids);
        Ok(usize::try_from(left.fetch_one(&self.pool).await.context("count what is left")?)?)
    }

    pub(crate) async fn deliver(&self) -> Result<()> {
        sqlx::query(DELIVER).execute(&self.pool).await.context("deliver outcomes")?;
        Ok(())
    }

    pub(crate) async fn standing(&self, run_id: &str) -> Result<Standing> {
        self.standing_from(run_id, 0).await
    }

    /// Of the tasks from this map index on.
    pub(crate) async fn standing_from(&self, run_id: &str, map_index: usize) -> Result<Standing> {
        let row = sqlx::query(STANDING)
            .bind(DAG)
            .bind(TASK)
            .bind(run_id)
            .bind(i32::try_from(map_index)?)
            .fetch_one(&self.pool)
            .await
            .context("look")?;
        let count = |name: &str| -> Result<usize> { Ok(usize::try_from(row.try_get::<i64, _>(name)?)?) };
        Ok(Standing {
            launches: count("launches")?,
            again: count("again")?,
            p50: row.try_get("p50")?,
            p99: row.try_get("p99")?,
            worst: row.try_get("worst")?,
            creating: row.try_get("creating")?,
            closing: row.try_get("closing")?,
        })
    }

    /// Launches of a run whose pod was created.
    pub(crate) async fn created(&self, run_id: &str) -> Result<usize> {
        self.count("SELECT count(created_at) FROM windlass.launch WHERE dag_id = $1 AND run_id = $2", run_id)
            .await
    }

    /// Launches of a run that are closed and delivered.
    pub(crate) async fn done(&self, run_id: &str) -> Result<usize> {
        self.count("SELECT count(*) FROM windlass.launch WHERE dag_id = $1 AND run_id = $2 AND done", run_id)
            .await
    }

    async fn count(&self, sql: &'static str, run_id: &str) -> Result<usize> {
        let count: i64 =
            sqlx::query_scalar(sql).bind(DAG).bind(run_id).fetch_one(&self.pool).await.context("count")?;
        Ok(usize::try_from(count)?)
    }

    /// Launches of a run by outcome, failures with their reason.
    pub(crate) async fn outcomes(&self, run_id: &str) -> Result<BTreeMap<String, usize>> {
        self.counts(OUTCOMES, run_id).await
    }

    /// Task instances of a run by state.
    pub(crate) async fn states(&self, run_id: &str) -> Result<BTreeMap<String, usize>> {
        self.counts(STATES, run_id).await
    }

    async fn counts(&self, sql: &'static str, run_id: &str) -> Result<BTreeMap<String, usize>> {
        let rows = sqlx::query(sql).bind(DAG).bind(run_id).fetch_all(&self.pool).await.context("count")?;
        let read = |row: &sqlx::postgres::PgRow| -> Result<(String, usize)> {
            Ok((row.try_get(0)?, usize::try_from(row.try_get::<i64, _>(1)?)?))
        };
        rows.iter().map(read).collect()
    }

    /// Transactions that this database has committed or rolled back.
    pub(crate) async fn transactions(&self) -> Result<i64> {
        let sql = "SELECT (xact_commit + xact_rollback)::int8 FROM pg_stat_database WHERE datname = current_database()";
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.context("read pg_stat_database")
    }
}
