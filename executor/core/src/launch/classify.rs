//! What a pod's status means: waiting, started, or ended and why.
//!
//! Reads one `PodView`, decides nothing about the task: that is `verdict`'s.

use super::Policy;
use crate::outcome::Reason;
use crate::pod_view::{ContainerState, PodPhase, PodView};

/// How a pod stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodStanding {
    /// Its worker's container has not started; why, where known.
    Waiting(Option<String>),
    /// It waits for something that will not come (`fatal_waiting`).
    Stuck {
        /// Code.
        reason: Reason,
        /// The runtime's words.
        message: String,
    },
    /// Its worker's container runs.
    Started,
    /// Its worker's container ended, or the pod did.
    Ended(PodEnd),
}

/// What became of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodEnd {
    /// The worker's container exited with 0.
    Succeeded,
    /// It ended otherwise.
    Failed {
        /// Code.
        reason: Reason,
        /// One sentence.
        message: String,
        /// Of the worker's container, where it ended.
        exit_code: Option<i32>,
        /// The kubelet's word for how its container failed (`Error`, `OOMKilled`, `StartError`): an init container's
        /// before the worker's. Empty: none did, or there is no word.
        container_reason: String,
    },
    /// The object is gone, and was not seen to end before.
    Gone,
    /// It never started and is given up.
    Stuck {
        /// Code.
        reason: Reason,
        /// One sentence.
        message: String,
    },
    /// Its scheduling gate stays closed: admission did not make of it what its rule demands.
    Unfit {
        /// What is missing.
        why: String,
        /// As in `Gate::Unfit`.
        again: bool,
    },
    /// Its node does not answer: it may still run.
    Unreachable,
    /// None was created, as far as we know.
    Never,
}

/// Reads the status. The worker's container decides, not the phase: a sidecar may keep the pod running after it.
pub fn classify(view: &PodView, policy: &Policy) -> PodStanding {
    if view.phase == PodPhase::Failed {
        return PodStanding::Ended(failed(view));
    }
    match &view.worker {
        ContainerState::Terminated { exit_code: 0, .. } => PodStanding::Ended(PodEnd::Succeeded),
        ContainerState::Terminated { .. } => PodStanding::Ended(failed(view)),
        ContainerState::Running => PodStanding::Started,
        ContainerState::Waiting { reason, message } => waiting(view, reason, message, policy),
        ContainerState::Unknown if view.phase == PodPhase::Succeeded => PodStanding::Ended(PodEnd::Succeeded),
        ContainerState::Unknown if view.phase == PodPhase::Running => PodStanding::Started,
        ContainerState::Unknown => waiting(view, "", "", policy),
    }
}

/// Not started: for ever, or for now.
fn waiting(view: &PodView, reason: &str, message: &str, policy: &Policy) -> PodStanding {
    let mut states = vec![("the worker's container".to_owned(), reason, message)];
    let mut waits_for = (!reason.is_empty()).then(|| sentence(reason, message));
    if let Some((name, ContainerState::Waiting { reason, message })) = &view.failed_init {
        let who = format!("init container `{name}`");
        // Meanwhile the worker's says no more than `PodInitializing`.
        waits_for = Some(sentence(&format!("{reason} of {who}"), message));
        states.push((who, reason, message));
    }
    for (who, reason, message) in states {
        // The kubelet's own pull limit passes by itself; the Python executor skips it too.
        let passes = reason == "ErrImagePull" && message.contains("pull QPS exceeded");
        if policy.fatal_waiting.contains(reason) && !passes {
            let code = code_of_wait(reason).unwrap_or(Reason::ContainerConfig);
            let message = format!("{who} cannot start: {}", sentence(reason, message));
            return PodStanding::Stuck { reason: code, message };
        }
    }
    PodStanding::Waiting(view.unschedulable.clone().or(waits_for))
}

/// The code for what a container or its pod waits for, by the first words of `why`; None: they don't tell.
pub(super) fn code_of_wait(why: &str) -> Option<Reason> {
    let word = why.split(':').next().unwrap_or(why);
    // kube-scheduler begins with one of these two: some nodes and none that fits, or no node at all.
    if word.ends_with("nodes are available") || word.starts_with("no nodes available") {
        Some(Reason::Unschedulable)
    } else if word.contains("Image") {
        Some(Reason::ImagePull)
    } else {
        word.starts_with("CreateContainer").then_some(Reason::ContainerConfig)
    }
}

