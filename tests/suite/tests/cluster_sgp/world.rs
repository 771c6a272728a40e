//! A cluster with security groups for pods.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Event, Pod, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use windlass_eks::branch::Options;
use windlass_eks::cluster::SecurityGroups;
use windlass_eks::configuration::sidecar_mutating;
use windlass_eks::review::Verdict;
use windlass_eks::server::{Handler, MUTATE_SIDECAR};
use windlass_lab::control_plane::{self, ControlPlane};
use windlass_lab::folder::Folder;
use windlass_local_cluster::{Kubelet, KubeletOptions, kubeconfig_file};
use windlass_suite::daemon::until;

pub(crate) const NAMESPACE: &str = "tasks";
pub(crate) const NODE: &str = "node-1";
/// Longer than any test: pods run until they are deleted.
const RUN: Duration = Duration::from_secs(600);

/// The control plane, AWS's side of it, and one node. Pods run without processes.
pub(crate) struct World {
    // Dropped in this order: clients of the API server first.
    _kubelet: Kubelet,
    pub(crate) groups: SecurityGroups,
    pub(crate) plane: ControlPlane,
    pub(crate) folder: Folder,
}

impl World {
    /// With a node for so many branch interfaces; they cool down for three seconds.
    pub(crate) async fn start(interfaces: usize) -> Result<Self> {
        Self::start_with(interfaces, |_| {}).await
    }

    /// `adjust` changes the node: without its `branch_interfaces` its network ignores what the controller gave.
    pub(crate) async fn start_with(
        interfaces: usize,
        adjust: impl FnOnce(&mut KubeletOptions),
    ) -> Result<Self> {
        let folder = Folder::new("cluster-sgp")?;
        let options = control_plane::Options {
            service_account_admission: true,
            scheduler: true,
            ..control_plane::Options::default()
        };
        let plane = ControlPlane::start(options).await?;
        plane.create_namespace(NAMESPACE).await?;
        let config = kubeconfig_file(&plane.kubeconfig()).await?;
        let branch = Options {
            cool_down: Duration::from_secs(3),
            delete_every: Duration::from_millis(100),
            ..Options::default()
        };
        let groups =
            SecurityGroups::install(config.clone(), NAMESPACE, branch, [(MUTATE_SIDECAR, sidecar())]).await?;
        let mut node = KubeletOptions::new(NODE, folder.join("pods"));
        node.branch_interfaces = true;
        node.fake_run = Some(RUN);
        adjust(&mut node);
        let kubelet = Kubelet::start(config, node).await?;
        groups.controller.add_node(NODE, interfaces).await?;
        Ok(Self { _kubelet: kubelet, groups, plane, folder })
    }

