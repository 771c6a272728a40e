//! The parts of a benchmark, all real: PostgreSQL, etcd and kube-apiserver, the daemon as the shipped service account
//! with the shipped RBAC and as its own database role with the shipped grants.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use tokio::runtime::Handle;
use windlass_lab::binaries;
use windlass_lab::control_plane::{ControlPlane, Options};
use windlass_lab::daemon::{self, Daemon};
use windlass_lab::folder::Folder;
use windlass_lab::postgres::Postgres;
use windlass_lab::prepare::workspace;
use windlass_lab::process::{POLL, Supervised};

use crate::bare::Bare;
use crate::meter;
use crate::metrics::{self, Metrics};
use crate::pods::PodForm;
use crate::scheduler::{DAG, Scheduler, TASK};

/// Where worker pods go.
pub(crate) const NAMESPACE: &str = "airflow";
const POSTGRES_VERSION: u32 = 16;
/// Pods like those of the official chart.
const TEMPLATE: &str = "tests/fixtures/templates/helm_default.yaml";
/// That the template names; the admission plugin wants it to exist.
pub(crate) const WORKER_ACCOUNT: &str = "airflow-worker";
const AIRFLOW_TABLES: &str = "tests/fixtures/airflow/2.11.sql";
/// More pods than any benchmark runs at once.
const NODE_PODS: &str = "100000";
const DAEMON: &str = "windlass";
const DAEMON_LOG: &str = "windlass.log";
/// More than the daemon gives what is under way after SIGTERM.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// Nothing of what is waited for takes longer, unless something is wrong.
pub(crate) const WITHIN: Duration = Duration::from_secs(180);

/// Everything that runs. Fields are dropped in order: who uses comes before what is used.
pub(crate) struct Rig {
    pub(crate) scheduler: Scheduler,
    pub(crate) bare: Bare,
    pub(crate) daemon: Daemon,
    pub(crate) plane: ControlPlane,
    pub(crate) postgres: Postgres,
    daemon_env: BTreeMap<String, String>,
    folder: Folder,
}

/// CPU that each part has used, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    pub(crate) daemon: f64,
    pub(crate) postgres: f64,
    pub(crate) apiserver: f64,
    pub(crate) etcd: f64,
}

impl Cpu {
    /// What was used since `before`, per each of `count`.
    pub(crate) fn since(&self, before: &Self, count: usize) -> Self {
        let per = |now: f64, before: f64| (now - before) / count.max(1) as f64;
        Self {
            daemon: per(self.daemon, before.daemon),
            postgres: per(self.postgres, before.postgres),
            apiserver: per(self.apiserver, before.apiserver),
            etcd: per(self.etcd, before.etcd),
        }
    }
}

impl Rig {
    /// Starts all but the kubelet. `bare`: the runtime of the bare client; `settings`: more `--set` of the daemon.
    pub(crate) async fn start(bare: Handle, settings: &[String]) -> Result<Self> {
        let folder = Folder::new("bench")?;
        let postgres = tokio::task::spawn_blocking(|| Postgres::start(POSTGRES_VERSION)).await??;
        let database = postgres.create_database("airflow", None)?;
        let tables =
            std::fs::read_to_string(workspace().join(AIRFLOW_TABLES)).context("read Airflow's tables")?;
        postgres.psql(&database, &tables, &[])?;
        // RBAC is the default, and so are the in-flight limits of 400 and 200.
        let plane = Options { service_account_admission: true, ..Options::default() };
        let plane = ControlPlane::start(plane).await?;
        plane.create_namespace(NAMESPACE).await?;
        plane.create_service_account(NAMESPACE, WORKER_ACCOUNT).await?;
        let account = daemon::give_account(&plane, NAMESPACE).await?;

        let wake = folder.join("wake");
        let mut daemon_env = environment(&folder, &account, &postgres.url(&database));
        daemon::migrate(&daemon_env, &postgres, &database)?;
        daemon_env.extend(own_settings(settings)?);
        daemon_env.insert("WINDLASS__WAKE__SOCKET".into(), wake.display().to_string());
        let url = sqlalchemy(&postgres.url_as(daemon::NAME, &database));
        daemon_env.insert("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN".into(), url);
        let scheduler = Scheduler::start(&postgres.url(&database), &wake).await?;
        let bare = Bare::new(bare, &account).await?;
        let daemon = Daemon::start(DAEMON, &daemon_env, &folder.join(DAEMON_LOG)).await?;
        let rig = Self { scheduler, bare, daemon, plane, postgres, daemon_env, folder };
        rig.until_it_leads().await?;
        Ok(rig)
    }

