//! `windlass` as a process of its own, with a database and without Airflow: what it prints, answers to probes, and
//! leaves in the database.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use windlass_lab::control_plane::ControlPlane;
use windlass_lab::folder::Folder;
use windlass_lab::postgres::Postgres;
use windlass_lab::prepare::workspace;
use windlass_lab::process::{POLL, Supervised};
use windlass_lab::{binaries, daemon, plain_http};

/// `{}` pickled.
const NO_CONFIG: &str = "80057d942e";
/// On two cores that others use too.
const WITHIN: Duration = Duration::from_secs(60);

/// A task instance to be written; by default one of the DAG `etl`, queued now in its first try.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "columns of task_instance")]
pub struct Task<'a> {
    pub dag_id: &'a str,
    pub task_id: &'a str,
    pub run_id: &'a str,
    pub map_index: i32,
    /// `None` is SQL's NULL.
    pub state: Option<&'a str>,
    pub try_number: i32,
    /// Microseconds since 1970; `None` is now.
    pub queued_at: Option<i64>,
    /// The pickle in hexadecimal.
    pub executor_config: &'a str,
}

impl Default for Task<'_> {
    fn default() -> Self {
        Self {
            dag_id: "etl",
            task_id: "task",
            run_id: "r",
            map_index: -1,
            state: Some("queued"),
            try_number: 1,
            queued_at: None,
            executor_config: NO_CONFIG,
        }
    }
}

/// Environment of a daemon.
pub type Variables = BTreeMap<String, String>;

/// Airflow's database without Airflow: its tables, the two roles, and one scheduler once there is a schema.
pub struct Database {
    /// The server.
    pub postgres: Postgres,
    /// The database's name.
    pub name: String,
}

impl Database {
    /// A server with an empty database and the roles `airflow` and `windlass`.
    pub async fn empty() -> Result<Self> {
        tokio::task::spawn_blocking(|| {
            let postgres = Postgres::start(16)?;
            postgres.psql("postgres", "CREATE ROLE airflow LOGIN; CREATE ROLE windlass LOGIN", &[])?;
            let name = postgres.create_database("airflow", None)?;
            Ok(Self { postgres, name })
        })
        .await?
    }

    /// With Airflow's tables, Windlass's schema, the grants and a registered scheduler.
    pub async fn ready() -> Result<Self> {
        let database = Self::empty().await?;
        database.make_airflow()?;
        let migrated = windlass(&database.owner(), &["migrate"])?;
        if !migrated.status.success() {
            bail!("`windlass migrate` failed: {}", String::from_utf8_lossy(&migrated.stderr));
        }
        database.grant()?;
        database.sql(
            "INSERT INTO job (id, job_type, state, latest_heartbeat) VALUES (7, 'SchedulerJob', 'running', now());
             INSERT INTO windlass.scheduler (job_id, executor_names, is_default, airflow_version, plugin_version)
             VALUES (7, '{windlass_airflow.WindlassExecutor}', true, '2.11.2', '0.1.0')",
        )?;
        Ok(database)
    }

    /// Airflow's tables, as `airflow db migrate` of 2.11 makes them.
    pub fn make_airflow(&self) -> Result<()> {
        self.sql(&read("tests/fixtures/airflow/2.11.sql")?).map(drop)
    }

    /// deploy/sql/grants.sql.
    pub fn grant(&self) -> Result<()> {
        self.sql(&read("deploy/sql/grants.sql")?).map(drop)
    }

    /// As the superuser; rows as text.
    pub fn sql(&self, sql: &str) -> Result<String> {
        self.postgres.psql(&self.name, sql, &[])
    }

    /// Queues a task of the scheduler; `executor_config` is the pickle in hexadecimal.
    pub fn queue(&self, task: &str, executor_config: &str) -> Result<()> {
        let row = Task { task_id: task, executor_config, ..Task::default() };
        self.put_task(&row)
    }

    /// Why a task failed, once its outcome is stored: `REASON: message`.
    pub async fn failure(&self, task: &str) -> Result<String> {
        let sql = format!(
            "SELECT reason || ': ' || message FROM windlass.launch WHERE task_id = '{task}' AND outcome = 'failure'"
        );
        until(&format!("the failure of {task}"), async || {
            Ok(Some(self.sql(&sql)?).filter(|reason| !reason.is_empty()))
        })
        .await
    }

    /// Of a task's launch; 0: it has none.
    pub fn attempt(&self, task: &str) -> Result<i64> {
        let sql = format!("SELECT attempt FROM windlass.launch WHERE task_id = '{task}'");
        Ok(self.sql(&sql)?.parse().unwrap_or(0))
    }

