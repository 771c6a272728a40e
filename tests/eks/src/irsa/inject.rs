//! The patch: variables and a mount for each container, a volume for the pod.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// A token's life by default, in seconds.
pub(super) const DAY_S: i64 = 86_400;

/// Fields of a container in k8s.io/api v0.36. The webhook writes containers anew from its own types, and others are lost.
const CONTAINER_FIELDS: [&str; 25] = [
    "name",
    "image",
    "command",
    "args",
    "workingDir",
    "ports",
    "envFrom",
    "env",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "volumeMounts",
    "volumeDevices",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "imagePullPolicy",
    "securityContext",
    "stdin",
    "stdinOnce",
    "tty",
];
const ENV_FIELDS: [&str; 3] = ["name", "value", "valueFrom"];
const MOUNT_FIELDS: [&str; 7] =
    ["name", "readOnly", "recursiveReadOnly", "mountPath", "subPath", "mountPropagation", "subPathExpr"];

/// What a pod gets.
pub(super) struct Plan {
    pub(super) skip: BTreeSet<String>,
    /// Empty: no variable.
    pub(super) region: String,
    pub(super) regional_sts: bool,
    pub(super) expiration_s: i64,
    /// Empty: left out.
    pub(super) audience: String,
    pub(super) mount_path: String,
    pub(super) volume: &'static str,
    /// Name of the file below the mount.
    pub(super) token: &'static str,
    pub(super) injected: Injected,
}

/// Which credentials.
pub(super) enum Injected {
    WebIdentity { role: String },
    PodIdentity { uri: &'static str },
}

impl Plan {
    /// Pairs of variable and value. Either one in the container stops both.
    fn credentials(&self, token_file: &str) -> [(&'static str, String); 2] {
        match &self.injected {
            Injected::WebIdentity { role } => {
                [("AWS_ROLE_ARN", role.clone()), ("AWS_WEB_IDENTITY_TOKEN_FILE", token_file.to_owned())]
            }
            Injected::PodIdentity { uri } => [
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", (*uri).to_owned()),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token_file.to_owned()),
            ],
        }
    }
}

/// The operations in the webhook's order: label, volume, containers, init containers.
pub(super) fn patch(pod: &Value, plan: &Plan) -> Vec<Value> {
    let mut patch = Vec::new();
    if matches!(plan.injected, Injected::PodIdentity { .. }) {
        patch.push(label(pod));
    }
    patch.extend(volume(pod, plan));
    let token_file = token_file(pod, plan);
    let treated = |containers: &Value| -> Vec<Value> {
        list(containers).iter().map(|container| treat(container, plan, &token_file)).collect()
    };
    let containers = treated(&pod["spec"]["containers"]);
    patch.push(json!({ "op": "add", "path": "/spec/containers", "value": containers }));
    let inits = treated(&pod["spec"]["initContainers"]);
    if !inits.is_empty() {
        patch.push(json!({ "op": "add", "path": "/spec/initContainers", "value": inits }));
    }
    patch
}

fn label(pod: &Value) -> Value {
    if pod["metadata"]["labels"].is_object() {
        let path = "/metadata/labels/eks.amazonaws.com~1pod-identity";
        json!({ "op": "add", "path": path, "value": "enabled" })
    } else {
        let labels = json!({ "eks.amazonaws.com/pod-identity": "enabled" });
        json!({ "op": "add", "path": "/metadata/labels", "value": labels })
    }
}

/// The token's volume in front of the others. A volume of its name, of whatever kind, stays.
fn volume(pod: &Value, plan: &Plan) -> Option<Value> {
    let volumes = &pod["spec"]["volumes"];
    if list(volumes).iter().any(|volume| volume["name"] == plan.volume) {
        return None;
    }
    let mut token = json!({ "expirationSeconds": plan.expiration_s, "path": plan.token });
    if !plan.audience.is_empty() {
        token["audience"] = json!(plan.audience);
    }
    let sources = json!([{ "serviceAccountToken": token }]);
    let volume = json!({ "name": plan.volume, "projected": { "sources": sources } });
    Some(if volumes.is_array() {
        json!({ "op": "add", "path": "/spec/volumes/0", "value": volume })
    } else {
        json!({ "op": "add", "path": "/spec/volumes", "value": [volume] })
    })
}

/// The file that the variable names. Only a node selector tells the webhook that the pod is for Windows.
fn token_file(pod: &Value, plan: &Plan) -> String {
    let path = clean(&format!("{}/{}", plan.mount_path, plan.token));
    let windows = ["kubernetes.io/os", "beta.kubernetes.io/os"]
        .iter()
        .any(|label| pod["spec"]["nodeSelector"][*label] == "windows");
    if windows { format!("C:{}", path.replace('/', "\\")) } else { path }
}

/// Go's `filepath.Clean`, for a path that is not empty.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            other => parts.push(other),
        }
    }
    format!("{}{}", if rooted { "/" } else { "" }, parts.join("/"))
}

