//! `airflow tasks run` without Python, for fault runs of thousands of tasks.
//!
//! A real worker costs seconds of CPU to start; two thousand of them do not fit ten minutes on two cores, and what is
//! tested is the executor. This one is found as `airflow` on the PATH of the pods and does in SQL what Airflow 2.11
//! does there: a LocalTaskJob with heartbeats, the start rule under the row's lock, `running` with its host, the body,
//! the end. Where Airflow's worker dies of a database that is away, so does this one; nothing is written more safely
//! than Airflow does.
//!
//! The body appends one line with the key of its queueing to the journal, and then takes its time.
//!
//! A disk of logs that is full ends it as it ends Airflow's: before the body if the task's own log can't be made there
//! (played by the `quick` tasks), else after all is done, when Python flushes its output for the last time (`slow`).

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sqlx::{Connection, PgConnection, Row};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, interval_at, sleep, timeout};

/// `[scheduler] job_heartbeat_sec` of Airflow.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A connection that does not come to be.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Airflow repeats its last write so often (`run_with_db_retries`).
const END_TRIES: u32 = 3;
/// Between two of them.
const END_PAUSE: Duration = Duration::from_secs(1);

const NEW_JOB: &str = "
    INSERT INTO job (dag_id, job_type, state, start_date, latest_heartbeat, hostname, unixname)
    VALUES ($1, 'LocalTaskJob', 'running', now(), now(), $2, 'airflow') RETURNING id";

const LOOK: &str = r#"
    SELECT state, try_number, to_char(queued_dttm AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') AS queued
    FROM task_instance WHERE dag_id = $1 AND task_id = $2 AND run_id = $3 AND map_index = $4 FOR UPDATE"#;

const BEGIN: &str = "
    UPDATE task_instance SET state = 'running', hostname = $5, job_id = $6, pid = $7, start_date = now(),
        end_date = NULL, updated_at = now()
    WHERE dag_id = $1 AND task_id = $2 AND run_id = $3 AND map_index = $4";

const BEAT: &str = "
    WITH beat AS (UPDATE job SET latest_heartbeat = now() WHERE id = $6)
    SELECT count(*) FROM task_instance
    WHERE dag_id = $1 AND task_id = $2 AND run_id = $3 AND map_index = $4 AND state = 'running' AND hostname = $5
        AND job_id = $6";

/// Success, or what `TaskInstance.handle_failure` makes of a SIGTERM; and the end of the job.
const END: &str = "
    WITH job AS (
        UPDATE job SET state = CASE WHEN $7 THEN 'success' ELSE 'failed' END, end_date = now(), latest_heartbeat = now()
        WHERE id = $6
    )
    UPDATE task_instance SET end_date = now(), updated_at = now(), state = CASE
        WHEN $7 THEN 'success' WHEN try_number <= max_tries THEN 'up_for_retry' ELSE 'failed' END
    WHERE dag_id = $1 AND task_id = $2 AND run_id = $3 AND map_index = $4 AND state = 'running' AND hostname = $5
        AND job_id = $6";

/// States in which Airflow starts a body (ti_deps/dependencies_states.py); NULL is the fourth.
const RUNNABLE: [&str; 3] = ["queued", "up_for_retry", "up_for_reschedule"];

/// Between two looks of a `held` task for the file that lets it go on.
const GO_LOOK: Duration = Duration::from_millis(200);

/// Exit code of Python if its output can't be flushed at the end (`Py_FinalizeEx`).
const UNFLUSHED: u8 = 120;

/// What the command line and the pod say.
#[derive(Debug, PartialEq, Eq)]
struct Task {
    dag_id: String,
    task_id: String,
    run_id: String,
    map_index: i32,
}

struct Worker {
    task: Task,
    url: String,
    host: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Nobody is told if that can't be written: the exit code says enough.
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::from(1)
        }
    }
}

