//! Keeps the label `airflow-worker` of pods at the SchedulerJob that owns their task instance.
//!
//! Airflow moves task instances to another scheduler when theirs is gone; the Python KubernetesExecutor then labels the
//! pods anew, and by that label it finds them. Done here too, an Airflow can change back to it at any time without the
//! loss of a running task. The pods that it had when the Airflow changed over to Windlass are labelled as well, and
//! removed once they have ended, as it would have done.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::StreamExt as _;
use futures::stream;
use scheduler_bridge::Adopted;
use windlass_cluster::{ClusterError, NeighbourPod};
use windlass_core::doctor::TaskFacts;
use windlass_core::ids::{Epoch, TaskKey};

use super::Edges;

/// Of one kind per round.
const BATCH: u32 = 500;
/// Calls at once: people's work comes first.
const CALLS: usize = 4;
/// Pods of the KubernetesExecutor are looked for in one round of so many where there were none the last time.
const SELDOM: u32 = 60;

/// When to look for pods of the KubernetesExecutor again.
#[derive(Default)]
pub struct Owners {
    /// Rounds until then.
    rest: AtomicU32,
    /// A round that takes longer than the time between two is not joined by another.
    turn: tokio::sync::Mutex<()>,
}

impl Owners {
    /// One round, best effort: the next one does what this one could not.
    pub(super) async fn follow(&self, edges: &Edges, epoch: Epoch) -> Result<(), String> {
        let Ok(_turn) = self.turn.try_lock() else { return Ok(()) };
        let adopted = edges.store.adopted(BATCH).await.map_err(|error| error.chain())?;
        let relabel = |one: Adopted| async move {
            let done = edges.cluster.relabel(&one.pod, &one.uid, one.owner, edges.hides_pods).await;
            done.map(|_| one)
        };
        let done: Vec<Result<Adopted, ClusterError>> =
            stream::iter(adopted).map(relabel).buffer_unordered(CALLS).collect().await;
        let fault = done.iter().find_map(|one| one.as_ref().err().map(ClusterError::line));
        let followed: Vec<Adopted> = done.into_iter().filter_map(Result::ok).collect();
        if !followed.is_empty() {
            edges.store.follow_owners(epoch, &followed).await.map_err(|error| error.chain())?;
        }
        if let Some(fault) = fault {
            return Err(fault);
        }
        // Beside a KubernetesExecutor they are its own to look after.
        if edges.hides_pods || self.rests() {
            return Ok(());
        }
        let found = neighbours(edges).await?;
        self.rest.store(if found == 0 { SELDOM } else { 0 }, Ordering::Relaxed);
        Ok(())
    }

    fn rests(&self) -> bool {
        self.rest.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |rest| rest.checked_sub(1)).is_ok()
    }
}

/// Returns how many there are.
async fn neighbours(edges: &Edges) -> Result<usize, String> {
    let pods = edges.cluster.neighbours(&edges.namespaces, BATCH as usize).await.map_err(|e| e.line())?;
    if pods.is_empty() {
        return Ok(0);
    }
    let keys: Vec<TaskKey> = pods.iter().map(|pod| pod.task.clone()).collect();
    let tasks = edges.store.tasks_by_key(&keys).await.map_err(|error| error.chain())?;
    let tasks: BTreeMap<&TaskKey, &TaskFacts> = tasks.iter().map(|task| (&task.key, task)).collect();
    let ours = edges.store.status(0).await.map_err(|error| error.chain())?.schedulers;
    let is_ours = |job: i64| ours.iter().any(|scheduler| scheduler.job_id == job);
    let (count, mut fault) = (pods.len(), None);
    for pod in pods {
        let task = tasks.get(&pod.task).copied();
        let done = match judge(&pod, task, is_ours) {
            Neighbour::Leave => Ok(()),
            Neighbour::Follow(owner) => {
                edges.cluster.relabel(&pod.pod, &pod.uid, owner, false).await.map(drop).map_err(|e| e.line())
            }
            Neighbour::Remove => {
                let gone = edges.cluster.delete(&pod.pod, &pod.uid, None, edges.grace_seconds).await;
                tracing::info!(
                    "pod {} of the KubernetesExecutor has ended and is removed: {gone:?}",
                    pod.pod
                );
                Ok(())
            }
        };
        fault = fault.or(done.err());
    }
    fault.map_or(Ok(count), Err)
}

