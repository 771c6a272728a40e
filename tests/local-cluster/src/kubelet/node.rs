//! The node object: registration and heartbeat.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::KubeletOptions;
use super::client::{CallError, Client};
use crate::clock;
use crate::logs::LOG_DIR_ANNOTATION;

/// How often the node says that it lives. Upstream's node lifecycle controller gives up after 40 s.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Labels of the node, for node selectors.
pub(crate) fn labels(options: &KubeletOptions) -> BTreeMap<String, String> {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let own = [
        ("kubernetes.io/hostname", options.node.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
    ];
    let own = own.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned()));
    own.chain(options.labels.clone()).collect()
}

/// Creates the node, or takes an existing one of this name over.
pub(crate) async fn register(
    client: &Client,
    options: &KubeletOptions,
    log_port: u16,
) -> Result<(), CallError> {
    let log_dir = options.log_dir.display().to_string();
    let metadata = json!({ "name": options.node, "labels": labels(options),
                           "annotations": { LOG_DIR_ANNOTATION: log_dir } });
    let status = status(options, log_port);
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status });
    let path = format!("/api/v1/nodes/{}", options.node);
    match client.post("/api/v1/nodes", &node).await {
        Ok(_) => {}
        Err(error) if error.code() == 409 => {
            client.patch(&path, &json!({ "metadata": metadata })).await?;
        }
        Err(error) => return Err(error),
    }
    client.patch(&format!("{path}/status"), &json!({ "status": status })).await?;
    Ok(())
}

/// Says again and again that the node is ready. Runs until its task is aborted.
pub(crate) async fn heartbeat(client: Client, options: KubeletOptions, log_port: u16) {
    let path = format!("/api/v1/nodes/{}/status", options.node);
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        let patch = json!({ "status": { "conditions": conditions() } });
        match client.patch(&path, &patch).await {
            Ok(_) => {}
            Err(error) if error.code() == 404 => {
                tracing::warn!("the node object is gone; it is registered again");
                if let Err(error) = register(&client, &options, log_port).await {
                    tracing::warn!(%error, "the node is not registered; it is tried again");
                }
            }
            Err(error) => tracing::warn!(%error, "a heartbeat was not taken"),
        }
    }
}

fn status(options: &KubeletOptions, log_port: u16) -> Value {
    let pods = options.max_pods.to_string();
    let room = json!({ "pods": pods, "cpu": "64", "memory": "256Gi", "ephemeral-storage": "100Gi" });
    json!({
        "capacity": room, "allocatable": room, "conditions": conditions(),
        "addresses": [{ "type": "InternalIP", "address": super::HOST_IP },
                      { "type": "Hostname", "address": options.node }],
        "daemonEndpoints": { "kubeletEndpoint": { "Port": log_port } },
        "nodeInfo": { "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "", "osImage": "local",
            "containerRuntimeVersion": "local-process://1", "kubeletVersion": "v1.33.0", "kubeProxyVersion": "",
            "operatingSystem": "linux", "architecture": std::env::consts::ARCH },
    })
}

fn conditions() -> Value {
    let now = clock::now_text();
    let made = |kind: &str, status: &str, reason: &str| {
        json!({ "type": kind, "status": status, "reason": reason, "message": "", "lastHeartbeatTime": now,
                "lastTransitionTime": now })
    };
    json!([
        made("MemoryPressure", "False", "KubeletHasSufficientMemory"),
        made("DiskPressure", "False", "KubeletHasNoDiskPressure"),
        made("PIDPressure", "False", "KubeletHasSufficientPID"),
        made("Ready", "True", "KubeletReady"),
    ])
}