async fn run() -> Result<u8> {
    let mut terminated = signal(SignalKind::terminate())?;
    let task = Task::parse(env::args().skip(1))?;
    let url = env::var("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN").context("no database in the environment")?;
    let worker = Worker {
        task,
        url: url.replacen("postgresql+psycopg2://", "postgresql://", 1),
        host: env::var("HOSTNAME").context("no HOSTNAME: this is no pod")?,
    };
    let told = worker.tell("the worker begins");
    if worker.task.task_id == "quick" {
        told?;
    }
    let Some(job) = worker.begin().await? else {
        return Ok(worker.flushed("dependencies are not met: nothing to run"));
    };
    let held = worker.task.task_id == "held";
    let mut end = Instant::now() + worker.task.takes();
    let mut beats = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(end) => {
                if held && !go()? {
                    end = Instant::now() + GO_LOOK;
                    continue;
                }
                worker.end(job, true).await?;
                return Ok(worker.flushed("the task has succeeded"));
            }
            _ = terminated.recv() => {
                worker.end(job, false).await?;
                return Ok(1);
            }
            _ = beats.tick() => match worker.beat(job).await {
                Ok(true) => {}
                Ok(false) => return Ok(0),
                // Airflow's job notes it and goes on.
                Err(error) => worker.note(&format!("heartbeat: {error:#}")),
            },
        }
    }
}

/// Whether the test lets `held` tasks end.
fn go() -> Result<bool> {
    Ok(Path::new(&env::var("SUITE_FOLDER").context("no SUITE_FOLDER")?).join("go").exists())
}

impl Task {
    /// `tasks run DAG TASK RUN --local --subdir FILE [--map-index N]`.
    fn parse(args: impl Iterator<Item = String>) -> Result<Self> {
        let args: Vec<String> = args.collect();
        let [tasks, run, dag_id, task_id, run_id, options @ ..] = args.as_slice() else {
            bail!("this is no command of a worker: {args:?}");
        };
        if (tasks.as_str(), run.as_str()) != ("tasks", "run") {
            bail!("the light worker knows `tasks run` alone, not {args:?}");
        }
        let named = options.iter().position(|option| option == "--map-index");
        let map_index = named.and_then(|place| options.get(place + 1)).map_or(Ok(-1), |index| index.parse());
        Ok(Self {
            dag_id: dag_id.clone(),
            task_id: task_id.clone(),
            run_id: run_id.clone(),
            map_index: map_index.with_context(|| format!("--map-index in {args:?}"))?,
        })
    }

    /// The same for each try: most tasks are short, `slow` ones outlive a fault or two.
    fn takes(&self) -> Duration {
        let text = format!("{}/{}/{}", self.run_id, self.task_id, self.map_index);
        // FNV-1a, so that neighbours differ.
        let hash = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let (least, spread) = if self.task_id == "slow" { (8_000, 7_000) } else { (100, 1_900) };
        Duration::from_millis(least + hash % spread)
    }
}

impl Worker {
    fn tell(&self, what: &str) -> Result<()> {
        let Task { dag_id, task_id, run_id, map_index } = &self.task;
        let line = format!("{what}: {dag_id} {task_id} {run_id} {map_index}");
        writeln!(std::io::stdout(), "{line}").context("write to the log")
    }

    /// As Python's logging: what can't be written is lost.
    fn note(&self, what: &str) {
        let _ = self.tell(what);
    }

    /// The exit code after the last words.
    fn flushed(&self, what: &str) -> u8 {
        if self.tell(what).is_ok() { 0 } else { UNFLUSHED }
    }

    async fn connect(&self) -> Result<PgConnection> {
        let connecting = timeout(CONNECT_WITHIN, PgConnection::connect(&self.url));
        connecting.await.context("the database does not answer")?.context("connect to the database")
    }

    /// What a hook and AWS's webhook should have set (`SUITE_DEMANDS` names it, with commas between) must be there.
    fn look_for_demanded() -> Result<()> {
        let demanded = env::var("SUITE_DEMANDS").unwrap_or_default();
        match demanded.split(',').find(|name| !name.is_empty() && env::var(name).is_err()) {
            Some(name) => bail!("the pod is not what it was to become: no {name}"),
            None => Ok(()),
        }
    }

