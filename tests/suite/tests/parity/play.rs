//! Plays the runs: the same ones, with the same names and dates, in each deployment.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use windlass_lab::airflow::{Airflow, Component, Options};
use windlass_lab::folder::Folder;
use windlass_lab::postgres::Postgres;
use windlass_lab::prepare::{Series, workspace};
use windlass_lab::process::POLL;
use windlass_suite::{Setup, Stack};

use crate::pods::{EXAMPLE, IMAGE, SECOND_NAMESPACE};
use crate::table::{Cell, Table};
use crate::{examples, pods};

/// DAGs of `parity_dags`.
pub(crate) const DAGS: usize = 16;
/// The logical date of runs by hand: a Tuesday, on which no example sleeps for an hour.
const DATE: &str = "2025-06-03T00:00:00+00:00";
/// Runs that a scheduler would make when an interval is over: DAG, run, logical date.
const SCHEDULED: [(&str, &str, &str); 4] = [
    ("latest", "long_ago", "2025-06-02T00:00:00+00:00"),
    ("looking_back", "first", "2025-06-01T00:00:00+00:00"),
    ("looking_back", "second", "2025-06-02T00:00:00+00:00"),
    ("looking_back", "third", "2025-06-03T00:00:00+00:00"),
];
/// Its task must have begun before the timeout of its run is over: it is played before the machine is busy.
const AGAINST_TIME: &str = "timing_out";
/// Examples that read what others have written: with less than two of its dataset's events, the slice of the first is an
/// error of Airflow's (a negative LIMIT), and the last event of the second is not there.
const READERS: [&str; 2] = ["read_dataset_event", "read_dataset_event_from_classic"];
/// They write what [`READERS`] read.
const WRITERS: [&str; 3] = [
    "dataset_with_extra_by_context",
    "dataset_with_extra_by_yield",
    "dataset_with_extra_from_classic_operator",
];
/// Only runs that others make: these have no run by hand.
const NOT_BY_HAND: [&str; 3] = ["looking_back", "triggered", EXAMPLE];
/// Behind a run that failed: nothing of it ever starts, and Airflow leaves it running.
const STAYS: (&str, &str) = ("looking_back", "third");
/// How much of a task's log is shown.
const LOG_LINES: usize = 12;
/// The run by hand of each DAG.
const BY_HAND: &str = "by_hand";

/// How much is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Our own DAGs and a handful of examples.
    Short,
    /// And all other examples that can run here.
    Long,
}

impl Form {
    pub(crate) fn of_environment() -> Self {
        if std::env::var_os("WINDLASS_PARITY_LONG").is_some() { Self::Long } else { Self::Short }
    }

    /// On two busy cores.
    pub(crate) fn at_most(self) -> Duration {
        match self {
            Self::Short => Duration::from_secs(900),
            Self::Long => Duration::from_secs(2400),
        }
    }
}

/// Windlass's deployment, with the DAG files that it reads. The DAG with the pods needs a second namespace.
pub(crate) async fn windlass(form: Form) -> Result<(Stack, Folder)> {
    let dags = Folder::new("parity-windlass")?;
    make_dags(form, &dags)?;
    examples::copy_one(&examples::shipped()?, EXAMPLE, dags.path(), &dags.join("dags"))?;
    pods::make_mounts(&dags)?;
    let setup = Setup {
        series: Series::default(),
        dags: dags.join("dags"),
        env: env(),
        second_namespace: Some(SECOND_NAMESPACE),
        controllers: false,
    };
    let stack = Stack::start(setup).await?;
    add_pool(&stack.airflow).await?;
    Ok((stack, dags))
}

/// The same Airflow with its own executor.
pub(crate) struct LocalAirflow {
    pub(crate) airflow: Airflow,
    _postgres: Postgres,
    _dags: Folder,
}

impl LocalAirflow {
    pub(crate) async fn start(form: Form) -> Result<Self> {
        let dags = Folder::new("parity-local")?;
        make_dags(form, &dags)?;
        let postgres = tokio::task::spawn_blocking(|| Postgres::start(16)).await??;
        let mut env = env();
        // Each is a process that stays.
        env.push(("AIRFLOW__CORE__PARALLELISM", "12".to_owned()));
        let mut airflow = Airflow::prepare(Options {
            series: Series::default(),
            database_url: postgres.url(&postgres.create_database("airflow", None)?),
            dags_folder: dags.join("dags"),
            executor: "LocalExecutor".to_owned(),
            env: env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        })
        .await?;
        airflow.load_dags().await?;
        add_pool(&airflow).await?;
        airflow.start(Component::Scheduler).await?;
        airflow.start(Component::Triggerer).await?;
        Ok(Self { airflow, _postgres: postgres, _dags: dags })
    }
}

