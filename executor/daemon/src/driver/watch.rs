//! The pod watch as the engine switches it: on with a term, off without.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use windlass_core::cluster::PodEvent;

use super::Edges;

/// The watch is begun anew with a list this often: what events missed, the list shows (the engine then asks by GET).
const RELIST: Duration = Duration::from_secs(300);

pub(super) struct Watch {
    edges: Arc<Edges>,
    events: mpsc::Sender<PodEvent>,
    task: Option<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn new(edges: Arc<Edges>, events: mpsc::Sender<PodEvent>) -> Self {
        Self { edges, events, task: None }
    }

    pub(super) fn set(&mut self, on: bool) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        if on {
            self.task = Some(tokio::spawn(forward(self.edges.clone(), self.events.clone())));
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.set(false);
    }
}

async fn forward(edges: Arc<Edges>, events: mpsc::Sender<PodEvent>) {
    loop {
        let mut stream = Box::pin(edges.cluster.watch(&edges.namespaces, &edges.installation));
        let one_round = async {
            while let Some(event) = stream.next().await {
                if events.send(event).await.is_err() {
                    return true;
                }
            }
            false
        };
        if timeout(RELIST, one_round).await == Ok(true) {
            return;
        }
    }
}