    /// Writes a task instance, its DAG and its run; one that is there gets the state and the queueing.
    pub fn put_task(&self, task: &Task<'_>) -> Result<()> {
        let Task { dag_id, task_id, run_id, map_index, try_number, executor_config, .. } = task;
        let state = task.state.map_or_else(|| "NULL".to_owned(), |state| format!("'{state}'"));
        let queued_at = task.queued_at.map_or_else(
            || "now()".to_owned(),
            |micros| format!("timestamptz 'epoch' + {micros} * interval '1 microsecond'"),
        );
        let sql = format!(
            "INSERT INTO dag (dag_id, fileloc, is_subdag, max_active_tasks, max_consecutive_failed_dag_runs,
                 has_task_concurrency_limits)
             VALUES ('{dag_id}', '/opt/airflow/dags/{dag_id}.py', false, 16, 0, false) ON CONFLICT DO NOTHING;
             INSERT INTO dag_run (dag_id, run_id, execution_date, run_type, state)
             VALUES ('{dag_id}', '{run_id}', '2026-01-01', 'manual', 'running') ON CONFLICT DO NOTHING;
             INSERT INTO task_instance (dag_id, task_id, run_id, map_index, state, try_number, pool, pool_slots, queue,
                 priority_weight, queued_dttm, queued_by_job_id, hostname, executor_config)
             VALUES ('{dag_id}', '{task_id}', '{run_id}', {map_index}, {state}, {try_number}, 'default_pool', 1,
                 'default', 1, {queued_at}, 7, '', '\\x{executor_config}')
             ON CONFLICT (dag_id, task_id, run_id, map_index) DO UPDATE SET state = EXCLUDED.state,
                 try_number = EXCLUDED.try_number, queued_dttm = EXCLUDED.queued_dttm"
        );
        self.sql(&sql).map(drop)
    }

    /// Variables of a `windlass` that owns the database.
    pub fn owner(&self) -> Variables {
        connection(&self.postgres.url(&self.name))
    }

    /// Variables of a `windlass` as the daemon's role.
    pub fn daemon(&self) -> Variables {
        connection(&self.postgres.url_as("windlass", &self.name))
    }
}

/// Where the database is, as Airflow writes it.
pub fn connection(url: &str) -> Variables {
    let url = url.replace("postgresql://", "postgresql+psycopg2://");
    Variables::from([("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN".to_owned(), url)])
}

fn read(file: &str) -> Result<String> {
    fs::read_to_string(workspace().join(file)).with_context(|| format!("read {file}"))
}

/// Runs `windlass` to its end. Nothing of the caller's environment reaches it.
pub fn windlass(variables: &Variables, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(binaries::path("windlass")?);
    command.env_clear().env("PATH", "/usr/bin:/bin").envs(homeless(variables)).stdin(Stdio::null());
    command.args(arguments).output().with_context(|| format!("run windlass {arguments:?}"))
}

/// Files of the caller's home are not read.
fn homeless(variables: &Variables) -> Variables {
    let mut all = variables.clone();
    for name in ["AIRFLOW_HOME", "HOME"] {
        all.entry(name.into()).or_insert_with(|| "/nonexistent".into());
    }
    all
}

/// A running `windlass run`.
pub struct Daemon(daemon::Daemon);

impl Daemon {
    /// Starts it and waits until it answers to probes.
    pub async fn start(folder: &Folder, name: &str, variables: &Variables) -> Result<Self> {
        let mut variables = homeless(variables);
        let state = folder.join(format!("{name}-state")).display().to_string();
        variables.insert("WINDLASS__SERVER__STATE_DIRECTORY".into(), state);
        variables.insert("POD_UID".into(), name.into());
        daemon::Daemon::start(name, &variables, &folder.join(format!("{name}.log"))).await.map(Self)
    }

    /// The process, with its log.
    pub fn process(&self) -> &Supervised {
        self.0.process()
    }

    /// Status and body of a GET.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        plain_http::get(self.0.port(), path).await
    }

    /// Waits until `/readyz` answers with this status and these words; returns the whole answer. Meanwhile it lives.
    pub async fn ready_says(&self, status: u16, words: &str) -> Result<String> {
        let deadline = Instant::now() + WITHIN;
        loop {
            self.process().must_run()?;
            let last = self.get("/readyz").await;
            if let Ok((is, text)) = &last
                && *is == status
                && text.contains(words)
            {
                anyhow::ensure!(self.get("/livez").await?.0 == 200, "it waits and is not live");
                return Ok(text.clone());
            }
            if Instant::now() > deadline {
                bail!(
                    "/readyz never said {status} `{words}`, last: {last:?}\n{}",
                    self.process().log_tail(20)
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until the log holds these words.
    pub async fn log_says(&self, words: &str) -> Result<()> {
        let said = until(words, async || Ok(self.log().contains(words).then_some(()))).await;
        said.with_context(|| format!("the log:\n{}", self.process().log_tail(20)))
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.process().log()).unwrap_or_default()
    }
}

/// Waits until `look` finds something.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + WITHIN;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("{what}: not seen within {WITHIN:?}");
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Writes the files of a daemon that works as the administrator of a control plane, with these rules and this pod
/// template, and returns the variables that lead to them.
pub fn with_rules(
    plane: &ControlPlane,
    folder: &Path,
    namespace: &str,
    rules: &str,
    template: &str,
) -> Result<Variables> {
    for (file, text) in [("windlass.toml", rules), ("template.yaml", template), ("token", plane.token())] {
        fs::write(folder.join(file), text)?;
    }
    fs::copy(plane.ca(), folder.join("ca.crt"))?;
    let mut variables = service_account(plane.url(), folder, namespace);
    let path = |file: &str| folder.join(file).display().to_string();
    variables.insert("AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE".into(), path("template.yaml"));
    variables.insert("WINDLASS_CONFIG".into(), path("windlass.toml"));
    Ok(variables)
}

/// Variables that lead to an API server with the files of a service account in `folder`.
pub fn service_account(url: &str, folder: &Path, namespace: &str) -> Variables {
    let pairs = [
        ("WINDLASS__KUBERNETES__API_URL", url.to_owned()),
        ("WINDLASS__KUBERNETES__TOKEN_DIRECTORY", folder.display().to_string()),
        ("AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE", namespace.to_owned()),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}
