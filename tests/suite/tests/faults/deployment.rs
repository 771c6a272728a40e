//! What is attacked: PostgreSQL, PgBouncer, etcd, kube-apiserver and its controllers, two schedulers and a DAG processor
//! of a real Airflow, two daemons, AWS's side of the cluster, a kubelet with light workers. The proxies stand before the servers; the test itself
//! looks past them.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::task::block_in_place;
use windlass_lab::airflow::{Airflow, Options as AirflowOptions};
use windlass_lab::control_plane::{ControlPlane, Options as PlaneOptions};
use windlass_lab::daemon;
use windlass_lab::folder::Folder;
use windlass_lab::pgbouncer::PgBouncer;
use windlass_lab::postgres::Postgres;
use windlass_lab::prepare::{Series, workspace};
use windlass_lab::process::Supervised;
use windlass_lab::proxy::Proxy;
use windlass_lab::{binaries, plain_http, ports};
use windlass_suite::setup::{self, CONNECTION};
use windlass_suite::{helpers_of, kill_all};

use crate::aws::{self, Aws};
use crate::part::Part;
use crate::story::Story;

/// Where worker pods go. Not where Airflow and its account are: with those the daemons would go too.
pub(crate) const NAMESPACE: &str = "workers";
/// What runs them.
pub(crate) const NODE: &str = "faults";
/// Light workers that run at once.
const RUNNING_MAX: &str = "120";
/// Of the pooler to the database: for both daemons.
const SERVER_CONNECTIONS: u32 = 20;
/// While this file is there, the disk of the logs is full.
const FULL_DISK: &str = "disk-is-full";
/// A look at a database that may be away.
const LOOK_WITHIN: Duration = Duration::from_secs(2);

/// Fields are dropped in order: who uses comes before what is used.
pub(crate) struct Deployment {
    pub(crate) daemons: Vec<Part>,
    /// Two schedulers, then the DAG processor.
    pub(crate) airflow_parts: Vec<Part>,
    _kubelet: Supervised,
    pub(crate) airflow: Arc<Airflow>,
    /// Of the daemons.
    pub(crate) api_proxy: Proxy,
    /// Of the daemons, before the pooler.
    pub(crate) database_proxy: Proxy,
    /// Of schedulers and workers.
    pub(crate) airflow_proxy: Proxy,
    pub(crate) aws: Aws,
    pub(crate) plane: ControlPlane,
    pub(crate) pool: PgPool,
    /// In transaction mode. `None` if there is none on this machine.
    pub(crate) pooler: Option<PgBouncer>,
    pub(crate) postgres: Postgres,
    /// Airflow's and ours.
    pub(crate) database: String,
    pub(crate) story: Arc<Story>,
    ports: [u16; 2],
    folder: Folder,
}