/// `reason: message`, without the colon where one is missing.
fn sentence(reason: &str, message: &str) -> String {
    match (reason.is_empty(), message.is_empty()) {
        (false, false) => format!("{reason}: {message}"),
        _ => format!("{reason}{message}"),
    }
}

/// The most telling reason first: what the cluster says of the pod, then the init container, then the worker's own.
fn failed(view: &PodView) -> PodEnd {
    let exit_code = match &view.worker {
        ContainerState::Terminated { exit_code, .. } => Some(*exit_code),
        _ => None,
    };
    let (reason, message) = of_pod(view).or_else(|| of_init(view)).unwrap_or_else(|| of_worker(view));
    PodEnd::Failed { reason, message, exit_code, container_reason: container_reason(view) }
}

/// As the Python executor looks for it: the first that ended with an exit code other than 0.
fn container_reason(view: &PodView) -> String {
    let init = view.failed_init.as_ref().map(|(_, state)| state);
    let failed = |state: &ContainerState| match state {
        ContainerState::Terminated { exit_code, reason, .. } if *exit_code != 0 => Some(reason.clone()),
        _ => None,
    };
    init.into_iter().chain([&view.worker]).find_map(failed).unwrap_or_default()
}

/// `status.reason` (kubelet, PodGC) or condition DisruptionTarget (API).
fn of_pod(view: &PodView) -> Option<(Reason, String)> {
    let known = |reason: &str| match reason {
        "Evicted" | "EvictionByEvictionAPI" | "TerminationByKubelet" => Some(Reason::Evicted),
        "Preempting" | "Preempted" | "PreemptionByScheduler" | "PreemptionByKubeScheduler" => {
            Some(Reason::Preempted)
        }
        "NodeLost"
        | "NodeShutdown"
        | "Shutdown"
        | "Terminated"
        | "DeletionByTaintManager"
        | "DeletionByPodGC" => Some(Reason::NodeLost),
        "DeadlineExceeded" => Some(Reason::DeadlineExceeded),
        "UnexpectedAdmissionError"
        | "OutOfcpu"
        | "OutOfmemory"
        | "OutOfpods"
        | "NodeAffinity"
        | "NodePorts" => Some(Reason::Evicted),
        _ => None,
    };
    let said = |reason: &str, message| sentence(&format!("the cluster ended the pod ({reason})"), message);
    if let Some(reason) = known(&view.status_reason) {
        return Some((reason, said(&view.status_reason, &view.status_message)));
    }
    let (reason, message) = view.disruption.as_ref()?;
    Some((known(reason)?, said(reason, message)))
}

fn of_init(view: &PodView) -> Option<(Reason, String)> {
    match &view.failed_init {
        Some((name, ContainerState::Terminated { exit_code, reason, message })) => {
            let code = if reason == "OOMKilled" { Reason::OomKilled } else { Reason::InitFailed };
            let ended = format!("init container `{name}` ended with exit code {exit_code}");
            Some((code, sentence(&ended, message)))
        }
        _ => None,
    }
}

fn of_worker(view: &PodView) -> (Reason, String) {
    match &view.worker {
        ContainerState::Terminated { reason, .. } if reason == "OOMKilled" => {
            let message = "the worker's container went over its memory limit and the kernel killed it";
            (Reason::OomKilled, message.into())
        }
        ContainerState::Terminated { reason, message, .. }
            if reason == "ContainerCannotRun" || reason == "StartError" =>
        {
            (Reason::ContainerConfig, sentence(reason, message))
        }
        // 137 and 143: 128 + SIGKILL and 128 + SIGTERM.
        ContainerState::Terminated { exit_code: code @ (137 | 143), .. } => {
            (Reason::Killed, format!("the worker was killed by signal {}", code - 128))
        }
        ContainerState::Terminated { exit_code, message, .. } => {
            (Reason::WorkerExited, sentence(&format!("the worker ended with exit code {exit_code}"), message))
        }
        _ => (Reason::WorkerExited, sentence(&view.status_reason, &view.status_message)),
    }
}
