//! What admission does to pods that anybody creates.

use std::time::Duration;

use anyhow::{Result, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use windlass_eks::server::{MUTATE_SGP, Mode, VALIDATE_SGP};

use crate::world::{NAMESPACE, World, limit, pod};

const ANNOTATION: &str = "vpc.amazonaws.com/pod-eni";

fn db() -> Value {
    json!({ "tier": "db" })
}

async fn world() -> Result<World> {
    let world = World::start(9).await?;
    let groups = |id: &str| json!({ "groupIds": [id] });
    let by_pod =
        json!({ "podSelector": { "matchLabels": db() }, "securityGroups": groups("sg-0000000000000000a") });
    world.policy("by-pod", by_pod).await?;
    let team = json!({ "matchLabels": { "team": "data" } });
    let by_account =
        json!({ "serviceAccountSelector": team, "securityGroups": groups("sg-0000000000000000b") });
    world.policy("by-account", by_account).await?;
    // As on EKS the resource takes an operator that there is not, and the policy matches nothing.
    let bad = json!({ "matchExpressions": [{ "key": "tier", "operator": "in", "values": ["web"] }] });
    world
        .policy("bad", json!({ "podSelector": bad, "securityGroups": groups("sg-0000000000000000c") }))
        .await?;
    world.account("data-worker", json!({ "team": "data" })).await?;
    Ok(world)
}

/// The words of a refusal.
fn refusal(answer: Result<Value, kube::Error>) -> Result<String> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(status.message),
        other => anyhow::bail!("no 403: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_ask_for_an_interface_where_a_policy_matches() -> Result<()> {
    let world = world().await?;
    let made = world.create(pod("by-pod", db())).await?;
    ensure!(limit(&made, 0) == "1", "{made}");
    let requests = &made["spec"]["containers"][0]["resources"]["requests"][ANNOTATION];
    ensure!(requests == "1", "{made}");

    let made = world.create(pod("nothing", json!({ "tier": "web" }))).await?;
    ensure!(limit(&made, 0).is_null(), "{made}");
    let mut of_account = pod("by-account", json!({}));
    of_account["spec"]["serviceAccountName"] = json!("data-worker");
    let made = world.create(of_account).await?;
    ensure!(limit(&made, 0) == "1", "{made}");
    let mut host = pod("host", db());
    host["spec"]["hostNetwork"] = json!(true);
    let made = world.create(host).await?;
    ensure!(limit(&made, 0).is_null(), "{made}");
    let mut two = pod("two", db());
    let second = json!({ "name": "second", "image": "any" });
    two["spec"]["containers"].as_array_mut().unwrap().push(second);
    let made = world.create(two).await?;
    ensure!(limit(&made, 0) == "1" && limit(&made, 1).is_null(), "{made}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_that_fail_let_pods_through_and_an_unknown_account_is_refused() -> Result<()> {
    let world = world().await?;
    world.groups.known.hide_account(NAMESPACE, "fresh");
    world.account("fresh", json!({})).await?;
    let mut fresh = pod("fresh", json!({}));
    fresh["spec"]["serviceAccountName"] = json!("fresh");
    let denied = refusal(world.create(fresh.clone()).await)?;
    let words = "admission webhook \"mpod.vpc.k8s.aws\" denied the request: Failed to get Matching SGP for Pods, \
                 rejecting event, error ServiceAccount \"fresh\" not found";
    ensure!(denied == words, "{denied}");
    world.groups.known.show_account(NAMESPACE, "fresh");
    world.create(fresh).await?;

    let mode = |mode| world.groups.webhooks.set_mode(MUTATE_SGP, mode);
    for (name, fault) in [("silent", Mode::Silent), ("down", Mode::Down)] {
        mode(fault);
        let made = world.create(pod(name, db())).await?;
        ensure!(limit(&made, 0).is_null(), "{name}: {made}");
    }
    mode(Mode::Deny { code: 403, message: "not now".into() });
    let denied = refusal(world.create(pod("denied", db())).await)?;
    ensure!(denied == "admission webhook \"mpod.vpc.k8s.aws\" denied the request: not now", "{denied}");
    mode(Mode::Slow(Duration::from_millis(200)));
    let made = world.create(pod("slow", db())).await?;
    ensure!(limit(&made, 0) == "1", "{made}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_annotation_is_the_controllers() -> Result<()> {
    let world = world().await?;
    let mut forged = pod("forged", db());
    forged["metadata"]["annotations"] = json!({ ANNOTATION: "[]" });
    let denied = refusal(world.create(forged).await)?;
    let words = "admission webhook \"vpod.vpc.k8s.aws\" denied the request: pod cannot be created with \
                 vpc.amazonaws.com/pod-eni annotation";
    ensure!(denied == words, "{denied}");

    // The controller writes it, and afterwards nobody else may change it; other annotations are free.
    world.create(pod("real", db())).await?;
    world.running("real").await?;
    let annotate = async |name: &str, value: &str| {
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { name: value } } }));
        let patched = world.pods().patch("real", &PatchParams::default(), &patch).await?;
        serde_json::to_value(patched).map_err(kube::Error::SerdeError)
    };
    let denied = refusal(annotate(ANNOTATION, "[]").await)?;
    let words = "admission webhook \"vpod.vpc.k8s.aws\" denied the request: annotation is not set by \
                 vpc-resource-controller";
    ensure!(denied == words, "{denied}");
    annotate("example.com/note", "free").await?;
    world.groups.webhooks.set_mode(VALIDATE_SGP, Mode::Down);
    annotate(ANNOTATION, "[]").await?; // It fails open too.
    Ok(())
}