/// What both sides have: runs are made by the test alone, so that they bear the same names and dates.
fn env() -> Vec<(&'static str, String)> {
    let pairs = [
        ("AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE", "False"),
        ("AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME", "0.3"),
        ("AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL", "60"),
        // The example with pods takes its image from here.
        ("AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_REPOSITORY", IMAGE.0),
        ("AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_TAG", IMAGE.1),
    ];
    pairs.map(|(name, value)| (name, value.to_owned())).to_vec()
}

/// Our own DAGs and the examples, in `dags` below a deployment's folder.
fn make_dags(form: Form, folder: &Folder) -> Result<()> {
    let to = folder.join("dags");
    copy_folder(&workspace().join("tests/suite/parity_dags"), &to)?;
    examples::copy(form, folder.path(), &to)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let path = entry?.path();
        let copy = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_folder(&path, &copy)?;
        } else {
            fs::copy(&path, &copy).with_context(|| format!("copy {}", path.display()))?;
        }
    }
    Ok(())
}

/// The pool of `waiting.py`.
async fn add_pool(airflow: &Airflow) -> Result<()> {
    let sql = "INSERT INTO slot_pool (pool, slots, include_deferred) VALUES ('narrow', 2, false)";
    sqlx::query(sql).execute(airflow.pool()).await?;
    Ok(())
}

/// Makes all runs, waits for their ends, and reads what became of their tasks.
///
/// Nearly all at once. What depends on the moment of another's start or end waits for that, and not for luck.
pub(crate) async fn all(airflow: &Airflow, form: Form) -> Result<Table> {
    let deadline = Instant::now() + form.at_most();
    airflow.trigger_at(AGAINST_TIME, BY_HAND, DATE).await?;
    until_none_is_left(airflow, deadline, || not_begun(airflow)).await?;

    let mut dags = dags(airflow).await?;
    dags.retain(|dag| dag != AGAINST_TIME && !NOT_BY_HAND.contains(&dag.as_str()));
    let (readers, others): (Vec<_>, Vec<_>) =
        dags.into_iter().partition(|dag| READERS.contains(&dag.as_str()));
    for dag in &others {
        airflow.trigger_at(dag, BY_HAND, DATE).await?;
    }
    for (dag, run, date) in SCHEDULED {
        airflow.schedule(dag, run, date).await?;
    }

    // The short form has neither.
    until_none_is_left(airflow, deadline, || open_runs_of_writers(airflow)).await?;
    for dag in &readers {
        airflow.trigger_at(dag, BY_HAND, DATE).await?;
    }
    until_none_is_left(airflow, deadline, || open_runs(airflow)).await?;
    read(airflow).await
}

/// Without those that are a part of another one.
async fn dags(airflow: &Airflow) -> Result<Vec<String>> {
    let sql = "SELECT dag_id FROM dag WHERE is_active AND NOT is_subdag ORDER BY dag_id";
    Ok(sqlx::query_scalar(sql).fetch_all(airflow.pool()).await?)
}

