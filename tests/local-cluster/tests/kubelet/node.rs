//! The node: registration, room, fake pods, many pods at once.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use windlass_local_cluster::KubeletOptions;

use crate::world::{World, script};

fn unschedulable(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == "PodScheduled" && c["reason"] == "Unschedulable")
}

#[tokio::test]
async fn the_node_is_registered() {
    let world = World::start_with(|o| drop(o.labels.insert("zone".into(), "a".into()))).await;
    let node = world.api().get("nodes", "", "node-1").expect("is registered");
    assert_eq!(node["status"]["capacity"]["pods"], "110");
    assert_eq!(node["metadata"]["labels"]["zone"], "a");
    let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    assert!(conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"));
    assert!(node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64().is_some_and(|p| p > 0));
    world.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_waits_and_says_so() {
    let world = World::start_with(|o| o.max_pods = 1).await;
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("go").display().to_string();
    world.create("first", script(&format!("while [ ! -e {file} ]; do sleep 0.02; done"))).await;
    world.until_phase("first", "Running").await;
    world.create("second", script("exit 0")).await;
    let pod = world.until("second", "unschedulable", unschedulable).await;
    assert_eq!(pod["status"]["conditions"][0]["message"], "0/1 nodes are available: 1 Too many pods.");
    std::fs::write(&file, "").expect("writes");
    world.until_phase("first", "Succeeded").await;
    world.until_phase("second", "Succeeded").await;
    let mut elsewhere = script("exit 0");
    elsewhere["nodeSelector"] = json!({ "zone": "b" });
    world.create("elsewhere", elsewhere).await;
    world.until("elsewhere", "unschedulable", unschedulable).await;
    world.stop().await;
}

#[tokio::test]
async fn no_more_run_at_once_than_allowed() {
    let world = World::start_with(|o| o.max_running = Some(1)).await;
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("go").display().to_string();
    world.create("first", script(&format!("while [ ! -e {file} ]; do sleep 0.02; done"))).await;
    world.until_phase("first", "Running").await;
    world.create("second", script("exit 0")).await;
    let waits = |pod: &Value| crate::world::waiting(pod) == "ContainerCreating";
    world.until("second", "ContainerCreating", waits).await;
    std::fs::write(&file, "").expect("writes");
    world.until_phase("second", "Succeeded").await;
    world.stop().await;
}

async fn many(world: &World, count: usize, spec: Value) {
    for i in 0..count {
        world.create(&format!("many-{i}"), spec.clone()).await;
    }
    for i in 0..count {
        world.until_phase(&format!("many-{i}"), "Succeeded").await;
    }
}

#[tokio::test]
async fn fake_pods_succeed_without_processes() {
    let fake = |o: &mut KubeletOptions| {
        o.fake_run = Some(Duration::from_millis(10));
        o.max_pods = 1000;
    };
    let world = World::start_with(fake).await;
    let begun = Instant::now();
    // The command would fail if it were run.
    many(&world, 100, script("exit 1")).await;
    println!("100 fake pods in {:?}", begun.elapsed());
    world.delete("many-0", 30).await;
    world.until_gone("many-0").await;
    let annotation = json!({ "local-cluster.windlass.dev/fake-exit-code": "3" });
    world.create_annotated("fails", annotation, script("exit 0")).await;
    let pod = world.until_phase("fails", "Failed").await;
    assert_eq!(crate::world::terminated(&pod)["exitCode"], 3);
    world.stop().await;
}

#[tokio::test]
async fn three_hundred_pods_at_once() {
    let world = World::start_with(|o| o.max_pods = 400).await;
    let begun = Instant::now();
    many(&world, 300, script("exit 0")).await;
    println!("300 pods in {:?}", begun.elapsed());
    world.stop().await;
}
