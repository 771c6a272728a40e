use super::*;
use serde_json::{Value, json};

/// A pod as the API server sends it, with `status` and what else the case needs.
fn pod(spec: Value, status: Value) -> Value {
    let mut whole = json!({
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": "etl-load-aaaaaaaa",
            "namespace": "airflow",
            "uid": "ddf87536-5d56-49da-bbc8-e2e4bf6003e0",
            "resourceVersion": "222",
            "generation": 1,
            "creationTimestamp": "2026-11-24T03:23:53Z",
            "labels": {
                "dag_id": "etl",
                "windlass.dev/attempt": "2",
                "windlass.dev/installation": "6f1c0f8e",
                "windlass.dev/launch": "abcdefghijklmnopqrstuvwxyz"
            },
            "annotations": { "dag_id": "etl" },
            "managedFields": [{ "manager": "windlass", "operation": "Update", "fieldsV1": { "f:spec": {} } }]
        },
        "spec": {
            "nodeName": "ip-10-0-0-1",
            "restartPolicy": "Never",
            "containers": [
                { "name": "proxy", "image": "y", "resources": {} },
                { "name": "base", "image": "x", "resources": {}, "env": [{ "name": "A", "value": "b" }] }
            ],
            "tolerations": null
        },
        "status": status
    });
    for (key, value) in spec.as_object().unwrap() {
        whole["spec"][key] = value.clone();
    }
    whole
}

fn view(pod: &Value) -> PodView {
    decode_pod(pod.to_string().as_bytes()).unwrap()
}

fn status(phase: &str, containers: Value) -> Value {
    json!({ "phase": phase, "conditions": [], "containerStatuses": containers, "qosClass": "BestEffort" })
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState::Waiting { reason: reason.into(), message: message.into() }
}

fn terminated(exit_code: i32, reason: &str) -> ContainerState {
    ContainerState::Terminated { exit_code, reason: reason.into(), message: String::new() }
}

fn ended(name: &str, exit_code: i32, reason: &str) -> Value {
    json!({ "name": name, "ready": false, "restartCount": 0, "image": "x", "imageID": "", "lastState": {},
        "state": { "terminated": { "exitCode": exit_code, "reason": reason, "startedAt": "2026-11-24T03:23:54Z",
            "finishedAt": "2026-11-24T03:23:55Z", "containerID": "containerd://1" } } })
}

fn running(name: &str) -> Value {
    json!({ "name": name, "ready": true, "state": { "running": { "startedAt": "2026-11-24T03:23:54Z" } } })
}

fn waits(name: &str, reason: &str, message: &str) -> Value {
    json!({ "name": name, "ready": false, "state": { "waiting": { "reason": reason, "message": message } } })
}

#[test]
fn pending_and_unbound_with_the_schedulers_reason() {
    let mut pod = pod(
        json!({}),
        json!({ "phase": "Pending", "conditions": [{ "type": "PodScheduled",
        "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available: 3 Insufficient cpu.",
        "lastProbeTime": null }] }),
    );
    pod["spec"].as_object_mut().unwrap().remove("nodeName");
    let view = view(&pod);
    assert_eq!(view.pod.to_string(), "airflow/etl-load-aaaaaaaa");
    assert_eq!(
        (view.uid.0.as_str(), view.resource_version.as_str()),
        ("ddf87536-5d56-49da-bbc8-e2e4bf6003e0", "222")
    );
    assert_eq!((view.launch.as_str(), view.attempt), ("abcdefghijklmnopqrstuvwxyz", Attempt(2)));
    assert!(!view.bound && !view.deleting);
    assert_eq!(view.phase, PodPhase::Pending);
    assert_eq!(view.worker, ContainerState::Unknown);
    assert_eq!(view.unschedulable.as_deref(), Some("0/3 nodes are available: 3 Insufficient cpu."));
}

#[test]
fn a_gated_pod_is_not_unschedulable() {
    let gated = pod(
        json!({}),
        json!({ "phase": "Pending", "conditions": [{ "type": "PodScheduled",
        "status": "False", "reason": "SchedulingGated", "message": "Scheduling is blocked" }] }),
    );
    assert_eq!(view(&gated).unschedulable, None);
}

