//! Worker pods of the Python KubernetesExecutor, as it leaves them behind when an Airflow changes over to Windlass; and
//! the label by which it knows its own, should the Airflow change back.

use http::Method;
use serde::Deserialize;
use serde_json::json;
use windlass_core::ids::{PodRef, PodUid, TaskKey};
use windlass_core::pod::LABEL_EXECUTOR_DONE;
use windlass_core::pod_view::LABEL_LAUNCH;

use crate::airflow::{Annotations, LABEL_WORKER, Labels};
use crate::config::Namespaces;
use crate::create::is_path_segment;
use crate::error::ClusterError;
use crate::observe::Verb;
use crate::page::{PODS, Page, Place};
use crate::selector::Selector;
use crate::transport::{Call, Cluster};

/// A worker pod of the KubernetesExecutor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighbourPod {
    /// Where.
    pub pod: PodRef,
    /// Which of that name.
    pub uid: PodUid,
    /// Its label `airflow-worker`.
    pub worker: String,
    /// From its annotations.
    pub task: TaskKey,
    /// From its annotations.
    pub try_number: i32,
    /// `status.phase`.
    pub phase: String,
}

#[derive(Deserialize)]
struct Lean {
    metadata: Meta,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Meta {
    namespace: String,
    name: String,
    uid: String,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    annotations: Annotations,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: String,
}

impl Lean {
    /// None: it says not whose it is.
    fn read(self) -> Option<NeighbourPod> {
        let Meta { namespace, name, uid, labels, annotations } = self.metadata;
        Some(NeighbourPod {
            pod: PodRef { namespace, name },
            uid: PodUid(uid),
            worker: labels.worker.unwrap_or_default(),
            task: annotations.task()?,
            try_number: annotations.try_number()?,
            phase: self.status.phase,
        })
    }
}

impl Cluster {
    /// Worker pods that the KubernetesExecutor made, at most `max`. One that is not whole is left out.
    pub async fn neighbours(
        &self,
        namespaces: &Namespaces,
        max: usize,
    ) -> Result<Vec<NeighbourPod>, ClusterError> {
        let selector =
            Selector::labels(format!("kubernetes_executor=True,!{LABEL_LAUNCH},{LABEL_EXECUTOR_DONE}!=True"));
        let places: Vec<Option<&str>> = match namespaces {
            Namespaces::All => vec![None],
            Namespaces::Only(names) => {
                names.iter().map(String::as_str).filter(|name| is_path_segment(name)).map(Some).collect()
            }
        };
        let mut pods = Vec::new();
        for place in places.into_iter().map(|namespace| Place::of(PODS, namespace)) {
            let mut token: Option<String> = None;
            loop {
                let answer = self.read_page(&place, &selector, token.as_deref()).await?;
                let page = Page::decode(&answer.body)
                    .map_err(|error| self.unreadable(place.list_call(), error.to_string()))?;
                let read = |item: &serde_json::value::RawValue| serde_json::from_str::<Lean>(item.get()).ok();
                pods.extend(page.items().filter_map(read).filter_map(Lean::read));
                match page.next().filter(|_| pods.len() < max) {
                    Some(next) => token = Some(next.to_owned()),
                    None => break,
                }
            }
        }
        pods.truncate(max);
        Ok(pods)
    }

    /// Says in the pod's label which SchedulerJob looks after it; `hidden`: whether it stays hidden from a
    /// KubernetesExecutor. False: the pod of that uid is gone.
    pub async fn relabel(
        &self,
        at: &PodRef,
        uid: &PodUid,
        owner: i64,
        hidden: bool,
    ) -> Result<bool, ClusterError> {
        let name = format!("label pod {at}");
        let good = is_path_segment(&at.namespace) && is_path_segment(&at.name);
        if !good {
            return Err(ClusterError::Setting { what: name, why: "the name is none of Kubernetes".into() });
        }
        let mut labels = json!({ LABEL_WORKER: owner.to_string() });
        if !hidden {
            labels[LABEL_EXECUTOR_DONE] = json!(null);
        }
        let patch = json!({ "metadata": { "uid": uid.0, "labels": labels } });
        let path = format!("/api/v1/namespaces/{}/pods/{}", at.namespace, at.name);
        let call = Call {
            body: Some(patch.to_string().into_bytes()),
            ..Call::plain(Verb::Patch, Method::PATCH, path, name.clone())
        };
        let answer = self.call(call, self.inner.config.request_timeout).await?;
        match answer.status {
            200..300 => Ok(true),
            // 409: another pod has the name.
            404 | 409 => Ok(false),
            _ => Err(self.refused(name, &answer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_says_whose_it_is_or_is_left_out() {
        let mut pod = json!({
            "metadata": {
                "namespace": "etl", "name": "etl-load-x", "uid": "u",
                "labels": {"airflow-worker": "7", "kubernetes_executor": "True"},
                "annotations": {"dag_id": "etl", "task_id": "load", "run_id": "r", "try_number": "2", "map_index": "3"},
            },
            "status": {"phase": "Running"},
        });
        let read = |pod: &serde_json::Value| serde_json::from_value::<Lean>(pod.clone()).unwrap().read();
        let task = TaskKey { dag_id: "etl".into(), task_id: "load".into(), run_id: "r".into(), map_index: 3 };
        let whole = NeighbourPod {
            pod: PodRef { namespace: "etl".into(), name: "etl-load-x".into() },
            uid: PodUid("u".into()),
            worker: "7".into(),
            task,
            try_number: 2,
            phase: "Running".into(),
        };
        assert_eq!(read(&pod), Some(whole));
        pod["metadata"]["annotations"] = json!({"dag_id": "etl"});
        assert_eq!(read(&pod), None);
    }
}
