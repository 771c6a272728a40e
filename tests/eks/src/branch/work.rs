//! The controller's IO: the watch of pods, the tries of a job, the annotation and the events.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Event as ApiEvent, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event as Seen, watcher};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use windlass_core::identity::sgp::{MatchError, POD_ENI, PodFacts};

use super::Shared;
use super::job::{Event, Then, asked, attempt, is_annotated};

/// Who says the events.
const COMPONENT: &str = "vpc-resource-controller";
/// Tries after the first.
const RETRIES: u32 = 5;
/// Pause before the first of them; it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(5);

/// Runs until it is aborted, and its jobs with it.
pub(super) async fn run(shared: Arc<Shared>) {
    let pods: Api<Pod> = Api::all(shared.client.clone());
    let mut events = watcher(pods, watcher::Config::default()).default_backoff().boxed();
    let mut deletions = tokio::time::interval(shared.options.delete_every);
    let mut jobs = JoinSet::new();
    let mut listed = BTreeSet::new();
    loop {
        let seen = tokio::select! {
            seen = events.next() => seen,
            Some(_) = jobs.join_next() => continue,
            _ = deletions.tick() => {
                let cool_down = shared.options.cool_down;
                shared.lock().trunks.values_mut().for_each(|trunk| trunk.sweep(Instant::now(), cool_down));
                continue;
            }
        };
        match seen {
            Some(Ok(Seen::Init)) => listed.clear(),
            Some(Ok(Seen::InitApply(pod))) => {
                listed.extend(pod.metadata.uid.clone());
                look(&shared, &pod, &mut jobs);
            }
            Some(Ok(Seen::InitDone)) => release_all_but(&shared, &listed),
            Some(Ok(Seen::Apply(pod))) => look(&shared, &pod, &mut jobs),
            Some(Ok(Seen::Delete(pod))) => shared.lock().release(&pod.metadata.uid.unwrap_or_default()),
            Some(Err(error)) => {
                tracing::debug!(%error, "the fake controller's watch of pods is opened again")
            }
            None => return,
        }
    }
}

/// What was deleted while nobody watched.
fn release_all_but(shared: &Shared, listed: &BTreeSet<String>) {
    let mut state = shared.lock();
    let holders: Vec<String> = state.trunks.values().flat_map(super::Trunk::holders).collect();
    for uid in holders.iter().filter(|uid| !listed.contains(*uid)) {
        state.release(uid);
    }
}

/// Gives a pod its job, or takes its interfaces.
fn look(shared: &Arc<Shared>, pod: &Pod, jobs: &mut JoinSet<()>) {
    let Ok(value) = serde_json::to_value(pod) else { return };
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    if is_finished(&value) {
        return shared.lock().release(&uid);
    }
    let node = value["spec"]["nodeName"].as_str().unwrap_or_default();
    if asked(&value) > 0 && !is_annotated(&value) && shared.lock().begins(&uid, node) {
        let (shared, metadata) = (Arc::clone(shared), pod.metadata.clone());
        jobs.spawn(async move {
            work(&shared, &metadata).await;
            shared.lock().busy.remove(&uid);
        });
    }
}

fn is_finished(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// One job, to its end.
async fn work(shared: &Shared, metadata: &ObjectMeta) {
    let (namespace, name) =
        (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
    let pods: Api<Pod> = Api::namespaced(shared.client.clone(), &namespace);
    let mut failures = 0;
    loop {
        let found = match pods.get_opt(&name).await {
            Ok(found) => found.filter(|pod| pod.metadata.uid == metadata.uid),
            Err(error) => return tracing::warn!(%error, pod = %name, "the fake controller cannot read a pod"),
        };
        // A pod that is gone drops the job; one that has ended needs nothing.
        let Some(pod) = found.and_then(|pod| serde_json::to_value(pod).ok()).filter(|pod| !is_finished(pod))
        else {
            return;
        };
        let (mut events, mut then) = try_once(shared, &pod);
        if let Then::Annotate(text) = &then {
            let patch = json!({ "metadata": { "uid": metadata.uid, "annotations": { POD_ENI: text } } });
            let patched = pods.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
            then = match patched {
                Ok(_) => Then::Done,
                Err(error) => {
                    shared.lock().undo(metadata.uid.as_deref().unwrap_or_default());
                    events.pop();
                    let message = format!("failed to annotate pod with branch ENI details: {error}");
                    events.push(Event::warning("BranchENIAnnotationFailed", message));
                    Then::Retry(error.to_string())
                }
            };
        }
        for event in events {
            say(shared, &namespace, metadata, event).await;
        }
        match then {
            Then::Done | Then::Annotate(_) => return,
            Then::Drop(error) => return tracing::debug!(error, pod = %name, "the job is dropped"),
            Then::Again(pause) => tokio::time::sleep(pause).await,
            Then::Retry(error) if failures == RETRIES => {
                return tracing::debug!(error, pod = %name, "the job is dropped after {RETRIES} retries");
            }
            Then::Retry(_) => {
                tokio::time::sleep(RETRY_FIRST * 2_u32.pow(failures)).await;
                failures += 1;
            }
        }
    }
}

fn try_once(shared: &Shared, pod: &Value) -> (Vec<Event>, Then) {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
    let found = PodFacts::read(pod, namespace)
        .map_err(|error| MatchError::Read(error.to_string()))
        .and_then(|facts| shared.known.find(&facts));
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    let mut state = shared.lock();
    let state = &mut *state;
    attempt(pod, asked(pod), found, state.trunks.get_mut(node), &mut state.ec2, shared.options.cool_down)
}

/// Writes an event; best effort, as events are.
async fn say(shared: &Shared, namespace: &str, pod: &ObjectMeta, event: Event) {
    let now = Some(Time(Timestamp::now()));
    let generate_name = pod.name.as_ref().map(|name| format!("{name}."));
    let event = ApiEvent {
        metadata: ObjectMeta {
            generate_name,
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(namespace.to_owned()),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            ..ObjectReference::default()
        },
        type_: Some(event.kind.to_owned()),
        reason: Some(event.reason.to_owned()),
        message: Some(event.message),
        count: Some(1),
        first_timestamp: now.clone(),
        last_timestamp: now,
        source: Some(EventSource { component: Some(COMPONENT.to_owned()), host: None }),
        reporting_component: Some(COMPONENT.to_owned()),
        ..ApiEvent::default()
    };
    let events: Api<ApiEvent> = Api::namespaced(shared.client.clone(), namespace);
    if let Err(error) = events.create(&PostParams::default(), &event).await {
        tracing::debug!(%error, "an event of the fake controller was not written");
    }
}
