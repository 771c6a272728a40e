//! Starts the parts: database, Kubernetes API and kubelet, Airflow, the daemon.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use windlass_lab::airflow::{Airflow, Component, Options};
use windlass_lab::folder::Folder;
use windlass_lab::postgres::Postgres;
use windlass_lab::prepare::{Series, workspace};
use windlass_lab::process::{POLL, Supervised};
use windlass_lab::{binaries, ports};

use crate::progress::Progress;

/// Where worker pods go.
const NAMESPACE: &str = "airflow";
/// Worker processes at once: each is a Python that takes seconds of CPU to start and 150 MB.
const PARALLELISM: &str = "16";
const POSTGRES_VERSION: u32 = 16;
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Everything that runs. Fields are dropped in order: who uses comes before what is used.
pub(crate) struct Stack {
    pub(crate) airflow: Airflow,
    pub(crate) daemon: Supervised,
    _cluster: Supervised,
    _postgres: Postgres,
    kubeconfig: PathBuf,
    metrics_port: u16,
    database_url: String,
    folder: Folder,
}

impl Stack {
    pub(crate) async fn start(progress: &Progress) -> Result<Self> {
        let folder = Folder::new("demo")?;
        progress.say("PostgreSQL");
        let postgres = tokio::task::spawn_blocking(|| Postgres::start(POSTGRES_VERSION)).await??;
        let database_url = postgres.url(&postgres.create_database("airflow", None)?);

        progress.say("Kubernetes API and kubelet");
        let kubeconfig = folder.join("kubeconfig");
        let cluster = start_cluster(&folder, &kubeconfig).await?;
        create_namespace(&kubeconfig).await?;

        progress.say("Airflow's schema");
        let mut airflow = Airflow::prepare(airflow_options(&database_url)).await?;
        add_daemon_settings(&mut airflow, &kubeconfig)?;

        progress.say("windlass migrate");
        run_to_end(windlass(&airflow, &["migrate"])?).await?;

        progress.say("windlass run");
        let metrics_port = ports::free()?;
        let mut run = windlass(&airflow, &["run"])?;
        run.env("WINDLASS__SERVER__LISTEN", format!("127.0.0.1:{metrics_port}"));
        run.env("WINDLASS__SERVER__STATE_DIRECTORY", folder.path());
        let daemon = Supervised::spawn("windlass", run, &folder.join("windlass.log"))?;
        until_listening(&daemon, metrics_port).await?;

        progress.say("scheduler and triggerer");
        airflow.load_dags().await?;
        airflow.start(Component::Scheduler).await?;
        airflow.start(Component::Triggerer).await?;
        Ok(Self {
            airflow,
            daemon,
            _cluster: cluster,
            _postgres: postgres,
            kubeconfig,
            metrics_port,
            database_url,
            folder,
        })
    }

    /// What a user may want to look at while it runs.
    pub(crate) fn addresses(&self) -> Vec<(&'static str, String)> {
        vec![
            (
                "Kubernetes",
                format!("kubectl --kubeconfig {} -n {NAMESPACE} get pods", self.kubeconfig.display()),
            ),
            ("metrics", format!("http://127.0.0.1:{}/metrics", self.metrics_port)),
            ("database", self.database_url.clone()),
            ("logs", self.folder.path().display().to_string()),
            ("Airflow's logs", self.airflow.home().display().to_string()),
        ]
    }
}

fn airflow_options(database_url: &str) -> Options {
    let settings = [
        ("AIRFLOW__CORE__PARALLELISM", PARALLELISM),
        ("AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE", NAMESPACE),
        ("AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER", "False"),
        // The dependencies of fifty mapped tasks are looked at in one pass, not in four.
        ("AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY", "64"),
    ];
    Options {
        series: Series::default(),
        database_url: database_url.to_owned(),
        dags_folder: workspace().join("tests/lab/dags"),
        executor: "windlass_airflow.WindlassExecutor".to_owned(),
        env: settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    }
}

fn add_daemon_settings(airflow: &mut Airflow, kubeconfig: &Path) -> Result<()> {
    let template = airflow.write_pod_template()?;
    airflow.set_env("AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE", &template.display().to_string());
    airflow.set_env("AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE", &kubeconfig.display().to_string());
    Ok(())
}

/// The daemon is configured as Airflow is.
fn windlass(airflow: &Airflow, arguments: &[&str]) -> Result<Command> {
    let mut windlass = Command::new(binaries::path("windlass")?);
    windlass.args(arguments).envs(airflow.env()).current_dir(airflow.home());
    Ok(windlass)
}

async fn run_to_end(command: Command) -> Result<()> {
    let name = format!("{command:?}").split(' ').next_back().unwrap_or_default().to_owned();
    let output = tokio::process::Command::from(command).kill_on_drop(true).output().await?;
    if !output.status.success() {
        bail!("windlass {name} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// The embedded API with its kubelet in one process.
async fn start_cluster(folder: &Folder, kubeconfig: &Path) -> Result<Supervised> {
    let port = ports::free()?;
    let mut serve = Command::new(binaries::path("windlass-local-cluster")?);
    serve.args(["serve", "--port", &port.to_string(), "--with-kubelet", "--node", "this-machine"]);
    // Nobody makes the `default` service account of a namespace here: there is no controller-manager.
    serve.arg("--no-service-account-admission");
    serve.arg("--data").arg(folder.join("cluster")).arg("--write-kubeconfig").arg(kubeconfig);
    let cluster = Supervised::spawn("local-cluster", serve, &folder.join("local-cluster.log"))?;
    cluster.line("ready ", READY_WITHIN).await?;
    Ok(cluster)
}

async fn create_namespace(kubeconfig: &Path) -> Result<()> {
    let config =
        kube::config::Kubeconfig::read_from(kubeconfig).context("read the local cluster's kubeconfig")?;
    let config =
        kube::Config::from_custom_kubeconfig(config, &kube::config::KubeConfigOptions::default()).await?;
    let client = kube::Client::try_from(config)?;
    let body = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    let request = http::Request::post("/api/v1/namespaces").header("content-type", "application/json");
    client
        .request_text(request.body(serde_json::to_vec(&body)?)?)
        .await
        .context("create the namespace of the pods")?;
    Ok(())
}

async fn until_listening(process: &Supervised, port: u16) -> Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        process.must_run()?;
        if Instant::now() > deadline {
            bail!(
                "{} does not listen on port {port} after {READY_WITHIN:?}:\n{}",
                process.name(),
                process.log_tail(20)
            );
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
