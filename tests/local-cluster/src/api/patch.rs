//! The three patch forms: JSON merge patch, strategic merge patch, JSON patch.
//!
//! Strategic merge knows the merge keys of the kinds served here; its `$setElementOrder` hints are ignored.

use serde_json::{Map, Value};

use super::status::ApiError;

/// Applies `patch` as the content type says.
pub(crate) fn apply(content_type: &str, target: &Value, patch: Value) -> Result<Value, ApiError> {
    match content_type {
        "application/merge-patch+json" => Ok(merged(target, &patch)),
        "application/strategic-merge-patch+json" => {
            let mut result = target.clone();
            strategic(&mut result, &patch);
            Ok(result)
        }
        "application/json-patch+json" => json_patch(target, &patch),
        _ => Err(ApiError::unsupported_patch()),
    }
}

/// RFC 7386.
fn merged(target: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut result = target.as_object().cloned().unwrap_or_default();
    for (key, value) in patch {
        if value.is_null() {
            result.remove(key);
        } else {
            let new = merged(result.get(key).unwrap_or(&Value::Null), value);
            result.insert(key.clone(), new);
        }
    }
    Value::Object(result)
}

/// `patchMergeKey` of a list field, from upstream's struct tags; other lists are replaced as a whole.
fn merge_key(field: &str) -> Option<&'static str> {
    match field {
        "conditions" => Some("type"),
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "volumes"
        | "imagePullSecrets"
        | "schedulingGates"
        | "secrets"
        | "resourceClaims" => Some("name"),
        "volumeMounts" => Some("mountPath"),
        "volumeDevices" => Some("devicePath"),
        "ports" => Some("containerPort"),
        "podIPs" | "hostIPs" | "hostAliases" => Some("ip"),
        "ownerReferences" => Some("uid"),
        "taints" => Some("key"),
        "addresses" => Some("type"),
        "topologySpreadConstraints" => Some("topologyKey"),
        _ => None,
    }
}

fn strategic(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if patch.get("$patch").is_some_and(|d| d == "replace") {
        *target = Value::Object(without_directives(patch));
        return;
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(fields) = target.as_object_mut() else { return };
    if let Some(kept) = patch.get("$retainKeys").and_then(Value::as_array) {
        fields.retain(|key, _| kept.iter().any(|k| k == key));
    }
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(items)), Value::Array(gone)) = (fields.get_mut(list), value) {
                items.retain(|item| !gone.contains(item));
            }
        } else if key.starts_with('$') {
            // $setElementOrder and directives that were handled above.
        } else if value.is_null() {
            fields.remove(key);
        } else if let Value::Array(items) = value {
            let slot = fields.entry(key.as_str()).or_insert(Value::Null);
            merge_list(key, slot, items);
        } else {
            strategic(fields.entry(key.as_str()).or_insert(Value::Null), value);
        }
    }
}

fn merge_list(field: &str, slot: &mut Value, patch: &[Value]) {
    let replaced = patch.iter().any(|item| item.get("$patch").is_some_and(|d| d == "replace"));
    let plain = || patch.iter().filter(|item| item.get("$patch").is_none()).cloned().collect();
    if field == "finalizers" {
        let Value::Array(items) = slot else {
            *slot = Value::Array(plain());
            return;
        };
        for item in patch {
            if !items.contains(item) {
                items.push(item.clone());
            }
        }
        return;
    }
    let Some(key) = merge_key(field).filter(|_| !replaced) else {
        *slot = Value::Array(plain());
        return;
    };
    if !slot.is_array() {
        *slot = Value::Array(Vec::new());
    }
    let Some(items) = slot.as_array_mut() else { return };
    for change in patch {
        let at = items.iter().position(|item| item[key] == change[key]);
        let delete = change.get("$patch").is_some_and(|d| d == "delete");
        match (at, delete) {
            (Some(at), true) => drop(items.remove(at)),
            (Some(at), false) => strategic(&mut items[at], change),
            (None, true) => {}
            (None, false) => {
                let mut new = Value::Null;
                strategic(&mut new, change);
                items.push(new);
            }
        }
    }
}

