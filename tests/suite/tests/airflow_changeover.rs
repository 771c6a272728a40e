//! An Airflow changes over from the Python KubernetesExecutor to Windlass and back, with tasks running and queued: each
//! body runs once, and all end well. Light workers, a real kube-apiserver, the real schedulers with either executor.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;
use windlass_lab::airflow::{Airflow, Component};
use windlass_lab::control_plane::{ControlPlane, Options};
use windlass_lab::daemon::{self, Daemon};
use windlass_lab::folder::Folder;
use windlass_lab::postgres::Postgres;
use windlass_lab::prepare::{Series, workspace};
use windlass_lab::process::{POLL, Supervised};
use windlass_suite::setup::{self, CONNECTION};

const NAMESPACE: &str = "airflow";
const TASKS: usize = 100;
/// Light workers that run at once: as many tasks run, the others' pods wait.
const RUNNING: usize = 50;
/// Pods that the KubernetesExecutor has made when it is stopped: some queued tasks have none then.
const MADE: usize = 75;
const WITHIN: Duration = Duration::from_secs(120);
const RUN: &str = "one";

struct Deployment {
    airflow: Airflow,
    _kubelet: Supervised,
    plane: ControlPlane,
    daemon_env: BTreeMap<String, String>,
    _postgres: Postgres,
    folder: Folder,
}

impl Deployment {
    async fn start() -> Result<Self> {
        let folder = Folder::new("changeover")?;
        let postgres = tokio::task::spawn_blocking(|| Postgres::start(16)).await??;
        let database = postgres.create_database("airflow", None)?;
        let plane =
            ControlPlane::start(Options { service_account_admission: true, ..Options::default() }).await?;
        plane.create_namespace(NAMESPACE).await?;
        let account = daemon::give_account(&plane, NAMESPACE).await?;
        let more = [
            ("AIRFLOW__CORE__PARALLELISM", "200"),
            ("AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG", "200"),
            ("AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY", "128"),
            ("AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME", "0.3"),
            // Some pods a turn, so that it can be stopped between them.
            ("AIRFLOW__KUBERNETES_EXECUTOR__WORKER_PODS_CREATION_BATCH_SIZE", "4"),
        ];
        let options = setup::airflow_options(
            Series::default(),
            postgres.url(&database),
            &workspace().join("tests/suite/changeover_dags"),
            &folder,
            &more,
        );
        let mut airflow = Airflow::prepare(options).await?;
        daemon::migrate(airflow.env(), &postgres, &database)?;
        airflow.load_dags().await?;
        let template = setup::write_light_template(&airflow, &folder, &[])?;
        let mut daemon_env = setup::daemon_env(airflow.env(), &account, NAMESPACE, &template, &folder);
        let url = postgres.url_as(daemon::NAME, &database);
        daemon_env.insert(CONNECTION.into(), url.replace("postgresql://", "postgresql+psycopg2://"));
        let path = |path: &std::path::Path| path.display().to_string();
        for (name, value) in [
            ("IN_CLUSTER", "False".to_owned()),
            ("CONFIG_FILE", path(&plane.kubeconfig())),
            ("NAMESPACE", NAMESPACE.to_owned()),
            ("POD_TEMPLATE_FILE", path(&template)),
        ] {
            airflow.set_env(&format!("AIRFLOW__KUBERNETES_EXECUTOR__{name}"), &value);
        }
        let running = RUNNING.to_string();
        let node = ["--bind-pods", "--node", "changeover", "--max-pods", "400", "--max-running", &running];
        let kubelet = setup::start_kubelet(&plane, &folder, &node)?;
        Ok(Self { airflow, _kubelet: kubelet, plane, daemon_env, _postgres: postgres, folder })
    }

    /// Restarts the scheduler with this executor.
    async fn switch_to(&mut self, executor: &str) -> Result<()> {
        self.airflow.stop(Component::Scheduler);
        self.airflow.set_env("AIRFLOW__CORE__EXECUTOR", executor);
        self.airflow.start(Component::Scheduler).await
    }