#[test]
fn bound_and_its_container_is_being_made_or_its_image_cannot_be_pulled() {
    let creating = view(&pod(json!({}), status("Pending", json!([waits("base", "ContainerCreating", "")]))));
    assert!(creating.bound);
    assert_eq!(creating.worker, waiting("ContainerCreating", ""));
    let words = "Back-off pulling image \"x\"";
    let image = view(&pod(json!({}), status("Pending", json!([waits("base", "ImagePullBackOff", words)]))));
    assert_eq!(image.worker, waiting("ImagePullBackOff", words));
}

#[test]
fn the_worker_is_found_by_name_wherever_it_stands() {
    let both = json!([ended("base", 0, "Completed"), running("proxy")]);
    let sidecar_goes_on = view(&pod(json!({}), status("Running", both)));
    assert_eq!(sidecar_goes_on.worker, terminated(0, "Completed"));
    assert_eq!(sidecar_goes_on.phase, PodPhase::Running);

    let both = json!([ended("proxy", 1, "Error"), running("base")]);
    assert_eq!(view(&pod(json!({}), status("Running", both))).worker, ContainerState::Running);

    let renamed = json!({ "containers": [{ "name": "main" }, { "name": "log" }] });
    let first = view(&pod(renamed, status("Running", json!([running("main"), ended("log", 1, "Error")]))));
    assert_eq!(first.worker, ContainerState::Running, "without `base` it is the first of the spec");
}

#[test]
fn how_a_worker_ends() {
    let end =
        |phase, code, reason| view(&pod(json!({}), status(phase, json!([ended("base", code, reason)]))));
    let good = end("Succeeded", 0, "Completed");
    assert_eq!((good.phase, good.worker), (PodPhase::Succeeded, terminated(0, "Completed")));
    let bad = end("Failed", 1, "Error");
    assert_eq!((bad.phase, bad.worker), (PodPhase::Failed, terminated(1, "Error")));
    assert_eq!(end("Failed", 137, "OOMKilled").worker, terminated(137, "OOMKilled"));
}

#[test]
fn an_evicted_pod_has_no_container_and_still_a_reason() {
    let evicted = view(&pod(
        json!({}),
        json!({
            "phase": "Failed", "reason": "Evicted",
            "message": "The node was low on resource: memory.", "startTime": "2026-11-24T03:23:54Z",
            "conditions": [{ "type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet",
                "message": "The node was low on resource: memory." }]
        }),
    ));
    assert_eq!((evicted.phase, evicted.status_reason.as_str()), (PodPhase::Failed, "Evicted"));
    assert_eq!(evicted.status_message, "The node was low on resource: memory.");
    assert_eq!(evicted.worker, ContainerState::Unknown);
    let (reason, message) = evicted.disruption.unwrap();
    assert_eq!(
        (reason.as_str(), message.as_str()),
        ("TerminationByKubelet", "The node was low on resource: memory.")
    );
}

