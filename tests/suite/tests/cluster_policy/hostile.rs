//! Whoever has the daemon's token gets the pods of the rules and no others; and what everybody else can.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::cases;
use crate::world::{DAEMON, ROLE, RULES, TEMPLATE, World, all_by_admission, call, irsa};

/// `pod` with these changes: a pointer of JSON, and what is put there; null takes it away.
fn changed(pod: &Value, changes: &[(&str, Value)]) -> Value {
    let mut pod = pod.clone();
    for (pointer, value) in changes {
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        let last = last.replace("~1", "/");
        match (pod.pointer_mut(parent).unwrap(), value) {
            (Value::Array(items), _) if last == "-" => items.push(value.clone()),
            (Value::Array(items), _) => items[last.parse::<usize>().unwrap()] = value.clone(),
            (Value::Object(fields), Value::Null) => drop(fields.remove(&last)),
            (place, _) => place[&last] = value.clone(),
        }
    }
    pod
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemons_token_makes_the_pods_of_the_rules_and_no_others() -> Result<()> {
    let world = World::start(all_by_admission(), RULES, TEMPLATE).await?;
    let _webhooks = irsa(&world).await?;
    world.make_crd().await?;
    world.apply(&world.rendered(&["--daemon", DAEMON, "--guard-accounts"])?).await?;
    for (namespace, account) in
        [("tasks", "workers"), ("tasks", "admin"), ("finance", "etl"), ("finance", "workers")]
    {
        world.plane.create_service_account(namespace, account).await?;
    }
    let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "kata"}, "handler": "k"});
    call(&world.plane.client(), "POST", "/apis/node.k8s.io/v1/runtimeclasses", &class).await??;
    world.policy_is_sound().await?;

    for dag in ["etl", "free", "other"] {
        let made =
            world.tried(&world.daemon, &world.pod(dag)?).await?.map_err(anyhow::Error::msg).context(dag)?;
        let role = made["spec"]["containers"][0]["env"].to_string().contains(ROLE);
        ensure!(role == (dag == "etl"), "the webhook was to have been asked: {made}");
    }
    let free = world.pod("free")?;
    let mut wrong = String::new();
    for (dag, changes, words) in cases::all() {
        let name = if dag == "etl" { "etl" } else { "default" };
        match world.tried(&world.daemon, &changed(&world.pod(dag)?, &changes)).await? {
            Ok(pod) => writeln!(wrong, "{words}: created {pod}")?,
            Err(why) => {
                let says = format!("denied request: identity rule `{name}` does not let a pod have this: ");
                if !why.starts_with("403 ")
                    || !why.contains(&says)
                    || !why.contains(words)
                    || why.contains("hidden")
                {
                    writeln!(wrong, "{words}: {why}")?;
                }
            }
        }
        // The rule that frees everything frees it; what belongs to its namespace or to a gate is another pod's.
        let same_place = !words.contains("windlass.dev/") && !words.contains("nodeSelector");
        if same_place && !changes.iter().any(|(pointer, _)| pointer.ends_with("/namespace")) {
            let free = changed(
                &free,
                &changes.into_iter().filter(|(_, value)| !value.is_null()).collect::<Vec<_>>(),
            );
            let account = free["spec"]["serviceAccountName"] == "admin";
            if let (Err(why), false) = (world.tried(&world.daemon, &free).await?, account) {
                writeln!(wrong, "{words}, freed: {why}")?;
            }
        }
    }
    ensure!(wrong.is_empty(), "{wrong}");
    updates(&world).await?;
    others(&world).await
}

