//! The process kubelet as a node of a real kube-apiserver.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, LogParams, PostParams};
use serde_json::json;
use windlass_lab::control_plane::{ControlPlane, Options};
use windlass_local_cluster::{FAULT_ANNOTATION, Kubelet, KubeletOptions, kubeconfig_file};

/// On two cores that others use too.
const DEADLINE: Duration = Duration::from_secs(60);

async fn until(pods: &Api<Pod>, name: &str, is: impl Fn(&Pod) -> bool) -> Result<Pod> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let pod = pods.get(name).await?;
        if is(&pod) {
            return Ok(pod);
        }
        if Instant::now() > deadline {
            bail!("{name} is still {}", serde_json::to_string(&pod.status)?);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn pod(name: &str, script: &str, annotations: serde_json::Value) -> Result<Pod> {
    Ok(serde_json::from_value(json!({
        "metadata": { "name": name, "annotations": annotations },
        "spec": { "restartPolicy": "Never", "containers": [{
            "name": "base", "image": "any", "command": ["sh", "-c", script] }] },
    }))?)
}

fn in_phase(phase: &str) -> impl Fn(&Pod) -> bool {
    move |pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some(phase)
}

#[tokio::test]
async fn pods_of_a_real_api_server_run_as_processes() -> Result<()> {
    let plane = ControlPlane::start(Options::default()).await?;
    let config = kubeconfig_file(&plane.kubeconfig()).await?;
    let folder = tempfile::tempdir()?;
    let mut options = KubeletOptions::new("process-node", folder.path().join("pods"));
    options.bind_pods = true;
    let kubelet = Kubelet::start(config.clone(), options).await?;
    let pods: Api<Pod> = Api::namespaced(kube::Client::try_from(config)?, "default");

    pods.create(&PostParams::default(), &pod("fails", "echo I am $HOSTNAME; exit 3", json!({}))?).await?;
    let failed = until(&pods, "fails", in_phase("Failed")).await?;
    let status = serde_json::to_value(&failed.status)?;
    let code = &status["containerStatuses"][0]["state"]["terminated"]["exitCode"];
    ensure!(*code == 3, "the exit code is {code}");
    // The API server fetches the log from the kubelet.
    let log = pods.logs("fails", &LogParams::default()).await?;
    ensure!(log == "I am fails\n", "the log is {log:?}");

    let oom = json!({ FAULT_ANNOTATION: "oom" });
    pods.create(&PostParams::default(), &pod("oom", "while :; do sleep 0.1; done", oom)?).await?;
    let killed = serde_json::to_value(&until(&pods, "oom", in_phase("Failed")).await?.status)?;
    let reason = &killed["containerStatuses"][0]["state"]["terminated"]["reason"];
    ensure!(*reason == "OOMKilled", "the reason is {reason}");

    let script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done";
    pods.create(&PostParams::default(), &pod("asked", script, json!({}))?).await?;
    until(&pods, "asked", in_phase("Running")).await?;
    pods.delete("asked", &DeleteParams::default()).await?;
    let deadline = Instant::now() + DEADLINE;
    while pods.get_opt("asked").await?.is_some() {
        ensure!(Instant::now() < deadline, "a deleted pod does not go");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    kubelet.stop().await;
    Ok(())
}