    async fn until_it_leads(&self) -> Result<()> {
        let leads = async || Ok(Metrics::read(self.daemon.port()).await?.get("windlass_leading") == 1.0);
        self.until("the daemon leads", leads).await
    }

    /// Starts the daemon again after it was killed: the same holder, as when its container comes back. It does not wait
    /// until it leads. Returns when the process was about to be started.
    pub(crate) async fn start_daemon_again(&mut self) -> Result<Instant> {
        let spawned = Instant::now();
        self.daemon = Daemon::start(DAEMON, &self.daemon_env, &self.folder.join(DAEMON_LOG)).await?;
        Ok(spawned)
    }

    /// Ends the daemon as a rollout does, and starts a fresh one with more variables; until it leads.
    pub(crate) async fn renew_daemon(&mut self, more: &[(&str, &str)]) -> Result<()> {
        self.daemon.process().stop(STOP_WITHIN);
        let mut env = self.daemon_env.clone();
        env.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.daemon = Daemon::start(DAEMON, &env, &self.folder.join(DAEMON_LOG)).await?;
        self.until_it_leads().await
    }

    /// A second daemon, another holder with a wake socket of its own; until it says that it stands by.
    pub(crate) async fn start_standby(&self, name: &str) -> Result<Daemon> {
        let mut env = self.daemon_env.clone();
        let wake = self.folder.join(format!("wake-{name}"));
        env.insert("WINDLASS__WAKE__SOCKET".into(), wake.display().to_string());
        let standby = Daemon::start(name, &env, &self.folder.join(format!("{name}.log"))).await?;
        let stands_by = async || {
            standby.process().must_run()?;
            // 503 until it has found database and API server.
            Ok(metrics::get(standby.port(), "/readyz").await.is_ok_and(|said| said.contains("standby: `")))
        };
        self.until("the second daemon stands by", stands_by).await?;
        Ok(standby)
    }

    /// The kubelet that only plays: binds each pod, lets it run for so long, and reports success.
    pub(crate) async fn start_kubelet(&self, run: Duration) -> Result<Supervised> {
        let mut kubelet = Command::new(binaries::path("windlass-local-cluster")?);
        kubelet.arg("kubelet").arg("--kubeconfig").arg(self.plane.kubeconfig());
        kubelet.args(["--node", "bench", "--bind-pods", "--max-pods", NODE_PODS]);
        kubelet
            .arg("--fake-run-ms")
            .arg(run.as_millis().to_string())
            .arg("--log-dir")
            .arg(self.folder.join("pods"));
        kubelet.env("RUST_LOG", "warn");
        let kubelet = Supervised::spawn("kubelet", kubelet, &self.folder.join("kubelet.log"))?;
        kubelet.line("ready ", WITHIN).await?;
        Ok(kubelet)
    }

