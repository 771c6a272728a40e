//! The real database and the real cluster, asked through the daemon's own `Edges`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Namespace, Pod, ResourceQuota};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use scheduler_bridge::{DatabaseConfig, Store, StoreSettings};
use serde_json::json;
use windlass::driver::{Edges, FailedLogs, Owners};
use windlass::metrics::Metrics;
use windlass::pods::Renderer;
use windlass_cluster::{Cluster, ClusterConfig, Namespaces, Source};
use windlass_core::ids::{InstallationId, LaunchId, PodRef, Queueing};
use windlass_core::pod::{PodSettings, WatchedNamespaces};
use windlass_core::task::TaskState;
use windlass_engine::{Answer, Ask};
use windlass_suite::daemon::{Database, Task};

use crate::backend::{LEASE_MS, NAMESPACE};

const WITHIN: Duration = Duration::from_secs(60);

/// Airflow's and Windlass's tables, written as the superuser.
pub(crate) struct Airflow(Database);

impl Airflow {
    pub(crate) fn of(database: Database) -> Self {
        Self(database)
    }

    fn sql(&self, sql: &str) -> Result<()> {
        self.0.sql(sql).map(drop)
    }
}

/// The API server, as its administrator sees it.
#[derive(Clone)]
pub(crate) struct Pods {
    kubeconfig: PathBuf,
    client: kube::Client,
}

impl Pods {
    pub(crate) fn new(kubeconfig: PathBuf, config: kube::Config) -> Result<Self> {
        Ok(Self { kubeconfig, client: kube::Client::try_from(config)? })
    }

    pub(crate) async fn make_namespace(&self) -> Result<()> {
        let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": NAMESPACE } }))?;
        Api::<Namespace>::all(self.client.clone()).create(&PostParams::default(), &namespace).await?;
        Ok(())
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    async fn clear(&self) -> Result<()> {
        let all = ListParams::default();
        self.pods().delete_collection(&DeleteParams::default().grace_period(0), &all).await?;
        until("no pod is left", async || Ok(self.pods().list(&all).await?.items.is_empty())).await
    }

    /// A quota of no pods, seen by its controller; or none.
    pub(crate) async fn quota(&self, full: bool) -> Result<()> {
        let quotas: Api<ResourceQuota> = Api::namespaced(self.client.clone(), NAMESPACE);
        if !full {
            quotas.delete("none", &DeleteParams::default()).await?;
            return Ok(());
        }
        let quota = json!({ "metadata": { "name": "none" }, "spec": { "hard": { "pods": "0" } } });
        quotas.create(&PostParams::default(), &serde_json::from_value(quota)?).await?;
        until("the quota is counted", async || {
            let status = quotas.get("none").await?.status;
            Ok(status.and_then(|status| status.used).is_some_and(|used| used.contains_key("pods")))
        })
        .await
    }

    pub(crate) async fn bind(&self, pod: &PodRef) -> Result<()> {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": { "name": pod.name },
            "target": { "apiVersion": "v1", "kind": "Node", "name": "silent" },
        });
        let _: serde_json::Value =
            self.pods().create_subresource("binding", &pod.name, &PostParams::default(), &binding).await?;
        Ok(())
    }
}

pub(crate) struct Real {
    airflow: Airflow,
    store: Store,
    cluster: Cluster,
    installation: InstallationId,
    metrics: Arc<Metrics>,
    pub(crate) pods: Pods,
    /// Where pods are made.
    pub(crate) namespace: &'static str,
}

impl Real {
    /// `url`: of the daemon's role.
    pub(crate) async fn new(airflow: Airflow, url: &str, pods: Pods) -> Result<Self> {
        let store = Store::connect(DatabaseConfig::parse(url)?, StoreSettings::default()).await?;
        let installation = store.installation().await?;
        let source = Source::Kubeconfig { path: Some(pods.kubeconfig.clone()), context: None };
        let config = ClusterConfig { source, ..ClusterConfig::default() };
        let metrics = Arc::new(Metrics::new()?);
        let cluster = Cluster::connect(config, metrics.clone()).await?;
        Ok(Self { airflow, store, cluster, installation, metrics, pods, namespace: NAMESPACE })
    }

    pub(crate) async fn clear(&mut self) -> Result<()> {
        self.namespace = NAMESPACE;
        self.airflow.sql(
            "TRUNCATE windlass.launch, windlass.handover;
             DELETE FROM task_instance;
             UPDATE windlass.term SET holder = NULL, expires_at = '-infinity'",
        )?;
        self.pods.clear().await
    }

    pub(crate) async fn ask(&self, holder: &str, ask: Ask) -> Answer {
        let settings = PodSettings {
            namespace: self.namespace.into(),
            kube_image: Some("airflow:2.11".into()),
            watched: WatchedNamespaces::Own,
            installation: self.installation.clone(),
            hide_from_neighbours: false,
        };
        let edges = Edges {
            store: self.store.clone(),
            cluster: self.cluster.clone(),
            renderer: Arc::new(Renderer::with(settings, None, Box::new(|_, _| {}))),
            installation: self.installation.clone(),
            holder: holder.to_owned(),
            namespaces: Namespaces::Only(vec![NAMESPACE.into()]),
            logs: FailedLogs::new(0),
            owners: Owners::default(),
            hides_pods: false,
            metrics: self.metrics.clone(),
            grace_seconds: None,
            retention: Duration::from_secs(86_400),
        };
        edges.execute(ask).await
    }

    pub(crate) fn put_task(&self, queueing: &Queueing, state: &TaskState) -> Result<LaunchId> {
        let key = &queueing.key;
        let state = match state {
            TaskState::None => None,
            state => Some(state.as_str()),
        };
        self.airflow.0.put_task(&Task {
            dag_id: &key.dag_id,
            task_id: &key.task_id,
            run_id: &key.run_id,
            map_index: key.map_index,
            state,
            try_number: queueing.try_number,
            queued_at: Some(queueing.queued_at.0),
            ..Task::default()
        })?;
        Ok(LaunchId::of(&self.installation, queueing))
    }

    pub(crate) fn remove_task(&self, queueing: &Queueing) -> Result<()> {
        self.airflow.sql(&format!("DELETE FROM task_instance WHERE task_id = '{}'", queueing.key.task_id))
    }

    pub(crate) fn withdraw(&self, launch: &LaunchId) -> Result<()> {
        let sql = format!(
            "UPDATE windlass.launch SET withdrawn_at = now() WHERE launch_id = '{}'",
            launch.as_str()
        );
        self.airflow.sql(&sql)
    }

    pub(crate) fn lease_ends(&self) -> Result<()> {
        let sql = format!(
            "UPDATE windlass.term SET expires_at = expires_at - {} * interval '1 millisecond'",
            LEASE_MS + 1
        );
        self.airflow.sql(&sql)
    }
}

async fn until(what: &str, look: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + WITHIN;
    while !look().await.with_context(|| what.to_owned())? {
        if Instant::now() > deadline {
            bail!("waited {WITHIN:?} until {what}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