    /// From now on every pod gets a sidecar in front of its own containers.
    pub(crate) async fn inject_sidecars(&self) -> Result<()> {
        self.groups.create(&sidecar_mutating(&self.groups.webhooks)).await?;
        Ok(self.groups.is_asked(MUTATE_SIDECAR, NAMESPACE).await?)
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.plane.client(), NAMESPACE)
    }

    /// A policy that the controller knows.
    pub(crate) async fn policy(&self, name: &str, spec: Value) -> Result<()> {
        Ok(self.groups.create_policy(NAMESPACE, name, &spec).await?)
    }

    /// A service account that the controller knows, unless it is hidden.
    pub(crate) async fn account(&self, name: &str, labels: Value) -> Result<()> {
        let account = json!({ "metadata": { "name": name, "labels": labels } });
        let accounts: Api<ServiceAccount> = Api::namespaced(self.plane.client(), NAMESPACE);
        accounts.create(&PostParams::default(), &serde_json::from_value(account)?).await?;
        until("the account in the controller's cache", async || {
            Ok(self.groups.known.has_account(NAMESPACE, name).then_some(()))
        })
        .await
    }

    /// Creates a pod as anybody would; the answer is what admission made of it, or why it refuses.
    pub(crate) async fn create(&self, pod: Value) -> Result<Value, kube::Error> {
        let pod: Pod = serde_json::from_value(pod).map_err(kube::Error::SerdeError)?;
        let made = self.pods().create(&PostParams::default(), &pod).await?;
        serde_json::to_value(made).map_err(kube::Error::SerdeError)
    }

    pub(crate) async fn delete(&self, pod: &str) -> Result<()> {
        self.pods().delete(pod, &DeleteParams::default()).await.with_context(|| format!("delete {pod}"))?;
        Ok(())
    }

    pub(crate) async fn pod(&self, name: &str) -> Result<Value> {
        Ok(serde_json::to_value(self.pods().get(name).await?)?)
    }

    /// The pod once it is so.
    pub(crate) async fn pod_that(
        &self,
        what: &str,
        name: &str,
        is: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let last = std::cell::RefCell::new(Value::Null);
        let found = until(&format!("{name} {what}"), async || {
            let pod = self.pod(name).await?;
            last.replace(pod.clone());
            Ok(is(&pod).then_some(pod))
        })
        .await;
        found.with_context(|| format!("it is {}", last.into_inner()))
    }

    pub(crate) async fn running(&self, name: &str) -> Result<Value> {
        self.pod_that("runs", name, |pod| pod["status"]["phase"] == "Running").await
    }

    /// The pods of a task as the API server has them, by what the daemon calls them.
    pub(crate) async fn pods_of(&self, task: &str) -> Result<Vec<Value>> {
        let found = self.pods().list(&ListParams::default().labels(&format!("task_id={task}"))).await?;
        found.items.into_iter().map(|pod| Ok(serde_json::to_value(pod)?)).collect()
    }

    /// Events of a pod: reason, and how often each message was said with its type and source.
    pub(crate) async fn events(&self, pod: &str) -> Result<BTreeMap<String, Vec<String>>> {
        let events: Api<Event> = Api::namespaced(self.plane.client(), NAMESPACE);
        let of_pod = ListParams::default().fields(&format!("involvedObject.name={pod}"));
        let mut by_reason: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for event in events.list(&of_pod).await?.items {
            let source = event.source.and_then(|source| source.component).unwrap_or_default();
            let (kind, message) = (event.type_.unwrap_or_default(), event.message.unwrap_or_default());
            let told = format!("{source} {kind}: {message}");
            by_reason.entry(event.reason.unwrap_or_default()).or_default().push(told);
        }
        Ok(by_reason)
    }

    /// The events once they hold so many of this reason.
    pub(crate) async fn events_with(&self, pod: &str, reason: &str, many: usize) -> Result<Vec<String>> {
        until(&format!("{many} events {reason} of {pod}"), async || {
            let events = self.events(pod).await?.remove(reason).unwrap_or_default();
            Ok((events.len() >= many).then_some(events))
        })
        .await
    }
}

fn sidecar() -> Handler {
    Arc::new(|_: &Value| {
        let container = json!({ "name": "mesh", "image": "any" });
        Verdict::Patch(vec![json!({ "op": "add", "path": "/spec/containers/0", "value": container })])
    })
}

/// A pod of one container, with these labels.
pub(crate) fn pod(name: &str, labels: Value) -> Value {
    json!({
        "metadata": { "name": name, "labels": labels },
        "spec": { "containers": [{ "name": "base", "image": "any" }], "restartPolicy": "Never" },
    })
}

/// What the pod's container of this number is limited to of branch interfaces.
pub(crate) fn limit(pod: &Value, container: usize) -> &Value {
    &pod["spec"]["containers"][container]["resources"]["limits"]["vpc.amazonaws.com/pod-eni"]
}

/// The interfaces that the controller gave the pod.
pub(crate) fn interfaces(pod: &Value) -> Vec<Value> {
    let annotation = pod["metadata"]["annotations"]["vpc.amazonaws.com/pod-eni"].as_str();
    annotation.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}
