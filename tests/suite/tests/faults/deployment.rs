//! What is attacked: PostgreSQL, etcd and kube-apiserver, two schedulers and a DAG processor of a real Airflow, two
//! daemons, a kubelet with light workers. The proxies stand before the servers; the test itself looks past them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use windlass_lab::airflow::{Airflow, Options as AirflowOptions};
use windlass_lab::control_plane::{ControlPlane, Options as PlaneOptions};
use windlass_lab::daemon;
use windlass_lab::folder::Folder;
use windlass_lab::postgres::Postgres;
use windlass_lab::prepare::workspace;
use windlass_lab::process::Supervised;
use windlass_lab::{binaries, ports};

use crate::part::Part;
use crate::proxy::Proxy;
use crate::story::Story;

/// Where worker pods go.
pub(crate) const NAMESPACE: &str = "airflow";
const CONNECTION: &str = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN";
/// Light workers that run at once.
const RUNNING_MAX: &str = "120";
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
    /// Of the daemons.
    pub(crate) database_proxy: Proxy,
    /// Of schedulers and workers.
    pub(crate) airflow_proxy: Proxy,
    pub(crate) plane: ControlPlane,
    pub(crate) pool: PgPool,
    pub(crate) postgres: Postgres,
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
        let options = PlaneOptions { service_account_admission: true, ..PlaneOptions::default() };
        let plane = ControlPlane::start(options).await?;
        plane.create_namespace(NAMESPACE).await?;
        let account = daemon::give_account(&plane, NAMESPACE).await?;
        let api_proxy = Proxy::start(port_of(plane.url())?).await?;
        let (database_proxy, airflow_proxy) =
            (Proxy::start(postgres.port()).await?, Proxy::start(postgres.port()).await?);

        let mut airflow = Airflow::prepare(airflow_options(postgres.url(&database), folder.path())).await?;
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
        let template = write_template(&airflow, &folder)?;

        let ports = [ports::free()?, ports::free()?];
        let mut env = airflow.env().clone();
        env.insert(CONNECTION.into(), through(&database_proxy, daemon::NAME));
        env.extend(daemon_env(&kubeconfig, &template, &folder));
        let daemons = daemons(&env, ports, &folder)?;
        let airflow_parts = airflow_parts(&airflow, &folder)?;
        let kubelet = start_kubelet(&plane, &folder)?;
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
            plane,
            pool,
            postgres,
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
        let answer = crate::http::ask(self.ports[number], "GET", "/readyz", "").await;
        answer.is_ok_and(|answer| answer.contains(" 200 "))
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

fn holder_of(number: usize) -> String {
    format!("faults-{number}")
}

fn port_of(url: &str) -> Result<u16> {
    let port = url.rsplit(':').next().and_then(|port| port.trim_end_matches('/').parse().ok());
    port.with_context(|| format!("no port in {url}"))
}

fn airflow_options(database_url: String, folder: &Path) -> AirflowOptions {
    let dags_folder = workspace().join("tests/suite/fault_dags");
    let env = [
        ("PYTHONPATH", workspace().join("scheduler-bridge/python").display().to_string()),
        ("SUITE_FOLDER", folder.display().to_string()),
        ("AIRFLOW__CORE__PARALLELISM", "400".into()),
        ("AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG", "400".into()),
        ("AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY", "128".into()),
        ("AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME", "0.5".into()),
        ("AIRFLOW__SCHEDULER__STANDALONE_DAG_PROCESSOR", "True".into()),
        ("AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL", "60".into()),
        // A killed scheduler's tasks are adopted within the healing time.
        ("AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD", "15".into()),
        ("AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL", "10".into()),
        // No pod may be left at the end.
        ("AIRFLOW__KUBERNETES_EXECUTOR__DELETE_WORKER_PODS_ON_FAILURE", "True".into()),
    ];
    AirflowOptions {
        database_url,
        dags_folder,
        executor: "windlass_airflow.WindlassExecutor".into(),
        env: env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

/// The lab's template with the light worker in the place of `airflow`.
fn write_template(airflow: &Airflow, folder: &Folder) -> Result<PathBuf> {
    let programs = folder.join("bin");
    fs::create_dir_all(&programs)?;
    symlink(binaries::path("windlass-light-worker")?, programs.join("airflow"))?;
    let mut template = airflow.pod_template();
    let env = template["spec"]["containers"][0]["env"].as_array_mut().context("the template has no env")?;
    for variable in env.iter_mut().filter(|variable| variable["name"] == "PATH") {
        variable["value"] = format!("{}:/usr/bin:/bin", programs.display()).into();
    }
    template["spec"]["terminationGracePeriodSeconds"] = 10.into();
    let path = folder.join("template.yaml"); // JSON is YAML
    fs::write(&path, serde_json::to_vec_pretty(&template)?).context("write the pod template")?;
    Ok(path)
}

fn daemon_env(kubeconfig: &Path, template: &Path, folder: &Folder) -> BTreeMap<String, String> {
    let path = |path: &Path| path.display().to_string();
    let env = [
        ("AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER", "False".to_owned()),
        ("AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE", path(kubeconfig)),
        ("AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE", NAMESPACE.to_owned()),
        ("AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE", path(template)),
        ("WINDLASS__SERVER__STATE_DIRECTORY", path(&folder.join("state"))),
        ("WINDLASS__LOG__LEVEL", "info,windlass=debug".to_owned()),
    ];
    env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn daemons(env: &BTreeMap<String, String>, ports: [u16; 2], folder: &Folder) -> Result<Vec<Part>> {
    let program = binaries::path("windlass")?;
    let one = |(number, port): (usize, u16)| {
        let mut env = env.clone();
        env.insert("POD_UID".into(), holder_of(number));
        env.insert("WINDLASS__SERVER__LISTEN".into(), format!("127.0.0.1:{port}"));
        let name = format!("daemon-{number}");
        let log = folder.join(format!("{name}.log"));
        Part::new(name, program.clone(), "run", env, log)
    };
    Ok(ports.into_iter().enumerate().map(one).collect())
}

fn airflow_parts(airflow: &Airflow, folder: &Folder) -> Result<Vec<Part>> {
    let one = |(name, argument): (&str, &'static str)| {
        let mut env = airflow.env().clone();
        env.insert("AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT".into(), ports::free()?.to_string());
        let log = folder.join(format!("{name}.log"));
        Ok(Part::new(name.to_owned(), airflow.venv().program("airflow"), argument, env, log))
    };
    let parts =
        [("scheduler-0", "scheduler"), ("scheduler-1", "scheduler"), ("dag-processor", "dag-processor")];
    parts.into_iter().map(one).collect()
}

fn start_kubelet(plane: &ControlPlane, folder: &Folder) -> Result<Supervised> {
    let mut command = Command::new(binaries::path("windlass-local-cluster")?);
    command.arg("kubelet").arg("--kubeconfig").arg(plane.kubeconfig());
    command.args(["--node", "faults", "--bind-pods", "--max-pods", "1000", "--max-running", RUNNING_MAX]);
    command.arg("--log-dir").arg(folder.join("pods"));
    Supervised::spawn("kubelet", command, &folder.join("kubelet.log"))
}
