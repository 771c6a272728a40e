//! What the namespace and service account controllers do: default accounts, and the end of a namespace.

use serde_json::{Value, json};

use super::delete::{self, DeleteOptions};
use super::identity;
use super::resource::{ALL, NAMESPACES, Resource, SERVICE_ACCOUNTS};
use super::store::{Key, Tx};
use crate::clock;

/// A new namespace gets its `default` service account.
pub(crate) fn after_create(tx: &mut Tx<'_>, resource: &Resource, key: &Key) {
    if resource.kind != "Namespace" {
        return;
    }
    let account = json!({ "kind": "ServiceAccount", "apiVersion": "v1", "metadata": {
        "name": "default", "namespace": key.name, "uid": identity::uid(), "creationTimestamp": clock::now_text() } });
    tx.put(SERVICE_ACCOUNTS.plural, &Key::new(&key.name, "default"), account);
}

/// DELETE of a namespace: it terminates, its content is deleted, and it goes with the last object.
pub(crate) fn delete(tx: &mut Tx<'_>, key: &Key, object: &Value, dry_run: bool) -> Value {
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return object.clone();
    }
    let mut new = object.clone();
    new["metadata"]["deletionTimestamp"] = json!(clock::now_text());
    new["status"]["phase"] = json!("Terminating");
    if dry_run {
        return new;
    }
    let stored = tx.put(NAMESPACES.plural, key, new);
    let namespace = key.name.as_str();
    for resource in ALL.iter().copied().filter(|r| r.namespaced) {
        for inner in tx.all(resource.plural, namespace) {
            let name = inner["metadata"]["name"].as_str().unwrap_or_default();
            // No preconditions, so nothing but "already gone" can refuse.
            let _ = delete::delete(tx, resource, &Key::new(namespace, name), &DeleteOptions::default());
        }
    }
    finish(tx, namespace);
    Value::clone(&stored)
}

/// Removes a terminating namespace once it is empty.
pub(crate) fn after_removal(tx: &mut Tx<'_>, resource: &Resource, namespace: &str) {
    if resource.namespaced {
        finish(tx, namespace);
    }
}

fn finish(tx: &mut Tx<'_>, namespace: &str) {
    let key = Key::new("", namespace);
    let terminating = tx.get(NAMESPACES.plural, &key).is_some_and(|n| n["status"]["phase"] == "Terminating");
    if terminating && ALL.iter().all(|r| !r.namespaced || tx.all(r.plural, namespace).is_empty()) {
        tx.remove(NAMESPACES.plural, &key);
    }
}
