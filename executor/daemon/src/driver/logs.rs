//! The last lines of pods that failed: what a killed worker wrote is nowhere else, and its pod is soon gone.
//!
//! Best effort, beside everything else: the outcome is stored without it. Two wait for it, as long as one read may take:
//! the delete of that very pod, and the plugin, which tells Airflow reason and lines at once (judge_live in outcome.py).

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

    /// Reads the end of a pod's log and stores it with its launch: an empty one where there is none to be had, for the
    /// plugin waits for it. What goes wrong is for the log alone.
    pub(super) async fn keep(
        &self,
        (cluster, store): (&Cluster, &Store),
        epoch: Epoch,
        (launch, pod, uid): (&LaunchId, &PodRef, PodUid),
    ) {
        let log = if self.lines == 0 { String::new() } else { self.read(cluster, pod, &uid).await };
        if let Err(error) = store.keep_log(epoch, launch, &log).await {
            let error = error.chain();
            tracing::warn!("the last lines of pod {pod}, which failed, are not kept: {error}");
        }
    }

    async fn read(&self, cluster: &Cluster, pod: &PodRef, uid: &PodUid) -> String {
        let over = CancellationToken::new();
        self.of(|reading| reading.insert(uid.clone(), over.clone()));
        let _told_at_the_end = over.drop_guard();
        let read = async {
            let _turn = self.reads.acquire().await;
            cluster.logs(pod, WORKER_CONTAINER, self.lines, KEPT_BYTES, READ).await
        };
        let log = timeout(READ, read).await;
        self.of(|reading| reading.remove(uid));
        let error = match log {
            Ok(Ok(log)) => return printable(&log),
            Ok(Err(error)) => error.line(),
            Err(_) => format!("no answer within {} s", READ.as_secs()),
        };
        tracing::warn!("the last lines of pod {pod}, which failed, are not kept: {error}");
        String::new()
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
