//! Reads and deletes of one pod.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::json;
use windlass_core::cluster::{DeleteAnswer, GetAnswer};
use windlass_core::identity::GATE;
use windlass_core::ids::{Attempt, LaunchId, PodRef, PodUid};

use crate::create::is_path_segment;
use crate::error::ClusterError;
use crate::lean::{LeanPod, NotOurs, look_behind_gate};
use crate::observe::Verb;
use crate::status::ApiStatus;
use crate::transport::{Answer, Call, Cluster};

/// What a GET by name found.
enum Found {
    /// And its JSON.
    Pod(Box<LeanPod>, Bytes),
    Gone,
}

impl Cluster {
    /// Reads the pod by name, from etcd's newest state (no resourceVersion): the only read that says "gone".
    pub async fn get(&self, at: &PodRef, launch: &LaunchId, attempt: Attempt) -> GetAnswer {
        match self.look(at).await {
            Ok(Found::Gone) => GetAnswer::Gone,
            Ok(Found::Pod(pod, body)) => read_pod(*pod, &body, at, launch, attempt),
            Err(error) => GetAnswer::Failed { error: error.line() },
        }
    }

    /// Takes Windlass's scheduling gate from the pod of this uid. A strategic merge: gates are merged by their names, and
    /// another uid is a conflict.
    pub async fn open_gate(
        &self,
        at: &PodRef,
        uid: &PodUid,
        launch: &LaunchId,
        attempt: Attempt,
    ) -> GetAnswer {
        let name = format!("patch pod {at} (take gate {GATE})");
        let Some(path) = path(at) else { return GetAnswer::Failed { error: no_name(&name) } };
        let patch = json!({
            "metadata": { "uid": uid.0 },
            "spec": { "schedulingGates": [{ "name": GATE, "$patch": "delete" }] },
        });
        let call = Call {
            body: Some(patch.to_string().into_bytes()),
            tell_timeout: true,
            ..Call::plain(Verb::Patch, Method::PATCH, format!("{path}?fieldManager=windlass"), name.clone())
        };
        let answer = match self.call(call, self.inner.config.request_timeout).await {
            Ok(answer) => answer,
            Err(error) => return GetAnswer::Failed { error: error.line() },
        };
        match answer.status {
            200..300 => match serde_json::from_slice::<LeanPod>(&answer.body) {
                Ok(pod) => read_pod(pod, &answer.body, at, launch, attempt),
                Err(error) => GetAnswer::Failed { error: format!("{name}: {error}") },
            },
            404 if is_pod_gone(&answer) => GetAnswer::Gone,
            _ => GetAnswer::Failed { error: self.refused(name, &answer).line() },
        }
    }

