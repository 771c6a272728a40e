//! What happens in a cluster: the API server throttles, a quota is full, a namespace is deleted, somebody deletes pods,
//! etcd forgets. Done by its administrator, whom none of this holds back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota};
use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use windlass_lab::{daemon, plain_http};
use windlass_sim::Rng;

use crate::aws;
use crate::deployment::{Deployment, NAMESPACE};

/// Pods that a full namespace has room for: fewer than one run of the DAG makes at once.
const QUOTA: u32 = 5;
/// Pods that somebody deletes at once, at most.
const DELETED_MAX: usize = 3;

/// All requests of the daemons' account share the few seats that one share of the API server's gives (3 of its 600, to
/// the default levels' 245 shares); whatever finds none is refused with 429 and Retry-After.
pub(crate) async fn begin_storm(on: &Deployment, name: &str) -> Result<()> {
    let level = json!({
        "metadata": { "name": name },
        "spec": {
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": 1,
                "lendablePercent": 0,
                "borrowingLimitPercent": 0,
                "limitResponse": { "type": "Reject" },
            },
        },
    });
    let account = json!({ "namespace": daemon::HOME, "name": daemon::NAME });
    let everything = json!({ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"] });
    let schema = json!({
        "metadata": { "name": name },
        "spec": {
            // Before every schema but `exempt`.
            "matchingPrecedence": 2,
            "priorityLevelConfiguration": { "name": name },
            "rules": [{
                "subjects": [{ "kind": "ServiceAccount", "serviceAccount": account }],
                "resourceRules": [everything],
            }],
        },
    });
    let levels: Api<PriorityLevelConfiguration> = Api::all(on.plane.client());
    made(levels.create(&PostParams::default(), &serde_json::from_value(level)?).await)
        .context("make a level")?;
    let schemas: Api<FlowSchema> = Api::all(on.plane.client());
    schemas
        .create(&PostParams::default(), &serde_json::from_value(schema)?)
        .await
        .context("make a schema")?;
    Ok(())
}

/// Requests that this storm has refused since the API server was started.
pub(crate) async fn refused_by_storm(on: &Deployment, name: &str) -> Result<u64> {
    let schema = format!("flow_schema=\"{name}\"");
    counted(on, "apiserver_flowcontrol_rejected_requests_total{", &[&schema]).await
}

pub(crate) async fn end_storm(on: &Deployment, name: &str) -> Result<()> {
    gone(Api::<FlowSchema>::all(on.plane.client()).delete(name, &DeleteParams::default()).await)?;
    let levels: Api<PriorityLevelConfiguration> = Api::all(on.plane.client());
    gone(levels.delete(name, &DeleteParams::default()).await)
}

/// Returns the number of pods that there may be; what there is above it stays. An error until the quota is counted: before
/// that it holds nobody back, and after an outage of the API server its controller comes back late.
pub(crate) async fn fill_quota(on: &Deployment, name: &str) -> Result<u32> {
    let quota = json!({ "metadata": { "name": name }, "spec": { "hard": { "pods": QUOTA.to_string() } } });
    let quotas: Api<ResourceQuota> = Api::namespaced(on.plane.client(), NAMESPACE);
    made(quotas.create(&PostParams::default(), &serde_json::from_value(quota)?).await)
        .context("make a quota")?;
    let used = quotas.get(name).await?.status.and_then(|status| status.used).unwrap_or_default();
    ensure!(used.contains_key("pods"), "the quota is not counted yet");
    Ok(QUOTA)
}

pub(crate) async fn end_quota(on: &Deployment, name: &str) -> Result<()> {
    let quotas: Api<ResourceQuota> = Api::namespaced(on.plane.client(), NAMESPACE);
    gone(quotas.delete(name, &DeleteParams::default()).await)
}

/// Creates that the API server has refused for quotas since it was started.
pub(crate) async fn over_quota(on: &Deployment) -> Result<u64> {
    let metric = "apiserver_admission_controller_admission_duration_seconds_count{";
    counted(on, metric, &["name=\"ResourceQuota\"", "operation=\"CREATE\"", "rejected=\"true\""]).await
}

/// The sum of a metric's samples with these labels.
async fn counted(on: &Deployment, metric: &str, labels: &[&str]) -> Result<u64> {
    let request = http::Request::get("/metrics").body(Vec::new())?;
    let text = on.plane.client().request_text(request).await.context("read the API server's metrics")?;
    Ok(sum(&text, metric, labels))
}

fn sum(text: &str, metric: &str, labels: &[&str]) -> u64 {
    let wanted = |line: &&str| line.starts_with(metric) && labels.iter().all(|label| line.contains(label));
    let value = |line: &str| line.rsplit_once(' ')?.1.parse::<f64>().ok();
    text.lines().filter(wanted).filter_map(value).sum::<f64>() as u64
}

pub(crate) async fn pods_of_the_namespace(on: &Deployment) -> Result<u64> {
    Ok(on.pods().list_metadata(&ListParams::default()).await?.items.len() as u64)
}

/// With all that is in it.
pub(crate) async fn delete_namespace(on: &Deployment) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(on.plane.client());
    namespaces.delete(NAMESPACE, &DeleteParams::default()).await.context("delete the namespace")?;
    Ok(())
}

