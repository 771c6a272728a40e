//! The containers of one pod: how they start, wait, end, start again, and what an earlier kubelet left of them.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::super::manifest::Container;
use super::super::record::{Ended, List, Slot, State};
use super::super::start::{self, StartError};
use super::{BACKOFF_MAX, Live, Worker};
use crate::{clock, logs};

/// How long a container without a needed secret or config map waits before the next look.
const CONFIG_RETRY: Duration = Duration::from_secs(2);
/// First pause of CrashLoopBackOff; it doubles up to [`BACKOFF_MAX`] (upstream's).
const BACKOFF_FIRST: Duration = Duration::from_secs(10);
/// Upstream's limits on the log's end as a termination message.
const MESSAGE_LINES: usize = 80;
const MESSAGE_BYTES: usize = 2048;

impl Worker {
    pub(super) fn spec(&self, (list, at): Slot) -> &Container {
        match list {
            List::Init => &self.pod.spec.init_containers[at],
            List::Main => &self.pod.spec.containers[at],
        }
    }

    pub(super) fn log_dir(&self, container: &str) -> PathBuf {
        let meta = &self.pod.metadata;
        let root = &self.context.options.log_dir;
        logs::container_dir(root, &meta.namespace, &meta.name, &meta.uid, container)
    }

    /// Starts what may start now, and reports it.
    pub(super) async fn start_due(&mut self) {
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

    pub(super) fn container_ended(&mut self, slot: Slot, code: i32) {
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

    /// An earlier kubelet has started a container of this pod.
    pub(super) fn was_started_before(&self) -> bool {
        let containers = self.pod.spec.init_containers.iter().chain(&self.pod.spec.containers);
        containers.into_iter().any(|c| logs::last_start(&self.log_dir(&c.name)).is_some())
    }

    /// What an earlier kubelet left: known exit codes are reported, the rest is lost.
    pub(super) fn lost(&mut self) {
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
}

fn last_lines(log: &std::path::Path) -> String {
    let Ok(bytes) = std::fs::read(log) else { return String::new() };
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(MESSAGE_BYTES)..]).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(MESSAGE_LINES)..].join("\n")
}