fn without_directives(fields: &Map<String, Value>) -> Map<String, Value> {
    fields.iter().filter(|(k, _)| !k.starts_with('$')).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// RFC 6902.
fn json_patch(target: &Value, patch: &Value) -> Result<Value, ApiError> {
    let Value::Array(operations) = patch else {
        return Err(ApiError::bad_request(
            "json: cannot unmarshal object into Go value of type jsonpatch.Patch",
        ));
    };
    let mut result = target.clone();
    for operation in operations {
        one_operation(&mut result, operation).ok_or_else(ApiError::patch_does_not_apply)?;
    }
    Ok(result)
}

fn one_operation(target: &mut Value, operation: &Value) -> Option<()> {
    let path = operation["path"].as_str()?;
    match operation["op"].as_str()? {
        "test" => (target.pointer(path)? == operation.get("value")?).then_some(()),
        "remove" => take(target, path).map(drop),
        "add" => add(target, path, operation.get("value")?.clone()),
        "replace" => {
            *target.pointer_mut(path)? = operation.get("value")?.clone();
            Some(())
        }
        "copy" => {
            let value = target.pointer(operation["from"].as_str()?)?.clone();
            add(target, path, value)
        }
        "move" => {
            let value = take(target, operation["from"].as_str()?)?;
            add(target, path, value)
        }
        _ => None,
    }
}

fn split(path: &str) -> Option<(&str, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn take(target: &mut Value, path: &str) -> Option<Value> {
    let (parent, last) = split(path)?;
    match target.pointer_mut(parent)? {
        Value::Object(fields) => fields.remove(&last),
        Value::Array(items) => {
            let at: usize = last.parse().ok()?;
            (at < items.len()).then(|| items.remove(at))
        }
        _ => None,
    }
}

fn add(target: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *target = value;
        return Some(());
    }
    let (parent, last) = split(path)?;
    match target.pointer_mut(parent)? {
        Value::Object(fields) => {
            fields.insert(last, value);
            Some(())
        }
        Value::Array(items) => {
            let at = if last == "-" { items.len() } else { last.parse().ok()? };
            (at <= items.len()).then(|| items.insert(at, value))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strategic_merges_lists_by_their_key() {
        let target = json!({ "status": { "phase": "Pending", "conditions": [
            { "type": "PodScheduled", "status": "True" }, { "type": "Ready", "status": "False" } ],
            "containerStatuses": [{ "name": "base", "ready": false }] } });
        let patch = json!({ "status": { "conditions": [
            { "type": "Ready", "status": "True" }, { "type": "PodScheduled", "$patch": "delete" } ],
            "containerStatuses": [{ "name": "base", "ready": true }] } });
        let result = apply("application/strategic-merge-patch+json", &target, patch).expect("applies");
        assert_eq!(
            result,
            json!({ "status": { "phase": "Pending", "conditions": [{ "type": "Ready", "status": "True" }],
                    "containerStatuses": [{ "name": "base", "ready": true }] } })
        );
    }

    #[test]
    fn merge_patch_removes_with_null_and_replaces_lists() {
        let target = json!({ "metadata": { "labels": { "a": "1", "b": "2" } }, "list": [1, 2] });
        let patch = json!({ "metadata": { "labels": { "a": null, "c": "3" } }, "list": [3] });
        let result = apply("application/merge-patch+json", &target, patch).expect("applies");
        assert_eq!(result, json!({ "metadata": { "labels": { "b": "2", "c": "3" } }, "list": [3] }));
    }

    #[test]
    fn json_patch_applies_all_or_nothing() {
        let target = json!({ "metadata": { "labels": { "a/b": "1" } } });
        let good = json!([{ "op": "test", "path": "/metadata/labels/a~1b", "value": "1" },
                          { "op": "add", "path": "/metadata/labels/x", "value": "2" },
                          { "op": "remove", "path": "/metadata/labels/a~1b" }]);
        let result = apply("application/json-patch+json", &target, good).expect("applies");
        assert_eq!(result, json!({ "metadata": { "labels": { "x": "2" } } }));
        let bad = json!([{ "op": "remove", "path": "/metadata/labels/none" }]);
        assert!(apply("application/json-patch+json", &target, bad).is_err());
    }
}
