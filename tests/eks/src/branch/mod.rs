//! A stand-in for the controller that gives pods their branch interfaces (amazon-vpc-resource-controller-k8s v1.8.2).
//!
//! It watches the pods of an API server. One that is bound to a node of its own and asks for an interface gets one: the
//! annotation and the events have the real form and texts, EC2 alone is made up. As the real one it counts interfaces
//! that cool down, says nothing of a node that is full, tries a failed job five times and then drops it until the pod
//! changes. Not here: trunk interfaces and their events on nodes, the queue of 30 workers, the resync of 30 minutes.

mod cool_down;
mod job;
mod trunk;
mod work;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::task::JoinHandle;
use windlass_core::identity::sgp::POD_ENI;

use crate::sgp::{CONTROLLERS, Known};
use trunk::{Ec2, Trunk};

pub use cool_down::{DEFAULT as COOL_DOWN, cool_down};
pub use trunk::{Call, Refusal, Subnet};

/// How the controller works.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where interfaces get their addresses.
    pub subnet: Subnet,
    /// How long an interface that was given back counts; also the pause of a job for which the node has none.
    pub cool_down: Duration,
    /// Pause between two deletions of interfaces that are cool.
    pub delete_every: Duration,
}

impl Default for Options {
    /// Those of the real one.
    fn default() -> Self {
        Self { subnet: Subnet::default(), cool_down: COOL_DOWN, delete_every: Duration::from_secs(30) }
    }
}

/// A running controller. Dropping it ends it.
pub struct Controller {
    shared: Arc<Shared>,
    running: JoinHandle<()>,
}

struct Shared {
    /// As the controller.
    client: kube::Client,
    known: Known,
    options: Options,
    state: Mutex<State>,
}

struct State {
    ec2: Ec2,
    /// By node.
    trunks: BTreeMap<String, Trunk>,
    /// So many pods to come lose their jobs.
    drops: usize,
    /// Uids of pods whose jobs are dropped for good.
    dropped: BTreeSet<String>,
    /// Uids of pods that have a job.
    busy: BTreeSet<String>,
}

impl Controller {
    /// Starts it. The client's user has to be allowed to impersonate: the guard of the annotation knows the controller
    /// by its name.
    ///
    /// # Errors
    /// The configuration makes no client.
    pub fn start(mut config: kube::Config, known: Known, options: Options) -> Result<Self, kube::Error> {
        config.auth_info.impersonate = Some(CONTROLLERS[0].to_owned());
        // Its ClusterRole is not what is tested.
        config.auth_info.impersonate_groups = Some(vec!["system:masters".to_owned()]);
        let client = kube::Client::try_from(config)?;
        let state = State {
            ec2: Ec2::new(options.subnet),
            trunks: BTreeMap::new(),
            drops: 0,
            dropped: BTreeSet::new(),
            busy: BTreeSet::new(),
        };
        let shared = Arc::new(Shared { client, known, options, state: Mutex::new(state) });
        let running = tokio::spawn(work::run(Arc::clone(&shared)));
        Ok(Self { shared, running })
    }

    /// Takes a node: it says that it has room for so many branch interfaces (an m5.large has 9). Only pods that are bound
    /// to it afterwards are looked at.
    ///
    /// # Errors
    /// The API server refuses, for example as there is no such node.
    pub async fn add_node(&self, node: &str, interfaces: usize) -> Result<(), kube::Error> {
        self.shared.lock().trunks.insert(node.to_owned(), Trunk::new(interfaces));
        let room = json!({ POD_ENI: interfaces.to_string() });
        let patch = json!({ "status": { "capacity": room, "allocatable": room } });
        let nodes: Api<Node> = Api::all(self.shared.client.clone());
        nodes.patch_status(node, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }

    /// EC2 refuses the next interfaces, one for each try of a job.
    pub fn fail_next(&self, times: usize, refusal: &Refusal) {
        self.shared.lock().ec2.refusals.extend(std::iter::repeat_n(refusal.clone(), times));
    }

    /// The jobs of the next so many pods are dropped, and those pods never get an interface.
    pub fn drop_next(&self, pods: usize) {
        self.shared.lock().drops = pods;
    }

    /// Pods whose jobs were dropped so far.
    pub fn dropped(&self) -> usize {
        self.shared.lock().dropped.len()
    }

    /// Interfaces of a node that count against its limit, those that cool down included.
    pub fn used(&self, node: &str) -> usize {
        self.shared.lock().trunks.get(node).map_or(0, Trunk::used)
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What is behind it is whole at every moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The pod is gone, or needs its interfaces no more.
    fn release(&mut self, uid: &str) {
        for trunk in self.trunks.values_mut() {
            trunk.release(uid, Instant::now());
        }
    }

    /// The pod never got the interfaces that were made for it.
    fn undo(&mut self, uid: &str) {
        self.trunks.values_mut().for_each(|trunk| trunk.undo(uid));
    }

    /// Whether the pod is to have a job now.
    fn begins(&mut self, uid: &str, node: &str) -> bool {
        if !self.trunks.contains_key(node) || self.busy.contains(uid) || self.dropped.contains(uid) {
            return false;
        }
        if self.drops > 0 {
            self.drops -= 1;
            self.dropped.insert(uid.to_owned());
            return false;
        }
        self.busy.insert(uid.to_owned())
    }
}