    async fn start_daemon(&self) -> Result<Daemon> {
        let mut env = self.daemon_env.clone();
        env.insert("POD_UID".into(), "changeover".into());
        env.insert("AIRFLOW__CORE__EXECUTOR".into(), "windlass_airflow.WindlassExecutor".into());
        Daemon::start("windlass", &env, &self.folder.join("daemon.log")).await
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.plane.client(), NAMESPACE)
    }

    /// Map index of each body that began, in that order.
    fn bodies(&self) -> Result<Vec<usize>> {
        let journal = fs::read_to_string(self.folder.join("journal")).unwrap_or_default();
        let index = |line: &str| Ok(line.split(' ').nth(3).context("no map index")?.parse()?);
        journal.lines().map(index).collect()
    }

    async fn count(&self, sql: &'static str) -> Result<usize> {
        let count: i64 = sqlx::query_scalar(sql).fetch_one(self.airflow.pool()).await?;
        Ok(usize::try_from(count)?)
    }

    async fn until(&self, what: &str, look: impl AsyncFn(&Self) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + WITHIN;
        while !look(self).await? {
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.join("daemon.log")).unwrap_or_default();
                bail!(
                    "{what}: not seen within {WITHIN:?}\n{log}\n{}",
                    self.airflow.process(Component::Scheduler)?.log_tail(40)
                );
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

const QUEUED: &str = "SELECT count(*) FROM task_instance WHERE state = 'queued'";
const RUNS: &str = "SELECT count(*) FROM task_instance WHERE state = 'running'";
const LAUNCHED: &str = "SELECT count(*) FROM windlass.launch WHERE stage = 'created'";
/// Task instances that this scheduler has not taken over.
const STRANGERS: &str = "SELECT count(*) FROM task_instance ti WHERE state IN ('queued', 'running')
    AND queued_by_job_id IS DISTINCT FROM (SELECT max(id) FROM job WHERE job_type = 'SchedulerJob')";
/// Pods whose launch has not followed its task instance.
const BEHIND: &str = "SELECT count(*) FROM windlass.launch l JOIN task_instance ti
    USING (dag_id, task_id, run_id, map_index) WHERE l.outcome IS NULL AND l.scheduler_job_id <> ti.queued_by_job_id";
const TRIED_AGAIN: &str = "SELECT count(*) FROM task_instance WHERE try_number > 1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_over_and_back_runs_each_body_once() -> Result<()> {
    let mut here = Deployment::start().await?;
    here.switch_to("KubernetesExecutor").await?;
    here.airflow.trigger("changeover", RUN, json!({})).await?;
    here.until("50 running and 75 pods", async |here| {
        let pods = here.pods().list(&ListParams::default()).await?.items.len();
        Ok(pods >= MADE && here.bodies()?.len() == RUNNING && here.count(RUNS).await? == RUNNING)
    })
    .await?;
    ensure!(here.count(QUEUED).await? == TASKS - RUNNING);

    // To Windlass: the running tasks go on, the queued ones get pods.
    let daemon = here.start_daemon().await?;
    here.switch_to("windlass_airflow.WindlassExecutor").await?;
    here.until("a launch for each queued task, and all tasks taken over", async |here| {
        Ok(here.count(LAUNCHED).await? == TASKS - RUNNING && here.count(STRANGERS).await? == 0)
    })
    .await?;
    ensure!(here.count(RUNS).await? == RUNNING && here.bodies()?.len() == RUNNING);
    // A second scheduler of the same kind: launches and pods follow their owners.
    here.switch_to("windlass_airflow.WindlassExecutor").await?;
    here.until("all pods labelled with their task's scheduler", async |here| {
        let job: i32 = sqlx::query_scalar("SELECT max(id) FROM job WHERE job_type = 'SchedulerJob'")
            .fetch_one(here.airflow.pool())
            .await?;
        let of_job = ListParams::default().labels(&format!("airflow-worker={job}"));
        let followed: BTreeSet<String> = here
            .pods()
            .list(&of_job)
            .await?
            .items
            .iter()
            .filter_map(|pod| pod.metadata.annotations.as_ref()?.get("map_index").cloned())
            .collect();
        Ok(here.count(BEHIND).await? == 0 && followed.len() == TASKS)
    })
    .await?;

    // And back, as the pod of scheduler and daemon would be replaced.
    daemon.process().stop(Duration::from_secs(10));
    here.switch_to("KubernetesExecutor").await?;
    here.until("all tasks taken over", async |here| Ok(here.count(STRANGERS).await? == 0)).await?;
    ensure!(here.count(RUNS).await? == RUNNING && here.count(TRIED_AGAIN).await? == 0);
    fs::write(here.folder.join("go"), "")?;
    ensure!(here.airflow.wait_run("changeover", RUN, WITHIN).await? == "success");
    let mut bodies = here.bodies()?;
    bodies.sort_unstable();
    assert_eq!(bodies, (0..TASKS).collect::<Vec<_>>(), "each body once");
    Ok(())
}
