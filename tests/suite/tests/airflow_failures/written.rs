//! Statuses of pods as nodes and controllers of Kubernetes 1.37 write them.

use serde_json::{Value, json};

/// Past, and the same in all.
const TIME: &str = "2026-01-01T00:00:00Z";
/// containerd's answer for a tag that its registry does not have.
const NOT_FOUND: &str = "rpc error: code = NotFound desc = failed to pull and unpack image \
    \"registry.example.com/etl:2.1\": failed to resolve reference \"registry.example.com/etl:2.1\": \
    registry.example.com/etl:2.1: not found";

/// `EnsureImageExists` of pkg/kubelet/images/image_manager.go: the runtime's own words.
pub(crate) fn err_image_pull() -> Value {
    waiting("ErrImagePull", NOT_FOUND)
}

/// The same until it is tried again: what the last try came to stands behind the colon.
pub(crate) fn image_pull_back_off() -> Value {
    let image = "Back-off pulling image \"registry.example.com/etl:2.1\"";
    waiting("ImagePullBackOff", &format!("{image}: ErrImagePull: {NOT_FOUND}"))
}

/// `makeEnvironmentVariables` of pkg/kubelet/kubelet_pods.go: the client's words for a Secret that is not there.
pub(crate) fn container_config() -> Value {
    waiting("CreateContainerConfigError", "secret \"warehouse\" not found")
}

/// `toKubeContainerStatus` of pkg/kubelet/kuberuntime and the runtime's word; 137 is 128 + SIGKILL.
pub(crate) fn oom_killed() -> Value {
    json!({
        "phase": "Failed",
        "startTime": TIME,
        "containerStatuses": [container(&terminated("OOMKilled"))],
    })
}

/// `evictPod` of pkg/kubelet/eviction/eviction_manager.go with the message of `evictionMessage`.
pub(crate) fn evicted() -> Value {
    let message = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 92Mi. Container base \
                   was using 1934Mi, request is 512Mi, has larger consumption of memory. ";
    json!({
        "phase": "Failed",
        "reason": "Evicted",
        "message": message,
        "startTime": TIME,
        "conditions": [disruption("TerminationByKubelet", message)],
        "containerStatuses": [container(&terminated("Error"))],
    })
}

/// `gcOrphaned` of pkg/controller/podgc/gc_controller.go; the delete without grace follows at once. What the containers
/// were seen to do last stays.
pub(crate) fn node_lost() -> Value {
    json!({
        "phase": "Failed",
        "conditions": [disruption("DeletionByPodGC", "PodGC: node no longer exists")],
    })
}

fn waiting(reason: &str, message: &str) -> Value {
    let not_ready = "containers with unready status: [base]";
    let condition =
        |kind: &str, status: &str| json!({ "type": kind, "status": status, "lastTransitionTime": TIME });
    let unready = |kind: &str| {
        let mut condition = condition(kind, "False");
        condition["reason"] = "ContainersNotReady".into();
        condition["message"] = not_ready.into();
        condition
    };
    json!({
        "phase": "Pending",
        "startTime": TIME,
        "conditions": [condition("Initialized", "True"), unready("Ready"), unready("ContainersReady")],
        "containerStatuses": [container(&json!({ "waiting": { "reason": reason, "message": message } }))],
    })
}

fn container(state: &Value) -> Value {
    json!({
        "name": "base", "image": "registry.example.com/etl:2.1", "imageID": "", "ready": false, "started": false,
        "restartCount": 0, "state": state,
    })
}

fn terminated(reason: &str) -> Value {
    json!({ "terminated": { "exitCode": 137, "reason": reason, "startedAt": TIME, "finishedAt": TIME } })
}

fn disruption(reason: &str, message: &str) -> Value {
    json!({
        "type": "DisruptionTarget", "status": "True", "reason": reason, "message": message,
        "lastTransitionTime": TIME,
    })
}
