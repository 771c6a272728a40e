//! What the kubelet knows of a pod's containers, and the status that it reports.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::env::Place;
use super::manifest::{Container, Pod, RestartPolicy};

/// A container's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) started_at: String,
    pub(crate) finished_at: String,
}

/// A container's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Waiting { reason: &'static str, message: String },
    Running { started_at: String },
    Ended(Ended),
}

/// One container.
#[derive(Debug, Clone)]
pub(crate) struct ContainerRecord {
    name: String,
    image: String,
    /// An init container that stays: it counts as done when it runs.
    pub(crate) sidecar: bool,
    pub(crate) state: State,
    pub(crate) last: Option<Ended>,
    pub(crate) restarts: u32,
}

/// Which list of the spec a container is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum List {
    Init,
    Main,
}

/// A container of the pod.
pub(crate) type Slot = (List, usize);

/// The kubelet's own end of a pod: phase Failed, whatever its containers did.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// Also report condition DisruptionTarget, as for evictions by the kubelet.
    pub(crate) disruption: bool,
}

/// A pod.
#[derive(Debug, Clone)]
pub(crate) struct PodRecord {
    uid: String,
    pub(crate) init: Vec<ContainerRecord>,
    pub(crate) main: Vec<ContainerRecord>,
    pub(crate) place: Place,
    start_time: String,
    restart_policy: RestartPolicy,
    pub(crate) verdict: Option<Verdict>,
    /// The pod is being ended: nothing restarts.
    pub(crate) stopping: bool,
    /// Status and transition time of each condition.
    conditions: BTreeMap<&'static str, (bool, String)>,
}

impl ContainerRecord {
    fn new(container: &Container, waiting: &'static str) -> Self {
        Self {
            name: container.name.clone(),
            image: container.image.clone(),
            sidecar: container.restart_policy == "Always",
            state: State::Waiting { reason: waiting, message: String::new() },
            last: None,
            restarts: 0,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// An init container lets the next one start.
    fn is_past(&self) -> bool {
        match &self.state {
            State::Ended(ended) => ended.code == 0,
            State::Running { .. } => self.sidecar,
            State::Waiting { .. } => false,
        }
    }

    fn json(&self, ready: bool, pod_uid: &str) -> Value {
        let id = format!("local://{pod_uid}/{}/{}", self.name, self.restarts);
        let state = state_json(&self.state, &id);
        let last = self.last.clone().map_or_else(|| json!({}), |l| state_json(&State::Ended(l), &id));
        let mut status = json!({ "name": self.name, "image": self.image, "imageID": "", "ready": ready,
            "started": self.is_running(), "restartCount": self.restarts, "state": state, "lastState": last });
        if !matches!(self.state, State::Waiting { .. }) {
            status["containerID"] = json!(id);
        }
        status
    }
}

fn state_json(state: &State, id: &str) -> Value {
    match state {
        State::Waiting { reason, message } if message.is_empty() => {
            json!({ "waiting": { "reason": reason } })
        }
        State::Waiting { reason, message } => {
            json!({ "waiting": { "reason": reason, "message": message } })
        }
        State::Running { started_at } => json!({ "running": { "startedAt": started_at } }),
        State::Ended(e) => {
            let mut ended = json!({ "exitCode": e.code, "reason": e.reason, "containerID": id,
                "startedAt": e.started_at, "finishedAt": e.finished_at });
            if !e.message.is_empty() {
                ended["message"] = json!(e.message);
            }
            json!({ "terminated": ended })
        }
    }
}

impl PodRecord {
    /// A pod that was just seen.
    pub(crate) fn new(pod: &Pod, place: Place, now: &str) -> Self {
        let waiting =
            if pod.spec.init_containers.is_empty() { "ContainerCreating" } else { "PodInitializing" };
        Self {
            uid: pod.metadata.uid.clone(),
            init: pod.spec.init_containers.iter().map(|c| ContainerRecord::new(c, waiting)).collect(),
            main: pod.spec.containers.iter().map(|c| ContainerRecord::new(c, waiting)).collect(),
            place,
            start_time: now.to_owned(),
            restart_policy: pod.spec.restart_policy,
            verdict: None,
            stopping: false,
            conditions: BTreeMap::new(),
        }
    }

    pub(crate) fn container(&mut self, (list, at): Slot) -> &mut ContainerRecord {
        match list {
            List::Init => &mut self.init[at],
            List::Main => &mut self.main[at],
        }
    }

    /// All slots, in the order of their start.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        let init = (0..self.init.len()).map(|i| (List::Init, i));
        init.chain((0..self.main.len()).map(|i| (List::Main, i))).collect()
    }

    /// The slots that may start now: the next init container, or all main ones.
    pub(crate) fn startable(&self) -> Vec<Slot> {
        let waiting = |c: &ContainerRecord| matches!(c.state, State::Waiting { .. });
        if let Some(next) = self.init.iter().position(|c| !c.is_past()) {
            return if waiting(&self.init[next]) { vec![(List::Init, next)] } else { Vec::new() };
        }
        (0..self.main.len()).filter(|i| waiting(&self.main[*i])).map(|i| (List::Main, i)).collect()
    }

    /// Whether an ended container starts again.
    pub(crate) fn restarts(&self, (list, at): Slot, code: i32) -> bool {
        if self.stopping {
            return false;
        }
        match (list, self.restart_policy) {
            (List::Init, _) if self.init[at].sidecar => !self.main_is_over(),
            (_, RestartPolicy::Never) => false,
            (List::Init, _) | (_, RestartPolicy::OnFailure) => code != 0,
            (List::Main, RestartPolicy::Always) => true,
        }
    }

    fn main_is_over(&self) -> bool {
        self.main.iter().all(|c| matches!(c.state, State::Ended(_)))
    }

    /// `status.phase`, as upstream's kubelet computes it.
    pub(crate) fn phase(&self) -> &'static str {
        if self.verdict.is_some() {
            return "Failed";
        }
        let failed = |c: &ContainerRecord| matches!(&c.state, State::Ended(e) if e.code != 0);
        if !self.init.iter().all(ContainerRecord::is_past) && !self.main_is_over() {
            return if self.init.iter().any(failed) { "Failed" } else { "Pending" };
        }
        if self.main_is_over() {
            return if self.main.iter().any(failed) { "Failed" } else { "Succeeded" };
        }
        let fresh = |c: &ContainerRecord| matches!(c.state, State::Waiting { .. }) && c.last.is_none();
        if self.main.iter().any(fresh) { "Pending" } else { "Running" }
    }