#[test]
fn ends_that_only_the_pods_status_tells() {
    let deadline = view(&pod(
        json!({}),
        json!({ "phase": "Failed", "reason": "DeadlineExceeded",
        "message": "Pod was active on the node longer than the specified deadline",
        "containerStatuses": [ended("base", 137, "Error")] }),
    ));
    assert_eq!(
        (deadline.status_reason.as_str(), deadline.worker),
        ("DeadlineExceeded", terminated(137, "Error"))
    );

    let mut lost = pod(
        json!({}),
        json!({ "phase": "Running", "reason": "NodeLost",
        "message": "Node ip-10-0-0-1 which was running pod etl-load-aaaaaaaa is unresponsive",
        "containerStatuses": [running("base")] }),
    );
    lost["metadata"]["deletionTimestamp"] = json!("2026-11-24T03:30:00Z");
    lost["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    let lost = view(&lost);
    assert_eq!(
        (lost.deleting, lost.status_reason.as_str(), lost.worker),
        (true, "NodeLost", ContainerState::Running)
    );
}

#[test]
fn a_preempted_pod_says_by_whom() {
    let mut pod = pod(
        json!({}),
        json!({ "phase": "Running", "containerStatuses": [running("base")],
        "conditions": [
            { "type": "PodScheduled", "status": "True" },
            { "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
              "message": "default-scheduler: preempting to accommodate a higher priority pod" }] }),
    );
    pod["metadata"]["deletionTimestamp"] = json!("2026-11-24T03:30:00Z");
    let view = view(&pod);
    assert!(view.deleting && view.unschedulable.is_none());
    assert_eq!(view.disruption.unwrap().0, "PreemptionByScheduler");
}

fn with_init(phase: &str, init: Value, restart: Option<&str>) -> Value {
    let containers = json!([{ "name": "git", "image": "g", "restartPolicy": restart }]);
    let mut status = status(phase, json!([waits("base", "PodInitializing", "")]));
    status["initContainerStatuses"] = json!([init]);
    pod(json!({ "initContainers": containers }), status)
}

#[test]
fn an_init_container_that_failed_or_cannot_start_is_named() {
    let failed = view(&with_init("Failed", ended("git", 128, "Error"), None));
    assert_eq!(failed.failed_init, Some(("git".into(), terminated(128, "Error"))));
    let image = view(&with_init("Pending", waits("git", "ErrImagePull", "not found"), None));
    assert_eq!(image.failed_init, Some(("git".into(), waiting("ErrImagePull", "not found"))));
    assert_eq!(view(&with_init("Pending", waits("git", "PodInitializing", ""), None)).failed_init, None);
    assert_eq!(view(&with_init("Pending", ended("git", 0, "Completed"), None)).failed_init, None);
}

#[test]
fn a_sidecar_that_was_stopped_after_the_worker_is_no_failed_init() {
    assert_eq!(view(&with_init("Succeeded", ended("git", 143, "Error"), Some("Always"))).failed_init, None);
    let image = view(&with_init("Pending", waits("git", "ImagePullBackOff", ""), Some("Always")));
    assert!(image.failed_init.is_some(), "but one that cannot start keeps the worker waiting");
}

#[test]
fn an_init_container_that_will_be_started_again_has_not_failed_yet() {
    let mut pod = with_init("Pending", ended("git", 1, "Error"), None);
    pod["spec"]["restartPolicy"] = json!("OnFailure");
    assert_eq!(view(&pod).failed_init, None);
}

#[test]
fn nulls_of_an_older_server_are_absent_values() {
    let mut pod = pod(
        json!({}),
        json!({ "phase": "Pending", "conditions": null, "containerStatuses": null,
        "initContainerStatuses": null }),
    );
    pod["metadata"]["deletionTimestamp"] = Value::Null;
    pod["spec"]["initContainers"] = Value::Null;
    assert!(!view(&pod).deleting);
}

#[test]
fn a_pod_without_our_labels_is_not_ours_and_says_which_label() {
    let error = |label: &str, value: Value| {
        let mut pod = pod(json!({}), json!({}));
        pod["metadata"]["labels"][label] = value;
        decode_pod(pod.to_string().as_bytes()).unwrap_err().to_string()
    };
    assert_eq!(
        error("windlass.dev/launch", json!("me")),
        "pod `airflow/etl-load-aaaaaaaa`: label `windlass.dev/launch` is `me`"
    );
    for bad in [json!("0"), json!("-1"), json!("x")] {
        assert!(error("windlass.dev/attempt", bad).contains("windlass.dev/attempt"));
    }
    assert!(error("windlass.dev/attempt", Value::Null).ends_with("is missing"));
    let mut bare = pod(json!({}), json!({}));
    bare["metadata"]["labels"] = Value::Null;
    assert!(matches!(decode_pod(bare.to_string().as_bytes()), Err(NotOurs::Label { .. })));
    assert!(matches!(decode_pod(b"{}"), Err(NotOurs::NoPod(_))));
}