/// What is done with a pod of the KubernetesExecutor.
#[derive(Debug, PartialEq, Eq)]
enum Neighbour {
    /// Nothing.
    Leave,
    /// It is labelled with this SchedulerJob.
    Follow(i64),
    /// It is deleted: its task was adopted here, and is over.
    Remove,
}

fn judge(pod: &NeighbourPod, task: Option<&TaskFacts>, is_ours: impl Fn(i64) -> bool) -> Neighbour {
    let Some(task) = task else { return Neighbour::Leave };
    let Some(owner) = task.queued_by.filter(|job| is_ours(*job)) else { return Neighbour::Leave };
    let live = task.is_live() && task.try_number == pod.try_number;
    match pod.phase.as_str() {
        // One that failed is kept, as the KubernetesExecutor keeps it by default.
        "Succeeded" if !live => Neighbour::Remove,
        "Succeeded" | "Failed" => Neighbour::Leave,
        _ if live && pod.worker != owner.to_string() => Neighbour::Follow(owner),
        _ => Neighbour::Leave,
    }
}

#[cfg(test)]
mod tests {
    use windlass_core::ids::{PodRef, PodUid};
    use windlass_core::task::TaskState;

    use super::*;

    fn pod(phase: &str, worker: &str) -> NeighbourPod {
        NeighbourPod {
            pod: PodRef { namespace: "etl".into(), name: "etl-load-x".into() },
            uid: PodUid("u".into()),
            worker: worker.into(),
            task: key(),
            try_number: 1,
            phase: phase.into(),
        }
    }

    fn key() -> TaskKey {
        TaskKey { dag_id: "etl".into(), task_id: "load".into(), run_id: "r".into(), map_index: -1 }
    }

    fn task(state: TaskState, queued_by: Option<i64>) -> TaskFacts {
        TaskFacts {
            key: key(),
            state,
            try_number: 1,
            queued_at: None,
            queued_by,
            queued_by_job: None,
            executor: None,
            hostname: None,
            worker: None,
            run_type: None,
            run_state: None,
        }
    }

    #[test]
    fn pods_follow_the_tasks_that_were_adopted_here_and_go_when_those_are_over() {
        let ours = |job| job == 7;
        let judged = |pod: &NeighbourPod, task: &TaskFacts| judge(pod, Some(task), ours);
        let running = task(TaskState::Running, Some(7));
        assert_eq!(judged(&pod("Running", "3"), &running), Neighbour::Follow(7));
        assert_eq!(judged(&pod("Pending", "3"), &task(TaskState::Queued, Some(7))), Neighbour::Follow(7));
        assert_eq!(judged(&pod("Running", "7"), &running), Neighbour::Leave, "it has the label");
        assert_eq!(judged(&pod("Running", "3"), &task(TaskState::Running, Some(9))), Neighbour::Leave);
        assert_eq!(judged(&pod("Succeeded", "3"), &running), Neighbour::Leave, "its end is not written yet");
        assert_eq!(judged(&pod("Succeeded", "3"), &task(TaskState::Success, Some(7))), Neighbour::Remove);
        assert_eq!(judged(&pod("Succeeded", "3"), &task(TaskState::Success, Some(9))), Neighbour::Leave);
        assert_eq!(judged(&pod("Failed", "3"), &task(TaskState::Failed, Some(7))), Neighbour::Leave);
        assert_eq!(judge(&pod("Succeeded", "3"), None, ours), Neighbour::Leave, "its row is gone");
        let retried = TaskFacts { try_number: 2, ..running };
        assert_eq!(judged(&pod("Running", "3"), &retried), Neighbour::Leave, "of an earlier try");
        assert_eq!(judged(&pod("Succeeded", "3"), &retried), Neighbour::Remove);
    }
}
