//! DELETE: preconditions, graceful deletion of pods, finalizers.

use serde_json::{Value, json};

use super::resource::Resource;
use super::status::{ApiError, success};
use super::store::{Key, Tx};
use super::{namespace, pod, quota};
use crate::clock;

/// `DeleteOptions`, from the body or the query.
#[derive(Debug, Default, Clone)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_s: Option<i64>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    pub(crate) fn from_body(body: &Value) -> Result<Self, ApiError> {
        if let Some(kind) = body["kind"].as_str().filter(|k| *k != "DeleteOptions") {
            return Err(ApiError::bad_request(format!(
                "no kind {kind:?} is registered for version \"v1\" in scheme \"pkg/runtime/scheme.go:111\""
            )));
        }
        let grace_s = match &body["gracePeriodSeconds"] {
            Value::Null => None,
            Value::Number(n) => n.as_i64(),
            _ => {
                let problem = "json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64";
                return Err(ApiError::bad_request(problem));
            }
        };
        let text = |field: &str| body["preconditions"][field].as_str().map(str::to_owned);
        Ok(Self {
            grace_s,
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            dry_run: body["dryRun"].as_array().is_some_and(|d| d.iter().any(|v| v == "All")),
        })
    }
}

/// Deletes one object; the answer is the object (pods, namespaces, ...) or a Status (others), as upstream's.
pub(crate) fn delete(
    tx: &mut Tx<'_>,
    resource: &'static Resource,
    key: &Key,
    options: &DeleteOptions,
) -> Result<Value, ApiError> {
    let object =
        tx.get(resource.plural, key).ok_or_else(|| ApiError::not_found(resource.plural, &key.name))?;
    check_preconditions(resource, key, &object, options)?;
    match resource.kind {
        "Pod" => delete_pod(tx, resource, key, &object, options),
        "Namespace" => Ok(namespace::delete(tx, key, &object, options.dry_run)),
        _ if options.dry_run => Ok(Value::clone(&object)),
        _ => delete_other(tx, resource, key, &object),
    }
}

fn check_preconditions(
    resource: &Resource,
    key: &Key,
    object: &Value,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    let record = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    if let Some(asked) = options.uid.as_ref().filter(|uid| **uid != record("uid")) {
        let why = format!(
            "the UID in the precondition ({asked}) does not match the UID in record ({}). The object might have been \
             deleted and then recreated",
            record("uid")
        );
        return Err(ApiError::conflict(resource.kind, &key.name, &why));
    }
    if let Some(asked) = options.resource_version.as_ref().filter(|v| **v != record("resourceVersion")) {
        let why = format!(
            "the ResourceVersion in the precondition ({asked}) does not match the ResourceVersion in record ({}). The \
             object might have been modified",
            record("resourceVersion")
        );
        return Err(ApiError::conflict(resource.kind, &key.name, &why));
    }
    Ok(())
}

fn delete_pod(
    tx: &mut Tx<'_>,
    resource: &'static Resource,
    key: &Key,
    object: &Value,
    options: &DeleteOptions,
) -> Result<Value, ApiError> {
    let Some(terminating) = terminating(object, options) else {
        // Already on its way, and no shorter grace was asked for.
        return Ok(object.clone());
    };
    if options.dry_run {
        return Ok(terminating);
    }
    // Both are seen by watchers: the deletionTimestamp first, also where the removal follows at once.
    let stored = tx.put(resource.plural, key, terminating);
    if is_ready_to_go(&stored)
        && let Some(last) = remove(tx, resource, key)
    {
        return Ok(last);
    }
    Ok(Value::clone(&stored))
}

/// The pod with its deletion (or its shorter grace) written in; `None` if the request changes nothing.
fn terminating(object: &Value, options: &DeleteOptions) -> Option<Value> {
    // A negative grace means 1 s (upstream's backward compatible reading).
    let asked = options.grace_s.map(|s| if s < 0 { 1 } else { s });
    let mut new = object.clone();
    let meta = &object["metadata"];
    if let Some(at) = meta["deletionTimestamp"].as_str() {
        let before = meta["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        let grace = asked.filter(|s| *s < before)?;
        new["metadata"]["deletionTimestamp"] = json!(clock::shifted(at, grace - before));
        new["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        return Some(new);
    }
    let own = object["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    let unbound = pod::node_name(object).is_empty();
    let grace = if unbound || pod::is_finished(object) { 0 } else { asked.unwrap_or(own) };
    new["metadata"]["deletionTimestamp"] = json!(clock::shifted(&clock::now_text(), grace));
    new["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
    new["metadata"]["generation"] = json!(meta["generation"].as_i64().unwrap_or(0) + 1);
    Some(new)
}

/// Deleted, nothing to wait for any more.
pub(crate) fn is_ready_to_go(object: &Value) -> bool {
    let meta = &object["metadata"];
    !meta["deletionTimestamp"].is_null()
        && meta["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && meta["finalizers"].as_array().is_none_or(Vec::is_empty)
        && object["kind"] != "Namespace"
}

fn delete_other(
    tx: &mut Tx<'_>,
    resource: &'static Resource,
    key: &Key,
    object: &Value,
) -> Result<Value, ApiError> {
    if object["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty()) {
        let mut new = object.clone();
        if new["metadata"]["deletionTimestamp"].is_null() {
            new["metadata"]["deletionTimestamp"] = json!(clock::now_text());
            new["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            new = Value::clone(&*tx.put(resource.plural, key, new));
        }
        return Ok(new);
    }
    let last = remove(tx, resource, key);
    if matches!(resource.kind, "ResourceQuota" | "ServiceAccount") {
        return last.ok_or_else(|| ApiError::not_found(resource.plural, &key.name));
    }
    let details = json!({ "name": key.name, "kind": resource.plural, "uid": object["metadata"]["uid"] });
    Ok(success(200, Some(details)))
}

/// Takes an object out of the store; returns its last state.
pub(crate) fn remove(tx: &mut Tx<'_>, resource: &'static Resource, key: &Key) -> Option<Value> {
    let last = tx.remove(resource.plural, key);
    quota::refresh(tx, resource, &key.namespace);
    namespace::after_removal(tx, resource, &key.namespace);
    last
}
