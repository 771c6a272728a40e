//! Faults on demand, and a kubelet that goes away.

use serde_json::json;
use windlass_local_cluster::FAULT_ANNOTATION;

use crate::world::{World, script, terminated};

const FOR_EVER: &str = "echo up; while :; do sleep 0.05; done";

#[tokio::test]
async fn oom_kill_and_eviction() {
    let world = World::start().await;
    for name in ["oom", "kill", "evict"] {
        world.create(name, script(FOR_EVER)).await;
        world.until_log(name, "up").await;
        world.annotate(name, FAULT_ANNOTATION, name).await;
    }
    let oom = world.until_phase("oom", "Failed").await;
    assert_eq!(terminated(&oom)["reason"], "OOMKilled");
    assert_eq!(terminated(&oom)["exitCode"], 137);
    let kill = world.until_phase("kill", "Failed").await;
    assert_eq!(
        (&terminated(&kill)["reason"], &terminated(&kill)["exitCode"]),
        (&json!("Error"), &json!(137))
    );
    let evict = world.until_phase("evict", "Failed").await;
    assert_eq!(evict["status"]["reason"], "Evicted");
    let conditions = evict["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let target = conditions.iter().find(|c| c["type"] == "DisruptionTarget").expect("has the condition");
    assert_eq!(target["reason"], "TerminationByKubelet");
    world.stop().await;
}

#[tokio::test]
async fn a_fault_may_wait_from_the_beginning() {
    let world = World::start().await;
    world.create_annotated("later", json!({ FAULT_ANNOTATION: "oom after 300" }), script(FOR_EVER)).await;
    let pod = world.until_phase("later", "Failed").await;
    assert_eq!(terminated(&pod)["reason"], "OOMKilled");
    world.stop().await;
}

#[tokio::test]
async fn pods_of_a_dead_kubelet_are_reported_as_lost() {
    let world = World::start().await;
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("alive").display().to_string();
    // Would go on writing if it survived.
    world.create("lost", script(&format!("echo up; while :; do echo x >> {file}; sleep 0.02; done"))).await;
    world.until_log("lost", "up").await;
    let world = world.restart_kubelet().await;
    let written = std::fs::metadata(&file).expect("was written").len();
    let pod = world.until_phase("lost", "Failed").await;
    assert_eq!(terminated(&pod)["reason"], "ContainerStatusUnknown");
    assert_eq!(terminated(&pod)["exitCode"], 137);
    assert_eq!(std::fs::metadata(&file).expect("is there").len(), written, "it runs on");
    world.create("next", script("echo works")).await;
    world.until_phase("next", "Succeeded").await;
    world.stop().await;
}

#[tokio::test]
async fn a_node_that_is_cut_off_reports_when_it_is_back() {
    let world = World::start().await;
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("go").display().to_string();
    let body = format!("echo up; while [ ! -e {file} ]; do sleep 0.02; done; touch {file}.done");
    world.create("island", script(&body)).await;
    world.until_log("island", "up").await;
    world.cluster.kubelet.set_online(false);
    std::fs::write(&file, "").expect("writes");
    // The container goes on, and nobody hears of it.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !std::path::Path::new(&format!("{file}.done")).exists() {
        assert!(std::time::Instant::now() < deadline, "the container does not go on");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(world.pod("island").expect("is there")["status"]["phase"], "Running");
    world.cluster.kubelet.set_online(true);
    world.until_phase("island", "Succeeded").await;
    world.stop().await;
}

#[tokio::test]
async fn a_pod_that_is_deleted_by_force_is_ended() {
    let world = World::start().await;
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("alive").display().to_string();
    world
        .create(
            "forced",
            script(&format!("trap 'touch {file}.end; exit' TERM; echo up; while :; do sleep 0.02; done")),
        )
        .await;
    world.until_log("forced", "up").await;
    world.delete("forced", 0).await;
    world.until_gone("forced").await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !std::path::Path::new(&format!("{file}.end")).exists() {
        assert!(std::time::Instant::now() < deadline, "the container was not asked to end");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    world.stop().await;
}

#[tokio::test]
async fn the_kubelet_survives_a_bad_api_server() {
    use windlass_local_cluster::{Fault, FaultRule};
    let world = World::start().await;
    world.create("rough", script("echo up; sleep 0.3; exit 4")).await;
    for fault in [Fault::Error(500), Fault::DropAnswer, Fault::TooManyRequests { retry_after_s: 1 }] {
        world.api().inject(FaultRule::new(fault).method("PATCH").path("/status").times(2));
        world.api().inject(FaultRule::new(fault).method("POST").path("/binding").times(1));
    }
    world.api().cut_watches("");
    world.api().compact();
    let pod = world.until_phase("rough", "Failed").await;
    assert_eq!(terminated(&pod)["exitCode"], 4);
    world.delete("rough", 30).await;
    world.until_gone("rough").await;
    world.stop().await;
}