    /// Phase Succeeded or Failed.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }

    /// The patch of the pod's status (strategic merge). The uid makes it fail on another pod of the same name.
    pub(crate) fn patch(&mut self, now: &str) -> Value {
        let phase = self.phase();
        let conditions = self.condition_list(phase, now);
        let uid = self.uid.as_str();
        let main: Vec<Value> = self.main.iter().map(|c| c.json(c.is_running(), uid)).collect();
        let mut status = json!({ "phase": phase, "conditions": conditions, "startTime": self.start_time,
            "hostIP": self.place.host_ip, "hostIPs": [{ "ip": self.place.host_ip }],
            "containerStatuses": main });
        if !self.place.pod_ip.is_empty() {
            status["podIP"] = json!(self.place.pod_ip);
            status["podIPs"] = json!([{ "ip": self.place.pod_ip }]);
        }
        if !self.init.is_empty() {
            let init: Vec<Value> = self.init.iter().map(|c| c.json(c.is_past(), uid)).collect();
            status["initContainerStatuses"] = json!(init);
        }
        if let Some(verdict) = &self.verdict {
            status["reason"] = json!(verdict.reason);
            status["message"] = json!(verdict.message);
        }
        json!({ "metadata": { "uid": uid }, "status": status })
    }

    fn condition_list(&mut self, phase: &str, now: &str) -> Vec<Value> {
        let initialized = self.init.iter().all(ContainerRecord::is_past);
        let unready: Vec<&str> =
            self.main.iter().filter(|c| !c.is_running()).map(|c| c.name.as_str()).collect();
        let ready = unready.is_empty() && phase == "Running";
        let (reason, message) = match phase {
            "Succeeded" => ("PodCompleted", String::new()),
            "Failed" => ("PodFailed", String::new()),
            _ => ("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" "))),
        };
        let mut list = Vec::new();
        for (kind, status) in [
            ("Initialized", initialized),
            ("Ready", ready),
            ("ContainersReady", ready),
            ("PodScheduled", true),
        ] {
            let known = self.conditions.entry(kind).or_insert_with(|| (status, now.to_owned()));
            if known.0 != status {
                *known = (status, now.to_owned());
            }
            let text = if status { "True" } else { "False" };
            let mut condition = json!({ "type": kind, "status": text, "lastTransitionTime": known.1 });
            if !status && kind != "Initialized" {
                condition["reason"] = json!(reason);
                condition["message"] = json!(message);
            }
            list.push(condition);
        }
        if let Some(verdict) = self.verdict.as_ref().filter(|v| v.disruption) {
            list.push(json!({ "type": "DisruptionTarget", "status": "True", "lastTransitionTime": now,
                "reason": "TerminationByKubelet", "message": verdict.message }));
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(policy: &str, init: usize) -> PodRecord {
        let names = |n: usize, p: &str| -> Vec<Value> {
            (0..n).map(|i| json!({ "name": format!("{p}{i}"), "image": "x" })).collect()
        };
        let pod: Pod = serde_json::from_value(json!({ "metadata": { "uid": "u" }, "spec": {
            "restartPolicy": policy, "initContainers": names(init, "i"), "containers": names(2, "c") } }))
        .expect("is a pod");
        let place = Place { pod_ip: "127.64.0.1".into(), host_ip: "127.0.0.1".into() };
        PodRecord::new(&pod, place, "2026-01-01T00:00:00Z")
    }

    fn ended(code: i32) -> State {
        State::Ended(Ended {
            code,
            reason: "Error".into(),
            message: String::new(),
            started_at: "2026-01-01T00:00:00Z".into(),
            finished_at: "2026-01-01T00:00:01Z".into(),
        })
    }

    #[test]
    fn init_containers_go_one_by_one_and_gate_the_main_ones() {
        let mut record = record("Never", 2);
        assert_eq!(record.startable(), [(List::Init, 0)]);
        record.init[0].state = State::Running { started_at: String::new() };
        assert!(record.startable().is_empty());
        record.init[0].state = ended(0);
        assert_eq!(record.startable(), [(List::Init, 1)]);
        assert_eq!(record.phase(), "Pending");
        record.init[1].state = ended(3);
        assert_eq!(record.phase(), "Failed");
        record.init[1].state = ended(0);
        assert_eq!(record.startable(), [(List::Main, 0), (List::Main, 1)]);
    }

    #[test]
    fn the_phase_follows_the_main_containers() {
        let mut record = record("Never", 0);
        record.main[0].state = State::Running { started_at: String::new() };
        assert_eq!(record.phase(), "Pending");
        record.main[1].state = ended(0);
        assert_eq!(record.phase(), "Running");
        record.main[0].state = ended(0);
        assert_eq!(record.phase(), "Succeeded");
        record.main[0].state = ended(1);
        assert_eq!(record.phase(), "Failed");
    }

    #[test]
    fn the_patch_says_what_a_kubelet_says() {
        let mut record = record("Never", 0);
        record.main[0].state = State::Running { started_at: "2026-01-01T00:00:01Z".into() };
        record.main[1].state = ended(137);
        let patch = record.patch("2026-01-01T00:00:02Z");
        assert_eq!(patch["metadata"]["uid"], "u");
        let statuses = &patch["status"]["containerStatuses"];
        assert_eq!(statuses[0]["state"]["running"]["startedAt"], "2026-01-01T00:00:01Z");
        assert_eq!(statuses[1]["state"]["terminated"]["exitCode"], 137);
        assert_eq!(patch["status"]["conditions"][1]["message"], "containers with unready status: [c1]");
        record.verdict = Some(Verdict { reason: "Evicted", message: "low".into(), disruption: true });
        let patch = record.patch("2026-01-01T00:00:03Z");
        assert_eq!(
            (&patch["status"]["phase"], &patch["status"]["reason"]),
            (&json!("Failed"), &json!("Evicted"))
        );
        assert_eq!(patch["status"]["conditions"][4]["type"], "DisruptionTarget");
    }
}
