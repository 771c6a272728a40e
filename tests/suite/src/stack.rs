//! One deployment that all tests of a binary share.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::json;
use sqlx::Row;
use tokio::sync::Mutex;
use windlass_lab::airflow::{Airflow, Component};
use windlass_lab::binaries;
use windlass_lab::control_plane::{ControlPlane, Options as PlaneOptions};
use windlass_lab::daemon::{self, Daemon};
use windlass_lab::folder::Folder;
use windlass_lab::postgres::Postgres;
use windlass_lab::prepare::{Series, workspace};
use windlass_lab::process::{POLL, Supervised};

use crate::setup::{self, CONNECTION, start_kubelet};

/// Where worker pods go.
pub const NAMESPACE: &str = "airflow";

/// What differs between the deployments of the suite.
pub struct Setup {
    /// Which Airflow.
    pub series: Series,
    /// Its DAG files.
    pub dags: PathBuf,
    /// More environment of all of Airflow's processes and workers.
    pub env: Vec<(&'static str, String)>,
    /// A namespace beside [`NAMESPACE`] that pods may ask for: then the daemon sees to the whole cluster.
    pub second_namespace: Option<&'static str>,
    /// kube-scheduler and kube-controller-manager. Without them the kubelet binds pods, and quotas are not counted.
    pub controllers: bool,
}

impl Setup {
    /// The DAGs of `tests/suite/dags`, with local settings that have a `pod_mutation_hook`.
    pub fn suite(series: Series) -> Self {
        let many = Self::many(series).to_string();
        let python = [setup::PLUGIN, "tests/suite/dags", "tests/suite/settings"];
        let python = python.map(|path| workspace().join(path).display().to_string()).join(":");
        let env = [
            ("PYTHONPATH", python.as_str()),
            ("SUITE_MANY", many.as_str()),
            ("AIRFLOW__CORE__PARALLELISM", "512"),
            ("AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG", "512"),
            ("AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY", "256"),
            ("AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME", "0.3"),
            ("AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL", "5"),
        ];
        Self {
            series,
            dags: workspace().join("tests/suite/dags"),
            env: env.map(|(name, value)| (name, value.to_owned())).to_vec(),
            second_namespace: None,
            controllers: false,
        }
    }

    /// Bodies of one DAG run of `many`. Each costs a second of CPU or two, and thousands go through the fault runs with
    /// light workers: these are as many as have to be under way while the daemon is killed eight times. How Windlass
    /// carries them does not depend on the series of Airflow: the older one is given some dozens.
    pub fn many(series: Series) -> usize {
        match series {
            Series::V2_11 => 160,
            Series::V2_10 => 48,
        }
    }
}

/// PostgreSQL, control plane, kubelet, Airflow and daemons.
pub struct Stack {
    /// The Airflow. Tests that stop parts of it need the whole stack for themselves.
    pub airflow: Airflow,
    daemons: Mutex<BTreeMap<u32, Daemon>>,
    daemon_env: BTreeMap<String, String>,
    _kubelet: Supervised,
    /// The control plane.
    pub plane: ControlPlane,
    _postgres: Postgres,
    folder: Folder,
    runs: AtomicU32,
}

/// A row of `windlass.launch`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns of windlass.launch")]
pub struct Launch {
    pub launch_id: String,
    pub stage: String,
    pub attempt: i32,
    pub pod_name: String,
    pub outcome: Option<String>,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub delivered: bool,
}

impl Stack {
    /// Starts everything with one daemon.
    pub async fn start(setup: Setup) -> Result<Self> {
        let folder = Folder::new("suite")?;
        let postgres = tokio::task::spawn_blocking(|| Postgres::start(16)).await??;
        let database = postgres.create_database("airflow", None)?;
        let plane = ControlPlane::start(PlaneOptions {
            service_account_admission: true,
            scheduler: setup.controllers,
            controller_manager: setup.controllers,
            ..PlaneOptions::default()
        });
        let plane = plane.await?;
        plane.create_namespace(NAMESPACE).await?;
        let account = give_account(&plane, setup.second_namespace).await?;

        let url = postgres.url(&database);
        let mut more = setup.env;
        more.push(("WINDLASS_WAKE_SOCKET", folder.join("wake-0.sock").display().to_string()));
        if setup.second_namespace.is_some() {
            more.push(("AIRFLOW__KUBERNETES_EXECUTOR__MULTI_NAMESPACE_MODE", "True".to_owned()));
        }
        let more: Vec<(&str, &str)> = more.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let options = setup::airflow_options(setup.series, url, &setup.dags, &folder, &more);
        let mut airflow = Airflow::prepare(options).await?;
        let template = write_template(&airflow)?;
        let mut daemon_env = setup::daemon_env(airflow.env(), &account, NAMESPACE, &template, &folder);
        daemon_env.insert("WINDLASS__POD__MUTATION_HOOK".into(), "helper".into());
        let url = postgres.url_as(daemon::NAME, &database);
        daemon_env.insert(CONNECTION.into(), url.replace("postgresql://", "postgresql+psycopg2://"));
        daemon::migrate(airflow.env(), &postgres, &database)?;
        // Hundreds of Python interpreters that start at once take longer on two cores than one after the other.
        let mut node = vec!["--node", "suite", "--max-pods", "400", "--max-running", "12"];
        node.extend((!setup.controllers).then_some("--bind-pods"));
        let kubelet = start_kubelet(&plane, &folder, &node)?;
        airflow.load_dags().await?;
        airflow.start(Component::Scheduler).await?;
        airflow.start(Component::Triggerer).await?;
        let stack = Self {
            airflow,
            daemons: Mutex::default(),
            daemon_env,
            _kubelet: kubelet,
            plane,
            _postgres: postgres,
            folder,
            runs: AtomicU32::new(0),
        };
        stack.start_daemon(0).await?;
        Ok(stack)
    }

