//! One pod's life on the node: start, restarts, faults, graceful end, last report.
//!
//! Containers die with the kubelet (PDEATHSIG). A kubelet that finds a pod which an earlier one has started reports its
//! containers as lost (exit code 137, `ContainerStatusUnknown`), as upstream does for containers that it cannot find.

mod containers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::Context;
use super::fault::{self, Fault};
use super::manifest::Pod;
use super::network;
use super::process::Process;
use super::record::{PodRecord, Slot, Verdict};
use crate::{clock, logs};

/// A forced deletion leaves no grace; upstream's kubelet still gives 2 s.
const FORCED_GRACE: Duration = Duration::from_secs(2);

/// Largest pause of CrashLoopBackOff (upstream's).
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// The newest state of the pod; `None` when its object is gone.
pub(crate) type Updates = watch::Receiver<Option<Arc<Pod>>>;

/// Why a pod stops running here.
enum End {
    /// All containers ended, or the kubelet failed the pod.
    Over,
    /// Its object is to be deleted.
    Deleted,
    /// Its object is gone.
    Gone,
}

struct Live {
    process: Process,
    started_at: String,
    oom: bool,
}

/// The task of one pod.
pub(crate) struct Worker {
    context: Arc<Context>,
    pod: Arc<Pod>,
    updates: Updates,
    record: PodRecord,
    live: BTreeMap<Slot, Live>,
    exits: mpsc::UnboundedReceiver<(Slot, i32)>,
    exit_sender: mpsc::UnboundedSender<(Slot, i32)>,
    /// When a waiting container may start (again).
    due: BTreeMap<Slot, Instant>,
    /// The annotation's fault that is to come, and the text that was acted on.
    fault: Option<(Instant, Fault)>,
    fault_seen: String,
    deadline: Option<Instant>,
}

impl Worker {
    pub(crate) fn new(context: Arc<Context>, pod: Arc<Pod>, updates: Updates) -> Self {
        let (exit_sender, exits) = mpsc::unbounded_channel();
        let record = PodRecord::new(&pod, context.place(&pod), &clock::now_text());
        Self {
            context,
            pod,
            updates,
            record,
            live: BTreeMap::new(),
            exits,
            exit_sender,
            due: BTreeMap::new(),
            fault: None,
            fault_seen: String::new(),
            deadline: None,
        }
    }

