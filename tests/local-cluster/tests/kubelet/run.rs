//! What runs, with what, and how it ends.

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::world::{World, script, terminated, waiting};

#[tokio::test]
async fn exit_codes_and_signals_are_reported() {
    let world = World::start().await;
    // Kubernetes makes `$$` one dollar sign.
    for (name, body, phase, code, reason) in [
        ("zero", "exit 0", "Succeeded", 0, "Completed"),
        ("three", "exit 3", "Failed", 3, "Error"),
        ("killed", "kill -9 $$$$", "Failed", 137, "Error"),
        ("termed", "kill -15 $$$$", "Failed", 143, "Error"),
    ] {
        world.create(name, script(body)).await;
        let pod = world.until_phase(name, phase).await;
        assert_eq!(
            (&terminated(&pod)["exitCode"], &terminated(&pod)["reason"]),
            (&json!(code), &json!(reason))
        );
        assert!(terminated(&pod)["startedAt"].is_string() && terminated(&pod)["finishedAt"].is_string());
        assert_eq!(pod["spec"]["nodeName"], "node-1");
        assert!(pod["status"]["podIP"].as_str().is_some_and(|ip| ip.starts_with("127.")));
    }
    world.stop().await;
}

#[tokio::test]
async fn a_life_is_reported_step_by_step() {
    let world = World::start().await;
    world.create("steps", script("while :; do sleep 0.05; done")).await;
    let pod = world.until_phase("steps", "Running").await;
    assert!(pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"].is_string());
    let condition = |kind: &str| -> Value {
        let all = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|c| c["type"] == kind).unwrap_or_default()
    };
    for kind in ["PodScheduled", "Initialized", "Ready", "ContainersReady"] {
        assert_eq!(condition(kind)["status"], "True", "{kind}");
    }
    assert_eq!(pod["status"]["hostIP"], "127.0.0.1");
    world.delete("steps", 0).await;
    world.until_gone("steps").await;
    world.stop().await;
}

#[tokio::test]
async fn the_environment_comes_from_the_pod_and_what_it_names() {
    let world = World::start_with(|o| {
        o.image_env.insert("FROM_IMAGE".into(), "image".into());
        o.entrypoint = vec!["sh".into(), "-c".into()];
    })
    .await;
    let secret = json!({ "metadata": { "name": "s" }, "stringData": { "k": "hidden" } });
    world.request("POST", "/api/v1/namespaces/default/secrets", &secret).await;
    let map = json!({ "metadata": { "name": "m" }, "data": { "A": "mapped" } });
    world.request("POST", "/api/v1/namespaces/default/configmaps", &map).await;
    let field =
        |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let spec = json!({ "restartPolicy": "Never", "containers": [{
        "name": "base", "image": "x", "workingDir": "/usr",
        // No command: the image's entrypoint runs the args, in which $(NAME) is expanded.
        "args": ["echo $(NAME) $(SECRET) $A $FROM_IMAGE $IP $LABEL $HOSTNAME $NODE $(BOTH); pwd"],
        "envFrom": [{ "configMapRef": { "name": "m" } }],
        "env": [field("NAME", "metadata.name"), field("IP", "status.podIP"), field("NODE", "spec.nodeName"),
                field("LABEL", "metadata.labels['app']"),
                { "name": "SECRET", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } },
                { "name": "BOTH", "value": "$(NAME)-$(NODE)" }] }] });
    world.create("env", spec).await;
    let pod = world.until_phase("env", "Succeeded").await;
    let ip = pod["status"]["podIP"].as_str().expect("an address");
    let expected = format!("env hidden mapped image {ip} test env node-1 env-node-1\n/usr\n");
    assert_eq!(world.log("env", "").await, expected);
    world.stop().await;
}

#[tokio::test]
async fn the_host_name_is_the_pods_and_resolves() {
    let world = World::start().await;
    let python =
        "import socket; n = socket.gethostname(); print(n, socket.gethostbyname(n), socket.getfqdn())";
    let mut spec = script("");
    spec["containers"][0]["command"] = json!(["python3", "-c", python]);
    world.create("its-own-name", spec).await;
    let pod = world.until_phase("its-own-name", "Succeeded").await;
    let ip = pod["status"]["podIP"].as_str().expect("an address");
    assert_eq!(world.log("its-own-name", "").await, format!("its-own-name {ip} its-own-name\n"));
    world.stop().await;
}

#[tokio::test]
async fn init_containers_run_one_by_one_before_the_others() {
    let world = World::start().await;
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("order").display().to_string();
    let container = |name: &str, code: u32| json!({ "name": name, "image": "x", "command": ["sh", "-c", format!("echo {name} >> {file}; exit {code}")] });
    let spec = |second: u32| {
        json!({ "restartPolicy": "Never", "initContainers": [container("one", 0), container("two", second)],
                "containers": [container("main", 0), container("beside", 0)] })
    };
    world.create("inits", spec(0)).await;
    world.until_phase("inits", "Succeeded").await;
    let lines: Vec<String> =
        std::fs::read_to_string(&file).expect("was written").lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(&lines[..2], ["one", "two"]);
    assert_eq!(world.log("inits", "container=two").await, "");
    world.create("fails", spec(7)).await;
    let pod = world.until_phase("fails", "Failed").await;
    assert_eq!(pod["status"]["initContainerStatuses"][1]["state"]["terminated"]["exitCode"], 7);
    assert_eq!(waiting(&pod), "PodInitializing");
    world.stop().await;
}

