//! `windlass cleanup`: removes worker pods that have ended and that nobody needs any more.
//!
//! The counterpart of `airflow kubernetes cleanup-pods`, which looks at phases alone: here a pod goes once its launch is
//! decided and its outcome delivered, and by its uid. With `delete_worker_pods_on_failure = False`, Airflow's default,
//! failed pods stay until somebody does this.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use clap::Args;
use scheduler_bridge::{BridgeError, Store};
use windlass_cluster::{Cluster, NeighbourPod, NoObserver, Selection};
use windlass_core::cluster::DeleteAnswer;
use windlass_core::doctor::{LaunchFacts, ListedPod, TaskFacts};
use windlass_core::ids::{LaunchId, PodRef, PodUid, TaskKey};
use windlass_core::launch::{PodEnd, PodStanding, Policy, classify};
use windlass_core::time::UtcMicros;

use crate::cli::{Failure, print};
use crate::clock;
use crate::config::Config;
use crate::login;

/// Pods that are looked at.
const PODS_MAX: usize = 20_000;
/// Ids and keys per statement.
const BATCH: usize = 1_000;

/// A pod of Windlass goes if its container has ended and its launch is decided and delivered, or done so long ago that
/// its row is gone. What runs or may still start stays.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "\
Ends with 1 if a pod could not be deleted. Safe beside a working leader, and as a CronJob.

Examples:
  windlass cleanup --dry-run
  windlass cleanup --older-than 1440
  windlass cleanup --kubernetes-executor       after a change-over: also what the KubernetesExecutor left behind")]
pub struct Cleanup {
    /// Only pods whose outcome is at least so many minutes old
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    older_than: u32,
    /// Also worker pods of the Python KubernetesExecutor that have ended and whose task is over
    #[arg(long)]
    kubernetes_executor: bool,
    /// Only say what would be deleted
    #[arg(long)]
    dry_run: bool,
}

/// A pod to go.
struct Leftover {
    pod: PodRef,
    uid: PodUid,
    why: String,
}

/// Finds, tells and deletes.
pub async fn cleanup(config: &Config, of: &Cleanup) -> Result<(), Failure> {
    let store = login::open(config).await?;
    let cluster = Cluster::connect(config.cluster(), Arc::new(NoObserver)).await?;
    let leftovers = find(config, of, &store, &cluster).await;
    store.close().await;
    let leftovers = leftovers?;
    let mut failed = 0;
    for Leftover { pod, uid, why } in &leftovers {
        if of.dry_run {
            print(&format!("pod {pod} would be deleted: {why}\n"))?;
            continue;
        }
        match cluster.delete(pod, uid, None, config.kubernetes.delete_grace_seconds).await {
            DeleteAnswer::Accepted | DeleteAnswer::Gone => print(&format!("pod {pod} deleted: {why}\n"))?,
            DeleteAnswer::Moved => print(&format!("pod {pod} has changed and stays\n"))?,
            DeleteAnswer::Failed { error } => {
                failed += 1;
                print(&format!("pod {pod} could not be deleted: {error}\n"))?;
            }
        }
    }
    if leftovers.is_empty() {
        print("nothing to delete\n")?;
    }
    match failed {
        0 => Ok(()),
        some => Err(Failure::Other {
            what: format!("{some} of {} pods could not be deleted", leftovers.len()),
            hint: "the lines above say why; run it again".into(),
        }),
    }
}

async fn find(
    config: &Config,
    of: &Cleanup,
    store: &Store,
    cluster: &Cluster,
) -> Result<Vec<Leftover>, Failure> {
    let installation = store.installation().await?;
    let namespaces = &config.kubernetes.namespaces;
    let listing = cluster.list(namespaces, &Selection::Installation(&installation), PODS_MAX).await;
    if let Some(fault) = listing.faults.into_iter().next() {
        return Err(fault.into());
    }
    let before = UtcMicros(clock::utc().0 - 60_000_000 * i64::from(of.older_than));
    let policy = config.launch_policy();
    let ended: Vec<ListedPod> =
        listing.pods.into_iter().filter(|pod| end_of(pod, &policy).is_some() && !pod.view.deleting).collect();
    let launches = launches_of(store, &ended).await?;
    let ours = ended.iter().filter_map(|pod| {
        let why = over(launches.get(&pod.view.launch), before)?;
        let how = end_of(pod, &policy).unwrap_or_default();
        Some(Leftover { pod: pod.view.pod.clone(), uid: pod.view.uid.clone(), why: format!("{how}; {why}") })
    });
    let mut leftovers: Vec<Leftover> = ours.collect();
    if of.kubernetes_executor {
        let pods = cluster.neighbours(namespaces, PODS_MAX).await?;
        leftovers.extend(left_behind(store, pods).await?);
    }
    Ok(leftovers)
}

async fn launches_of(
    store: &Store,
    pods: &[ListedPod],
) -> Result<BTreeMap<LaunchId, LaunchFacts>, BridgeError> {
    let ids: Vec<LaunchId> = pods.iter().map(|pod| pod.view.launch.clone()).collect();
    let mut launches = BTreeMap::new();
    for batch in ids.chunks(BATCH) {
        for launch in store.launches_by_id(batch).await? {
            launches.insert(launch.row.launch.clone(), launch);
        }
    }
    Ok(launches)
}

/// How the pod ended, if it has.
fn end_of(pod: &ListedPod, policy: &Policy) -> Option<String> {
    match classify(&pod.view, policy) {
        PodStanding::Ended(PodEnd::Failed { reason, .. }) => Some(format!("failed ({reason})")),
        PodStanding::Ended(_) => Some("succeeded".into()),
        PodStanding::Waiting(_) | PodStanding::Stuck { .. } | PodStanding::Started => None,
    }
}

/// Why nobody needs the pod of this launch any more.
fn over(launch: Option<&LaunchFacts>, before: UtcMicros) -> Option<String> {
    let Some(launch) = launch else { return Some("its launch is kept no longer".into()) };
    let settled = launch.settled_at.filter(|at| *at <= before && launch.delivered_at.is_some())?;
    Some(format!("settled {settled:.0} and delivered"))
}

async fn left_behind(store: &Store, pods: Vec<NeighbourPod>) -> Result<Vec<Leftover>, BridgeError> {
    let keys: Vec<TaskKey> = pods.iter().map(|pod| pod.task.clone()).collect();
    let mut tasks: BTreeMap<TaskKey, TaskFacts> = BTreeMap::new();
    for batch in keys.chunks(BATCH) {
        tasks.extend(store.tasks_by_key(batch).await?.into_iter().map(|task| (task.key.clone(), task)));
    }
    let leftover = |pod: NeighbourPod| {
        let ended = matches!(pod.phase.as_str(), "Succeeded" | "Failed");
        let needed =
            tasks.get(&pod.task).is_some_and(|task| task.is_live() && task.try_number == pod.try_number);
        let mut why = format!("{} pod of the KubernetesExecutor", pod.phase);
        let _ = write!(why, "; {} try {} is over", pod.task, pod.try_number);
        (ended && !needed).then_some(Leftover { pod: pod.pod, uid: pod.uid, why })
    };
    Ok(pods.into_iter().filter_map(leftover).collect())
}
