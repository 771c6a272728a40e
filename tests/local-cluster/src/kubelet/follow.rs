//! List and watch of pods: what exists, then what changes, for ever.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::mpsc;

use super::client::{Client, PodList, WatchEvent};
use super::manifest::Pod;

/// A watch ends by itself after so long, and goes on from where it was.
const WATCH_S: u64 = 290;
/// Pauses between tries while the API server does not answer.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What happened to the followed pods.
#[derive(Debug)]
pub(crate) enum Seen {
    /// A pod as it is now.
    Pod(Arc<Pod>),
    /// The pod of this uid is gone, or no longer selected.
    Gone(String),
    /// A list is complete: what is not among these uids is gone.
    Listed(BTreeSet<String>),
}

/// Follows the pods that `field_selector` selects, until the receiver is dropped.
pub(crate) async fn follow(
    client: Client,
    field_selector: &'static str,
    value: String,
    out: mpsc::Sender<Seen>,
) {
    let selector = format!("fieldSelector={field_selector}%3D{value}");
    let mut pause = RETRY_FIRST;
    let mut version: Option<String> = None;
    while !out.is_closed() {
        let from = match version.take() {
            Some(version) => version,
            None => match list(&client, &selector, &out).await {
                Some(version) => version,
                None => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                    continue;
                }
            },
        };
        match watch(&client, &selector, from, &out).await {
            After::GoOn(last) => {
                version = Some(last);
                pause = RETRY_FIRST;
            }
            After::Refused(last) => {
                version = Some(last);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
            After::Relist => {}
        }
    }
}

/// Lists; returns the list's resourceVersion. `None` if there was no answer.
async fn list(client: &Client, selector: &str, out: &mpsc::Sender<Seen>) -> Option<String> {
    let list: PodList = match client.get(&format!("/api/v1/pods?{selector}")).await {
        Ok(list) => list,
        Err(error) => {
            tracing::warn!(%error, "the pods cannot be listed; it is tried again");
            return None;
        }
    };
    let uids = list.items.iter().map(|p| p.metadata.uid.clone()).collect();
    for pod in list.items {
        out.send(Seen::Pod(Arc::new(pod))).await.ok()?;
    }
    out.send(Seen::Listed(uids)).await.ok()?;
    Some(list.metadata.resource_version)
}

/// How a watch ended.
enum After {
    GoOn(String),
    Refused(String),
    Relist,
}

async fn watch(client: &Client, selector: &str, from: String, out: &mpsc::Sender<Seen>) -> After {
    let path = format!(
        "/api/v1/pods?watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_S}&resourceVersion={from}&{selector}"
    );
    let events = match client.watch(&path).await {
        Ok(events) => events,
        Err(kube::Error::Api(status)) if status.code == 410 => return After::Relist,
        Err(error) => {
            tracing::warn!(%error, "the watch of pods cannot be opened; it is tried again");
            return After::Refused(from);
        }
    };
    let mut events = std::pin::pin!(events);
    let mut last = from;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = client.wait_offline() => return After::GoOn(last),
            () = out.closed() => return After::GoOn(last),
        };
        let seen = match event {
            None => return After::GoOn(last),
            Some(Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod))) => {
                last.clone_from(&pod.metadata.resource_version);
                Seen::Pod(Arc::new(pod))
            }
            Some(Ok(WatchEvent::Deleted(pod))) => {
                last.clone_from(&pod.metadata.resource_version);
                Seen::Gone(pod.metadata.uid)
            }
            Some(Ok(WatchEvent::Bookmark(bookmark))) => {
                last.clone_from(&bookmark.metadata.resource_version);
                continue;
            }
            Some(Ok(WatchEvent::Error(status))) if status.code == 410 => return After::Relist,
            Some(Ok(WatchEvent::Error(status))) => {
                tracing::warn!(status = %status.message, "the watch of pods was ended by the API server");
                return After::Relist;
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "the watch of pods was cut; it goes on from where it was");
                return After::Refused(last);
            }
        };
        if out.send(seen).await.is_err() {
            return After::GoOn(last);
        }
    }
}
