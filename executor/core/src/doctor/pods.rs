//! Pods of this installation beside the launches that they belong to.

use std::collections::BTreeMap;

use super::code::Code;
use super::facts::{ClusterFacts, Facts, LaunchFacts, ListedPod};
use super::finding::Finding;
use super::repair::Repair;
use super::setup::over;
use super::words::{count, span};
use crate::ids::{LaunchId, TaskKey};
use crate::launch::{PodEnd, PodStanding, classify};
use crate::store::StoredStage;

pub(super) fn all(facts: &Facts, found: &mut Vec<Finding>) {
    let Some(cluster) = &facts.cluster else { return };
    for (pod, why) in &cluster.broken {
        found.push(Finding::new(Code::PodLabelsBroken, pod, why.clone()));
    }
    let open = facts.database.open.iter().map(|open| (&open.launch.row.launch, &open.launch));
    let mut launches: BTreeMap<&LaunchId, &LaunchFacts> = open.collect();
    // Read after the pods: the newer one stands.
    launches.extend(&cluster.done);
    let mut of_key: BTreeMap<&TaskKey, Vec<&ListedPod>> = BTreeMap::new();
    for pod in &cluster.pods {
        let launch = launches.get(&pod.view.launch).copied();
        found.extend(match launch {
            Some(launch) => beside_launch(facts, pod, launch),
            None => without_launch(facts, cluster, pod),
        });
        let key = launch.map(|launch| &launch.row.queueing.key).or(pod.task.as_ref());
        let ended = matches!(classify(&pod.view, &facts.limits.policy), PodStanding::Ended(_));
        if let Some(key) = key.filter(|_| !ended) {
            of_key.entry(key).or_default().push(pod);
        }
    }
    for (key, pods) in of_key.into_iter().filter(|(_, pods)| pods.len() > 1) {
        let names: Vec<String> = pods.iter().map(|pod| named(facts, pod)).collect();
        let what = format!("{} have not ended: {}", count(pods.len(), "pod", "pods"), names.join(", "));
        found.push(Finding::new(Code::SeveralPodsOfOneTask, key, what));
    }
}

fn named(facts: &Facts, pod: &ListedPod) -> String {
    let view = &pod.view;
    let how = match classify(view, &facts.limits.policy) {
        _ if view.deleting => "is being deleted",
        PodStanding::Started => "runs",
        PodStanding::Waiting(_) | PodStanding::Stuck { .. } => "waits",
        PodStanding::Ended(_) => "has ended",
    };
    format!("{} {how}", view.pod)
}

fn beside_launch(facts: &Facts, pod: &ListedPod, launch: &LaunchFacts) -> Option<Finding> {
    let (view, row) = (&pod.view, &launch.row);
    let given_up = view.attempt < row.attempt;
    let decided = matches!(row.stage, StoredStage::Settled | StoredStage::Closed);
    if view.deleting || !(given_up || decided) {
        return None;
    }
    let closed = row.stage == StoredStage::Closed;
    let of = if given_up {
        format!("attempt {} of a launch that is at attempt {}", view.attempt.0, row.attempt.0)
    } else {
        format!("a launch that is {}", row.stage.as_str())
    };
    match classify(view, &facts.limits.policy) {
        PodStanding::Waiting(_) | PodStanding::Stuck { .. } => {
            let where_ = if view.bound { "bound to a node and waits" } else { "not bound to a node" };
            let what = format!("it is of {of}, {where_}");
            let finding = Finding::new(Code::PodOfClosedLaunch, &view.pod, what);
            Some(if view.bound { finding } else { finding.repair(delete_unbound(pod)) })
        }
        // What began before the outcome was stored goes on to its end.
        PodStanding::Started if closed || given_up => {
            let what = format!("it is of {of}, and its worker runs on node {}", pod.node);
            let next = "it ends by itself: Windlass never kills a worker, and a worker takes only what its row offers";
            Some(Finding::new(Code::PodOfClosedLaunch, &view.pod, what).next(next))
        }
        PodStanding::Started => None,
        PodStanding::Ended(end) => {
            let since = facts.database.now.ms_since(launch.closed_at.unwrap_or(facts.database.now));
            let deletes = facts.limits.policy.deletes(end != PodEnd::Succeeded);
            let late = closed && deletes && over(since, facts.limits.undelivered_ms);
            let what = format!("it has ended, and its launch was closed {} ago", span(since));
            late.then(|| Finding::new(Code::PodLeftOver, &view.pod, what).repair(delete_ended(pod)))
        }
    }
}

/// No row of its launch: purged after `retention.days`, or lost by the database.
fn without_launch(facts: &Facts, cluster: &ClusterFacts, pod: &ListedPod) -> Option<Finding> {
    let view = &pod.view;
    let row = pod.task.as_ref().and_then(|key| cluster.tasks.get(key));
    let queueing = row.filter(|row| row.is_live()).and_then(|row| row.queueing());
    let live = queueing.is_some_and(|queueing| LaunchId::of(&facts.installation, &queueing) == view.launch);
    let whose = match &pod.task {
        _ if live => "it is of the queueing that the task instance stands for now",
        Some(_) => "its task instance has moved on or is gone",
        None => "its annotations name no task",
    };
    let how = named(facts, pod);
    match classify(view, &facts.limits.policy) {
        // Policy keeps it; its launch was purged by age.
        PodStanding::Ended(end) if !live && !facts.limits.policy.deletes(end != PodEnd::Succeeded) => None,
        PodStanding::Ended(_) if view.deleting => None,
        PodStanding::Ended(_) if !live && pod.task.is_some() => {
            let what = format!("it has ended, there is no launch {}, and {whose}", view.launch);
            Some(Finding::new(Code::PodLeftOver, &view.pod, what).repair(delete_ended(pod)))
        }
        PodStanding::Ended(_)
        | PodStanding::Waiting(_)
        | PodStanding::Stuck { .. }
        | PodStanding::Started => {
            let what = format!("{how}; there is no launch {}, and {whose}", view.launch);
            Some(Finding::new(Code::PodWithoutLaunch, &view.pod, what))
        }
    }
}

fn delete_unbound(pod: &ListedPod) -> Repair {
    Repair::DeleteUnboundPod {
        pod: pod.view.pod.clone(),
        uid: pod.view.uid.clone(),
        resource_version: pod.view.resource_version.clone(),
    }
}

fn delete_ended(pod: &ListedPod) -> Repair {
    Repair::DeleteEndedPod {
        pod: pod.view.pod.clone(),
        uid: pod.view.uid.clone(),
        resource_version: pod.view.resource_version.clone(),
    }
}
