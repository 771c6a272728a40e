//! A pod's JSON to a [`PodView`]: decodes the dozen fields that decide and skips the rest unallocated.

use serde::{Deserialize, Deserializer, de::IgnoredAny};
use windlass_core::identity::{self, sgp};
use windlass_core::ids::{Attempt, LaunchId, PodRef, PodUid};
use windlass_core::pod::WORKER_CONTAINER;
use windlass_core::pod_view::{Branch, ContainerState, Gate, PodPhase, PodView};

use crate::meta::Meta;

/// Why a pod has no view.
#[derive(Debug, thiserror::Error)]
pub enum NotOurs {
    /// Not the JSON of a pod.
    #[error("it is not the JSON of a pod: {0}")]
    NoPod(String),
    /// Label `windlass.dev/launch` or `windlass.dev/attempt` is missing or no value of ours.
    #[error("pod `{}`: label `{label}` is {value}", pod)]
    Label {
        /// Which pod.
        pod: PodRef,
        /// Which label.
        label: &'static str,
        /// `missing`, or what it is.
        value: String,
    },
}

/// Decodes one pod of ours.
pub fn decode_pod(json: &[u8]) -> Result<PodView, NotOurs> {
    let pod: LeanPod = serde_json::from_slice(json).map_err(|e| NotOurs::NoPod(e.to_string()))?;
    pod.view()
}

/// Go writes an empty field as absent or as `null`, depending on its type and on the server's age.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LeanPod {
    #[serde(deserialize_with = "or_default")]
    pub(crate) metadata: Meta<Labels, Annotations>,
    #[serde(deserialize_with = "or_default")]
    spec: Spec,
    #[serde(deserialize_with = "or_default")]
    status: Status,
}

