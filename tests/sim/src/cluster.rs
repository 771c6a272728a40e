//! The simulated cluster: pods by namespace and name, versions, preconditions, and the log that watches read.

use std::collections::{BTreeMap, BTreeSet};

use windlass_core::cluster::{DeleteAnswer, GetAnswer};
use windlass_core::ids::{Attempt, LaunchId, PodRef, PodUid};
use windlass_core::pod_view::{Branch, ContainerState, Gate, PodPhase, PodView};
use windlass_core::time::UtcMicros;

use crate::agenda::{CreateCall, DeleteCall};

/// What runs in a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    /// Its container has not started.
    None,
    /// The worker starts up: it has not looked at the row.
    Starting,
    /// The task body runs.
    Body,
    /// The body is over or was never begun; the worker sees to its logs.
    Finishing,
    /// Exit code, and whether the kernel killed it for its memory.
    Ended { exit_code: i32, oom: bool },
}

/// A pod, with what only its node knows.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) task: usize,
    pub(crate) view: PodView,
    /// The object is gone; the process may not know yet.
    pub(crate) gone: bool,
    pub(crate) node: Option<usize>,
    pub(crate) process: Process,
    /// Which queueing the row carried when the body began.
    pub(crate) body_of: Option<(i32, Option<UtcMicros>)>,
    /// Waits for its image with this fatal reason.
    pub(crate) image_trouble: bool,
    /// Something is under way that ends it.
    pub(crate) terminating: bool,
    /// What stands behind its gate.
    pub(crate) behind: Gate,
    /// Its branch network interface has the groups of its node, as the controller warns.
    pub(crate) warned: bool,
}

impl Pod {
    /// A body could still begin in it: it exists, or its node does not know better, and its container has not ended.
    pub(crate) fn may_still_start(&self) -> bool {
        match self.process {
            // What must not be let go stays behind its gate.
            Process::None => {
                let held = self.view.gate == Gate::Closed && self.behind != Gate::Fit;
                !self.gone && self.view.phase != PodPhase::Failed && !held
            }
            Process::Starting => true,
            Process::Body | Process::Finishing | Process::Ended { .. } => false,
        }
    }

    pub(crate) fn runs_body(&self) -> bool {
        self.process == Process::Body
    }

    pub(crate) fn ended(&self) -> bool {
        matches!(self.process, Process::Ended { .. }) || self.view.phase == PodPhase::Failed
    }
}

/// One entry of the log that watches read.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub(crate) pod: usize,
    pub(crate) view: PodView,
    pub(crate) deleted: bool,
}

/// A node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    /// Nothing runs on it any more.
    pub(crate) dead: bool,
    /// Its kubelet does not reach the API server.
    pub(crate) cut: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) pods: Vec<Pod>,
    pub(crate) names: BTreeMap<PodRef, usize>,
    pub(crate) log: Vec<Logged>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) version: u64,
    pub(crate) away_until: u64,
    /// Namespaces whose ResourceQuota lets nothing in.
    pub(crate) full: BTreeSet<String>,
    /// Namespaces that take no pod, until then.
    pub(crate) unready: BTreeMap<String, u64>,
    /// Until when no pod can be made (`pod_mutation_hook`).
    pub(crate) hook_away_until: u64,
}

/// What a delete did.
pub(crate) enum Deleted {
    Nothing(DeleteAnswer),
    /// The object went with the answer.
    Removed(usize),
    /// Its kubelet is to end it.
    Marked(usize),
}

impl Cluster {
    pub(crate) fn find(&self, at: &PodRef) -> Option<usize> {
        self.names.get(at).copied()
    }

    /// Pods that exist in a namespace: what a ResourceQuota counts.
    pub(crate) fn count(&self, namespace: &str) -> usize {
        let here = self.names.iter().filter(|(at, _)| at.namespace == namespace);
        here.filter(|(_, no)| !self.pods[**no].ended()).count()
    }

    /// `behind`: what a look at the whole pod shows of its gate.
    pub(crate) fn insert(&mut self, call: &CreateCall, behind: Gate, branch: Branch) -> usize {
        let number = self.pods.len();
        let view = PodView {
            pod: call.pod.clone(),
            uid: PodUid(format!("uid-{number}")),
            resource_version: String::new(),
            launch: call.launch.clone(),
            attempt: call.attempt,
            deleting: false,
            bound: false,
            phase: PodPhase::Pending,
            status_reason: String::new(),
            status_message: String::new(),
            worker: ContainerState::Unknown,
            failed_init: None,
            unschedulable: None,
            disruption: None,
            gate: if behind == Gate::Open { Gate::Open } else { Gate::Closed },
            branch,
        };
        self.pods.push(Pod {
            task: call.task,
            view,
            gone: false,
            node: None,
            process: Process::None,
            body_of: None,
            image_trouble: false,
            terminating: false,
            behind,
            warned: false,
        });
        self.names.insert(call.pod.clone(), number);
        self.changed(number);
        number
    }

