//! A cluster with one node, and what tests ask of it.
#![expect(clippy::expect_used, clippy::panic, reason = "a helper of tests fails its test")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use windlass_local_cluster::{ApiOptions, ApiServer, Kubelet, KubeletOptions, LocalCluster, client_config};

/// Generous: tests share two cores.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) cluster: LocalCluster,
    pub(crate) client: kube::Client,
    pub(crate) options: KubeletOptions,
    _dir: TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(adjust: impl FnOnce(&mut KubeletOptions)) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut options = KubeletOptions::new("node-1", dir.path().join("logs"));
        options.bind_pods = true;
        adjust(&mut options);
        let cluster =
            LocalCluster::start(ApiOptions::default(), options.clone()).await.expect("the cluster starts");
        let config = client_config(&cluster.api).await.expect("a configuration");
        let client = kube::Client::try_from(config).expect("a client");
        Self { cluster, client, options, _dir: dir }
    }

    pub(crate) fn api(&self) -> &ApiServer {
        &self.cluster.api
    }

    /// Ends the kubelet and starts another one for the same node.
    pub(crate) async fn restart_kubelet(self) -> Self {
        let LocalCluster { api, kubelet } = self.cluster;
        kubelet.stop().await;
        let config = client_config(&api).await.expect("a configuration");
        let kubelet = Kubelet::start(config, self.options.clone()).await.expect("starts again");
        Self { cluster: LocalCluster { api, kubelet }, ..self }
    }

    pub(crate) async fn request(&self, method: &str, path: &str, body: &Value) -> String {
        let content_type =
            if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = http::Request::builder().method(method).uri(path).header("content-type", content_type);
        let request = request.body(body).expect("a request");
        self.client.request_text(request).await.unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// Creates a pod from its spec.
    pub(crate) async fn create(&self, name: &str, spec: Value) {
        self.create_annotated(name, json!({}), spec).await;
    }

    pub(crate) async fn create_annotated(&self, name: &str, annotations: Value, spec: Value) {
        let pod = json!({ "metadata": { "name": name, "labels": { "app": "test" }, "annotations": annotations },
                          "spec": spec });
        self.request("POST", "/api/v1/namespaces/default/pods", &pod).await;
    }

    pub(crate) async fn annotate(&self, name: &str, key: &str, value: &str) {
        let patch = json!({ "metadata": { "annotations": { key: value } } });
        self.request("PATCH", &format!("/api/v1/namespaces/default/pods/{name}"), &patch).await;
    }

    pub(crate) async fn delete(&self, name: &str, grace_s: u64) {
        let options = json!({ "gracePeriodSeconds": grace_s });
        self.request("DELETE", &format!("/api/v1/namespaces/default/pods/{name}"), &options).await;
    }

    pub(crate) async fn log(&self, name: &str, query: &str) -> String {
        let path = format!("/api/v1/namespaces/default/pods/{name}/log?{query}");
        self.request("GET", &path, &Value::Null).await
    }

    /// The log up to the pod's end. Its answer has begun: the pod may go now.
    pub(crate) async fn follow_log(&self, name: &str) -> kube::client::Body {
        let path = format!("/api/v1/namespaces/default/pods/{name}/log?follow=true");
        let request = http::Request::get(&path).body(kube::client::Body::empty()).expect("a request");
        let response = self.client.send(request).await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
        response.into_body()
    }

    pub(crate) fn pod(&self, name: &str) -> Option<Arc<Value>> {
        self.api().get("pods", "default", name)
    }

    /// Waits until the pod is so.
    pub(crate) async fn until(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Arc<Value> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.pod(name) {
                Some(pod) if is(&pod) => return pod,
                last => assert!(Instant::now() < deadline, "{name} is not {what}: {last:#?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn until_phase(&self, name: &str, phase: &str) -> Arc<Value> {
        self.until(name, phase, |pod| pod["status"]["phase"] == phase).await
    }

    pub(crate) async fn until_gone(&self, name: &str) {
        let deadline = Instant::now() + DEADLINE;
        while let Some(pod) = self.pod(name) {
            assert!(Instant::now() < deadline, "{name} is still there: {pod:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the running pod's log holds this text.
    pub(crate) async fn until_log(&self, name: &str, text: &str) -> String {
        self.until_phase(name, "Running").await;
        let deadline = Instant::now() + DEADLINE;
        loop {
            let log = self.log(name, "").await;
            if log.contains(text) {
                return log;
            }
            assert!(Instant::now() < deadline, "{name} has not logged {text:?}: {log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn stop(self) {
        self.cluster.stop().await;
    }
}

/// A spec with one container that runs a shell script once.
pub(crate) fn script(script: &str) -> Value {
    json!({ "restartPolicy": "Never",
            "containers": [{ "name": "base", "image": "x", "command": ["sh", "-c", script] }] })
}

/// `state.terminated` of the first container.
pub(crate) fn terminated(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["state"]["terminated"]
}

/// `state.waiting.reason` of the first container.
pub(crate) fn waiting(pod: &Value) -> &str {
    pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or_default()
}