    /// Starts daemon number `slot`; each slot is a holder of its own, and the same one after a restart.
    pub async fn start_daemon(&self, slot: u32) -> Result<()> {
        let mut env = self.daemon_env.clone();
        env.insert("POD_UID".into(), format!("suite-{slot}"));
        // Each its own; the helper of pod_mutation_hook is found in the folder.
        let wake = self.folder.join(format!("wake-{slot}.sock"));
        env.insert("WINDLASS__WAKE__SOCKET".into(), wake.display().to_string());
        let log = self.folder.join(format!("daemon-{slot}.log"));
        let daemon = Daemon::start(&format!("windlass-{slot}"), &env, &log).await?;
        self.daemons.lock().await.insert(slot, daemon);
        Ok(())
    }

    /// SIGKILL.
    pub async fn kill_daemon(&self, slot: u32) {
        if let Some(daemon) = self.daemons.lock().await.remove(&slot) {
            daemon.process().kill();
        }
    }

    /// SIGTERM; it hands its term over and exits.
    pub async fn stop_daemon(&self, slot: u32) {
        if let Some(daemon) = self.daemons.lock().await.remove(&slot) {
            daemon.process().stop(Duration::from_secs(10));
        }
    }

    /// Runs a command of `windlass` to its end as the daemon is run, and returns its output.
    pub async fn windlass(&self, arguments: &[&str]) -> Result<String> {
        let mut command = tokio::process::Command::new(binaries::path("windlass")?);
        let command = command.args(arguments).envs(&self.daemon_env).kill_on_drop(true);
        let output = command.output().await.context("run windlass")?;
        ensure!(
            output.status.success(),
            "windlass {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The last lines of a daemon's log.
    pub fn daemon_log(&self, slot: u32) -> String {
        fs::read_to_string(self.folder.join(format!("daemon-{slot}.log"))).unwrap_or_default()
    }

    /// Who holds the term, and its epoch.
    pub async fn term(&self) -> Result<(String, i64)> {
        let row = sqlx::query("SELECT coalesce(holder, ''), epoch FROM windlass.term")
            .fetch_one(self.airflow.pool());
        let row = row.await?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    /// Makes a run of `dag_id` and returns its id.
    pub async fn trigger(&self, dag_id: &str) -> Result<String> {
        let run_id = format!("run{}", self.runs.fetch_add(1, Ordering::Relaxed));
        self.airflow.trigger(dag_id, &run_id, json!({})).await?;
        Ok(run_id)
    }

    /// Lets blocked bodies of a run go on.
    pub fn go(&self, run_id: &str) -> Result<()> {
        fs::write(self.folder.join(format!("go-{run_id}")), "").context("let the bodies go on")
    }

    /// Bodies of a run that began, as `task map_index try`, in the order in which they did.
    pub fn bodies(&self, run_id: &str) -> Vec<String> {
        let journal = self.file("journal");
        let of_run = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            (words.get(2) == Some(&run_id)).then(|| [words[1], words[3], words[4]].join(" "))
        };
        journal.lines().filter_map(of_run).collect()
    }

    /// A file that bodies and callbacks append to.
    pub fn file(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }

    /// Waits until a body of this task has begun.
    pub async fn body_began(&self, run_id: &str, body: &str) -> Result<()> {
        self.until(&format!("body `{body}` of {run_id}"), Duration::from_secs(90), async || {
            Ok(self.bodies(run_id).iter().any(|line| line == body).then_some(()))
        })
        .await
    }

    /// Launches of a task, oldest first.
    pub async fn launches(&self, dag_id: &str, run_id: &str, task_id: &str) -> Result<Vec<Launch>> {
        let sql = "SELECT launch_id, stage, attempt, pod_name, outcome, reason, message, delivered_at IS NOT NULL AS delivered
                   FROM windlass.launch WHERE dag_id = $1 AND run_id = $2 AND task_id = $3 ORDER BY queued_dttm";
        let rows =
            sqlx::query(sql).bind(dag_id).bind(run_id).bind(task_id).fetch_all(self.airflow.pool()).await?;
        let read = |row: &sqlx::postgres::PgRow| {
            Ok(Launch {
                launch_id: row.try_get("launch_id")?,
                stage: row.try_get("stage")?,
                attempt: row.try_get("attempt")?,
                pod_name: row.try_get("pod_name")?,
                outcome: row.try_get("outcome")?,
                reason: row.try_get("reason")?,
                message: row.try_get("message")?,
                delivered: row.try_get("delivered")?,
            })
        };
        Ok(rows.iter().map(read).collect::<sqlx::Result<_>>()?)
    }

    /// Waits for the `nth` launch (from 0) of a task to be as wanted.
    pub async fn launch(
        &self,
        (dag_id, run_id, task_id): (&str, &str, &str),
        nth: usize,
        wanted: impl Fn(&Launch) -> bool,
    ) -> Result<Launch> {
        let what = format!("launch {nth} of {dag_id}.{task_id} {run_id}");
        self.until(&what, Duration::from_secs(90), async || {
            let launches = self.launches(dag_id, run_id, task_id).await?;
            Ok(launches.get(nth).filter(|launch| wanted(launch)).cloned())
        })
        .await
    }

    /// Pods of the namespace.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.plane.client(), NAMESPACE)
    }

    /// Waits until `look` finds something.
    pub async fn until<T>(
        &self,
        what: &str,
        at_most: Duration,
        look: impl AsyncFn() -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + at_most;
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            if Instant::now() > deadline {
                bail!(
                    "{what}: not seen within {at_most:?}; the daemon's log ends:\n{}",
                    end_of(&self.daemon_log(0))
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// The daemon's service account with the rights that its namespaces take.
async fn give_account(plane: &ControlPlane, second_namespace: Option<&str>) -> Result<PathBuf> {
    let Some(second) = second_namespace else {
        return daemon::give_account(plane, NAMESPACE).await;
    };
    plane.create_namespace(second).await?;
    daemon::give_cluster_account(plane).await
}

/// The template of worker pods: the lab's, in our namespace, with lean workers.
fn write_template(airflow: &Airflow) -> Result<PathBuf> {
    let mut template = airflow.pod_template();
    let lean = workspace().join("tests/suite/lean");
    let env = template["spec"]["containers"][0]["env"].as_array_mut().context("the template has no env")?;
    for variable in env.iter_mut().filter(|variable| variable["name"] == "PYTHONPATH") {
        let path = format!("{}:{}", lean.display(), variable["value"].as_str().unwrap_or_default());
        variable["value"] = path.into();
    }
    // The local cluster has no image: a container's process is what its arguments say.
    template["spec"]["terminationGracePeriodSeconds"] = 20.into();
    let path = airflow.home().join("suite_template.yaml");
    fs::write(&path, serde_json::to_vec_pretty(&template)?).context("write the pod template")?;
    Ok(path)
}