    /// The API server has a new version of the pod.
    pub(crate) fn changed(&mut self, number: usize) {
        self.version += 1;
        let pod = &mut self.pods[number];
        pod.view.resource_version = self.version.to_string();
        self.log.push(Logged { pod: number, view: pod.view.clone(), deleted: false });
    }

    /// The object goes.
    pub(crate) fn remove(&mut self, number: usize) {
        self.version += 1;
        let pod = &mut self.pods[number];
        pod.gone = true;
        pod.view.resource_version = self.version.to_string();
        self.log.push(Logged { pod: number, view: pod.view.clone(), deleted: true });
        if self.names.get(&pod.view.pod) == Some(&number) {
            self.names.remove(&pod.view.pod);
        }
    }

    /// The status as the kubelet reports it. Says nothing while its node is cut off.
    pub(crate) fn report(&mut self, number: usize) -> bool {
        let pod = &mut self.pods[number];
        if pod.gone || pod.node.is_none_or(|node| self.nodes[node].cut) {
            return false;
        }
        let (phase, worker) = match &pod.process {
            Process::None if pod.image_trouble => (PodPhase::Pending, waiting("ErrImagePull")),
            Process::None => (PodPhase::Pending, waiting("ContainerCreating")),
            Process::Starting | Process::Body | Process::Finishing => {
                (PodPhase::Running, ContainerState::Running)
            }
            Process::Ended { exit_code, oom } => {
                let reason = match (oom, exit_code) {
                    (true, _) => "OOMKilled",
                    (false, 0) => "Completed",
                    (false, _) => "Error",
                };
                let phase = if *exit_code == 0 { PodPhase::Succeeded } else { PodPhase::Failed };
                let state = ContainerState::Terminated {
                    exit_code: *exit_code,
                    reason: reason.into(),
                    message: String::new(),
                };
                (phase, state)
            }
        };
        pod.view.worker = worker;
        if pod.view.phase != PodPhase::Failed {
            pod.view.phase = phase;
        }
        self.changed(number);
        true
    }

    pub(crate) fn get(&self, at: &PodRef, launch: &LaunchId, attempt: Attempt) -> GetAnswer {
        match self.find(at) {
            None => GetAnswer::Gone,
            Some(number) => GetAnswer::Found(ours(&self.whole(number), launch, attempt)),
        }
    }

    /// As the answer to a create or a GET shows it.
    pub(crate) fn whole(&self, number: usize) -> PodView {
        let pod = &self.pods[number];
        let gate = if pod.view.gate == Gate::Closed { pod.behind.clone() } else { Gate::Open };
        PodView { gate, ..pod.view.clone() }
    }

    /// As a cache that stopped at entry `end` of the log would answer.
    pub(crate) fn get_stale(
        &self,
        at: &PodRef,
        launch: &LaunchId,
        attempt: Attempt,
        end: usize,
    ) -> GetAnswer {
        let last = self.log[..end].iter().rev().find(|entry| entry.view.pod == *at);
        match last {
            Some(entry) if !entry.deleted => GetAnswer::Found(ours(&entry.view, launch, attempt)),
            _ => GetAnswer::Gone,
        }
    }

    pub(crate) fn delete(&mut self, call: &DeleteCall, check: bool) -> Deleted {
        let Some(number) = self.find(&call.pod) else { return Deleted::Nothing(DeleteAnswer::Gone) };
        let view = &self.pods[number].view;
        if check && view.uid != call.uid {
            return Deleted::Nothing(DeleteAnswer::Gone);
        }
        if check && call.resource_version.as_ref().is_some_and(|version| *version != view.resource_version) {
            return Deleted::Nothing(DeleteAnswer::Moved);
        }
        if view.bound {
            self.mark_deleting(number);
            Deleted::Marked(number)
        } else {
            self.remove(number);
            Deleted::Removed(number)
        }
    }

    pub(crate) fn mark_deleting(&mut self, number: usize) {
        if !self.pods[number].view.deleting {
            self.pods[number].view.deleting = true;
            self.changed(number);
        }
    }

    /// What a list shows that stands at entry `end` of the log.
    pub(crate) fn list(&self, end: usize) -> Vec<PodView> {
        let mut pods = BTreeMap::new();
        for entry in &self.log[..end] {
            if entry.deleted {
                pods.remove(&entry.pod);
            } else {
                pods.insert(entry.pod, &entry.view);
            }
        }
        pods.into_values().cloned().collect()
    }
}

fn ours(view: &PodView, launch: &LaunchId, attempt: Attempt) -> Option<Box<PodView>> {
    (view.launch == *launch && view.attempt == attempt).then(|| Box::new(view.clone()))
}

fn waiting(reason: &str) -> ContainerState {
    ContainerState::Waiting { reason: reason.into(), message: String::new() }
}
