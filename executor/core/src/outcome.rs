//! What a launch came to, and why.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a launch ended, in the words of `windlass.launch.outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// The worker did its part and wrote the state itself.
    Success,
    /// It did not, for the reason given.
    Failure,
    /// Another queueing or another pod has the task instance now.
    Superseded,
    /// Airflow took the queueing back before the task began.
    Withdrawn,
}

impl OutcomeKind {
    /// All, in the order of the CHECK constraint.
    pub const ALL: [Self; 4] = [Self::Success, Self::Failure, Self::Superseded, Self::Withdrawn];

    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Superseded => "superseded",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// Stable code of why a launch failed (metric label, `windlass.launch.reason`, anchor in docs/ERRORS.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The worker wrote `failed` or `up_for_retry` itself: the task's own error.
    TaskFailed,
    /// A container ended with a non-zero exit code while the task was running.
    WorkerExited,
    /// The worker ended well before the task body began, and the row stayed queued.
    WorkerDidNotStart,
    /// The kernel killed a container for its memory limit.
    OomKilled,
    /// A container was killed by a signal (137, 143) that was no OOM kill.
    Killed,
    /// The node's kubelet evicted the pod (memory, disk or PID pressure), or the API did (drain).
    Evicted,
    /// A pod of higher priority took its place.
    Preempted,
    /// The node went away with the pod.
    NodeLost,
    /// The node has stopped reporting; what runs there is not known.
    NodeUnreachable,
    /// Somebody deleted the pod.
    PodDeleted,
    /// The pod ran longer than its `activeDeadlineSeconds`.
    DeadlineExceeded,
    /// The image cannot be had, or its name is wrong.
    ImagePull,
    /// The container cannot be created: its configuration names something that does not exist, or the runtime refuses.
    ContainerConfig,
    /// An init container failed.
    InitFailed,
    /// The scheduler of Kubernetes found no node for it in the time allowed.
    Unschedulable,
    /// The pod did not start in the time allowed.
    PendingTimeout,
    /// The API server rejects the pod.
    PodRejected,
    /// The namespace's ResourceQuota leaves no room.
    QuotaExceeded,
    /// The pod template or `pod_override` does not make a pod.
    TemplateInvalid,
    /// `pod_mutation_hook` raised, or made a pod that cannot be launched.
    MutationHookFailed,
    /// `executor_config` cannot be decoded.
    ExecutorConfigInvalid,
    /// The identity that the pod asks for is not allowed to this task.
    IdentityDenied,
    /// The pod did not get the role or the security groups that its rule demands.
    IdentityMissing,
    /// The pod got no branch network interface, which carries its security groups.
    NoBranchInterface,
    /// Not a command that runs a task.
    Unsupported,
}

impl Reason {
    /// All of them, in the order of the reference page.
    pub const ALL: [Self; 25] = [
        Self::TaskFailed,
        Self::WorkerExited,
        Self::WorkerDidNotStart,
        Self::OomKilled,
        Self::Killed,
        Self::Evicted,
        Self::Preempted,
        Self::NodeLost,
        Self::NodeUnreachable,
        Self::PodDeleted,
        Self::DeadlineExceeded,
        Self::ImagePull,
        Self::ContainerConfig,
        Self::InitFailed,
        Self::Unschedulable,
        Self::PendingTimeout,
        Self::PodRejected,
        Self::QuotaExceeded,
        Self::TemplateInvalid,
        Self::MutationHookFailed,
        Self::ExecutorConfigInvalid,
        Self::IdentityDenied,
        Self::IdentityMissing,
        Self::NoBranchInterface,
        Self::Unsupported,
    ];