    /// The pod of a task of this run, as the daemon would send it.
    pub(crate) async fn pod_form(&self, run_id: &str, map_index: usize) -> Result<PodForm> {
        let mut render = tokio::process::Command::new(binaries::path("windlass")?);
        render.args(["render", "pod", "--output", "json", "--dag-id", DAG, "--task-id", TASK]);
        render
            .arg("--run-id")
            .arg(run_id)
            .arg("--map-index")
            .arg(map_index.to_string())
            .envs(&self.daemon_env);
        let output = render.kill_on_drop(true).output().await.context("run `windlass render pod`")?;
        if !output.status.success() {
            bail!("`windlass render pod` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        PodForm::new(&String::from_utf8_lossy(&output.stdout), map_index)
    }

    /// A copy of the pod template with one change.
    pub(crate) fn template_with(&self, from: &str, to: &str) -> Result<PathBuf> {
        let text = std::fs::read_to_string(workspace().join(TEMPLATE)).context("read the template")?;
        if !text.contains(from) {
            bail!("{TEMPLATE} has no `{from}`");
        }
        let path = self.folder.join("changed-template.yaml");
        std::fs::write(&path, text.replace(from, to)).context("write the template")?;
        Ok(path)
    }

    /// Pods that there are, counted by the API server.
    pub(crate) async fn pods(&self) -> Result<usize> {
        let api: Api<Pod> = Api::namespaced(self.plane.client(), NAMESPACE);
        let page = api.list_metadata(&ListParams::default().limit(1)).await.context("count pods")?;
        let more = usize::try_from(page.metadata.remaining_item_count.unwrap_or(0))?;
        Ok(page.items.len() + more)
    }

    /// Deletes the bare client's pods, so that each round begins with the same cluster.
    pub(crate) async fn delete_pods(&self, selector: &str) -> Result<()> {
        let api: Api<Pod> = Api::namespaced(self.plane.client(), NAMESPACE);
        let (now, of) = (DeleteParams::default().grace_period(0), ListParams::default().labels(selector));
        api.delete_collection(&now, &of).await.context("delete the round's pods")?;
        self.until("no pod is left", async || Ok(self.pods().await? == 0)).await
    }

    pub(crate) fn cpu(&self) -> Result<Cpu> {
        let of = |name: &str| {
            let pids = self.plane.pids();
            let pid = pids.iter().find(|(component, _)| component == name).map(|(_, pid)| *pid);
            meter::cpu_ms(pid.with_context(|| format!("{name} does not run"))?)
        };
        Ok(Cpu {
            daemon: meter::cpu_ms(self.daemon.process().pid())?,
            postgres: meter::family_cpu_ms(self.postgres.pid())?,
            apiserver: of("kube-apiserver")?,
            etcd: of("etcd")?,
        })
    }

    /// Waits until `look` says yes.
    pub(crate) async fn until(&self, what: &str, look: impl AsyncFn() -> Result<bool>) -> Result<()> {
        self.until_within(WITHIN, what, look).await
    }

    /// The same for what may take longer.
    pub(crate) async fn until_within(
        &self,
        within: Duration,
        what: &str,
        look: impl AsyncFn() -> Result<bool>,
    ) -> Result<()> {
        let deadline = Instant::now() + within;
        while !look().await? {
            self.daemon.process().must_run()?;
            if Instant::now() > deadline {
                let log = self.daemon.process().log_tail(20);
                bail!("waited {within:?} until {what}; the daemon's log ends:\n{log}");
            }
            tokio::time::sleep(POLL * 2).await;
        }
        Ok(())
    }
}

fn environment(folder: &Folder, kubeconfig: &std::path::Path, url: &str) -> BTreeMap<String, String> {
    let path = |path: PathBuf| path.display().to_string();
    let settings = [
        ("AIRFLOW_HOME", path(folder.path().to_owned())),
        ("AIRFLOW__CORE__EXECUTOR", "windlass_airflow.WindlassExecutor".to_owned()),
        ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", sqlalchemy(url)),
        ("AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER", "False".to_owned()),
        ("AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE", path(kubeconfig.to_owned())),
        ("AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE", NAMESPACE.to_owned()),
        ("AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE", path(workspace().join(TEMPLATE))),
        ("WINDLASS__SERVER__STATE_DIRECTORY", path(folder.join("state"))),
    ];
    settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn sqlalchemy(url: &str) -> String {
    url.replacen("postgresql://", "postgresql+psycopg2://", 1)
}

/// `create.concurrency=64` as the variable that says the same.
fn own_settings(settings: &[String]) -> Result<BTreeMap<String, String>> {
    let variable = |setting: &String| {
        let (name, value) = setting.split_once('=').with_context(|| format!("--set {setting} has no `=`"))?;
        let name = name.to_uppercase().replace('-', "_").replace('.', "__");
        Ok((format!("WINDLASS__{name}"), value.to_owned()))
    };
    settings.iter().map(variable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_becomes_its_variable() {
        let settings = own_settings(&["create.timeout-ms=900".to_owned()]).unwrap();
        assert_eq!(settings["WINDLASS__CREATE__TIMEOUT_MS"], "900");
        let error = own_settings(&["create".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "--set create has no `=`");
    }
}
