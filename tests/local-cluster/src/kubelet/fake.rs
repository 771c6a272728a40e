//! Pods without processes, for benchmarks of everything around them: Running, then Succeeded after a while.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Context;
use super::manifest::Pod;
use super::record::{Ended, PodRecord, State};
use super::worker::Updates;
use crate::clock;

/// Exit code of a fake pod; 0 without it.
const EXIT_ANNOTATION: &str = "local-cluster.windlass.dev/fake-exit-code";

/// Plays the pod until its object is gone or released.
pub(crate) async fn run(context: Arc<Context>, pod: Arc<Pod>, mut updates: Updates, lasts: Duration) {
    let meta = &pod.metadata;
    if !pod.is_finished() && !pod.is_deleting() {
        let started_at = clock::now_text();
        let end = Instant::now() + lasts;
        let mut record = PodRecord::new(&pod, context.place(), &started_at);
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
            () = deleted(&mut updates) => {}
        }
        context.capacity.release(&meta.uid);
    }
    deleted(&mut updates).await;
    if updates.borrow().is_some() {
        context.client.release(&meta.namespace, &meta.name, &meta.uid).await;
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

/// Returns when the pod is to be deleted, or is gone.
async fn deleted(updates: &mut Updates) {
    // An error means that nobody follows the pod any more: the kubelet stops.
    let _ = updates.wait_for(|pod| pod.as_ref().is_none_or(|p| p.is_deleting())).await;
}
