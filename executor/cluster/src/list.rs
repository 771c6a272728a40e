//! One list of our pods, for people who ask and for what a database has lost: consistent (no resourceVersion), in
//! pages, bounded. And the create that creates nothing.

use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::Value;
use windlass_core::cluster::CreateAnswer;
use windlass_core::doctor::{ListedPod, Trial};
use windlass_core::ids::{Attempt, InstallationId, LaunchId, PodRef, Queueing, TaskKey};
use windlass_core::pod_view::{LABEL_INSTALLATION, LABEL_LAUNCH, PodView};
use windlass_core::store::PodLaunch;
use windlass_core::time::UtcMicros;

use crate::airflow::{Annotations, Labels};
use crate::config::Namespaces;
use crate::create::{CreateVerdict, classify_create, is_path_segment};
use crate::error::ClusterError;
use crate::lean::LeanPod;
use crate::observe::Verb;
use crate::page::{PODS, Page, Place};
use crate::selector::Selector;
use crate::transport::{Answer, Call, Cluster};

/// Which pods.
#[derive(Clone, Debug)]
pub enum Selection<'a> {
    /// All of this installation.
    Installation(&'a InstallationId),
    /// Those of these launches.
    Launches(&'a [LaunchId]),
}

/// What a list showed.
#[derive(Debug, Default)]
pub struct Listing {
    /// Pods of ours.
    pub pods: Vec<ListedPod>,
    /// Pods with our label that are none of ours, and why.
    pub broken: Vec<(PodRef, String)>,
    /// Namespaces that could not be listed: the list says nothing of them.
    pub faults: Vec<ClusterError>,
    /// There were more than `max`.
    pub cut: bool,
}

/// What people are told of a pod beyond what decides.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Told {
    metadata: ToldMeta,
    spec: ToldSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ToldMeta {
    annotations: Option<Annotations>,
    labels: Option<Labels>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ToldSpec {
    node_name: String,
}

impl ToldMeta {
    fn task(&self) -> Option<TaskKey> {
        self.annotations.as_ref()?.task()
    }

    fn launch(&self, view: &PodView) -> Option<PodLaunch> {
        let annotations = self.annotations.as_ref()?;
        let queueing = Queueing {
            key: annotations.task()?,
            try_number: annotations.try_number()?,
            queued_at: UtcMicros::parse(annotations.queued_at.as_ref()?)?,
        };
        let worker = self.labels.as_ref().and_then(|labels| labels.worker.as_ref());
        Some(PodLaunch {
            launch: view.launch.clone(),
            queueing,
            attempt: view.attempt,
            pod: view.pod.clone(),
            uid: view.uid.clone(),
            // One that nobody has is adopted by any scheduler.
            scheduler_job_id: worker.and_then(|worker| worker.parse().ok()).unwrap_or(0),
        })
    }
}

impl Cluster {
    /// Lists pods, at most `max`. A namespace that cannot be listed is a fault of the answer, not of the call.
    pub async fn list(&self, namespaces: &Namespaces, of: &Selection<'_>, max: usize) -> Listing {
        let selector = match of {
            Selection::Installation(id) => Selector::labels(format!("{LABEL_INSTALLATION}={}", id.short())),
            Selection::Launches(ids) => {
                let ids: Vec<&str> = ids.iter().map(LaunchId::as_str).collect();
                Selector::labels(format!("{LABEL_LAUNCH} in ({})", ids.join(",")))
            }
        };
        let mut listing = Listing::default();
        let places: Vec<Option<&str>> = match namespaces {
            Namespaces::All => vec![None],
            Namespaces::Only(names) => names.iter().map(|name| Some(name.as_str())).collect(),
        };
        for place in places {
            if let Err(fault) = self.list_in(place, &selector, max, &mut listing).await {
                listing.faults.push(fault);
            }
        }
        listing
    }

    async fn list_in(
        &self,
        namespace: Option<&str>,
        selector: &Selector,
        max: usize,
        listing: &mut Listing,
    ) -> Result<(), ClusterError> {
        let place = Place::of(PODS, namespace);
        if namespace.is_some_and(|name| !is_path_segment(name)) {
            return Err(ClusterError::Setting { what: place.name, why: "is no name of a namespace".into() });
        }
        let mut token: Option<String> = None;
        loop {
            let answer = self.read_page(&place, selector, token.as_deref()).await?;
            let page = Page::decode(&answer.body)
                .map_err(|error| self.unreadable(place.list_call(), error.to_string()))?;
            for item in page.items() {
                if listing.pods.len() >= max {
                    listing.cut = true;
                    return Ok(());
                }
                listing.add(item.get());
            }
            match page.next() {
                Some(next) => token = Some(next.to_owned()),
                None => return Ok(()),
            }
        }
    }

    /// What a create of this pod would be answered now: through admission and quota, and nothing is stored. The name is
    /// one that nobody has, so that a pod which exists already does not stand in the way.
    pub async fn try_create(&self, pod: &Value, launch: &LaunchId, limit: Duration) -> Trial {
        let answer = match self.dry_run(pod, &format!("windlass-try-{launch}"), limit).await {
            Ok(answer) => answer,
            Err(ClusterError::Setting { what, why }) => return Trial::Refused(format!("{what} {why}")),
            Err(error) => return Trial::Unknown(error.line()),
        };
        match classify_create(answer.status, answer.retry_after_ms, &answer.body, launch, Attempt::FIRST) {
            CreateVerdict::Created(_) | CreateVerdict::Exists => Trial::Admitted,
            CreateVerdict::Answer(answer) => match answer {
                CreateAnswer::Created(_) | CreateAnswer::Adopted(_) | CreateAnswer::NameTaken { .. } => {
                    Trial::Admitted
                }
                CreateAnswer::QuotaFull { message } => Trial::Quota(message),
                CreateAnswer::NamespaceNotReady { message } => Trial::NotReady(message),
                CreateAnswer::NotMade { why } | CreateAnswer::NotYet { why, .. } => Trial::NotMade(why),
                CreateAnswer::Refused { message, .. } => Trial::Refused(message),
                CreateAnswer::TooManyRequests { .. } => {
                    Trial::Unknown("the API server sheds load (429)".into())
                }
                CreateAnswer::Unknown { error } => Trial::Unknown(error),
            },
        }
    }

    /// The answer to a create of the pod under another name, of which nothing is stored.
    pub(crate) async fn dry_run(
        &self,
        pod: &Value,
        name: &str,
        limit: Duration,
    ) -> Result<Answer, ClusterError> {
        let mut pod = pod.clone();
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        if !is_path_segment(&namespace) {
            let why = "is no name of a namespace".into();
            return Err(ClusterError::Setting { what: format!("`{namespace}`"), why });
        }
        pod["metadata"]["name"] = name.into();
        let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
        let call = Call {
            body: Some(pod.to_string().into_bytes()),
            ..Call::plain(
                Verb::Review,
                Method::POST,
                path,
                format!("dry-run create in namespace {namespace}"),
            )
        };
        self.call(call, limit).await
    }
}

impl Listing {
    fn add(&mut self, json: &str) {
        let pod: LeanPod = match serde_json::from_str(json) {
            Ok(pod) => pod,
            Err(error) => {
                let at = LeanPod::default().pod();
                self.broken.push((at, format!("it cannot be read: {error}")));
                return;
            }
        };
        let at = pod.pod();
        match pod.view() {
            Ok(view) => {
                let told: Told = serde_json::from_str(json).unwrap_or_default();
                let (task, launch) = (told.metadata.task(), told.metadata.launch(&view));
                self.pods.push(ListedPod { view, node: told.spec.node_name, task, launch });
            }
            Err(error) => self.broken.push((at, error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_pod_tells_its_task_and_node_and_a_broken_one_why() {
        let launch = "a".repeat(26);
        let mut listing = Listing::default();
        listing.add(&format!(
            r#"{{"metadata":{{"name":"p","namespace":"etl","uid":"u","resourceVersion":"7",
                "labels":{{"windlass.dev/launch":"{launch}","windlass.dev/attempt":"1"}},
                "annotations":{{"dag_id":"d","task_id":"t","run_id":"r","map_index":"3","other":"x"}}}},
                "spec":{{"nodeName":"node-1","containers":[{{"name":"base"}}]}},"status":{{"phase":"Running"}}}}"#
        ));
        let pod = &listing.pods[0];
        assert_eq!((pod.node.as_str(), pod.view.resource_version.as_str()), ("node-1", "7"));
        let key = TaskKey { dag_id: "d".into(), task_id: "t".into(), run_id: "r".into(), map_index: 3 };
        assert_eq!(
            (&pod.task, &pod.launch),
            (&Some(key.clone()), &None),
            "it does not say when it was queued"
        );
        listing.add(&format!(
            r#"{{"metadata":{{"name":"p","namespace":"etl","uid":"u","resourceVersion":"7",
                "labels":{{"windlass.dev/launch":"{launch}","windlass.dev/attempt":"2","airflow-worker":"17"}},
                "annotations":{{"dag_id":"d","task_id":"t","run_id":"r","map_index":"3","try_number":"4",
                    "windlass.dev/queued-at":"2026-11-24T02:40:17.123456Z"}}}}}}"#
        ));
        let queued_at = UtcMicros::parse("2026-11-24T02:40:17.123456Z").unwrap();
        let told = listing.pods.pop().and_then(|pod| pod.launch).unwrap();
        assert_eq!(told.queueing, Queueing { key, try_number: 4, queued_at });
        assert_eq!((told.attempt, told.scheduler_job_id), (Attempt(2), 17));
        listing.add(
            r#"{"metadata":{"name":"q","namespace":"etl","uid":"u","labels":{"windlass.dev/launch":"x"}}}"#,
        );
        let (at, why) = &listing.broken[0];
        assert_eq!(at.to_string(), "etl/q");
        assert_eq!(why, "pod `etl/q`: label `windlass.dev/launch` is `x`");
    }
}
