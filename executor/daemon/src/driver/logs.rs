//! The last lines of pods that failed: what a killed worker wrote is nowhere else, and its pod is soon gone.
//!
//! Best effort, beside everything else: the outcome does not wait for it. Only the delete of that very pod does, for as
//! long as one read may take.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use scheduler_bridge::Store;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use windlass_cluster::Cluster;
use windlass_core::ids::{Epoch, LaunchId, PodRef, PodUid};
use windlass_core::pod::WORKER_CONTAINER;

/// Longest time for a read.
const READ: Duration = Duration::from_secs(2);
/// Reads at once. An API server asks the pods' kubelets for them, and has other work.
const READS: usize = 8;
/// What is kept of a log, in bytes.
const KEPT_BYTES: usize = 8 * 1_024;

/// Reads and keeps logs.
pub struct FailedLogs {
    lines: u32,
    reads: Semaphore,
    /// Pods whose log is being read; cancelled when that is over.
    reading: Mutex<HashMap<PodUid, CancellationToken>>,
}

impl FailedLogs {
    /// `lines`: so many of each, 0: none.
    pub fn new(lines: u32) -> Self {
        Self { lines, reads: Semaphore::new(READS), reading: Mutex::default() }
    }

    /// Reads the end of a pod's log and stores it with its launch. What goes wrong is for the log alone.
    pub(super) async fn keep(
        &self,
        (cluster, store): (&Cluster, &Store),
        epoch: Epoch,
        (launch, pod, uid): (&LaunchId, &PodRef, PodUid),
    ) {
        if self.lines == 0 {
            return;
        }
        let over = CancellationToken::new();
        self.of(|reading| reading.insert(uid.clone(), over.clone()));
        let _told_at_the_end = over.drop_guard();
        let read = async {
            let _turn = self.reads.acquire().await;
            cluster.logs(pod, WORKER_CONTAINER, self.lines, KEPT_BYTES, READ).await
        };
        let log = timeout(READ, read).await;
        self.of(|reading| reading.remove(&uid));
        let kept = match log {
            Ok(Ok(log)) => {
                store.keep_log(epoch, launch, &printable(&log)).await.map_err(|error| error.chain())
            }
            Ok(Err(error)) => Err(error.line()),
            Err(_) => Err(format!("no answer within {} s", READ.as_secs())),
        };
        if let Err(error) = kept {
            tracing::warn!("the last lines of pod {pod}, which failed, are not kept: {error}");
        }
    }

    /// Waits until the log of this pod is read, if it is being read.
    pub(super) async fn kept(&self, uid: &PodUid) {
        let reading = self.of(|reading| reading.get(uid).cloned());
        if let Some(over) = reading {
            // The read has a limit of its own.
            over.cancelled().await;
        }
    }

    fn of<T>(&self, with: impl FnOnce(&mut HashMap<PodUid, CancellationToken>) -> T) -> T {
        with(&mut self.reading.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Without what no text column takes, and what would play with a terminal.
fn printable(log: &str) -> String {
    log.trim_end().chars().filter(|c| matches!(c, '\n' | '\t') || !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_left_out() {
        assert_eq!(printable("a\tb\0\u{1b}[31mred\r\nlast\n\n"), "a\tb[31mred\nlast");
    }

    #[tokio::test]
    async fn a_delete_waits_for_the_read_of_its_own_pod_only() {
        let logs = FailedLogs::new(10);
        let (uid, other) = (PodUid("a".into()), PodUid("b".into()));
        logs.kept(&other).await;
        let over = CancellationToken::new();
        logs.of(|reading| reading.insert(uid.clone(), over.clone()));
        logs.kept(&other).await;
        let waits = logs.kept(&uid);
        assert!(timeout(Duration::from_millis(5), waits).await.is_err());
        over.cancel();
        logs.kept(&uid).await;
    }
}
