//! What kube-apiserver adds to a pod on creation, and which parts of it may change later.

use serde_json::{Map, Value, json};

use super::status::{ApiError, Cause};
use crate::clock;

/// Seconds of `spec.terminationGracePeriodSeconds` when it is not given.
const GRACE_DEFAULT_S: i64 = 30;

/// Defaults of the pod's spec (upstream's `SetDefaults_Pod*` and the default admission plugins).
pub(crate) fn set_defaults(pod: &mut Value) {
    let Some(spec) = pod["spec"].as_object_mut() else { return };
    for (field, default) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(GRACE_DEFAULT_S)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("securityContext", json!({})),
        ("schedulerName", json!("default-scheduler")),
        ("priority", json!(0)),
        ("enableServiceLinks", json!(true)),
        ("preemptionPolicy", json!("PreemptLowerPriority")),
    ] {
        spec.entry(field).or_insert(default);
    }
    if let Some(account) = spec.get("serviceAccountName").or_else(|| spec.get("serviceAccount")).cloned() {
        spec.insert("serviceAccount".into(), account.clone());
        spec.insert("serviceAccountName".into(), account);
    }
    add_default_tolerations(spec);
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            set_container_defaults(container);
        }
    }
    for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        set_volume_defaults(volume);
    }
}

/// The `DefaultTolerationSeconds` admission plugin.
fn add_default_tolerations(spec: &mut Map<String, Value>) {
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    let Some(tolerations) = tolerations.as_array_mut() else { return };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = |t: &Value| {
            (t["key"] == key || t["key"].is_null()) && (t["effect"] == "NoExecute" || t["effect"].is_null())
        };
        if !tolerations.iter().any(tolerated) {
            tolerations.push(json!({ "key": key, "operator": "Exists", "effect": "NoExecute",
                                     "tolerationSeconds": 300 }));
        }
    }
}

fn set_container_defaults(container: &mut Value) {
    let latest = is_latest(container["image"].as_str().unwrap_or_default());
    let Some(fields) = container.as_object_mut() else { return };
    for (field, default) in [
        ("resources", json!({})),
        ("terminationMessagePath", json!("/dev/termination-log")),
        ("terminationMessagePolicy", json!("File")),
        ("imagePullPolicy", json!(if latest { "Always" } else { "IfNotPresent" })),
    ] {
        fields.entry(field).or_insert(default);
    }
    // An absent request is as large as the limit.
    if let Some(Value::Object(limits)) = fields["resources"].get("limits").cloned() {
        let requests = &mut fields["resources"]["requests"];
        if requests.is_null() {
            *requests = json!({});
        }
        for (name, limit) in limits {
            if requests[&name].is_null() {
                requests[&name] = limit;
            }
        }
    }
    for port in fields.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        set(port, "protocol", json!("TCP"));
    }
    for variable in fields.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(reference @ Value::Object(_)) = variable.pointer_mut("/valueFrom/fieldRef") {
            set(reference, "apiVersion", json!("v1"));
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = fields.get_mut(probe) {
            for (field, default) in [
                ("timeoutSeconds", 1),
                ("periodSeconds", 10),
                ("successThreshold", 1),
                ("failureThreshold", 3),
            ] {
                set(probe, field, json!(default));
            }
        }
    }
}

fn set_volume_defaults(volume: &mut Value) {
    for (kind, field, default) in [
        ("configMap", "defaultMode", json!(420)),
        ("secret", "defaultMode", json!(420)),
        ("projected", "defaultMode", json!(420)),
        ("downwardAPI", "defaultMode", json!(420)),
        ("hostPath", "type", json!("")),
    ] {
        if let Some(source @ Value::Object(_)) = volume.get_mut(kind) {
            set(source, field, default);
        }
    }
    let kinds = volume.as_object().map_or(0, Map::len);
    if kinds == 1 {
        volume["emptyDir"] = json!({});
    }
}

fn set(object: &mut Value, field: &str, default: Value) {
    if object[field].is_null() {
        object[field] = default;
    }
}

fn is_latest(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or(image);
    !image.contains('@') && (!name.contains(':') || name.ends_with(":latest"))
}

/// First status of a pod.
pub(crate) fn first_status(pod: &Value) -> Value {
    let mut status = json!({ "phase": "Pending", "qosClass": qos_class(pod) });
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|g| !g.is_empty()) {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "lastProbeTime": null,
            "lastTransitionTime": clock::now_text(), "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    status
}

fn qos_class(pod: &Value) -> &'static str {
    let containers: Vec<&Value> = ["initContainers", "containers"]
        .iter()
        .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten())
        .collect();
    let amount = |c: &Value, side: &str, name: &str| c["resources"][side][name].as_str().map(str::to_owned);
    let named = ["cpu", "memory"];
    let any = containers.iter().any(|c| {
        named.iter().any(|n| amount(c, "limits", n).is_some() || amount(c, "requests", n).is_some())
    });
    let all = containers.iter().all(|c| {
        named
            .iter()
            .all(|n| amount(c, "limits", n).is_some() && amount(c, "requests", n) == amount(c, "limits", n))
    });
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Whether the pod will not run again.
pub(crate) fn is_finished(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// Node that it is bound to.
pub(crate) fn node_name(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().unwrap_or_default()
}

/// A spec may change only in a few places once the pod exists.
pub(crate) fn check_spec_change(name: &str, old: &Value, new: &Value) -> Result<(), ApiError> {
    if fixed_part(&old["spec"]) == fixed_part(&new["spec"]) && gates_only_removed(old, new) {
        return Ok(());
    }
    let detail = "pod updates may not change fields other than `spec.containers[*].image`,\
                  `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions \
                  to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                  previously negative)";
    Err(ApiError::invalid("Pod", name, &[Cause::forbidden("spec", detail)]))
}

fn fixed_part(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(fields) = spec.as_object_mut() {
        for free in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
            fields.remove(free);
        }
        for list in ["initContainers", "containers"] {
            for container in fields.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(container) = container.as_object_mut() {
                    container.remove("image");
                    container.remove("imagePullPolicy");
                }
            }
        }
    }
    spec
}

fn gates_only_removed(old: &Value, new: &Value) -> bool {
    let none = Vec::new();
    let before = old["spec"]["schedulingGates"].as_array().unwrap_or(&none);
    let after = new["spec"]["schedulingGates"].as_array().unwrap_or(&none);
    after.iter().all(|gate| before.contains(gate))
}

/// Sets a condition of the status; the transition time moves only when the status does.
pub(crate) fn set_condition(pod: &mut Value, kind: &str, status: &str, reason: &str, message: &str) {
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else { return };
    let mut new = json!({ "type": kind, "status": status, "lastTransitionTime": clock::now_text() });
    for (field, text) in [("reason", reason), ("message", message)] {
        if !text.is_empty() {
            new[field] = json!(text);
        }
    }
    match list.iter_mut().find(|c| c["type"] == kind) {
        Some(old) => {
            if old["status"] == status {
                new["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            *old = new;
        }
        None => list.push(new),
    }
}