impl Deployment {
    pub(crate) async fn start() -> Result<Self> {
        let folder = Folder::new("faults")?;
        let story = Arc::new(Story::begin(&folder.join("faults.log"))?);
        let postgres = tokio::task::spawn_blocking(|| Postgres::start(16)).await??;
        let database = postgres.create_database("airflow", None)?;
        // The lab's server forgets its last commits in a crash otherwise, as no database of a deployment may.
        postgres.psql("postgres", &format!("ALTER DATABASE {database} SET synchronous_commit = on"), &[])?;
        let pooler = match PgBouncer::available() {
            Ok(()) => Some(block_in_place(|| PgBouncer::start(&postgres, SERVER_CONNECTIONS))?),
            Err(_) => None,
        };
        let (plane, aws, account) = cluster().await?;
        let api_proxy = Proxy::start(port_of(plane.url())?).await?;
        let for_daemons = pooler.as_ref().map_or(postgres.port(), PgBouncer::port);
        let (database_proxy, airflow_proxy) =
            (Proxy::start(for_daemons).await?, Proxy::start(postgres.port()).await?);

        let mut airflow = Airflow::prepare(airflow_options(postgres.url(&database), &folder)).await?;
        daemon::migrate(airflow.env(), &postgres, &database)?;
        // The user's hand, which triggers runs, is started here and goes straight to the database.
        airflow.load_dags().await?;
        let through = |proxy: &Proxy, role: &str| {
            format!("postgresql+psycopg2://{role}@127.0.0.1:{}/{database}", proxy.port())
        };
        airflow.set_env(CONNECTION, &through(&airflow_proxy, "postgres"));
        let kubeconfig = folder.join("kubeconfig");
        let ours = format!("https://127.0.0.1:{}", api_proxy.port());
        fs::write(&kubeconfig, fs::read_to_string(&account)?.replace(plane.url(), &ours))?;
        let template = setup::write_light_template(&airflow, &folder, &[("SUITE_DEMANDS", aws::DEMANDED)])?;
        give_hook(&mut airflow, &folder)?;

        let ports = [ports::free()?, ports::free()?];
        let mut env = setup::daemon_env(airflow.env(), &kubeconfig, NAMESPACE, &template, &folder);
        env.insert(CONNECTION.into(), through(&database_proxy, daemon::NAME));
        env.insert("WINDLASS_CONFIG".into(), aws::write_rules(&folder)?);
        env.insert("WINDLASS__LAUNCH__BRANCH_INTERFACE_TIMEOUT_SECONDS".into(), aws::PATIENCE.into());
        let daemons = daemons(&env, ports, &folder)?;
        let airflow_parts = airflow_parts(&airflow, &folder)?;
        let sign = folder.join(FULL_DISK).display().to_string();
        let node = ["--bind-pods", "--node", NODE, "--max-pods", "1000", "--max-running", RUNNING_MAX];
        let node = [node.as_slice(), &["--full-disk-while", &sign, "--branch-interfaces"]].concat();
        let kubelet = setup::start_kubelet(&plane, &folder, &node)?;
        aws.take_node(&plane).await?;
        let pool = PgPoolOptions::new().max_connections(4).acquire_timeout(LOOK_WITHIN);
        let pool = pool.connect(&postgres.url(&database)).await.context("connect to the database")?;
        let airflow = Arc::new(airflow);
        let mut deployment = Self {
            daemons,
            airflow_parts,
            _kubelet: kubelet,
            airflow,
            api_proxy,
            database_proxy,
            airflow_proxy,
            aws,
            plane,
            pool,
            pooler,
            postgres,
            database,
            story,
            ports,
            folder,
        };
        for part in deployment.daemons.iter_mut().chain(&mut deployment.airflow_parts) {
            part.start()?;
        }
        Ok(deployment)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the bodies wrote.
    pub(crate) fn journal(&self) -> String {
        fs::read_to_string(self.folder.join("journal")).unwrap_or_default()
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.plane.client(), NAMESPACE)
    }

    /// Number of the daemon that leads and the epoch, if the database tells.
    pub(crate) async fn term(&self) -> Option<(usize, i64)> {
        let sql = "SELECT coalesce(holder, ''), epoch FROM windlass.term WHERE expires_at > now()";
        let look = sqlx::query_as::<_, (String, i64)>(sql).fetch_optional(&self.pool);
        let (holder, epoch) = tokio::time::timeout(LOOK_WITHIN, look).await.ok()?.ok()??;
        let number = (0..self.daemons.len()).find(|number| holder.starts_with(&holder_of(*number)))?;
        Some((number, epoch))
    }

    /// Whether this daemon says that it is ready.
    pub(crate) async fn is_ready(&self, number: usize) -> bool {
        plain_http::get(self.ports[number], "/readyz").await.is_ok_and(|(status, _)| status == 200)
    }

    /// Returns how many there were.
    pub(crate) fn kill_helpers(&self) -> usize {
        let pids = [0, 1].map(|number| helpers_of(&wake_socket(&self.folder, number)));
        kill_all(&pids.concat())
    }

    /// From now on containers that start have no room for their logs; or have it again.
    pub(crate) fn fill_disk(&self, full: bool) -> Result<()> {
        let sign = self.folder.join(FULL_DISK);
        let done = if full { fs::write(&sign, "") } else { fs::remove_file(&sign) };
        match done {
            Err(error) if full || error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("the sign {}", sign.display()))
            }
            _ => Ok(()),
        }
    }

    /// Containers that have had none, so far.
    pub(crate) fn starts_without_room(&self) -> u64 {
        let log = fs::read_to_string(self.folder.join("kubelet.log")).unwrap_or_default();
        log.matches("the disk of its log is full").count() as u64
    }

    /// Starts what is due. Returns the daemons that ended without a fault: they must not.
    pub(crate) fn tick(&mut self) -> Result<Vec<String>> {
        let mut ended = Vec::new();
        for part in &mut self.daemons {
            ended.extend(part.tick()?);
        }
        for part in &mut self.airflow_parts {
            // A scheduler may: Airflow's does when its database goes away.
            if let Some(told) = part.tick()? {
                self.story.say(&told);
            }
        }
        ended.iter().for_each(|told| self.story.say(told));
        Ok(ended)
    }

    /// Runs a command of `windlass` as a daemon would be run, and returns its whole output.
    pub(crate) async fn windlass(&self, arguments: &[&str]) -> Result<String> {
        let mut command = tokio::process::Command::new(binaries::path("windlass")?);
        command.args(arguments).envs(self.daemons[0].env()).kill_on_drop(true);
        let output = command.output().await.context("run windlass")?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Ok(format!("$ windlass {}\n{out}{err}({})", arguments.join(" "), output.status))
    }
}

