//! A pod as far as it decides anything: the lean view that the watch decodes.

use serde::{Deserialize, Serialize};

use crate::ids::{Attempt, LaunchId, PodRef, PodUid};

/// Label with the launch id (26 characters).
pub const LABEL_LAUNCH: &str = "windlass.dev/launch";
/// Label with the attempt, from 1.
pub const LABEL_ATTEMPT: &str = "windlass.dev/attempt";
/// Label with the first group of the installation id: what the watch selects by.
pub const LABEL_INSTALLATION: &str = "windlass.dev/installation";

/// `status.phase`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodPhase {
    /// Not all containers have started.
    #[default]
    Pending,
    /// At least one container runs or restarts.
    Running,
    /// All containers ended with 0.
    Succeeded,
    /// All containers ended, one with something else; or the kubelet ended the pod.
    Failed,
    /// The node does not answer.
    Unknown,
}

/// One container's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// No status yet.
    #[default]
    Unknown,
    /// `state.waiting`.
    Waiting {
        /// `ContainerCreating`, `ErrImagePull`, ...
        reason: String,
        /// The runtime's words.
        message: String,
    },
    /// `state.running`.
    Running,
    /// `state.terminated`.
    Terminated {
        /// Exit code, 128 + signal when killed.
        exit_code: i32,
        /// `Completed`, `Error`, `OOMKilled`, ...
        reason: String,
        /// The runtime's words, or the termination message.
        message: String,
    },
}

/// How Windlass's scheduling gate on a pod stands. While it is there no scheduler binds the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gate {
    /// It has none (any more): nothing holds it back.
    #[default]
    Open,
    /// It has, and this view does not hold what tells whether the pod is what its rule demands.
    Closed,
    /// It has, and the pod is what its rule demands.
    Fit,
    /// It has, and the pod is not.
    Unfit {
        /// What is missing, for people.
        why: String,
        /// Whether another pod may come out better: the webhook that should have changed it was silent.
        again: bool,
    },
}

/// How a pod stands to the branch network interface that carries its security groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Branch {
    /// No rule demands security groups of it.
    #[default]
    NotDemanded,
    /// The VPC resource controller has not written its interface down yet: its containers cannot start.
    Awaited,
    /// It has one, and no other address.
    Attached,
    /// It has another address: it runs with the security groups of its node.
    Bypassed {
        /// For people.
        why: String,
    },
}

/// A pod of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodView {
    /// Where it is.
    pub pod: PodRef,
    /// Which of that name.
    pub uid: PodUid,
    /// `metadata.resourceVersion`, for deletes that judge.
    pub resource_version: String,
    /// From the label.
    pub launch: LaunchId,
    /// From the label.
    pub attempt: Attempt,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `spec.nodeName` is set: a kubelet may start it at any time.
    pub bound: bool,
    /// `status.phase`.
    pub phase: PodPhase,
    /// `status.reason`: `Evicted`, `NodeLost`, `DeadlineExceeded`, `Preempting`, ...
    pub status_reason: String,
    /// `status.message`.
    pub status_message: String,
    /// The worker's container: the one named `base`, else the first.
    pub worker: ContainerState,
    /// The first init container that failed or waits with an error, as `name` and state.
    pub failed_init: Option<(String, ContainerState)>,
    /// Message of condition PodScheduled=False/Unschedulable.
    pub unschedulable: Option<String>,
    /// Message of condition DisruptionTarget=True with its reason (`EvictionByEvictionAPI`, `PreemptionByScheduler`,
    /// `DeletionByPodGC`, `TerminationByKubelet`, ...).
    pub disruption: Option<(String, String)>,
    /// See there.
    pub gate: Gate,
    /// See there.
    pub branch: Branch,
}
