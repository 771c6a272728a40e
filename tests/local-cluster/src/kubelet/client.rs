//! The few calls that a kubelet makes, over kube's connection handling (kubeconfig, TLS, tokens).

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use http::{Method, Request};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

use super::manifest::Pod;

/// Requests in flight: each is a connection, and the API server must keep room for others.
const IN_FLIGHT_MAX: usize = 32;
/// One call's deadline.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Pauses between tries of a report that must arrive.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The API server refused: code, reason and its words.
    #[error("the API server answered {code} {reason} to {what}: {message}")]
    Refused { what: String, code: u16, reason: String, message: String },
    /// No answer.
    #[error("no answer from the API server to {what}: {problem}")]
    NoAnswer { what: String, problem: String },
}

impl CallError {
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::Refused { code, .. } => *code,
            Self::NoAnswer { .. } => 0,
        }
    }

    /// Asking again can help.
    fn is_passing(&self) -> bool {
        matches!(self.code(), 0 | 429 | 500..)
    }
}

/// The client.
#[derive(Clone)]
pub(crate) struct Client {
    kube: kube::Client,
    in_flight: std::sync::Arc<Semaphore>,
    /// `false`: the node is cut off; calls wait.
    online: watch::Receiver<bool>,
}

/// One line of a watch.
pub(crate) type WatchEvent = kube::core::WatchEvent<Pod>;

/// A list of pods.
#[derive(Debug, Deserialize)]
pub(crate) struct PodList {
    pub(crate) metadata: ListMeta,
    pub(crate) items: Vec<Pod>,
}

/// Metadata of a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListMeta {
    pub(crate) resource_version: String,
}

impl Client {
    pub(crate) fn new(mut config: kube::Config, online: watch::Receiver<bool>) -> Result<Self, kube::Error> {
        // kube would repeat POSTs by itself.
        config.default_retry = false;
        let kube = kube::Client::try_from(config)?;
        Ok(Self { kube, in_flight: std::sync::Arc::new(Semaphore::new(IN_FLIGHT_MAX)), online })
    }

    /// Waits while the node is cut off.
    pub(crate) async fn wait_online(&self) {
        // The sender lives as long as the kubelet; without one there is nothing to wait for.
        let _ = self.online.clone().wait_for(|online| *online).await;
    }

    /// Returns when the node is cut off.
    pub(crate) async fn wait_offline(&self) {
        if self.online.clone().wait_for(|online| !*online).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// One request.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<T, CallError> {
        self.wait_online().await;
        let what = || format!("{method} {}", path.split('?').next().unwrap_or(path));
        let problem = |problem: String| CallError::NoAnswer { what: what(), problem };
        let bytes = body.map_or_else(Vec::new, |b| b.to_string().into_bytes());
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header(http::header::CONTENT_TYPE, content_type)
            .body(bytes)
            .map_err(|e| problem(e.to_string()))?;
        let _slot = self.in_flight.acquire().await.map_err(|e| problem(e.to_string()))?;
        match tokio::time::timeout(CALL_TIMEOUT, self.kube.request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) => Err(CallError::Refused {
                what: what(),
                code: status.code,
                reason: status.reason.clone(),
                message: status.message.clone(),
            }),
            Ok(Err(error)) => Err(problem(error.to_string())),
            Err(_) => Err(problem(format!("nothing within {} s", CALL_TIMEOUT.as_secs()))),
        }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.call(Method::GET, path, "application/json", None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        self.call(Method::POST, path, "application/json", Some(body)).await
    }

    /// A strategic merge patch, as a kubelet sends.
    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        self.call(Method::PATCH, path, "application/strategic-merge-patch+json", Some(body)).await
    }

    /// Patches a pod's status until it is taken or the pod is gone.
    pub(crate) async fn report(&self, namespace: &str, name: &str, patch: &Value) {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
        self.insist(|| self.patch(&path, patch)).await;
    }

    /// The kubelet's last word on a pod: it may go now. Tried until it is heard.
    pub(crate) async fn release(&self, namespace: &str, name: &str, uid: &str) {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let body = json!({ "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0,
                           "preconditions": { "uid": uid } });
        self.insist(|| self.call(Method::DELETE, &path, "application/json", Some(&body))).await;
    }

    async fn insist<F>(&self, call: impl Fn() -> F)
    where
        F: Future<Output = Result<Value, CallError>>,
    {
        let mut pause = RETRY_FIRST;
        loop {
            match call().await {
                Ok(_) => return,
                // 404, 409, 422: the pod is gone, or another one has its name.
                Err(error) if !error.is_passing() => {
                    tracing::debug!(%error, "a report was not taken");
                    return;
                }
                Err(error) => tracing::warn!(%error, "a report is tried again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// Data of a secret (decoded) or config map; `None` if it does not exist.
    pub(crate) async fn data(
        &self,
        namespace: &str,
        plural: &str,
        name: &str,
    ) -> Result<Option<BTreeMap<String, String>>, CallError> {
        let path = format!("/api/v1/namespaces/{namespace}/{plural}/{name}");
        let object: Value = match self.get(&path).await {
            Ok(object) => object,
            Err(error) if error.code() == 404 => return Ok(None),
            Err(error) => return Err(error),
        };
        let decode = |text: &str| {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let entries = object["data"].as_object().into_iter().flatten();
        let plain = entries.filter_map(|(key, value)| {
            let text = value.as_str()?;
            Some((key.clone(), if plural == "secrets" { decode(text) } else { text.to_owned() }))
        });
        Ok(Some(plain.collect()))
    }

    /// Opens a watch.
    pub(crate) async fn watch(
        &self,
        path: &str,
    ) -> Result<impl futures::Stream<Item = Result<WatchEvent, kube::Error>> + use<>, kube::Error> {
        self.wait_online().await;
        let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        self.kube.request_events(request).await
    }

    /// Writes an event about a pod; best effort, as events are.
    pub(crate) async fn event(&self, pod: &Pod, kind: &str, reason: &str, message: &str) {
        let meta = &pod.metadata;
        let now = crate::clock::now_text();
        let name = format!("{}.{:x}", meta.name, fastrand::u64(..));
        let body = json!({ "metadata": { "name": name, "namespace": meta.namespace }, "type": kind,
            "reason": reason, "message": message, "count": 1, "firstTimestamp": now, "lastTimestamp": now,
            "involvedObject": { "kind": "Pod", "apiVersion": "v1", "namespace": meta.namespace,
                                "name": meta.name, "uid": meta.uid },
            "source": { "component": "kubelet", "host": pod.spec.node_name } });
        if let Err(error) = self.post(&format!("/api/v1/namespaces/{}/events", meta.namespace), &body).await {
            tracing::debug!(%error, "an event was not written");
        }
    }
}