    /// Decided while the pod still waited: it may start after all before it is removed, and run the task. So such an
    /// outcome is not the end of a body that the row names this pod for, unless its worker's heart has stopped (I6).
    pub fn leaves_a_waiting_pod(self) -> bool {
        matches!(self, Self::ImagePull | Self::ContainerConfig | Self::Unschedulable | Self::PendingTimeout)
    }

    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TaskFailed => "TaskFailed",
            Self::WorkerExited => "WorkerExited",
            Self::WorkerDidNotStart => "WorkerDidNotStart",
            Self::OomKilled => "OomKilled",
            Self::Killed => "Killed",
            Self::Evicted => "Evicted",
            Self::Preempted => "Preempted",
            Self::NodeLost => "NodeLost",
            Self::NodeUnreachable => "NodeUnreachable",
            Self::PodDeleted => "PodDeleted",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::ImagePull => "ImagePull",
            Self::ContainerConfig => "ContainerConfig",
            Self::InitFailed => "InitFailed",
            Self::Unschedulable => "Unschedulable",
            Self::PendingTimeout => "PendingTimeout",
            Self::PodRejected => "PodRejected",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::TemplateInvalid => "TemplateInvalid",
            Self::MutationHookFailed => "MutationHookFailed",
            Self::ExecutorConfigInvalid => "ExecutorConfigInvalid",
            Self::IdentityDenied => "IdentityDenied",
            Self::IdentityMissing => "IdentityMissing",
            Self::NoBranchInterface => "NoBranchInterface",
            Self::Unsupported => "Unsupported",
        }
    }

    /// What the operator or the DAG author can do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::TaskFailed => "read the task's own log",
            Self::WorkerExited => "read the worker's log; the exit code is in the message",
            Self::WorkerDidNotStart => {
                "the worker could not load the DAG file or its database: read the pod's log"
            }
            Self::OomKilled => "raise resources.limits.memory in pod_override or the pod template",
            Self::Killed => "see who stopped the pod: `kubectl get events`, node maintenance, a person",
            Self::Evicted => {
                "set resources.requests to what the task uses; see the node's pressure conditions"
            }
            Self::Preempted => "give the worker a priorityClassName that is not preempted",
            Self::NodeLost => "give the task retries: nodes go away, most often on spot capacity",
            Self::NodeUnreachable => {
                "see `kubectl describe node`; the launch is held until the node's fate is known"
            }
            Self::PodDeleted => {
                "see who deleted it in the API server's audit log; PodGC and drains do so too"
            }
            Self::DeadlineExceeded => "raise activeDeadlineSeconds in pod_override or the pod template",
            Self::ImagePull => "check the image's name and tag, the registry, and imagePullSecrets",
            Self::ContainerConfig => "check the Secrets, ConfigMaps and mounts that the pod names",
            Self::InitFailed => "read the init container's log",
            Self::Unschedulable => "compare its requests, selectors and tolerations with the nodes",
            Self::PendingTimeout => "see `kubectl describe pod`: its events say what it waits for",
            Self::PodRejected => {
                "check pod_override and the pod template; the API server's words are in the message"
            }
            Self::QuotaExceeded => "compare `kubectl describe quota` with Airflow's parallelism and pools",
            Self::TemplateInvalid => "try `windlass render pod`; see [kubernetes_executor] pod_template_file",
            Self::MutationHookFailed => "mend pod_mutation_hook; its traceback is in the scheduler's log",
            Self::ExecutorConfigInvalid => "set executor_config to {'pod_override': k8s.V1Pod(...)}",
            Self::IdentityDenied => "see the identity rules in windlass.toml",
            Self::IdentityMissing => {
                "see that EKS's webhooks answer and that the service account has its role: `windlass doctor`"
            }
            Self::NoBranchInterface => {
                "see the pod's events, the nodes' free branch interfaces and EC2's limits: `windlass doctor`"
            }
            Self::Unsupported => "run it with another executor",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a launch came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How.
    pub kind: OutcomeKind,
    /// Why; always there for a failure.
    pub reason: Option<Reason>,
    /// One sentence a DAG author understands. Up to `MESSAGE_MAX` bytes.
    pub message: String,
    /// Of the worker's container, where one ended.
    pub exit_code: Option<i32>,
}

/// Longest message stored, in bytes. Airflow 2.11's `info` holds 250 characters with the executor's own prefix.
pub const MESSAGE_MAX: usize = 1000;

impl Outcome {
    /// The worker did its part.
    pub fn success(message: impl Into<String>) -> Self {
        Self { kind: OutcomeKind::Success, reason: None, message: message.into(), exit_code: None }
    }

    /// It did not, because of `reason`.
    pub fn failure(reason: Reason, message: impl Into<String>) -> Self {
        let message = cut(message.into());
        Self { kind: OutcomeKind::Failure, reason: Some(reason), message, exit_code: None }
    }

    /// Another queueing or pod has the task instance.
    pub fn superseded(message: impl Into<String>) -> Self {
        Self { kind: OutcomeKind::Superseded, reason: None, message: message.into(), exit_code: None }
    }

    /// Airflow took the queueing back.
    pub fn withdrawn(message: impl Into<String>) -> Self {
        Self { kind: OutcomeKind::Withdrawn, reason: None, message: message.into(), exit_code: None }
    }

    /// With the exit code of the worker's container.
    #[must_use]
    pub fn with_exit_code(mut self, code: Option<i32>) -> Self {
        self.exit_code = code;
        self
    }
}

/// Cuts at `MESSAGE_MAX` bytes, between characters.
fn cut(mut text: String) -> String {
    if text.len() > MESSAGE_MAX {
        let mut end = MESSAGE_MAX - 3;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let outcome = Outcome::failure(Reason::PodRejected, "é".repeat(MESSAGE_MAX));
        assert!(outcome.message.len() <= MESSAGE_MAX && outcome.message.ends_with("..."));
    }

    #[test]
    fn every_reason_is_listed_once() {
        let codes: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
    }
}
