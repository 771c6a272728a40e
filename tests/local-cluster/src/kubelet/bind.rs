//! A scheduler for one node: binds unassigned pods while there is room.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::{Notify, mpsc};

use super::Context;
use super::follow::{Seen, follow};
use super::manifest::Pod;
use crate::clock;

/// Bindings in flight.
const BINDS_MAX: usize = 16;
/// Pause before a binding without an answer is tried again.
const BIND_RETRY: Duration = Duration::from_millis(200);
/// Name of upstream's scheduler: pods of others are left alone.
const SCHEDULER: &str = "default-scheduler";

/// The node's room: pods that are bound to it and not finished.
#[derive(Debug)]
pub(crate) struct Capacity {
    max: usize,
    held: Mutex<BTreeSet<String>>,
    freed: Notify,
}

impl Capacity {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, held: Mutex::default(), freed: Notify::new() }
    }

    /// Counts a pod; false if there is no room.
    fn take(&self, uid: &str) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= self.max && !held.contains(uid) {
            return false;
        }
        held.insert(uid.to_owned());
        true
    }

    /// Counts a pod that is bound already, room or not.
    pub(crate) fn hold(&self, uid: &str) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned());
    }

    /// The pod needs no room any more.
    pub(crate) fn release(&self, uid: &str) {
        if self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(uid) {
            self.freed.notify_one();
        }
    }
}

/// Runs until the kubelet stops (its task is aborted).
pub(crate) async fn run(context: Arc<Context>) {
    let (out, mut seen) = mpsc::channel(256);
    let following = follow(context.client.clone(), "spec.nodeName", String::new(), out);
    let mut following = std::pin::pin!(following);
    let (again, mut retries) = mpsc::unbounded_channel();
    let mut queue = Queue { context, again, pods: BTreeMap::new(), told: BTreeSet::new() };
    let in_flight = Arc::new(tokio::sync::Semaphore::new(BINDS_MAX));
    loop {
        tokio::select! {
            () = &mut following => return,
            event = seen.recv() => match event {
                Some(event) => queue.take(event),
                None => return,
            },
            Some(pod) = retries.recv() => queue.take(Seen::Pod(pod)),
            () = queue.context.capacity.freed.notified() => {}
        }
        // What is already there belongs to the same decision.
        while let Ok(event) = seen.try_recv() {
            queue.take(event);
        }
        queue.schedule(&in_flight);
    }
}

/// Highest priority first, then the oldest.
type Rank = (std::cmp::Reverse<i64>, String, String);

struct Queue {
    context: Arc<Context>,
    /// Pods whose binding was not answered.
    again: mpsc::UnboundedSender<Arc<Pod>>,
    pods: BTreeMap<Rank, Arc<Pod>>,
    /// Uids whose pods say already that they don't fit.
    told: BTreeSet<String>,
}

impl Queue {
    fn take(&mut self, event: Seen) {
        match event {
            Seen::Pod(pod) => {
                let uid = pod.metadata.uid.clone();
                self.pods.retain(|_, p| p.metadata.uid != uid);
                let ours = pod.spec.scheduler_name.is_empty() || pod.spec.scheduler_name == SCHEDULER;
                let waits = pod.spec.node_name.is_empty()
                    && pod.spec.scheduling_gates.is_empty()
                    && !pod.is_deleting()
                    && !pod.is_finished();
                if pod
                    .status
                    .conditions
                    .iter()
                    .any(|c| c.kind == "PodScheduled" && c.reason == "Unschedulable")
                {
                    self.told.insert(uid.clone());
                }
                if ours && waits {
                    let created = pod.metadata.creation_timestamp.clone().unwrap_or_default();
                    self.pods.insert((std::cmp::Reverse(pod.spec.priority), created, uid), pod);
                }
            }
            Seen::Gone(uid) => {
                self.pods.retain(|_, p| p.metadata.uid != uid);
                self.told.remove(&uid);
            }
            Seen::Listed(uids) => {
                self.pods.retain(|_, p| uids.contains(&p.metadata.uid));
                self.told.retain(|uid| uids.contains(uid));
            }
        }
    }

    fn schedule(&mut self, in_flight: &Arc<tokio::sync::Semaphore>) {
        let mut left = BTreeMap::new();
        for (rank, pod) in std::mem::take(&mut self.pods) {
            let labels = &self.context.labels;
            let fits = pod.spec.node_selector.iter().all(|(k, v)| labels.get(k) == Some(v));
            if fits && self.context.capacity.take(&pod.metadata.uid) {
                let (context, in_flight) = (Arc::clone(&self.context), Arc::clone(in_flight));
                let again = self.again.clone();
                tokio::spawn(async move {
                    let _slot = in_flight.acquire_owned().await;
                    bind(&context, pod, &again).await;
                });
                continue;
            }
            if self.told.insert(pod.metadata.uid.clone()) {
                let (context, pod) = (Arc::clone(&self.context), Arc::clone(&pod));
                tokio::spawn(async move { tell(&context, &pod, fits).await });
            }
            left.insert(rank, pod);
        }
        self.pods = left;
    }
}

async fn bind(context: &Context, pod: Arc<Pod>, again: &mpsc::UnboundedSender<Arc<Pod>>) {
    let meta = &pod.metadata;
    let path = format!("/api/v1/namespaces/{}/pods/{}/binding", meta.namespace, meta.name);
    let binding = json!({ "apiVersion": "v1", "kind": "Binding",
        "metadata": { "name": meta.name, "namespace": meta.namespace, "uid": meta.uid },
        "target": { "apiVersion": "v1", "kind": "Node", "name": context.options.node } });
    if let Err(error) = context.client.post(&path, &binding).await {
        context.capacity.release(&meta.uid);
        // Those are deleted, gated, or bound by another; all else passes.
        if !matches!(error.code(), 404 | 409) {
            tracing::warn!(pod = %pod.label(), %error, "not bound; it is tried again");
            tokio::time::sleep(BIND_RETRY).await;
            // The queue ends with the kubelet.
            let _ = again.send(pod);
        }
    }
}

/// Says on the pod why it stays pending.
async fn tell(context: &Context, pod: &Pod, fits: bool) {
    let why = if fits { "1 Too many pods" } else { "1 node(s) didn't match Pod's node affinity/selector" };
    let message = format!("0/1 nodes are available: {why}.");
    let patch = json!({ "metadata": { "uid": pod.metadata.uid }, "status": { "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "lastTransitionTime": clock::now_text() }] } });
    context.client.report(&pod.metadata.namespace, &pod.metadata.name, &patch).await;
    context.client.event(pod, "Warning", "FailedScheduling", &message).await;
}