#[tokio::test]
async fn on_failure_restarts_until_it_succeeds() {
    let world = World::start().await;
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("tried").display().to_string();
    let mut spec =
        script(&format!("if [ -e {file} ]; then echo second; else echo first; touch {file}; exit 1; fi"));
    spec["restartPolicy"] = json!("OnFailure");
    world.create("again", spec).await;
    let pod = world.until_phase("again", "Succeeded").await;
    let status = &pod["status"]["containerStatuses"][0];
    assert_eq!((&status["restartCount"], &terminated(&pod)["exitCode"]), (&json!(1), &json!(0)));
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(world.log("again", "").await, "second\n");
    assert_eq!(world.log("again", "previous=true").await, "first\n");
    world.stop().await;
}

#[tokio::test]
async fn a_graceful_delete_lets_the_process_end_by_itself() {
    let world = World::start().await;
    world
        .create("polite", script("trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done"))
        .await;
    world.until_log("polite", "up").await;
    let log = world.follow_log("polite").await;
    let begun = Instant::now();
    world.delete("polite", 30).await;
    assert_eq!(log.collect().await.unwrap().to_bytes(), "up\nbye\n");
    world.until_gone("polite").await;
    assert!(begun.elapsed() < Duration::from_secs(25), "it was not asked but waited for");
    world.stop().await;
}

#[tokio::test]
async fn what_does_not_listen_is_killed_after_the_grace() {
    let world = World::start().await;
    world
        .create("deaf", script("trap '' TERM; setsid sleep 3600 & echo $!; while :; do sleep 0.05; done"))
        .await;
    world.until_log("deaf", "\n").await;
    world.delete("deaf", 1).await;
    let pod = world.pod("deaf").expect("waits for its process");
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
    world.until_gone("deaf").await;
    world.stop().await;
}

#[tokio::test]
async fn a_start_that_cannot_be_says_why() {
    let world = World::start().await;
    let mut spec = script("");
    spec["containers"][0]["command"] = json!(["no-such-program"]);
    world.create("command", spec).await;
    let pod = world.until_phase("command", "Failed").await;
    assert_eq!(
        (&terminated(&pod)["reason"], &terminated(&pod)["exitCode"]),
        (&json!("StartError"), &json!(128))
    );
    let message = terminated(&pod)["message"].as_str().unwrap_or_default();
    assert!(message.contains("\"no-such-program\": executable file not found in $PATH"), "{message}");

    let mut spec = script("");
    spec["containers"][0]["image"] = json!("invalid/image:1");
    world.create("image", spec).await;
    world.until("image", "ErrImagePull", |pod| waiting(pod) == "ErrImagePull").await;
    let pod = world.until("image", "ImagePullBackOff", |pod| waiting(pod) == "ImagePullBackOff").await;
    assert_eq!(pod["status"]["phase"], "Pending");

    let mut spec = script("echo $A");
    spec["containers"][0]["env"] =
        json!([{ "name": "A", "valueFrom": { "secretKeyRef": { "name": "late", "key": "k" } } }]);
    world.create("secret", spec).await;
    let reason = "CreateContainerConfigError";
    let pod = world.until("secret", reason, |pod| waiting(pod) == reason).await;
    let message = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"];
    assert_eq!(message, "secret \"late\" not found");
    // Once it exists, the pod runs.
    let secret = json!({ "metadata": { "name": "late" }, "stringData": { "k": "there" } });
    world.request("POST", "/api/v1/namespaces/default/secrets", &secret).await;
    world.until_phase("secret", "Succeeded").await;
    assert_eq!(world.log("secret", "").await, "there\n");
    world.stop().await;
}

#[tokio::test]
async fn an_active_deadline_ends_the_pod() {
    let world = World::start().await;
    let mut spec = script("while :; do sleep 0.05; done");
    spec["activeDeadlineSeconds"] = json!(1);
    spec["terminationGracePeriodSeconds"] = json!(1);
    world.create("late", spec).await;
    let pod = world.until_phase("late", "Failed").await;
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
    world.stop().await;
}

#[tokio::test]
async fn the_end_of_the_log_is_the_message_of_a_failure_if_asked_for() {
    let world = World::start().await;
    let mut spec = script("echo early; echo the reason; exit 1");
    spec["containers"][0]["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    world.create("says", spec).await;
    let pod = world.until_phase("says", "Failed").await;
    assert_eq!(terminated(&pod)["message"], "early\nthe reason");
    world.stop().await;
}