    /// Deletes the pod of this uid; with `resource_version` only if nothing changed since it was judged.
    /// `grace_seconds` `None` leaves the pod's own `terminationGracePeriodSeconds`.
    pub async fn delete(
        &self,
        at: &PodRef,
        uid: &PodUid,
        resource_version: Option<&str>,
        grace_seconds: Option<u32>,
    ) -> DeleteAnswer {
        let name = format!("delete pod {at}");
        let Some(path) = path(at) else { return DeleteAnswer::Failed { error: no_name(&name) } };
        let mut preconditions = json!({ "uid": uid.0 });
        if let Some(version) = resource_version {
            preconditions["resourceVersion"] = json!(version);
        }
        let mut options = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": preconditions,
        });
        if let Some(seconds) = grace_seconds {
            options["gracePeriodSeconds"] = json!(seconds);
        }
        let call = Call {
            body: Some(options.to_string().into_bytes()),
            tell_timeout: true,
            ..Call::plain(Verb::Delete, Method::DELETE, path, name.clone())
        };
        let answer = match self.call(call, self.inner.config.request_timeout).await {
            Ok(answer) => answer,
            Err(error) => return DeleteAnswer::Failed { error: error.line() },
        };
        match answer.status {
            200..300 => DeleteAnswer::Accepted,
            404 if is_pod_gone(&answer) => DeleteAnswer::Gone,
            409 => self.which_precondition(at, uid).await,
            _ => DeleteAnswer::Failed { error: self.refused(name, &answer).line() },
        }
    }

    /// A 409 names the precondition only in its text, so the pod itself is asked.
    async fn which_precondition(&self, at: &PodRef, uid: &PodUid) -> DeleteAnswer {
        match self.look(at).await {
            Ok(Found::Gone) => DeleteAnswer::Gone,
            Ok(Found::Pod(pod, _)) if pod.metadata.uid == uid.0 => DeleteAnswer::Moved,
            Ok(Found::Pod(..)) => DeleteAnswer::Gone,
            Err(error) => DeleteAnswer::Failed { error: error.line() },
        }
    }

    /// The last lines of a container's log, at most `limit_bytes` of them, cut at the front. What the container wrote
    /// is not checked: it may be anything.
    pub async fn logs(
        &self,
        at: &PodRef,
        container: &str,
        tail_lines: u32,
        limit_bytes: usize,
        timeout: Duration,
    ) -> Result<String, ClusterError> {
        let name = format!("read log of pod {at} container {container}");
        let path = path(at).filter(|_| is_path_segment(container)).ok_or_else(|| ClusterError::Setting {
            what: name.clone(),
            why: "the name of pod or container is none of Kubernetes".into(),
        })?;
        // `limitBytes` cuts the end, where the error stands. So it is only a bound on what travels.
        let travel = limit_bytes.saturating_mul(8).max(64 << 10);
        let path = format!("{path}/log?container={container}&tailLines={tail_lines}&limitBytes={travel}");
        let call = Call {
            answer_max: travel.saturating_add(64 << 10),
            ..Call::plain(Verb::Logs, Method::GET, path, name)
        };
        let answer = self.read(call, timeout).await?;
        let text = String::from_utf8_lossy(&answer.body);
        let from = text.len().saturating_sub(limit_bytes);
        let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        Ok(text[from..].to_owned())
    }

    async fn look(&self, at: &PodRef) -> Result<Found, ClusterError> {
        let name = format!("get pod {at}");
        let path = path(at).ok_or_else(|| ClusterError::Setting {
            what: name.clone(),
            why: "the name is none of Kubernetes".into(),
        })?;
        let call = Call::plain(Verb::Get, Method::GET, path, name.clone());
        let answer = self.call(call, self.inner.config.request_timeout).await?;
        match answer.status {
            200..300 => match serde_json::from_slice::<LeanPod>(&answer.body) {
                Ok(pod) if !pod.metadata.uid.is_empty() => Ok(Found::Pod(Box::new(pod), answer.body)),
                Ok(_) => Err(self.unreadable(name, "it is no pod".into())),
                Err(error) => Err(self.unreadable(name, error.to_string())),
            },
            404 if is_pod_gone(&answer) => Ok(Found::Gone),
            _ => Err(self.refused(name, &answer)),
        }
    }
}

/// Ours, or another pod of that name.
fn read_pod(pod: LeanPod, body: &[u8], at: &PodRef, launch: &LaunchId, attempt: Attempt) -> GetAnswer {
    match pod.view() {
        Ok(mut view) if view.launch == *launch && view.attempt == attempt => {
            look_behind_gate(&mut view, body);
            GetAnswer::Found(Some(Box::new(view)))
        }
        Ok(_) | Err(NotOurs::Label { .. }) => GetAnswer::Found(None),
        Err(error) => GetAnswer::Failed { error: format!("get pod {at}: {error}") },
    }
}

/// A 404 of the API server about pods. One of a proxy, or about the path, says nothing about the pod.
fn is_pod_gone(answer: &Answer) -> bool {
    ApiStatus::read(&answer.body).is_some_and(|s| s.reason == "NotFound" && s.about() == "pods")
}

fn path(at: &PodRef) -> Option<String> {
    let good = is_path_segment(&at.namespace) && is_path_segment(&at.name);
    good.then(|| format!("/api/v1/namespaces/{}/pods/{}", at.namespace, at.name))
}

fn no_name(call: &str) -> String {
    format!("`{call}`: the name is none of Kubernetes")
}
