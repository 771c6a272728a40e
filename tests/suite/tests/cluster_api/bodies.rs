//! Bodies that many scenarios send.

use serde_json::{Value, json};

/// A small pod.
pub(crate) fn pod(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": { "app": "x" } },
            "spec": { "containers": [{ "name": "base", "image": "some/image" }] } })
}

/// One with these labels.
pub(crate) fn labelled(name: &str, labels: Value) -> Value {
    let mut pod = pod(name);
    pod["metadata"]["labels"] = labels;
    pod
}

/// The scheduler's decision.
pub(crate) fn binding(name: &str, node: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name },
            "target": { "apiVersion": "v1", "kind": "Node", "name": node } })
}
