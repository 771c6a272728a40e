//! The client against a real kube-apiserver: what it says to each call, and under the shipped RBAC.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of tests fails its test"
)]

mod manifests;
mod pods;
mod rbac;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use windlass_cluster::{Cluster, ClusterConfig, NoObserver, Source};
use windlass_core::ids::{Attempt, InstallationId, LaunchId, Queueing, TaskKey};
use windlass_core::time::UtcMicros;
use windlass_lab::control_plane::ControlPlane;

/// Of a call on a machine whose cores are busy with other tests.
const LIMIT: Duration = Duration::from_secs(30);

fn installation() -> InstallationId {
    InstallationId("6f1c0f8e-0000-4000-8000-000000000000".into())
}

/// A launch id per number.
fn launch(number: usize) -> LaunchId {
    let key = TaskKey { dag_id: "d".into(), task_id: number.to_string(), run_id: "r".into(), map_index: -1 };
    LaunchId::of(&installation(), &Queueing { key, try_number: 1, queued_at: UtcMicros(1) })
}

fn pod(namespace: &str, name: &str, launch: &LaunchId) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "namespace": namespace, "name": name, "labels": {
            "windlass.dev/launch": launch.as_str(),
            "windlass.dev/attempt": Attempt::FIRST.0.to_string(),
            "windlass.dev/installation": installation().short(),
        } },
        "spec": {
            "restartPolicy": "Never",
            "containers": [{ "name": "base", "image": "none", "args": ["airflow", "tasks", "run"] }],
        },
    })
}

async fn connect(source: Source) -> Cluster {
    let config = ClusterConfig { source, request_timeout: LIMIT, ..ClusterConfig::default() };
    Cluster::connect(config, Arc::new(NoObserver)).await.unwrap()
}

async fn admin(plane: &ControlPlane) -> Cluster {
    connect(Source::Kubeconfig { path: Some(plane.kubeconfig()), context: None }).await
}
