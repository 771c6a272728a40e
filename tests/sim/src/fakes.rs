//! The simulated database and cluster as a conformance suite asks them: one question, one answer, at once; nothing is
//! lost and nobody else acts. The real ones answer the same questions through `scheduler-bridge` and `windlass-cluster`.

use windlass_core::cluster::{CreateAnswer, DeleteAnswer};
use windlass_core::ids::{LaunchId, PodRef, Queueing};
use windlass_core::task::TaskState;
use windlass_engine::{Answer, Ask};

use crate::agenda::{CreateCall, DeleteCall};
use crate::cluster::Deleted;
use crate::play::{Cut, Play};
use crate::world::World;

/// A database with Airflow's rows, and a cluster, both empty at first.
pub struct Fakes {
    world: World,
}

impl Default for Fakes {
    fn default() -> Self {
        let without = Cut::names().iter().map(|name| (*name).to_owned()).collect();
        let cut = Cut { without, ..Cut::default() };
        Self { world: World::bare(&Play { seed: 0, plant: None, cut }, false) }
    }
}

impl Fakes {
    /// Milliseconds pass, and nothing happens in them: leases end.
    pub fn pass(&mut self, ms: u64) {
        self.world.now += ms;
    }

    /// Airflow's row of this task stands so, for this queueing. Returns the id of the launch that is to be.
    pub fn put_task(&mut self, queueing: &Queueing, state: TaskState, namespace: &str) -> LaunchId {
        let db = &self.world.db;
        let no = db.by_key.get(&queueing.key).copied().unwrap_or(db.tasks.len());
        if no == db.tasks.len() {
            self.world.add_task(no, namespace);
        }
        let launch = LaunchId::of(&self.world.installation, queueing);
        let task = &mut self.world.db.tasks[no];
        task.key = queueing.key.clone();
        task.bad_pod = false;
        (task.state, task.try_number) = (state, queueing.try_number);
        (task.queued_at, task.launch) = (Some(queueing.queued_at), Some(launch.clone()));
        self.world.db.by_key.insert(queueing.key.clone(), no);
        self.world.task_of_launch.insert(launch.clone(), no);
        self.world.queueings.insert(launch.clone(), queueing.clone());
        launch
    }

    /// The row is gone with its DAG run.
    pub fn remove_task(&mut self, queueing: &Queueing) {
        if let Some(no) = self.world.db.by_key.get(&queueing.key) {
            self.world.db.tasks[*no].gone = true;
        }
    }

    /// The scheduler takes a queueing back.
    pub fn withdraw(&mut self, launch: &LaunchId) {
        if let Some(stored) = self.world.db.launches.get_mut(launch) {
            stored.withdrawn = true;
        }
    }

    /// The namespace's quota lets no pod in, or does.
    pub fn quota_full(&mut self, namespace: &str, full: bool) {
        if full {
            self.world.cluster.full.insert(namespace.to_owned());
        } else {
            self.world.cluster.full.remove(namespace);
        }
    }

    /// The namespace is not there.
    pub fn namespace_gone(&mut self, namespace: &str) {
        self.world.cluster.unready.insert(namespace.to_owned(), u64::MAX);
    }

    /// The scheduler of Kubernetes gives the pod a node: from then on a delete waits for the kubelet.
    pub fn bind(&mut self, pod: &PodRef) {
        if let Some(number) = self.world.cluster.find(pod) {
            self.world.cluster.pods[number].view.bound = true;
            self.world.cluster.changed(number);
        }
    }

    /// What the process of `holder` asks, and is answered.
    pub fn answer(&mut self, holder: &str, ask: &Ask) -> Answer {
        match ask {
            Ask::Create { launch, attempt, pod, .. } => {
                let Some(task) = self.world.task_of_launch.get(launch).copied() else {
                    return Answer::Created(CreateAnswer::Unknown { error: "no such task".into() });
                };
                let (launch, pod, began) = (launch.clone(), pod.clone(), self.world.now);
                let call = CreateCall { launch, attempt: *attempt, pod, task, began };
                let answer = self.world.create_now(&call);
                Answer::Created(answer.unwrap_or_else(|| self.world.whose(&call)))
            }
            Ask::GetPod { launch, attempt, pod } => {
                Answer::Got(self.world.cluster.get(pod, launch, *attempt))
            }
            Ask::DeletePod { pod, uid, resource_version } => {
                let (pod, uid, resource_version) = (pod.clone(), uid.clone(), resource_version.clone());
                let call = DeleteCall { pod, uid, resource_version };
                Answer::Deleted(match self.world.cluster.delete(&call, true) {
                    Deleted::Nothing(answer) => answer,
                    Deleted::Removed(_) | Deleted::Marked(_) => DeleteAnswer::Accepted,
                })
            }
            ask => {
                let snapshot = self.world.snapshot(ask);
                self.world.execute(holder, ask, &snapshot)
            }
        }
    }
}
