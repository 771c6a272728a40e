//! ResourceQuota on the number of pods: admission, and the counting that the quota controller does.

use serde_json::{Value, json};

use super::pod;
use super::resource::{PODS, RESOURCE_QUOTAS, Resource};
use super::status::ApiError;
use super::store::{Key, Tx};

/// Refuses one pod more than the namespace may have.
pub(crate) fn admit(tx: &Tx<'_>, key: &Key) -> Result<(), ApiError> {
    for quota in tx.all(RESOURCE_QUOTAS.plural, &key.namespace) {
        for (resource, limit) in limits(&quota) {
            let used = count(tx, &key.namespace, resource);
            if used + 1 > limit {
                let name = quota["metadata"]["name"].as_str().unwrap_or_default();
                let why = format!(
                    "exceeded quota: {name}, requested: {resource}=1, used: {resource}={used}, limited: \
                     {resource}={limit}"
                );
                return Err(ApiError::forbidden("pods", &key.name, &why));
            }
        }
    }
    Ok(())
}

/// Writes `status.used` of the namespace's quotas, if a pod or quota changed it.
pub(crate) fn refresh(tx: &mut Tx<'_>, changed: &Resource, namespace: &str) {
    if changed.kind != "Pod" && changed.kind != "ResourceQuota" {
        return;
    }
    for quota in tx.all(RESOURCE_QUOTAS.plural, namespace) {
        let mut used = json!({});
        for (resource, _) in limits(&quota) {
            used[resource] = json!(count(tx, namespace, resource).to_string());
        }
        let status = json!({ "hard": quota["spec"]["hard"], "used": used });
        if quota["status"] != status {
            let mut new = Value::clone(&quota);
            new["status"] = status;
            let name = new["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            tx.put(RESOURCE_QUOTAS.plural, &Key::new(namespace, &name), new);
        }
    }
}

fn limits(quota: &Value) -> Vec<(&'static str, u64)> {
    let hard = &quota["spec"]["hard"];
    let limit = |name| hard[name].as_str().and_then(|l| l.parse().ok());
    ["pods", "count/pods"].into_iter().filter_map(|name| limit(name).map(|l| (name, l))).collect()
}

/// `pods` counts those that are not finished, `count/pods` all.
fn count(tx: &Tx<'_>, namespace: &str, resource: &str) -> u64 {
    let pods = tx.all(PODS.plural, namespace);
    pods.iter().filter(|p| resource == "count/pods" || !pod::is_finished(p)).map(|_| 1).sum()
}