    /// Runs the pod until its object is gone or released.
    pub(crate) async fn run(mut self) {
        let mut end = if self.pod.is_finished() { End::Over } else { self.live().await };
        if matches!(end, End::Over) {
            // Sidecars, and containers that an eviction has left.
            self.stop_all(Duration::ZERO).await;
            end = self.wait_for_deletion().await;
        }
        match end {
            End::Gone => self.stop_all(FORCED_GRACE).await,
            End::Deleted | End::Over => {
                if !self.live.is_empty() {
                    self.stop_all(self.grace()).await;
                    self.report().await;
                }
                let meta = &self.pod.metadata;
                self.context.client.release(&meta.namespace, &meta.name, &meta.uid).await;
            }
        }
        if !self.context.options.keep_logs {
            let meta = &self.pod.metadata;
            let root = &self.context.options.log_dir;
            let dir = logs::pod_dir(root, &meta.namespace, &meta.name, &meta.uid);
            if let Err(error) = std::fs::remove_dir_all(&dir)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(dir = %dir.display(), %error, "the logs of a deleted pod stay behind");
            }
        }
    }

    async fn live(&mut self) -> End {
        if self.pod.is_deleting() {
            return End::Deleted;
        }
        if self.was_started_before() {
            self.lost();
            self.report().await;
            return End::Over;
        }
        self.report().await;
        if let Some(end) = self.wait_for_address().await {
            return end;
        }
        let _room = match self.wait_for_room().await {
            Ok(room) => room,
            Err(end) => return end,
        };
        self.deadline =
            self.pod.spec.active_deadline_seconds.map(|s| Instant::now() + Duration::from_secs(s));
        loop {
            self.start_due().await;
            if self.record.is_over() {
                self.report().await;
                return End::Over;
            }
            let wake = self.next_wake();
            tokio::select! {
                Some((slot, code)) = self.exits.recv() => self.container_ended(slot, code),
                changed = self.updates.changed() => {
                    if let Some(end) = self.look(changed.is_ok()) {
                        return end;
                    }
                }
                () = sleep_until(wake) => self.timers().await,
            }
        }
    }

    /// Waits for the address of a branch interface; as the real network, it fails until that is there.
    async fn wait_for_address(&mut self) -> Option<End> {
        let mut told = false;
        while self.record.place.pod_ip.is_empty() {
            if let Some(address) = network::branch_address(&self.pod) {
                self.record.place.pod_ip = address;
                return None;
            }
            if !told {
                told = true;
                self.context.client.event(&self.pod, "Warning", network::FAILED.0, network::FAILED.1).await;
            }
            let followed = self.updates.changed().await.is_ok();
            if let Some(end) = self.look(followed) {
                return Some(end);
            }
        }
        None
    }

    /// Waits for one of the node's running slots.
    async fn wait_for_room(&mut self) -> Result<Option<OwnedSemaphorePermit>, End> {
        let Some(room) = self.context.room.clone() else { return Ok(None) };
        let mut acquire = std::pin::pin!(room.acquire_owned());
        loop {
            tokio::select! {
                permit = &mut acquire => return Ok(permit.ok()),
                changed = self.updates.changed() => {
                    if let Some(end) = self.look(changed.is_ok()) {
                        return Err(end);
                    }
                }
            }
        }
    }

    /// Takes the newest pod in; returns if it is to end.
    fn look(&mut self, followed: bool) -> Option<End> {
        let newest = self.updates.borrow_and_update().clone();
        let Some(pod) = newest.filter(|_| followed) else { return Some(End::Gone) };
        self.pod = pod;
        if self.pod.is_deleting() {
            return Some(End::Deleted);
        }
        let wish = self.pod.metadata.annotations.get(fault::ANNOTATION).cloned().unwrap_or_default();
        if wish != self.fault_seen {
            self.fault = fault::parse(&wish).map(|(fault, after)| (Instant::now() + after, fault));
            self.fault_seen = wish;
        }
        None
    }

    async fn wait_for_deletion(&mut self) -> End {
        loop {
            if self.pod.is_deleting() {
                return End::Deleted;
            }
            let followed = self.updates.changed().await.is_ok();
            if let Some(end) = self.look(followed) {
                return end;
            }
        }
    }

    fn next_wake(&self) -> Instant {
        let startable = self.record.startable();
        let due = startable.iter().filter_map(|slot| self.due.get(slot).copied());
        let others = [self.fault.map(|(at, _)| at), self.deadline].into_iter().flatten();
        // A far time stands for "never": nothing is due.
        due.chain(others).min().unwrap_or_else(|| Instant::now() + BACKOFF_MAX * 1000)
    }

    async fn timers(&mut self) {
        let now = Instant::now();
        if self.deadline.is_some_and(|at| at <= now) {
            self.deadline = None;
            let message = "Pod was active on the node longer than the specified deadline".to_owned();
            self.fail("DeadlineExceeded", message, false, self.grace()).await;
        }
        let Some((_, fault)) = self.fault.filter(|(at, _)| *at <= now) else { return };
        self.fault = None;
        match fault {
            Fault::Evict => {
                let message =
                    "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi.";
                self.context.client.event(&self.pod, "Warning", "Evicted", message).await;
                self.fail("Evicted", message.to_owned(), true, Duration::ZERO).await;
            }
            Fault::Oom | Fault::Kill => {
                for live in self.live.values_mut() {
                    live.oom = fault == Fault::Oom;
                    live.process.kill();
                }
            }
        }
    }

    /// The kubelet ends the pod: phase Failed.
    async fn fail(&mut self, reason: &'static str, message: String, disruption: bool, grace: Duration) {
        self.record.verdict = Some(Verdict { reason, message, disruption });
        self.stop_all(grace).await;
    }

    fn grace(&self) -> Duration {
        let meta = &self.pod.metadata;
        Duration::from_secs(meta.deletion_grace_period_seconds.unwrap_or(30))
    }

    /// SIGTERM to all main processes; SIGKILL after the grace, which a second delete may shorten.
    async fn stop_all(&mut self, grace: Duration) {
        let begun = Instant::now();
        let mut deadline = begun + grace;
        for live in self.live.values() {
            if grace.is_zero() { live.process.kill() } else { live.process.terminate() }
        }
        self.record.stopping = true;
        let mut listening = !grace.is_zero();
        let mut killed = grace.is_zero();
        while !self.live.is_empty() {
            tokio::select! {
                Some((slot, code)) = self.exits.recv() => self.container_ended(slot, code),
                () = sleep_until(deadline), if !killed => {
                    killed = true;
                    self.live.values().for_each(|live| live.process.kill());
                }
                changed = self.updates.changed(), if listening => {
                    let gone = matches!(self.look(changed.is_ok()), Some(End::Gone));
                    listening = !gone;
                    deadline = deadline.min(begun + if gone { FORCED_GRACE } else { self.grace() });
                }
            }
        }
    }

    async fn report(&mut self) {
        let patch = self.record.patch(&clock::now_text());
        let meta = &self.pod.metadata;
        self.context.client.report(&meta.namespace, &meta.name, &patch).await;
        if self.record.is_over() {
            self.context.capacity.release(&meta.uid);
        }
    }
}
