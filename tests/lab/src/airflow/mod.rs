//! A real Airflow 2.10 or 2.11: its processes, its home folder, its database.

mod agent;
mod rows;
mod schema;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use windlass_lab_prepare::{Series, Venv};

pub use self::rows::{LogRow, TaskRow};
use crate::folder::Folder;
use crate::ports;
use crate::process::{POLL, Supervised};
use agent::Agent;

/// A scheduler on SIGTERM ends its DAG processor and its executor first.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// One of Airflow's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// With the DAG processor in it, unless that is configured to stand alone.
    Scheduler,
    /// Runs deferred tasks' triggers.
    Triggerer,
    /// The UI.
    Webserver,
    /// Only with `AIRFLOW__SCHEDULER__STANDALONE_DAG_PROCESSOR=True`.
    DagProcessor,
}

impl Component {
    fn name(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Triggerer => "triggerer",
            Self::Webserver => "webserver",
            Self::DagProcessor => "dag-processor",
        }
    }
}

/// How this Airflow is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which Airflow.
    pub series: Series,
    /// Of an existing, empty database: `postgresql://user@host:port/name`.
    pub database_url: String,
    /// Its DAG files.
    pub dags_folder: PathBuf,
    /// `[core] executor` of scheduler, triggerer and webserver.
    pub executor: String,
    /// More environment for all processes and workers, `AIRFLOW__SECTION__KEY` and others.
    pub env: Vec<(String, String)>,
}

/// An Airflow whose processes end with it.
#[derive(Debug)]
pub struct Airflow {
    // Dropped in this order: processes before the folder that they write to.
    components: BTreeMap<Component, Supervised>,
    agent: tokio::sync::OnceCell<Agent>,
    pool: sqlx::PgPool,
    venv: Venv,
    env: BTreeMap<String, String>,
    options: Options,
    webserver_port: u16,
    folder: Folder,
}

impl Airflow {
    /// Makes the home folder and Airflow's schema; starts no process. The virtual environment is made when missing.
    pub async fn prepare(options: Options) -> Result<Self> {
        let series = options.series;
        let venv = tokio::task::spawn_blocking(move || windlass_lab_prepare::venv(series)).await??;
        let folder = Folder::new("airflow")?;
        let webserver_port = ports::free()?;
        let env = environment(&options, &venv, folder.path(), webserver_port)?;
        let pool = sqlx::postgres::PgPoolOptions::new()
            .max_connections(4)
            .connect(&options.database_url)
            .await
            .context("connect to the lab's database")?;
        let airflow = Self {
            components: BTreeMap::new(),
            agent: tokio::sync::OnceCell::new(),
            pool,
            venv,
            env,
            options,
            webserver_port,
            folder,
        };
        schema::ensure(&airflow).await?;
        Ok(airflow)
    }

    /// `AIRFLOW_HOME`.
    pub fn home(&self) -> &Path {
        self.folder.path()
    }

    /// Where logs of tasks go: `dag_id=../run_id=../task_id=../attempt=N.log`.
    pub fn task_logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// Its virtual environment.
    pub fn venv(&self) -> &Venv {
        &self.venv
    }

    /// Connections to its database, as its own role.
    pub fn pool(&self) -> &sqlx::PgPool {
        &self.pool
    }

