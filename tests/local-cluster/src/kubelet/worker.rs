//! One pod's life on the node: start, restarts, faults, graceful end, last report.
//!
//! Containers die with the kubelet (PDEATHSIG). A kubelet that finds a pod which an earlier one has started reports its
//! containers as lost (exit code 137, `ContainerStatusUnknown`), as upstream does for containers that it cannot find.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::Context;
use super::fault::{self, Fault};
use super::manifest::{Container, Pod};
use super::process::Process;
use super::record::{Ended, List, PodRecord, Slot, State, Verdict};
use super::start::{self, StartError};
use crate::{clock, logs};

/// A forced deletion leaves no grace; upstream's kubelet still gives 2 s.
const FORCED_GRACE: Duration = Duration::from_secs(2);
/// How long a container without a needed secret or config map waits before the next look.
const CONFIG_RETRY: Duration = Duration::from_secs(2);
/// First pause of CrashLoopBackOff; it doubles up to the largest (upstream's).
const BACKOFF_FIRST: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// Upstream's limits on the log's end as a termination message.
const MESSAGE_LINES: usize = 80;
const MESSAGE_BYTES: usize = 2048;

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
        let record = PodRecord::new(&pod, context.place(), &clock::now_text());
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

    fn spec(&self, (list, at): Slot) -> &Container {
        match list {
            List::Init => &self.pod.spec.init_containers[at],
            List::Main => &self.pod.spec.containers[at],
        }
    }

    fn log_dir(&self, container: &str) -> PathBuf {
        let meta = &self.pod.metadata;
        let root = &self.context.options.log_dir;
        logs::container_dir(root, &meta.namespace, &meta.name, &meta.uid, container)
    }

    /// Starts what may start now, and reports it.
    async fn start_due(&mut self) {
        let now = Instant::now();
        let mut changed = false;
        for slot in self.record.startable() {
            if self.due.get(&slot).is_none_or(|due| *due <= now) {
                self.start(slot).await;
                changed = true;
            }
        }
        if changed && !self.record.is_over() {
            self.report().await;
        }
        // The annotation may have been there from the beginning.
        if self.fault_seen.is_empty() && !self.live.is_empty() {
            let _ = self.look(true);
        }
    }

    async fn start(&mut self, slot: Slot) {
        let restarts = self.record.container(slot).restarts;
        let place = self.record.place.clone();
        let started = start::start(&self.context, &self.pod, self.spec(slot), &place, restarts).await;
        let now = clock::now_text();
        match started {
            Ok(process) => {
                let (ended, exits) = (process.clone(), self.exit_sender.clone());
                self.context.reapers.spawn(async move {
                    // Without a worker nobody wants to know.
                    let _ = exits.send((slot, ended.ended().await));
                });
                self.due.remove(&slot);
                self.record.container(slot).state = State::Running { started_at: now.clone() };
                self.live.insert(slot, Live { process, started_at: now, oom: false });
            }
            Err(error) => self.not_started(slot, &error, now).await,
        }
    }

    async fn not_started(&mut self, slot: Slot, error: &StartError, now: String) {
        let message = error.to_string();
        let told = matches!(&self.record.container(slot).state,
                            State::Waiting { message: before, .. } if *before == message);
        if !told {
            tracing::info!(pod = %self.pod.label(), container = %self.spec(slot).name, %message, "not started");
            self.context.client.event(&self.pod, "Warning", "Failed", &message).await;
        }
        let (state, again) = match error {
            StartError::Image(_) => {
                let pulled_before = self.due.contains_key(&slot);
                let reason = if pulled_before { "ImagePullBackOff" } else { "ErrImagePull" };
                // It can't be pulled later either; the second look only turns the reason, as upstream does.
                let again = if pulled_before { None } else { Some(Duration::from_secs(1)) };
                (State::Waiting { reason, message }, again.unwrap_or(BACKOFF_MAX * 1000))
            }
            StartError::Config(_) | StartError::Call(_) => {
                (State::Waiting { reason: "CreateContainerConfigError", message }, CONFIG_RETRY)
            }
            StartError::Process(_) => {
                let ended = Ended {
                    code: 128,
                    reason: "StartError".into(),
                    message,
                    started_at: now.clone(),
                    finished_at: now,
                };
                self.settle(slot, ended);
                return;
            }
        };
        self.record.container(slot).state = state;
        self.due.insert(slot, Instant::now() + again);
    }

    fn container_ended(&mut self, slot: Slot, code: i32) {
        let Some(live) = self.live.remove(&slot) else { return };
        let name = self.spec(slot).name.clone();
        let dir = self.log_dir(&name);
        let start = self.record.container(slot).restarts;
        if let Err(error) = std::fs::write(logs::exit_file(&dir, start), code.to_string()) {
            tracing::warn!(%error, pod = %self.pod.label(), "the exit code cannot be kept for a later kubelet");
        }
        let reason = match (live.oom, code) {
            (true, _) => "OOMKilled",
            (false, 0) => "Completed",
            (false, _) => "Error",
        };
        let from_log = code != 0 && self.spec(slot).termination_message_policy == "FallbackToLogsOnError";
        let message = if from_log { last_lines(&logs::log_file(&dir, start)) } else { String::new() };
        let finished_at = clock::now_text();
        self.settle(
            slot,
            Ended { code, reason: reason.into(), message, started_at: live.started_at, finished_at },
        );
    }

    /// An end is the end, or the beginning of a restart.
    fn settle(&mut self, slot: Slot, ended: Ended) {
        if !self.record.restarts(slot, ended.code) {
            self.record.container(slot).state = State::Ended(ended);
            return;
        }
        let name = self.spec(slot).name.clone();
        let container = self.record.container(slot);
        // The first restart is at once.
        let pause = match container.restarts {
            0 => Duration::ZERO,
            n => (BACKOFF_FIRST * 2_u32.saturating_pow(n.min(10) - 1)).min(BACKOFF_MAX),
        };
        let message = format!("back-off {}s restarting failed container={name}", pause.as_secs());
        container.state = State::Waiting { reason: "CrashLoopBackOff", message };
        container.last = Some(ended);
        container.restarts += 1;
        self.due.insert(slot, Instant::now() + pause);
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

    /// An earlier kubelet has started a container of this pod.
    fn was_started_before(&self) -> bool {
        let containers = self.pod.spec.init_containers.iter().chain(&self.pod.spec.containers);
        containers.into_iter().any(|c| logs::last_start(&self.log_dir(&c.name)).is_some())
    }

    /// What an earlier kubelet left: known exit codes are reported, the rest is lost.
    fn lost(&mut self) {
        let now = clock::now_text();
        for slot in self.record.slots() {
            let dir = self.log_dir(&self.spec(slot).name);
            let start = logs::last_start(&dir);
            let known = start.and_then(|start| {
                std::fs::read_to_string(logs::exit_file(&dir, start)).ok()?.parse::<i32>().ok()
            });
            let (code, reason, message) = match known {
                Some(0) => (0, "Completed", ""),
                Some(code) => (code, "Error", ""),
                None => (
                    137,
                    "ContainerStatusUnknown",
                    "The container could not be located when the pod was terminated",
                ),
            };
            let container = self.record.container(slot);
            container.restarts = start.unwrap_or(0);
            container.state = State::Ended(Ended {
                code,
                reason: reason.into(),
                message: message.into(),
                started_at: now.clone(),
                finished_at: now.clone(),
            });
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

fn last_lines(log: &std::path::Path) -> String {
    let Ok(bytes) = std::fs::read(log) else { return String::new() };
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(MESSAGE_BYTES)..]).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(MESSAGE_LINES)..].join("\n")
}
