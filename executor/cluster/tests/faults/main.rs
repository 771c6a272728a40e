//! The client against a server that misbehaves in ways a real API server cannot be told to.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper of tests fails its test")]

mod calls;
mod server;
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use windlass_cluster::{Cluster, ClusterConfig, NoObserver, Source};
use windlass_core::ids::{Attempt, LaunchId};

use server::Server;

const LAUNCH: &str = "abcdefghijklmnopqrstuvwxyz";

fn launch() -> LaunchId {
    LAUNCH.parse().unwrap()
}

/// What the server knows as the pod `etl/<name>` of the launch above, first attempt.
fn pod(name: &str, uid: &str, version: &str) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": { "name": name, "namespace": "etl", "uid": uid, "resourceVersion": version, "labels": {
            "windlass.dev/launch": LAUNCH, "windlass.dev/attempt": "1", "windlass.dev/installation": "6f1c0f8e" } },
        "spec": { "restartPolicy": "Never", "containers": [{ "name": "base", "image": "x" }] },
        "status": { "phase": "Pending" }
    })
}

fn config(server: &Server, directory: &Path) -> ClusterConfig {
    ClusterConfig {
        source: Source::ServiceAccount {
            url: format!("http://{}", server.address),
            directory: directory.to_owned(),
        },
        request_timeout: Duration::from_secs(5),
        ..ClusterConfig::default()
    }
}

/// A folder with a token, and the client that uses it.
async fn client(
    server: &Server,
    change: impl FnOnce(ClusterConfig) -> ClusterConfig,
) -> (tempfile::TempDir, Cluster) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "first").unwrap();
    let config = change(config(server, folder.path()));
    let cluster = Cluster::connect(config, Arc::new(NoObserver)).await.unwrap();
    (folder, cluster)
}

async fn create(cluster: &Cluster, limit: Duration) -> windlass_core::cluster::CreateAnswer {
    cluster.create(&pod("a", "", ""), &launch(), Attempt::FIRST, limit).await
}