/// With AWS's side of it, and a kubeconfig of the daemons' account.
async fn cluster() -> Result<(ControlPlane, Aws, PathBuf)> {
    // The controllers count quotas and end namespaces.
    let options =
        PlaneOptions { service_account_admission: true, controller_manager: true, ..PlaneOptions::default() };
    let plane = ControlPlane::start(options).await?;
    plane.create_namespace(daemon::HOME).await?;
    plane.create_namespace(NAMESPACE).await?;
    let account = daemon::give_account(&plane, daemon::HOME).await?;
    daemon::give_rights(&plane, NAMESPACE).await?;
    let aws = Aws::install(&plane).await?;
    Ok((plane, aws, account))
}

fn holder_of(number: usize) -> String {
    format!("faults-{number}")
}

fn port_of(url: &str) -> Result<u16> {
    let port = url.rsplit(':').next().and_then(|port| port.trim_end_matches('/').parse().ok());
    port.with_context(|| format!("no port in {url}"))
}

fn airflow_options(database_url: String, folder: &Folder) -> AirflowOptions {
    let dags = &workspace().join("tests/suite/fault_dags");
    let more = [
        ("AIRFLOW__CORE__PARALLELISM", "400"),
        ("AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG", "400"),
        ("AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY", "128"),
        ("AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME", "0.5"),
        ("AIRFLOW__SCHEDULER__STANDALONE_DAG_PROCESSOR", "True"),
        ("AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL", "60"),
        // No pod may be left at the end.
        ("AIRFLOW__KUBERNETES_EXECUTOR__DELETE_WORKER_PODS_ON_FAILURE", "True"),
    ];
    // The light worker writes as the worker of 2.11 does.
    setup::airflow_options(Series::V2_11, database_url, dags, folder, &more)
}

fn daemons(env: &BTreeMap<String, String>, ports: [u16; 2], folder: &Folder) -> Result<Vec<Part>> {
    let program = binaries::path("windlass")?;
    let one = |(number, port): (usize, u16)| {
        let mut env = env.clone();
        env.insert("POD_UID".into(), holder_of(number));
        env.insert("WINDLASS__SERVER__LISTEN".into(), format!("127.0.0.1:{port}"));
        env.insert("WINDLASS_WAKE_SOCKET".into(), wake_socket(folder, number));
        env.insert("WINDLASS__POD__MUTATION_HOOK".into(), "helper".into());
        let name = format!("daemon-{number}");
        let log = folder.join(format!("{name}.log"));
        Part::new(name, program.clone(), "run", env, log)
    };
    Ok(ports.into_iter().enumerate().map(one).collect())
}

fn airflow_parts(airflow: &Airflow, folder: &Folder) -> Result<Vec<Part>> {
    let one = |(number, (name, argument)): (usize, (&str, &'static str))| {
        let mut env = airflow.env().clone();
        env.insert("WINDLASS_WAKE_SOCKET".into(), wake_socket(folder, number));
        env.insert("AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT".into(), ports::free()?.to_string());
        let log = folder.join(format!("{name}.log"));
        Ok(Part::new(name.to_owned(), airflow.venv().program("airflow"), argument, env, log))
    };
    let parts =
        [("scheduler-0", "scheduler"), ("scheduler-1", "scheduler"), ("dag-processor", "dag-processor")];
    parts.into_iter().enumerate().map(one).collect()
}

/// Every pod is shown to the hook of the suite's local settings, and the light worker runs in no other.
fn give_hook(airflow: &mut Airflow, folder: &Folder) -> Result<()> {
    for number in 0..3 {
        fs::create_dir(folder.join(format!("shared-{number}")))?;
    }
    let python = airflow.env().get("PYTHONPATH").cloned().unwrap_or_default();
    let settings = workspace().join("tests/suite/settings").display().to_string();
    airflow.set_env("PYTHONPATH", &format!("{python}:{settings}"));
    Ok(())
}

/// In a folder of its own, as the emptyDir that a scheduler's pod shares with its sidecar.
fn wake_socket(folder: &Folder, number: usize) -> String {
    folder.join(format!("shared-{number}")).join("wake.sock").display().to_string()
}