/// Until `left` finds nothing any more.
async fn until_none_is_left(
    airflow: &Airflow,
    deadline: Instant,
    left: impl AsyncFn() -> Result<Vec<String>>,
) -> Result<()> {
    loop {
        let open = left().await?;
        if open.is_empty() {
            return Ok(());
        }
        airflow.process(Component::Scheduler)?.must_run()?;
        if Instant::now() > deadline {
            bail!("runs are open for too long: {open:?}\n{}", unfinished(airflow).await?.join("\n"));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The run of [`AGAINST_TIME`], until a task of it has begun. One that is over all the same shows in the table.
async fn not_begun(airflow: &Airflow) -> Result<Vec<String>> {
    let sql = "SELECT dag_id || ' ' || run_id FROM dag_run
               WHERE dag_id = $1 AND state NOT IN ('success', 'failed') AND NOT EXISTS (
                   SELECT FROM task_instance ti WHERE ti.dag_id = dag_run.dag_id AND ti.run_id = dag_run.run_id
                       AND ti.start_date IS NOT NULL)";
    Ok(sqlx::query_scalar(sql).bind(AGAINST_TIME).fetch_all(airflow.pool()).await?)
}

async fn open_runs_of_writers(airflow: &Airflow) -> Result<Vec<String>> {
    let sql = "SELECT dag_id || ' ' || run_id FROM dag_run
               WHERE dag_id = ANY($1) AND state NOT IN ('success', 'failed') ORDER BY 1";
    Ok(sqlx::query_scalar(sql).bind(WRITERS.as_slice()).fetch_all(airflow.pool()).await?)
}

/// Also those that another run has made, but not the one that stays.
async fn open_runs(airflow: &Airflow) -> Result<Vec<String>> {
    let sql = "SELECT dag_id || ' ' || run_id FROM dag_run
               WHERE state NOT IN ('success', 'failed') AND dag_id <> $1
                   AND (dag_id, run_id, state) <> ($2, $3, 'running') ORDER BY 1";
    let open = sqlx::query_scalar(sql).bind(EXAMPLE).bind(STAYS.0).bind(STAYS.1);
    Ok(open.fetch_all(airflow.pool()).await?)
}

async fn unfinished(airflow: &Airflow) -> Result<Vec<String>> {
    let sql =
        "SELECT concat_ws(' ', dag_id, run_id, task_id, map_index, coalesce(ti.state, 'none'), try_number)
               FROM task_instance ti JOIN dag_run USING (dag_id, run_id)
               WHERE dag_run.state NOT IN ('success', 'failed') ORDER BY 1";
    Ok(sqlx::query_scalar(sql).fetch_all(airflow.pool()).await?)
}

/// A run that another one has made bears the moment in its name: it is known by its number instead.
async fn read(airflow: &Airflow) -> Result<Table> {
    let sql = "
        WITH run AS (
            SELECT *, CASE WHEN run_id ~ '__20[0-9]{2}-' AND run_id !~ '2025-06-03'
                THEN 'made ' || rank() OVER (PARTITION BY dag_id ORDER BY id) ELSE run_id END AS name
            FROM dag_run WHERE dag_id <> $1
        )
        SELECT run.dag_id, run.name, '' AS task_id, -1 AS map_index, run.state, 0 AS tries FROM run
        UNION ALL
        SELECT run.dag_id, run.name, ti.task_id, ti.map_index, coalesce(ti.state, 'none'), ti.try_number
        FROM run JOIN task_instance ti USING (dag_id, run_id)";
    let rows: Vec<(String, String, String, i32, String, i32)> =
        sqlx::query_as(sql).bind(EXAMPLE).fetch_all(airflow.pool()).await?;
    let cell = |(dag, run, task, map_index, state, tries)| {
        let place = Cell { dag, run, task, map_index };
        (place, (state, tries))
    };
    Ok(Table(rows.into_iter().map(cell).collect()))
}

/// Tasks whose body a worker took, that have no launch of that try.
pub(crate) async fn tasks_without_launch(airflow: &Airflow) -> Result<Vec<String>> {
    let sql = "SELECT concat_ws(' ', ti.dag_id, ti.run_id, ti.task_id, ti.map_index) FROM task_instance ti
               WHERE ti.job_id IS NOT NULL AND NOT EXISTS (
                   SELECT FROM windlass.launch l WHERE l.dag_id = ti.dag_id AND l.task_id = ti.task_id
                       AND l.run_id = ti.run_id AND l.map_index = ti.map_index AND l.try_number = ti.try_number)";
    Ok(sqlx::query_scalar(sql).fetch_all(airflow.pool()).await?)
}

/// Why a task ended as it did, where its table cell differs: the last lines of each of its tries.
pub(crate) fn end_of_logs(side: &str, airflow: &Airflow, cell: &Cell) -> Result<Vec<String>> {
    let Cell { dag, run, task, map_index } = cell;
    let mut folder = airflow.task_logs().join(format!("dag_id={dag}/run_id={run}/task_id={task}"));
    if *map_index >= 0 {
        folder.push(format!("map_index={map_index}"));
    }
    // A run has none, and a task that never began.
    let Ok(tries) = fs::read_dir(&folder) else { return Ok(Vec::new()) };
    let mut ends = Vec::new();
    for log in tries {
        let path = log?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let lines: Vec<_> = text.lines().collect();
            let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n    ");
            ends.push(format!("  {side}, {}:\n    {end}", path.display()));
        }
    }
    Ok(ends)
}