    /// The job and the start rule; the body's line once the row says `running`. `None`: not to be run.
    async fn begin(&self) -> Result<Option<i32>> {
        Self::look_for_demanded()?;
        let Task { dag_id, task_id, run_id, map_index } = &self.task;
        let mut connection = self.connect().await?;
        let job: i32 =
            sqlx::query_scalar(NEW_JOB).bind(dag_id).bind(&self.host).fetch_one(&mut connection).await?;
        let mut tx = connection.begin().await?;
        let look = sqlx::query(LOOK).bind(dag_id).bind(task_id).bind(run_id).bind(map_index);
        let row = look.fetch_optional(&mut *tx).await?.context("there is no such task instance")?;
        let state: Option<String> = row.try_get("state")?;
        if state.as_deref().is_some_and(|state| !RUNNABLE.contains(&state)) {
            tx.rollback().await?;
            sqlx::query("UPDATE job SET state = 'success', end_date = now() WHERE id = $1")
                .bind(job)
                .execute(&mut connection)
                .await?;
            return Ok(None);
        }
        let begin = sqlx::query(BEGIN).bind(dag_id).bind(task_id).bind(run_id).bind(map_index);
        begin.bind(&self.host).bind(job).bind(std::process::id() as i32).execute(&mut *tx).await?;
        tx.commit().await?;
        let try_number: i32 = row.try_get("try_number")?;
        let queued: Option<String> = row.try_get("queued")?;
        self.journal(try_number, queued.as_deref().unwrap_or("never"))?;
        Ok(Some(job))
    }

    /// A single write of less than PIPE_BUF bytes to a file opened with O_APPEND does not mix with others.
    fn journal(&self, try_number: i32, queued: &str) -> Result<()> {
        let Task { dag_id, task_id, run_id, map_index } = &self.task;
        let line = format!("{dag_id} {task_id} {run_id} {map_index} {try_number} {queued} {}\n", self.host);
        let path = env::var("SUITE_FOLDER").context("no SUITE_FOLDER")?;
        let mut file = OpenOptions::new().append(true).create(true).open(Path::new(&path).join("journal"))?;
        file.write_all(line.as_bytes()).context("append to the journal")
    }

    /// Whether the row is still this worker's.
    async fn beat(&self, job: i32) -> Result<bool> {
        let Task { dag_id, task_id, run_id, map_index } = &self.task;
        let mut connection = self.connect().await?;
        let mine = sqlx::query_scalar::<_, i64>(BEAT).bind(dag_id).bind(task_id).bind(run_id).bind(map_index);
        Ok(mine.bind(&self.host).bind(job).fetch_one(&mut connection).await? == 1)
    }

    async fn end(&self, job: i32, success: bool) -> Result<()> {
        let mut tries = 1;
        loop {
            match self.write_end(job, success).await {
                Err(error) if tries < END_TRIES => {
                    self.note(&format!("end: {error:#}"));
                    tries += 1;
                    sleep(END_PAUSE).await;
                }
                ended => return ended,
            }
        }
    }

    async fn write_end(&self, job: i32, success: bool) -> Result<()> {
        let Task { dag_id, task_id, run_id, map_index } = &self.task;
        let mut connection = self.connect().await?;
        let end = sqlx::query(END).bind(dag_id).bind(task_id).bind(run_id).bind(map_index);
        end.bind(&self.host).bind(job).bind(success).execute(&mut connection).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> impl Iterator<Item = String> {
        text.split(' ').map(str::to_owned)
    }

    #[test]
    fn the_command_of_a_mapped_task_is_read() -> Result<()> {
        let task = Task::parse(words("tasks run d t r1 --local --subdir DAGS_FOLDER/d.py --map-index 3"))?;
        let expected = Task { dag_id: "d".into(), task_id: "t".into(), run_id: "r1".into(), map_index: 3 };
        assert_eq!(task, expected);
        assert_eq!(Task::parse(words("tasks run d t r1 --local"))?.map_index, -1);
        let error = Task::parse(words("dags list a b c")).expect_err("another command");
        assert!(error.to_string().starts_with("the light worker knows `tasks run` alone"), "{error}");
        Ok(())
    }
}