/// [`identity::admitted::ANNOTATION_GROUPS`] and [`identity::sgp::POD_ENI`].
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Annotations {
    #[serde(rename = "windlass.dev/security-groups")]
    groups: Option<IgnoredAny>,
    #[serde(rename = "vpc.amazonaws.com/pod-eni")]
    branch: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Labels {
    #[serde(rename = "windlass.dev/launch")]
    launch: Option<String>,
    #[serde(rename = "windlass.dev/attempt")]
    attempt: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: String,
    restart_policy: String,
    #[serde(deserialize_with = "or_default")]
    containers: Vec<Named>,
    #[serde(deserialize_with = "or_default")]
    init_containers: Vec<Named>,
    #[serde(deserialize_with = "or_default")]
    scheduling_gates: Vec<Named>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Named {
    name: String,
    restart_policy: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    phase: String,
    reason: String,
    message: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(deserialize_with = "or_default")]
    conditions: Vec<Condition>,
    #[serde(deserialize_with = "or_default")]
    container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "or_default")]
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
    reason: String,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    name: String,
    #[serde(deserialize_with = "or_default")]
    state: State,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct State {
    waiting: Option<Waiting>,
    running: Option<IgnoredAny>,
    terminated: Option<Terminated>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Waiting {
    reason: String,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Terminated {
    exit_code: i32,
    reason: String,
    message: String,
}

impl LeanPod {
    pub(crate) fn pod(&self) -> PodRef {
        self.metadata.names().at()
    }

    /// The view of a pod that carries our labels.
    pub(crate) fn view(self) -> Result<PodView, NotOurs> {
        if self.metadata.name.is_empty() || self.metadata.uid.is_empty() {
            return Err(NotOurs::NoPod("it has no metadata.name or no metadata.uid".into()));
        }
        let labels = &self.metadata.labels;
        let wrong = |label, value: &Option<String>| NotOurs::Label {
            pod: self.pod(),
            label,
            value: value.as_ref().map_or_else(|| "missing".into(), |v| format!("`{v}`")),
        };
        let launch: Option<LaunchId> = labels.launch.as_ref().and_then(|l| l.parse().ok());
        let launch = launch.ok_or_else(|| wrong("windlass.dev/launch", &labels.launch))?;
        let attempt = labels.attempt.as_ref().and_then(|a| a.parse().ok()).filter(|a| *a >= 1);
        let attempt = attempt.ok_or_else(|| wrong("windlass.dev/attempt", &labels.attempt))?;
        Ok(self.view_as(launch, Attempt(attempt)))
    }

    /// The view of a pod that is known to be this launch's: the answer to our own create.
    pub(crate) fn view_as(self, launch: LaunchId, attempt: Attempt) -> PodView {
        let pod = self.pod();
        let Self { metadata, spec, status } = self;
        let failed_init = failed_init(&spec, &status);
        let condition = |kind: &str, value: &str| {
            status.conditions.iter().find(|c| c.r#type == kind && c.status == value)
        };
        let unschedulable = condition("PodScheduled", "False")
            .filter(|c| c.reason == "Unschedulable")
            .map(|c| c.message.clone());
        let gated = spec.scheduling_gates.iter().any(|gate| gate.name == identity::GATE);
        let disruption = condition("DisruptionTarget", "True").map(|c| (c.reason.clone(), c.message.clone()));
        PodView {
            pod,
            uid: PodUid(metadata.uid),
            resource_version: metadata.resource_version,
            launch,
            attempt,
            deleting: metadata.deletion_timestamp.is_some(),
            bound: !spec.node_name.is_empty(),
            phase: phase(&status.phase),
            worker: worker(&spec, status.container_statuses),
            failed_init,
            unschedulable,
            disruption,
            gate: if gated { Gate::Closed } else { Gate::Open },
            branch: match metadata.annotations.groups {
                Some(_) => sgp::standing(metadata.annotations.branch.as_deref(), &status.pod_ip),
                None => Branch::NotDemanded,
            },
            status_reason: status.reason,
            status_message: status.message,
        }
    }
}

/// The answer to a create or a GET is the whole pod: it tells whether one behind our gate is what its rule demands.
pub(crate) fn look_behind_gate(view: &mut PodView, body: &[u8]) {
    if view.gate == Gate::Closed
        && let Ok(pod) = serde_json::from_slice::<serde_json::Value>(body)
    {
        view.gate = identity::admitted::judge(&pod);
    }
}

fn phase(word: &str) -> PodPhase {
    match word {
        "Running" => PodPhase::Running,
        "Succeeded" => PodPhase::Succeeded,
        "Failed" => PodPhase::Failed,
        "Unknown" => PodPhase::Unknown,
        // Absent until the API server has defaulted it.
        _ => PodPhase::Pending,
    }
}

/// By name, never by place: the order of `containerStatuses` is not that of the spec. An evicted pod has none.
fn worker(spec: &Spec, statuses: Vec<ContainerStatus>) -> ContainerState {
    let base = spec.containers.iter().find(|c| c.name == WORKER_CONTAINER).or(spec.containers.first());
    let Some(base) = base else { return ContainerState::Unknown };
    statuses.into_iter().find(|s| s.name == base.name).map_or(ContainerState::Unknown, |s| state(s.state))
}

fn state(state: State) -> ContainerState {
    match state {
        State { terminated: Some(Terminated { exit_code, reason, message }), .. } => {
            ContainerState::Terminated { exit_code, reason, message }
        }
        State { running: Some(_), .. } => ContainerState::Running,
        State { waiting: Some(Waiting { reason, message }), .. } => {
            ContainerState::Waiting { reason, message }
        }
        State { .. } => ContainerState::Unknown,
    }
}

/// The first init container that keeps the worker from starting: failed for good, or waiting for something that is
/// wrong. A sidecar (init container with `restartPolicy: Always`) that was stopped after the worker is no failure,
/// and what a pod with another restart policy will start again is none yet.
fn failed_init(spec: &Spec, status: &Status) -> Option<(String, ContainerState)> {
    let sidecar = |name: &str| {
        let container = spec.init_containers.iter().find(|c| c.name == name);
        container.is_some_and(|c| c.restart_policy.as_deref() == Some("Always"))
    };
    let for_good = spec.restart_policy == "Never" || status.phase == "Failed";
    let failed = |s: &&ContainerStatus| match (&s.state.terminated, &s.state.waiting) {
        (Some(ended), _) => ended.exit_code != 0 && for_good && !sidecar(&s.name),
        (None, Some(waiting)) => {
            !matches!(waiting.reason.as_str(), "" | "PodInitializing" | "ContainerCreating")
        }
        (None, None) => false,
    };
    let found = status.init_container_statuses.iter().find(failed)?;
    let copy = match (&found.state.terminated, &found.state.waiting) {
        (Some(t), _) => ContainerState::Terminated {
            exit_code: t.exit_code,
            reason: t.reason.clone(),
            message: t.message.clone(),
        },
        (None, Some(w)) => ContainerState::Waiting { reason: w.reason.clone(), message: w.message.clone() },
        (None, None) => ContainerState::Unknown,
    };
    Some((found.name.clone(), copy))
}

#[cfg(test)]
mod tests;