    /// Address of the UI, once [`Component::Webserver`] runs.
    pub fn webserver_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.webserver_port)
    }

    /// Environment of scheduler, triggerer and webserver, and of the daemon beside them.
    pub fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// Changes the environment of processes started from now on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.insert(name.to_owned(), value.to_owned());
    }

    /// Environment of the worker pods. As in the official chart, a worker runs its task by LocalExecutor: a worker
    /// that can't import the scheduler's executor still works.
    pub fn worker_env(&self) -> BTreeMap<String, String> {
        let mut env = self.env.clone();
        env.insert("AIRFLOW__CORE__EXECUTOR".to_owned(), "LocalExecutor".to_owned());
        env
    }

    /// A pod template for this Airflow's workers: container `base`, its environment in the template.
    pub fn pod_template(&self) -> Value {
        let env: Vec<Value> =
            self.worker_env().iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        let image = format!("windlass-lab/airflow:{}", self.options.series);
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "template", "labels": {"component": "worker"}},
            "spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "base", "image": image, "env": env}],
            },
        })
    }

    /// Writes [`Self::pod_template`] into the home folder.
    pub fn write_pod_template(&self) -> Result<PathBuf> {
        let path = self.folder.join("pod_template.yaml"); // JSON is YAML
        fs::write(&path, serde_json::to_vec_pretty(&self.pod_template())?)
            .with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// A command that runs a program of the virtual environment with [`Self::env`].
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.venv.program(program));
        command.envs(&self.env).current_dir(self.home());
        command
    }

    /// Runs `airflow` with these arguments to its end and returns its output.
    pub async fn cli(&self, args: &[&str]) -> Result<String> {
        let mut command = tokio::process::Command::from(self.command("airflow"));
        let output =
            command.args(args).kill_on_drop(true).output().await.context("run the airflow command")?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("`airflow {}` failed ({}): {}", args.join(" "), output.status, errors.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts a component and waits until it can be worked with. Its log: [`Self::log`].
    pub async fn start(&mut self, component: Component) -> Result<()> {
        if self.components.contains_key(&component) {
            bail!("the {} runs already", component.name());
        }
        let since = self.job_count(component).await?;
        let mut command = self.command("airflow");
        command.arg(component.name());
        if component == Component::Triggerer {
            command.arg("--skip-serve-logs");
        }
        let process = Supervised::spawn(component.name(), command, &self.log(component))?;
        self.components.insert(component, process);
        self.wait_until_up(component, since).await
    }

    /// Log of a component; later starts append to it.
    pub fn log(&self, component: Component) -> PathBuf {
        self.folder.join(format!("{}.log", component.name()))
    }

    /// The process of a component that was started.
    pub fn process(&self, component: Component) -> Result<&Supervised> {
        self.components.get(&component).with_context(|| format!("the {} was not started", component.name()))
    }

    /// SIGTERM, then SIGKILL.
    pub fn stop(&mut self, component: Component) {
        if let Some(process) = self.components.remove(&component) {
            process.stop(STOP_WITHIN);
        }
    }

    /// SIGKILL to the process and its descendants, as the end of its container would.
    pub fn kill(&mut self, component: Component) {
        if let Some(process) = self.components.remove(&component) {
            process.kill();
        }
    }

    /// Parses the DAG folder into the database and unpauses all DAGs: the first run needs not wait for a parse.
    pub async fn load_dags(&self) -> Result<Vec<String>> {
        Ok(serde_json::from_value(self.ask(json!({"operation": "load_dags"})).await?)?)
    }

    /// Makes a manual DAG run.
    pub async fn trigger(&self, dag_id: &str, run_id: &str, conf: Value) -> Result<()> {
        self.ask(json!({"operation": "trigger", "dag_id": dag_id, "run_id": run_id, "conf": conf})).await?;
        Ok(())
    }

    /// Makes a manual DAG run of this logical date (ISO 8601).
    pub async fn trigger_at(&self, dag_id: &str, run_id: &str, date: &str) -> Result<()> {
        let request = json!({"operation": "trigger", "dag_id": dag_id, "run_id": run_id, "date": date});
        self.ask(request).await?;
        Ok(())
    }

    /// Makes a DAG run of this logical date (ISO 8601) as the scheduler does.
    pub async fn schedule(&self, dag_id: &str, run_id: &str, date: &str) -> Result<()> {
        let request = json!({"operation": "schedule", "dag_id": dag_id, "run_id": run_id, "date": date});
        self.ask(request).await?;
        Ok(())
    }

    /// Clears task instances as the UI does; returns how many.
    pub async fn clear(&self, dag_id: &str, run_id: &str, task_ids: &[&str]) -> Result<u64> {
        let request = json!({"operation": "clear", "dag_id": dag_id, "run_id": run_id, "task_ids": task_ids});
        self.ask(request).await?.as_u64().context("no count")
    }

    /// Marks a task (all its map indexes) as `success` or `failed` as the UI does.
    pub async fn mark(&self, dag_id: &str, run_id: &str, task_id: &str, state: &str) -> Result<()> {
        let request = json!({"operation": "mark", "dag_id": dag_id, "run_id": run_id, "task_id": task_id, "state": state});
        self.ask(request).await?;
        Ok(())
    }

    /// Sets the state of a DAG run to `success` or `failed`, with that of its unfinished tasks.
    pub async fn mark_run(&self, dag_id: &str, run_id: &str, state: &str) -> Result<()> {
        self.ask(json!({"operation": "mark_run", "dag_id": dag_id, "run_id": run_id, "state": state}))
            .await?;
        Ok(())
    }

    async fn ask(&self, request: Value) -> Result<Value> {
        let start = || async {
            let mut python = self.command("python");
            // The scheduler's executor is not wanted here: this is the user, not a component.
            python.env("AIRFLOW__CORE__EXECUTOR", "LocalExecutor");
            Agent::start(python, &self.folder.join("agent.log"))
        };
        self.agent.get_or_try_init(start).await?.ask(request).await
    }

    async fn wait_until_up(&self, component: Component, jobs_before: i64) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            self.process(component)?.must_run()?;
            let up = match component {
                Component::Webserver => {
                    tokio::net::TcpStream::connect(("127.0.0.1", self.webserver_port)).await.is_ok()
                }
                Component::Scheduler | Component::Triggerer | Component::DagProcessor => {
                    self.job_count(component).await? > jobs_before
                }
            };
            if up {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "the {} is not up after 3 minutes; its log: {}",
                    component.name(),
                    self.log(component).display()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

fn environment(
    options: &Options,
    venv: &Venv,
    home: &Path,
    webserver_port: u16,
) -> Result<BTreeMap<String, String>> {
    let database = options
        .database_url
        .split_once("://")
        .map(|(_, rest)| format!("postgresql+psycopg2://{rest}"))
        .context("the database URL has no scheme")?;
    let home_text = home.display().to_string();
    let dags = options.dags_folder.display().to_string();
    let webserver_port = webserver_port.to_string();
    let log_ports = [ports::free()?.to_string(), ports::free()?.to_string()];
    let path = venv.path();
    let fixed: [(&str, &str); 25] = [
        ("PATH", &path),
        ("HOME", &home_text),
        ("PYTHONUNBUFFERED", "1"),
        ("AIRFLOW_HOME", &home_text),
        ("AIRFLOW__CORE__DAGS_FOLDER", &dags),
        ("AIRFLOW__CORE__EXECUTOR", &options.executor),
        ("AIRFLOW__CORE__LOAD_EXAMPLES", "False"),
        ("AIRFLOW__CORE__FERNET_KEY", ""),
        ("AIRFLOW__CORE__PARALLELISM", "1000"),
        ("AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG", "1000"),
        ("AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT", "1000"),
        ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", &database),
        ("AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS", "False"),
        ("AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT", &log_ports[0]),
        ("AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT", &log_ports[1]),
        ("AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK", "False"),
        // On a busy machine a file is read for longer than Airflow waits: it then forgets the file's DAGs until it is
        // read again, and what needs them meanwhile fails. In seconds.
        ("AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT", "300"),
        ("AIRFLOW__CORE__DAG_FILE_PROCESSOR_TIMEOUT", "300"),
        ("AIRFLOW__SCHEDULER__STALE_DAG_THRESHOLD", "600"),
        ("AIRFLOW__WEBSERVER__WEB_SERVER_PORT", &webserver_port),
        ("AIRFLOW__WEBSERVER__WEB_SERVER_HOST", "127.0.0.1"),
        ("AIRFLOW__WEBSERVER__SECRET_KEY", "the lab's: it signs sessions of a private webserver"),
        ("AIRFLOW__WEBSERVER__WORKERS", "1"),
        ("AIRFLOW__WEBSERVER__RELOAD_ON_PLUGIN_CHANGE", "False"),
        ("AIRFLOW__USAGE_DATA_COLLECTION__ENABLED", "False"),
    ];
    let mut env: BTreeMap<String, String> =
        fixed.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    env.extend(options.env.iter().cloned());
    Ok(env)
}