/// A container with its variables and its mount, written anew.
fn treat(container: &Value, plan: &Plan, token_file: &str) -> Value {
    let mut new = typed(container, &CONTAINER_FIELDS, &["name"]);
    let mut env: Vec<Value> = entries(container, "env", &ENV_FIELDS, &["name"]);
    let mut mounts: Vec<Value> = entries(container, "volumeMounts", &MOUNT_FIELDS, &["name", "mountPath"]);
    let name = container["name"].as_str().unwrap_or_default();
    if !plan.skip.contains(name) {
        inject(&mut env, &mut mounts, plan, token_file);
    }
    for (field, values) in [("env", env), ("volumeMounts", mounts)] {
        if !values.is_empty() {
            new.insert(field.to_owned(), values.into());
        }
    }
    new.entry("resources").or_insert_with(|| json!({}));
    Value::Object(new)
}

fn inject(env: &mut Vec<Value>, mounts: &mut Vec<Value>, plan: &Plan, token_file: &str) {
    let has = |names: &[&str]| env.iter().any(|entry| names.iter().any(|name| entry["name"] == *name));
    let credentials = plan.credentials(token_file);
    let has_credentials = has(&credentials.each_ref().map(|(name, _)| *name));
    let has_region = has(&["AWS_REGION", "AWS_DEFAULT_REGION"]);
    let has_sts = has(&["AWS_STS_REGIONAL_ENDPOINTS"]);
    if has_credentials && has_region && has_sts {
        return;
    }
    let mut add = |name: &str, value: &str| env.push(entry(name, value));
    if !has_sts && plan.regional_sts {
        add("AWS_STS_REGIONAL_ENDPOINTS", "regional");
    }
    if !has_region && !plan.region.is_empty() {
        add("AWS_DEFAULT_REGION", &plan.region);
        add("AWS_REGION", &plan.region);
    }
    if !has_credentials {
        for (name, value) in &credentials {
            add(name, value);
        }
    }
    if !mounts.iter().any(|mount| mount["name"] == plan.volume) {
        mounts.push(json!({ "name": plan.volume, "readOnly": true, "mountPath": plan.mount_path }));
    }
}

fn entry(name: &str, value: &str) -> Value {
    json!({ "name": name, "value": value })
}

fn entries(container: &Value, field: &str, fields: &[&str], always: &[&str]) -> Vec<Value> {
    list(&container[field]).iter().map(|entry| Value::Object(typed(entry, fields, always))).collect()
}

/// An object as Go writes it from a struct: only known fields, and no empty ones but `always`.
fn typed(object: &Value, fields: &[&str], always: &[&str]) -> Map<String, Value> {
    let mut new = Map::new();
    for field in fields {
        let value = &object[*field];
        let empty = match value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty(),
            Value::Array(values) => values.is_empty(),
            Value::Bool(true) | Value::Number(_) | Value::Object(_) => false,
        };
        if always.contains(field) {
            new.insert((*field).to_owned(), json!(value.as_str().unwrap_or_default()));
        } else if !empty {
            new.insert((*field).to_owned(), value.clone());
        }
    }
    new
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