/// Makes it again once it is gone; whether all of it is there. Goes on where an error stopped it.
pub(crate) async fn make_namespace_again(on: &Deployment) -> Result<bool> {
    let namespaces: Api<Namespace> = Api::all(on.plane.client());
    match namespaces.get_opt(NAMESPACE).await? {
        Some(old) if old.metadata.deletion_timestamp.is_some() => return Ok(false),
        Some(_) => {}
        None => on.plane.create_namespace(NAMESPACE).await?,
    }
    daemon::give_rights(&on.plane, NAMESPACE).await?;
    aws::give_identities(&on.plane).await?;
    Ok(true)
}

/// What was made, or was there before.
pub(crate) fn made<T>(created: kube::Result<T>) -> Result<()> {
    match created {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What was deleted, or was gone before.
fn gone<T>(deleted: kube::Result<T>) -> Result<()> {
    match deleted {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// etcd forgets all history before now.
pub(crate) async fn compact(on: &Deployment) -> String {
    match try_compact(on).await {
        Ok(revision) => format!("etcd is compacted at {revision}"),
        Err(error) => format!("etcd could not be compacted: {error:#}"),
    }
}

async fn try_compact(on: &Deployment) -> Result<String> {
    let port = on.plane.etcd_url().rsplit(':').next().and_then(|port| port.parse().ok());
    let port = port.context("etcd's address has no port")?;
    // "Lw==" is "/".
    let (_, answer) = plain_http::ask(port, "POST", "/v3/kv/range", r#"{"key": "Lw=="}"#).await?;
    let header: Value = serde_json::from_str(&answer).context("no JSON from etcd")?;
    let revision = header["header"]["revision"].as_str().context("no revision from etcd")?;
    let compaction = format!(r#"{{"revision": "{revision}", "physical": true}}"#);
    let (status, answer) = plain_http::ask(port, "POST", "/v3/kv/compaction", &compaction).await?;
    ensure!(status == 200, "etcd answered {status}: {answer}");
    Ok(revision.to_owned())
}

/// Each by force or with its grace.
pub(crate) async fn delete_pods(on: &Deployment, rng: &mut Rng) -> String {
    let pods = on.pods();
    let listing =
        tokio::time::timeout(Duration::from_secs(3), pods.list_metadata(&ListParams::default())).await;
    let Ok(Ok(list)) = listing else { return "no pod could be deleted: no list".to_owned() };
    let mut deleted = Vec::new();
    for _ in 0..DELETED_MAX.min(list.items.len()) {
        let name = list.items[rng.index(list.items.len())].metadata.name.clone().unwrap_or_default();
        let by_force = rng.below(2) == 0;
        let mut params = DeleteParams::default();
        if by_force {
            params.grace_period_seconds = Some(0);
        }
        let done = tokio::time::timeout(Duration::from_secs(3), pods.delete(&name, &params)).await;
        let how = if by_force { "by force" } else { "with grace" };
        let result = if matches!(done, Ok(Ok(_))) { "deleted" } else { "not deleted" };
        deleted.push(format!("{name} {result} {how}"));
    }
    format!("somebody deletes pods: {}", deleted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_with_all_the_labels_are_summed() {
        let text =
            "# TYPE x counter\nx{a=\"1\",b=\"y\"} 2\nx{a=\"1\",b=\"z\"} 3\nx{a=\"2\"} 5\nxx{a=\"1\"} 7\n";
        assert_eq!(sum(text, "x{", &["a=\"1\""]), 5);
        assert_eq!(sum(text, "x{", &["a=\"1\"", "b=\"z\""]), 3);
        assert_eq!(sum(text, "y{", &[]), 0);
    }
}