/// What the daemon's token can change of a pod that is there.
async fn updates(world: &World) -> Result<()> {
    let pod = world.pod("etl")?;
    let path = "/api/v1/namespaces/tasks/pods";
    let made = call(&world.daemon, "POST", path, &pod).await??;
    let path = format!("{path}/{}", made["metadata"]["name"].as_str().unwrap());
    for (change, words) in [
        (
            json!({"metadata": {"labels": {"windlass.dev/identity-rule": "Free-one"}}}),
            "metadata.labels[windlass.dev/identity-rule]",
        ),
        (
            json!({"metadata": {"labels": {"windlass.dev/identity-rule": null}}}),
            "metadata.labels[windlass.dev/identity-rule]",
        ),
        (json!({"metadata": {"labels": {"team": "ops"}}}), "metadata.labels[team]"),
        (
            json!({"metadata": {"labels": {"eks.amazonaws.com/x": "y"}}}),
            "metadata.labels[eks.amazonaws.com/x]",
        ),
        (
            json!({"metadata": {"annotations": {"windlass.dev/role-arn": null}}}),
            "metadata.annotations[windlass.dev/role-arn]",
        ),
        (json!({"spec": {"containers": [{"name": "logs", "image": "mine"}]}}), "spec.containers[logs].image"),
        (
            json!({"spec": {"initContainers": [{"name": "mesh", "image": "mine"}]}}),
            "spec.initContainers[mesh].image",
        ),
    ] {
        let why = call(&world.daemon, "PATCH", &path, &change).await?.err().context(words)?.to_string();
        let says = format!("nothing may change of a pod by which it could get another identity: {words}");
        ensure!(why.starts_with("403 ") && why.contains(&says), "{why}");
    }
    let debug = json!({"spec": {"ephemeralContainers": [{"name": "d", "image": "d"}]}});
    let why = call(&world.daemon, "PATCH", &format!("{path}/ephemeralcontainers"), &debug).await?;
    let why = why.err().context("an ephemeral container")?.to_string();
    ensure!(why.contains("Windlass adds no ephemeral containers"), "{why}");
    // What the daemon, and an Airflow with another executor, do.
    for change in [
        json!({"metadata": {"labels": {"airflow-worker": "8", "airflow_executor_done": "True"}}}),
        json!({"spec": {"schedulingGates": [{"name": "windlass.dev/identity", "$patch": "delete"}]}}),
    ] {
        call(&world.daemon, "PATCH", &path, &change).await?.with_context(|| change.to_string())?;
    }
    Ok(())
}

/// What others can.
async fn others(world: &World) -> Result<()> {
    let admin = world.plane.client();
    let plain = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "theirs", "namespace": "tasks"},
        "spec": {"serviceAccountName": "workers", "hostNetwork": true, "containers": [{"name": "c", "image": "i"}]},
    });
    world.tried(&admin, &plain).await?.map_err(anyhow::Error::msg)?;
    let why = world.tried(&admin, &changed(&plain, &[("/spec/serviceAccountName", json!("etl"))])).await?;
    let says = format!(
        "ValidatingAdmissionPolicy 'windlass-accounts-airflow' with binding 'windlass-accounts-airflow' denied request: \
         spec.serviceAccountName is `etl`, which an identity rule gives: only {DAEMON} creates pods with it"
    );
    ensure!(why.clone().is_err_and(|why| why.contains(&says)), "{why:?}");
    let label = [("/metadata/labels", json!({"windlass.dev/identity-rule": "etl"}))];
    let why = world.tried(&admin, &changed(&plain, &label)).await?;
    let says = format!("label windlass.dev/identity-rule is `etl`, which only {DAEMON} gives and takes");
    ensure!(why.clone().is_err_and(|why| why.contains(&says)), "{why:?}");

    call(&admin, "POST", "/api/v1/namespaces/tasks/pods", &plain).await??;
    let path = "/api/v1/namespaces/tasks/pods/theirs";
    let change = json!({"metadata": {"labels": {"windlass.dev/identity-rule": "etl"}}});
    let why = call(&admin, "PATCH", path, &change).await?.err().context("a label")?.to_string();
    ensure!(why.contains(&says), "{why}");
    call(&admin, "PATCH", path, &json!({"metadata": {"labels": {"team": "etl"}}})).await??;
    Ok(())
}
