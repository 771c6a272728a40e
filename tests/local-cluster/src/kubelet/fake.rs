//! Pods without processes, for benchmarks of everything around them: Running, then Succeeded after a while.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Context;
use super::manifest::Pod;
use super::network;
use super::record::{Ended, PodRecord, State};
use super::worker::Updates;
use crate::clock;

/// Exit code of a fake pod; 0 without it.
const EXIT_ANNOTATION: &str = "local-cluster.windlass.dev/fake-exit-code";

/// Plays the pod until its object is gone or released.
pub(crate) async fn run(context: Arc<Context>, pod: Arc<Pod>, mut updates: Updates, lasts: Duration) {
    let meta = &pod.metadata;
    if !pod.is_finished() && !pod.is_deleting() {
        play(&context, &pod, &mut updates, lasts).await;
        context.capacity.release(&meta.uid);
    }
    deleted(&mut updates).await;
    if updates.borrow().is_some() {
        context.client.release(&meta.namespace, &meta.name, &meta.uid).await;
    }
}

/// Until the pod has ended, or is to be deleted.
async fn play(context: &Context, pod: &Pod, updates: &mut Updates, lasts: Duration) {
    let meta = &pod.metadata;
    let mut record = PodRecord::new(pod, context.place(pod), &clock::now_text());
    if record.place.pod_ip.is_empty() {
        context.client.report(&meta.namespace, &meta.name, &record.patch(&clock::now_text())).await;
        context.client.event(pod, "Warning", network::FAILED.0, network::FAILED.1).await;
        let Some(address) = branch_address(updates).await else { return };
        record.place.pod_ip = address;
    }
    let started_at = clock::now_text();
    let end = Instant::now() + lasts;
    let code = meta.annotations.get(EXIT_ANNOTATION).and_then(|c| c.parse().ok()).unwrap_or(0);
    set(&mut record, &State::Running { started_at: started_at.clone() });
    for init in &mut record.init {
        init.state = ended(0, &started_at);
    }
    context.client.report(&meta.namespace, &meta.name, &record.patch(&started_at)).await;
    tokio::select! {
        () = sleep_until(end) => {
            set(&mut record, &ended(code, &started_at));
            let patch = record.patch(&clock::now_text());
            context.client.report(&meta.namespace, &meta.name, &patch).await;
        }
        () = deleted(updates) => {}
    }
}

fn set(record: &mut PodRecord, state: &State) {
    for container in &mut record.main {
        container.state = state.clone();
    }
}

fn ended(code: i32, started_at: &str) -> State {
    let reason = if code == 0 { "Completed" } else { "Error" };
    State::Ended(Ended {
        code,
        reason: reason.into(),
        message: String::new(),
        started_at: started_at.to_owned(),
        finished_at: clock::now_text(),
    })
}

/// The address of the pod's branch interface; None: the pod is to be deleted before it has one.
async fn branch_address(updates: &mut Updates) -> Option<String> {
    let has = |pod: &Option<Arc<Pod>>| {
        pod.as_ref().is_none_or(|pod| pod.is_deleting() || network::branch_address(pod).is_some())
    };
    // An error means that nobody follows the pod any more: the kubelet stops.
    let pod = updates.wait_for(has).await.ok()?.clone();
    pod.filter(|pod| !pod.is_deleting()).and_then(|pod| network::branch_address(&pod))
}

/// Returns when the pod is to be deleted, or is gone.
async fn deleted(updates: &mut Updates) {
    // An error means that nobody follows the pod any more: the kubelet stops.
    let _ = updates.wait_for(|pod| pod.as_ref().is_none_or(|p| p.is_deleting())).await;
}
